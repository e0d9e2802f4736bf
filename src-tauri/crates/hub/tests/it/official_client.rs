//! Python's `huggingface_hub` against the server of these tests, and both clients against each other's work.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use hub::Push;
use hub_server::{HubServer, tiny_safetensors};

use crate::{ALICE, hub, quiet, server_with_models, write};

/// The Python to use; none, said out loud, where there is none with the official client.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("MODELFORGE_PYTHON").map(PathBuf::from);
    let python = named.clone().unwrap_or("python3".into());
    let found = Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "{} has no huggingface_hub: see tests/hub/README.md", python.display());
    // Written past the test's captured output: a skipped test must be seen.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED both_clients_read_what_the_other_wrote: python3 has no huggingface_hub, see tests/hub/README.md"
    );
    None
}

fn run(python: &Path, step: &str, server: &HubServer, work: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/hub/official_client.py");
    let output = Command::new(python).arg(script).arg(step).arg(server.url()).arg(work).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("agrees"), "step {step}:\n{said}");
}

#[tokio::test]
#[ignore = "needs Python with huggingface_hub"]
async fn both_clients_read_what_the_other_wrote() {
    let Some(python) = python() else { return };
    let server = server_with_models();
    let work = tempfile::tempdir().unwrap();
    run(&python, "theirs", &server, work.path());

    let hub = hub(&server, Some(ALICE));
    let cache = work.path().join("cache");
    let got = hub.download("alice/from-python", "main", &cache, &mut quiet).await.unwrap();
    for name in ["config.json", "model.safetensors", "adapter_model.safetensors"] {
        let made = std::fs::read(work.path().join("made-by-python").join(name)).unwrap();
        assert!(
            std::fs::read(got.join(name)).unwrap() == made,
            "{name} of the official client arrives byte for byte"
        );
    }
    hub.download("acme/public", "main", &cache, &mut quiet).await.unwrap();

    let folder = work.path().join("folder");
    let files: &[(&str, Vec<u8>)] = &[
        ("README.md", b"---\nlicense: mit\n---\n# From Rust\n".to_vec()),
        ("config.json", b"{\"model_type\": \"llama\"}".to_vec()),
        ("empty.txt", vec![]),
        ("sub/notes with space.txt", "grüße".into()),
        ("adapter_model.safetensors", tiny_safetensors(1000)),
        ("model.safetensors", tiny_safetensors(2_300_000)),
    ];
    for (name, bytes) in files {
        write(&folder, name, bytes);
    }
    let push = Push {
        folder,
        files: files.iter().map(|(name, _)| name.to_string()).collect(),
        repo: "alice/from-rust".into(),
        private: true,
        message: "Add the model".into(),
        into_existing: false,
    };
    hub.push(push, &mut quiet).await.unwrap();
    run(&python, "ours", &server, work.path());
}
