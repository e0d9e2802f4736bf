"""The Hub's official client against the test server, and both clients against each other.

The Rust test `official_client` of the crate `hub` starts the server and runs this in two steps, with its own pushes
and downloads between them:

    official_client.py theirs ENDPOINT WORK   everything the official client does with a Hub
    official_client.py ours   ENDPOINT WORK   what the Rust client pushed and downloaded, seen by the official one

WORK has `folder` (what the Rust client pushed as alice/from-rust) and `cache` (where it downloaded to). Xet, the Hub's
newer storage, is switched off: the server speaks Git LFS, as the Rust client does.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from huggingface_hub import HfApi, __version__, snapshot_download  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

ALICE, BOB = "hf_alice", "hf_bob"


def refused(kind, rule, act, status=None):
    """`act` must raise exactly `kind` (and carry `status`)."""
    try:
        act()
    except HfHubHTTPError as error:
        assert type(error) is kind, f"{rule}: {type(error).__name__} instead of {kind.__name__}: {error}"
        assert status in (None, error.response.status_code), f"{rule}: {error.response.status_code}"
        return
    raise AssertionError(f"{rule}: it was not refused")


def contents(folder):
    """Every file below a folder, by its path."""
    folder = Path(folder)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def theirs(endpoint, work):
    api = HfApi(endpoint=endpoint, token=ALICE)
    anonymous, reader = HfApi(endpoint=endpoint, token=False), HfApi(endpoint=endpoint, token=BOB)

    me = api.whoami()
    assert (me["name"], [o["name"] for o in me["orgs"]]) == ("alice", ["acme"]), me
    assert me["auth"]["accessToken"]["role"] == "write", me
    refused(HfHubHTTPError, "an unknown token", lambda: HfApi(endpoint=endpoint, token="hf_wrong").whoami(), 401)

    info = anonymous.model_info("acme/public", files_metadata=True)
    weights = next(s for s in info.siblings if s.rfilename == "model.safetensors")
    assert info.pipeline_tag == "text-generation" and info.card_data["license"] == "apache-2.0", info
    assert weights.lfs.sha256 and weights.size == weights.lfs.size, weights

    for rule, id, api_of in [
        ("a missing repository", "acme/nothing", api),
        ("a missing repository, anonymous", "acme/nothing", anonymous),
        ("a private repository of others", "acme/private", reader),
        ("a private repository, anonymous", "acme/private", anonymous),
    ]:
        refused(RepositoryNotFoundError, rule, lambda: api_of.model_info(id))
    refused(RevisionNotFoundError, "a missing branch", lambda: api.model_info("acme/public", revision="nope"), 404)
    assert api.model_info("acme/private").private, "a member of the organization sees what is private"
    assert reader.model_info("other/gated").gated == "auto", "everyone sees what a gated repository is"

    def download(id, token, name, **more):
        return snapshot_download(id, endpoint=endpoint, token=token, cache_dir=work / "theirs" / name, **more)

    config = {"filename": "config.json", "cache_dir": work / "theirs" / "one"}
    refused(GatedRepoError, "gated", lambda: reader.hf_hub_download("other/gated", **config), 403)
    refused(GatedRepoError, "gated, anonymous", lambda: anonymous.hf_hub_download("other/gated", **config), 401)
    missing = {**config, "filename": "nothing.json"}
    refused(RemoteEntryNotFoundError, "a missing file", lambda: api.hf_hub_download("acme/public", **missing), 404)
    granted = contents(download("other/gated", ALICE, "granted"))
    assert {"README.md", "config.json", "model.safetensors"} <= set(granted), sorted(granted)

    folder = work / "made-by-python"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(b'{"model_type": "llama"}')
    (folder / "README.md").write_bytes(b"---\nlicense: mit\n---\n# From Python\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "sub" / "notes.txt").write_bytes("grüße\n".encode())
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4096 * 9 + b"odd")
    (folder / "adapter_model.safetensors").write_bytes(b"small but large" * 100)

    created = api.create_repo("alice/from-python", private=True)
    assert str(created).endswith("/alice/from-python"), created
    refused(HfHubHTTPError, "a name that is taken", lambda: api.create_repo("alice/from-python"), 409)
    refused(HfHubHTTPError, "a foreign namespace", lambda: api.create_repo("other/mine"), 403)
    refused(HfHubHTTPError, "a token for reading", lambda: reader.create_repo("bob/mine"), 403)
    commit = api.upload_folder(repo_id="alice/from-python", folder_path=folder, commit_message="Upload it")
    assert api.model_info("alice/from-python").sha == commit.oid, "the commit is the newest one"
    got = contents(download("alice/from-python", ALICE, "own"))
    got.pop(".gitattributes")
    assert got == contents(folder), "what it uploaded it must download byte for byte"
    part = api.hf_hub_download("alice/from-python", "sub/notes.txt", revision=commit.oid, cache_dir=work / "theirs" / "one")
    assert Path(part).read_text(encoding="utf-8") == "grüße\n", "a file of a folder, by its commit"


def ours(endpoint, work):
    pushed = snapshot_download("alice/from-rust", endpoint=endpoint, token=ALICE, cache_dir=work / "theirs" / "rust")
    got = contents(pushed)
    got.pop(".gitattributes")
    assert got == contents(work / "folder"), "what the Rust client pushed must arrive byte for byte"

    for id in ["alice/from-python", "acme/public"]:
        cached = snapshot_download(id, cache_dir=work / "cache", local_files_only=True, token=False)
        assert "config.json" in contents(cached), f"the cache of the Rust client is theirs too: {id}"
        served = snapshot_download(id, endpoint=endpoint, token=ALICE, cache_dir=work / "cache")
        assert served == cached, f"the same snapshot, completed in place: {id}"
    weights = work / "cache" / "models--alice--from-python" / "snapshots"
    linked = [p for p in weights.rglob("*.safetensors")]
    assert linked and all(p.is_file() for p in linked), "links of both clients lead to blobs"


if __name__ == "__main__":
    step, endpoint, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    {"theirs": theirs, "ours": ours}[step](endpoint, work)
    print(f"{step}: huggingface_hub {__version__} agrees")
