//! Downloads: the shared cache's layout, going on where it stopped, believing nothing.

use std::{fs, path::Path};

use hub::HubError;
use hub_server::{HubServer, Trouble, Visibility, tiny_safetensors};
use types::ApiError;

use crate::{ALICE, hub, quiet, ranges, server, server_with_models};

const WANTED: &[&str] = &["README.md", "config.json", "model.safetensors", "tokenizer.json"];

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn check_content(server: &HubServer, repo: &str, folder: &Path, rule: &str) {
    for name in names(folder) {
        let served = server.file(repo, &name).unwrap();
        assert!(fs::read(folder.join(&name)).unwrap() == served, "{rule}: {name} must arrive byte for byte");
    }
}

#[tokio::test]
async fn a_model_lands_in_the_layout_of_the_python_tools() {
    let server = server_with_models();
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, Some(ALICE));
    let mut told = Vec::new();
    let folder = hub.download("acme/private", "main", cache.path(), &mut |p| told.push(p)).await.unwrap();
    let repository = cache.path().join("models--acme--private");
    let sha = fs::read_to_string(repository.join("refs/main")).unwrap();
    assert_eq!(folder, repository.join("snapshots").join(&sha), "the branch leads to the folder");
    assert_eq!(names(&folder), WANTED, "only what a model needs is downloaded");
    check_content(&server, "acme/private", &folder, "a download");
    assert_eq!(names(&repository.join("blobs")).len(), 4, "each content once, no partial file left");
    #[cfg(unix)]
    for name in WANTED {
        let link = fs::read_link(folder.join(name)).unwrap();
        assert!(link.starts_with("../../blobs"), "{name} is a link to its content: {link:?}");
    }
    let last = told.last().unwrap();
    assert_eq!(last.bytes_done, last.bytes_total, "at the end all is there");
    assert!(told.is_sorted_by_key(|p| p.bytes_done), "progress never goes back");

    for seen in server.seen() {
        let at_storage = seen.path.starts_with("/objects/");
        assert_eq!(
            seen.with_token, !at_storage,
            "the token goes to the Hub and to no other address: {seen:?}"
        );
    }

    server.forget();
    assert_eq!(
        hub.download("acme/private", "main", cache.path(), &mut quiet).await.unwrap(),
        folder,
        "the same"
    );
    assert!(ranges(&server, "resolve").is_empty(), "what is there is not asked for again");
    let by_commit = hub.download("acme/private", &sha, cache.path(), &mut quiet).await.unwrap();
    assert_eq!(by_commit, folder, "a commit is its own name");
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_broke() {
    let server = server();
    let weights = tiny_safetensors(300_000);
    server.add_repo("acme/big", Visibility::Public, &[("model.safetensors", &weights)]);
    server.trouble("acme/big", &[Trouble::Drop { times: 3, after: 200_000 }]);
    let cache = tempfile::tempdir().unwrap();
    let folder = hub(&server, None).download("acme/big", "main", cache.path(), &mut quiet).await.unwrap();
    check_content(&server, "acme/big", &folder, "a download in pieces");
    let want: Vec<Option<String>> =
        [0, 200_000, 400_000, 600_000].iter().map(|at| (*at > 0).then(|| format!("bytes={at}-"))).collect();
    assert_eq!(ranges(&server, "/objects/"), want, "no byte may be asked for twice");
}

#[tokio::test]
async fn a_stopped_download_goes_on_in_another_process() {
    let server = server();
    let weights = tiny_safetensors(300_000);
    server.add_repo("acme/big", Visibility::Public, &[("model.safetensors", &weights)]);
    let cache = tempfile::tempdir().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let (mut stop, mut told) = (Some(stop), 0);
    let mut stop_in_the_middle = |progress: hub::Progress| {
        told = progress.bytes_done;
        if told > 300_000
            && let Some(stop) = stop.take()
        {
            stop.send(()).unwrap();
        }
    };
    let first = hub(&server, None);
    tokio::select! {
        biased;
        _ = stopped => {}
        done = first.download("acme/big", "main", cache.path(), &mut stop_in_the_middle) => panic!("{done:?}"),
    }
    assert!(!cache.path().join("models--acme--big/refs/main").exists(), "no branch leads to half a model");

    server.forget();
    let folder = hub(&server, None).download("acme/big", "main", cache.path(), &mut quiet).await.unwrap();
    let asked = ranges(&server, "/objects/");
    let start = asked
        .iter()
        .flatten()
        .find_map(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    assert!(
        asked.len() == 1 && start >= Some(told),
        "what was told as done is not asked for again: {asked:?}"
    );
    check_content(&server, "acme/big", &folder, "a download in two processes");
}

#[tokio::test]
async fn a_server_that_cannot_go_on_is_taken_from_the_start() {
    let server = server();
    let weights = tiny_safetensors(100_000);
    server.add_repo("acme/big", Visibility::Public, &[("model.safetensors", &weights)]);
    server.trouble("acme/big", &[Trouble::Drop { times: 1, after: 100_000 }, Trouble::IgnoreRange]);
    let cache = tempfile::tempdir().unwrap();
    let folder = hub(&server, None).download("acme/big", "main", cache.path(), &mut quiet).await.unwrap();
    check_content(&server, "acme/big", &folder, "a download that had to start again");
}

#[tokio::test]
async fn a_connection_that_never_brings_anything_ends() {
    let server = server_with_models();
    server.trouble("acme/public", &[Trouble::Drop { times: 1000, after: 0 }]);
    let cache = tempfile::tempdir().unwrap();
    let error =
        hub(&server, None).download("acme/public", "main", cache.path(), &mut quiet).await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert_eq!(ApiError::from(error).status_code, 500, "a failing Hub is a 500");
}

#[tokio::test]
async fn damaged_files_are_refused_and_removed() {
    let server = server();
    let weights = tiny_safetensors(10_000);
    for (name, files) in [
        ("a file in Git LFS", &[("model.safetensors", weights.as_slice())][..]),
        ("a file in git", &[("config.json", b"{}".as_slice()), ("model.safetensors", &weights)]),
    ] {
        server.add_repo("acme/bad", Visibility::Public, files);
        server.trouble("acme/bad", &[Trouble::WrongByte]);
        let cache = tempfile::tempdir().unwrap();
        let refused = hub(&server, None).download("acme/bad", "main", cache.path(), &mut quiet).await;
        assert!(matches!(refused, Err(HubError::Damaged { .. })), "{name}: {refused:?}");
        let repository = cache.path().join("models--acme--bad");
        // Another file may have been under way.
        let mut kept = names(&repository.join("blobs"));
        kept.retain(|name| !name.ends_with(".incomplete"));
        assert!(kept.is_empty(), "{name}: what is damaged is not kept: {kept:?}");
        assert!(!repository.join("refs/main").exists(), "{name}: no branch leads to it");

        server.trouble("acme/bad", &[]);
        let folder = hub(&server, None).download("acme/bad", "main", cache.path(), &mut quiet).await.unwrap();
        check_content(&server, "acme/bad", &folder, name);
    }
}

#[tokio::test]
async fn a_partial_file_that_is_not_ours_is_found_out() {
    let server = server_with_models();
    let cache = tempfile::tempdir().unwrap();
    let hub = hub(&server, None);
    let info = hub.model_info("acme/public").await.unwrap();
    let weights = info.files.iter().find(|file| file.path == "model.safetensors").unwrap();
    let blob = &format!("models--acme--public/blobs/{}", weights.sha256.as_ref().unwrap());
    let partial = format!("{blob}.modelforge.incomplete");
    let size = weights.size.unwrap();
    let mut claims_all = vec![7; size as usize];
    claims_all.extend(size.to_le_bytes());
    let mut claims_too_much = vec![7; size as usize];
    claims_too_much.extend(u64::MAX.to_le_bytes());
    for (why, garbage) in [
        ("the beginning of something", vec![7; 1000]),
        ("something of the right size", vec![7; size as usize]),
        ("something that claims to be complete", claims_all),
        ("something that claims to be more", claims_too_much),
        ("something longer", vec![7; 2 * size as usize]),
    ] {
        crate::write(cache.path(), &partial, &garbage);
        let folder = hub.download("acme/public", "main", cache.path(), &mut quiet).await.unwrap();
        check_content(&server, "acme/public", &folder, why);
        fs::remove_file(cache.path().join(blob)).unwrap();
    }
    assert!(!cache.path().join(partial).exists(), "no partial file stays");
}

#[tokio::test]
async fn weights_that_can_run_code_are_not_downloaded() {
    let server = server();
    server.add_repo(
        "acme/pickle",
        Visibility::Public,
        &[("config.json", b"{}"), ("pytorch_model.bin", b"\x80\x04")],
    );
    let cache = tempfile::tempdir().unwrap();
    let error =
        hub(&server, None).download("acme/pickle", "main", cache.path(), &mut quiet).await.unwrap_err();
    assert!(matches!(error, HubError::NoSafetensors { .. }), "{error:?}");
    assert!(error.to_string().contains("pytorch_model.bin"), "the file is named: {error}");
    assert_eq!(ApiError::from(error).status_code, 400, "another model has to be chosen");
    assert!(ranges(&server, "resolve").is_empty(), "no file may have been asked for");
}

#[tokio::test]
async fn two_at_once_download_each_file_once() {
    let server = server_with_models();
    let cache = tempfile::tempdir().unwrap();
    let (one, other) = (hub(&server, None), hub(&server, None));
    let (mut first, mut second) = (quiet, quiet);
    let (one, other) = tokio::join!(
        one.download("acme/public", "main", cache.path(), &mut first),
        other.download("acme/public", "main", cache.path(), &mut second)
    );
    assert_eq!(one.unwrap(), other.unwrap(), "both get the same folder");
    assert_eq!(ranges(&server, "/objects/").len(), 1, "the second waits for the first");
}
