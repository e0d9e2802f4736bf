//! Downloads from a Hub that fails in every way there is: they end right or with a clear error, never with a wrong file.

use std::{fs, path::Path};

use hub::HubError;
use hub_server::{HubServer, Trouble, Visibility};

use crate::{hub, hub_with, quiet, ranges, server};

const FOR_EVER: u32 = u32::MAX;
/// In one piece, and in three.
const SIZES: &[u64] = &[1 << 20, 40 << 20];

fn server_with(size: u64) -> HubServer {
    let server = server();
    let head: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    server.add_repo("acme/model", Visibility::Public, &[("config.json", b"{}")]);
    server.add_sparse_file("acme/model", "model.safetensors", &head, size);
    server
}

/// By a client that loses patience soon.
async fn download(server: &HubServer, cache: &Path) -> Result<std::path::PathBuf, HubError> {
    let hub = hub_with(server.url(), None, false, std::time::Duration::from_secs(1));
    hub.download("acme/model", "main", cache, &mut quiet).await
}

fn check(server: &HubServer, folder: &Path, why: &str) {
    let served = server.file("acme/model", "model.safetensors").unwrap();
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == served, "{why}: byte for byte");
    let blobs = folder.join("../../blobs").read_dir().unwrap().count();
    assert_eq!(blobs, 2, "{why}: nothing but the files stays");
}

/// Nothing in the cache may look like a model.
fn check_nothing_to_believe(cache: &Path, why: &str) {
    let repository = cache.join("models--acme--model");
    assert!(!repository.join("refs/main").exists(), "{why}: no branch leads to it");
    for snapshot in repository.join("snapshots").read_dir().into_iter().flatten() {
        let weights = snapshot.unwrap().path().join("model.safetensors");
        assert!(!weights.exists(), "{why}: no weights under their name");
    }
}

#[tokio::test]
async fn what_passes_ends_right() {
    for (why, troubles) in [
        ("cut at every 64 KiB", vec![Trouble::Drop { times: FOR_EVER, after: 64 << 10 }]),
        ("ended early, as if that were all", vec![Trouble::Truncate { times: 3, after: 100_000 }]),
        ("stalled", vec![Trouble::Stall { times: 3, after: 100_000 }]),
        ("stalled before it began", vec![Trouble::Stall { times: 2, after: 0 }]),
        ("500 of the storage", vec![Trouble::StorageFails { times: 3, status: 500 }]),
        ("429 of the storage", vec![Trouble::StorageFails { times: 3, status: 429 }]),
        ("503 of the Hub", vec![Trouble::Unavailable { times: 3 }]),
        ("429 of the Hub", vec![Trouble::RateLimited { times: 3, retry_after: 0 }]),
        ("addresses whose time is over", vec![Trouble::StorageFails { times: 3, status: 403 }]),
        ("ranges ignored", vec![Trouble::IgnoreRange]),
        (
            "ranges ignored by a connection that breaks",
            vec![Trouble::IgnoreRange, Trouble::Drop { times: 2, after: 90_000 }],
        ),
    ] {
        for &size in SIZES {
            let why = format!("{why}, {size} bytes");
            let server = server_with(size);
            server.trouble("acme/model", &troubles);
            let cache = tempfile::tempdir().unwrap();
            let folder = download(&server, cache.path()).await.unwrap_or_else(|e| panic!("{why}: {e}"));
            check(&server, &folder, &why);
        }
    }
}

#[tokio::test]
async fn what_does_not_pass_is_an_error_and_no_file() {
    type Fits = fn(&HubError) -> bool;
    let cases: &[(&str, Trouble, Fits)] = &[
        ("cut before it began", Trouble::Drop { times: FOR_EVER, after: 0 }, |e| {
            matches!(e, HubError::Unreachable { .. })
        }),
        ("nothing comes", Trouble::Stall { times: FOR_EVER, after: 0 }, |e| {
            matches!(e, HubError::Silent { .. })
        }),
        ("always empty", Trouble::Truncate { times: FOR_EVER, after: 0 }, |e| {
            matches!(e, HubError::Silent { .. })
        }),
        ("a wrong byte", Trouble::WrongByte, |e| matches!(e, HubError::Damaged { .. })),
        ("500 for ever", Trouble::StorageFails { times: FOR_EVER, status: 500 }, |e| {
            matches!(e, HubError::Refused { status: 500, by_storage: true, .. })
        }),
        ("refused for ever", Trouble::StorageFails { times: FOR_EVER, status: 403 }, |e| {
            matches!(e, HubError::Refused { status: 403, by_storage: true, .. })
        }),
        ("a loop of redirects", Trouble::RedirectLoop, |e| {
            matches!(e, HubError::Malformed { .. }) && e.to_string().contains("too many redirects")
        }),
        ("an hour to wait", Trouble::RateLimited { times: FOR_EVER, retry_after: 3600 }, |e| {
            matches!(e, HubError::Refused { status: 429, .. })
        }),
    ];
    for (why, trouble, fits) in cases {
        for &size in SIZES {
            let why = format!("{why}, {size} bytes");
            let server = server_with(size);
            server.trouble("acme/model", std::slice::from_ref(trouble));
            let cache = tempfile::tempdir().unwrap();
            let error = download(&server, cache.path()).await.unwrap_err();
            assert!(fits(&error), "{why}: {error:?}");
            check_nothing_to_believe(cache.path(), &why);

            server.trouble("acme/model", &[]);
            let folder = download(&server, cache.path()).await.unwrap_or_else(|e| panic!("{why}: {e}"));
            check(&server, &folder, &why);
        }
    }
}

#[tokio::test]
async fn a_large_file_comes_over_several_connections_and_the_hub_is_asked_once() {
    let size = 40 << 20;
    let server = server_with(size);
    server.trouble("acme/model", &[Trouble::Slow(std::time::Duration::from_millis(1))]);
    let cache = tempfile::tempdir().unwrap();
    let mut at_once = 0;
    let mut tell = |progress: hub::Progress| {
        if progress.bytes_done < 1 << 20 {
            at_once = at_once.max(ranges(&server, "/objects/").len());
        }
    };
    let folder = hub(&server, None).download("acme/model", "main", cache.path(), &mut tell).await.unwrap();
    check(&server, &folder, "in pieces");
    assert_eq!(at_once, 3, "the pieces must be under way at the same time");
    let mut asked: Vec<String> = ranges(&server, "/objects/").into_iter().flatten().collect();
    asked.sort();
    assert_eq!(
        asked,
        ["bytes=0-16777215", "bytes=16777216-33554431", "bytes=33554432-41943039"],
        "each byte once"
    );
    let looked = server.seen().iter().filter(|s| s.path.ends_with("resolve/main/model.safetensors")).count();
    let looked_at_commit = server
        .seen()
        .iter()
        .filter(|s| s.path.contains("/resolve/") && s.path.ends_with(".safetensors"))
        .count();
    assert_eq!((looked, looked_at_commit), (0, 1), "one question for the address, at the commit");
}

#[tokio::test]
async fn shards_come_at_the_same_time() {
    let server = server();
    server.add_repo("acme/model", Visibility::Public, &[("config.json", b"{}")]);
    for shard in 1..=4 {
        let name = format!("model-0000{shard}-of-00004.safetensors");
        server.add_sparse_file("acme/model", &name, &[shard], 1 << 20);
    }
    server.trouble("acme/model", &[Trouble::Slow(std::time::Duration::from_millis(5))]);
    let cache = tempfile::tempdir().unwrap();
    let mut before_any_is_done = 0;
    let mut tell = |progress: hub::Progress| {
        if progress.bytes_done < 1 << 20 {
            before_any_is_done = ranges(&server, "/objects/").len();
        }
    };
    hub(&server, None).download("acme/model", "main", cache.path(), &mut tell).await.unwrap();
    assert_eq!(before_any_is_done, 4, "all four are under way before one is done");
}

#[tokio::test]
async fn offline_mode_ends_what_is_under_way() {
    let server = server_with(40 << 20);
    server.trouble("acme/model", &[Trouble::Slow(std::time::Duration::from_millis(1))]);
    let cache = tempfile::tempdir().unwrap();
    let offline = hub::Offline::default();
    let hub = hub::Hub::new(hub::HubOptions {
        endpoint: server.url().into(),
        offline: offline.clone(),
        tokens: crate::tokens(None),
        first_delay: std::time::Duration::from_millis(1),
        silence: std::time::Duration::from_secs(5),
    })
    .unwrap();
    let mut tell = |progress: hub::Progress| offline.set(progress.bytes_done > 1 << 20);
    let error = hub.download("acme/model", "main", cache.path(), &mut tell).await.unwrap_err();
    assert!(matches!(error, HubError::Offline), "{error:?}");
    check_nothing_to_believe(cache.path(), "offline");
    offline.set(false);
    let folder = hub.download("acme/model", "main", cache.path(), &mut quiet).await.unwrap();
    check(&server, &folder, "online again");
}
