//! Accounts, repositories and everything that can stand between them and us.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hub::{HubError, Inaccessible, Push};
use hub_server::{Trouble, Visibility};
use types::ApiError;

use crate::{ALICE, BOB, hub, hub_at, quiet, server, server_with_models, tokens};

#[tokio::test]
async fn the_account_of_a_token() {
    let server = server();
    let alice = hub(&server, Some(ALICE)).whoami().await.unwrap();
    assert_eq!((alice.name.as_str(), alice.kind.as_str()), ("alice", "user"), "whose token it is");
    assert_eq!(alice.organizations, ["acme"], "what she is a member of");
    assert_eq!(alice.token_role.as_deref(), Some("write"), "what the token allows");
    let bob = hub(&server, Some(BOB)).whoami().await.unwrap();
    assert_eq!(bob.token_role.as_deref(), Some("read"), "a token for reading says so");

    let refused = hub(&server, Some("hf_unknown")).whoami().await;
    assert!(matches!(refused, Err(HubError::TokenRefused)), "an unknown token: {refused:?}");
    server.forget();
    let none = hub(&server, None).whoami().await;
    assert!(matches!(none, Err(HubError::NotSignedIn)), "no token: {none:?}");
    assert!(server.seen().is_empty(), "without a token there is nothing to ask");
}

#[tokio::test]
async fn what_a_repository_is() {
    let server = server_with_models();
    let info = hub(&server, None).model_info("acme/public").await.unwrap();
    assert_eq!(
        (info.id.as_str(), info.author.as_deref()),
        ("acme/public", Some("acme")),
        "what it is called"
    );
    assert_eq!((info.downloads, info.likes), (Some(42), Some(7)), "how it is liked");
    assert_eq!(info.license.as_deref(), Some("apache-2.0"), "its license");
    assert_eq!(info.pipeline_tag.as_deref(), Some("text-generation"), "its task");
    assert_eq!(info.library_name.as_deref(), Some("transformers"), "its library");
    assert!(!info.private && !info.gated && info.sha.len() == 40, "it is public, at a commit: {info:?}");
    let weights = info.files.iter().find(|file| file.path == "model.safetensors").unwrap();
    let bytes = server.file("acme/public", "model.safetensors").unwrap();
    assert_eq!(
        weights.size,
        Some(bytes.len() as u64),
        "a large file has its content's size, not its pointer's"
    );
    assert_eq!(weights.sha256.as_ref().map(String::len), Some(64), "a large file has its SHA-256");
    let config = info.files.iter().find(|file| file.path == "config.json").unwrap();
    assert_eq!((config.size, &config.sha256), (Some(23), &None), "a small file is git's own");

    let seen = server.seen();
    assert!(seen.iter().all(|s| s.user_agent.starts_with("modelforge/")), "we say who we are: {seen:?}");
    let gated = hub(&server, Some(ALICE)).model_info("other/gated").await.unwrap();
    assert!(gated.gated, "a gated repository is open to those who accepted its terms");
    assert!(hub(&server, Some(ALICE)).model_info("acme/private").await.unwrap().private, "a member sees it");
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let server = server_with_models();
    for (repo, token, want) in [
        ("acme/nothing", None, Inaccessible::MissingOrPrivate),
        ("acme/nothing", Some(ALICE), Inaccessible::MissingOrPrivate),
        ("acme/private", None, Inaccessible::MissingOrPrivate),
        ("acme/private", Some(BOB), Inaccessible::MissingOrPrivate),
        ("other/gated", None, Inaccessible::Gated),
        ("other/gated", Some(BOB), Inaccessible::Gated),
        ("acme/public", Some("hf_unknown"), Inaccessible::TokenRefused),
    ] {
        match hub(&server, token).model_info(repo).await {
            Err(HubError::Inaccessible { why, .. }) => assert_eq!(why, want, "{repo} for {token:?}"),
            other => panic!("{repo} must not be accessible to {token:?}: {other:?}"),
        }
        let cache = tempfile::tempdir().unwrap();
        let download = hub(&server, token).download(repo, "main", cache.path(), &mut quiet).await;
        assert_eq!(
            ApiError::from(download.unwrap_err()).status_code,
            403,
            "{repo} cannot be downloaded either"
        );
    }
    let revision = hub(&server, None).model_info_at("acme/public", "nope").await;
    let no_revision =
        matches!(revision, Err(HubError::Inaccessible { why: Inaccessible::NoSuchRevision, .. }));
    assert!(no_revision, "a missing branch is told from a missing repository: {revision:?}");
}

#[tokio::test]
async fn what_passes_is_waited_for_and_what_does_not_is_not() {
    let server = server_with_models();
    let hub = hub(&server, None);
    for (trouble, requests) in
        [(Trouble::Unavailable { times: 3 }, 4), (Trouble::RateLimited { times: 2, retry_after: 0 }, 3)]
    {
        server.trouble("acme/public", std::slice::from_ref(&trouble));
        server.forget();
        assert!(hub.model_info("acme/public").await.is_ok(), "{trouble:?} passes");
        assert_eq!(server.seen().len(), requests, "{trouble:?} is asked again until it has passed");
    }
    for (trouble, requests, status) in [
        (Trouble::Unavailable { times: 1000 }, 5, 503),
        (Trouble::RateLimited { times: 1000, retry_after: 3600 }, 1, 429),
        (Trouble::RepeatsToken, 1, 400),
    ] {
        server.trouble("acme/public", std::slice::from_ref(&trouble));
        server.forget();
        let refused = hub.model_info("acme/public").await;
        assert!(matches!(refused, Err(HubError::Refused { status: s, .. }) if s == status), "{refused:?}");
        assert_eq!(server.seen().len(), requests, "{trouble:?} is not asked for ever");
        let error = ApiError::from(refused.unwrap_err());
        assert_eq!(error.status_code, 500, "a failing Hub is no fault of the caller");
        let text = error.detail.to_string();
        assert!(text.starts_with("An internal error occurred: "), "the documented beginning: {text}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    let server = server_with_models();
    server.trouble("acme/public", &[Trouble::Bloated(33 << 20)]);
    let error = hub(&server, None).model_info("acme/public").await.unwrap_err();
    assert!(matches!(error, HubError::Malformed { .. }), "{error:?}");
    assert!(error.to_string().contains("larger than"), "memory is not the Hub's to fill: {error}");
}

#[tokio::test]
async fn a_hub_that_is_not_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = hub_at(&format!("http://{free}"), None, false).model_info("a/b").await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be reached"), "the person is told what is wrong: {error}");
    assert_eq!(ApiError::from(error).status_code, 500, "a failing Hub is a 500");
}

#[tokio::test]
async fn offline_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Whoever connects is hung up on at once, so that a client that does so fails this test quickly.
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    std::thread::spawn(move || {
        listener.incoming().for_each(|_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
    });
    let hub = hub_at(&format!("http://{address}"), Some(ALICE), true);
    let folder = tempfile::tempdir().unwrap();
    let push = Push {
        folder: folder.path().into(),
        files: vec![],
        repo: "alice/new".into(),
        private: true,
        message: "Add".into(),
        into_existing: false,
    };
    let refused = [
        hub.whoami().await.map(|_| ()),
        hub.model_info("acme/public").await.map(|_| ()),
        hub.download("acme/public", "main", folder.path(), &mut quiet).await.map(|_| ()),
        hub.push(push, &mut quiet).await.map(|_| ()),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, HubError::Offline), "offline mode is the reason: {error:?}");
        assert_eq!(ApiError::from(error).status_code, 403, "offline is a 403");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0, "no connection may have been opened");
}

#[tokio::test]
async fn names_that_would_leave_the_folder_are_refused() {
    let server = server();
    let cache = tempfile::tempdir().unwrap();
    let escapes = [
        "../../evil.safetensors",
        "/etc/evil.safetensors",
        "..\\evil.safetensors",
        "C:evil.safetensors",
        "a/../../x",
    ];
    for name in escapes {
        server.add_repo("acme/hostile", Visibility::Public, &[("model.safetensors", b"1")]);
        server.trouble("acme/hostile", &[Trouble::HostileName(name.into())]);
        let refused = hub(&server, None).download("acme/hostile", "main", cache.path(), &mut quiet).await;
        assert!(matches!(refused, Err(HubError::UnsafePath { .. })), "{name:?} must be refused: {refused:?}");
    }
    assert_eq!(cache.path().read_dir().unwrap().count(), 0, "nothing may have been written");
    for name in ["../up", "a/b/c", "", "a b/c", "a/..", "https://x/y"] {
        let refused = hub(&server, None).model_info(name).await;
        assert!(
            matches!(refused, Err(HubError::BadRepoName { .. })),
            "{name:?} is no repository: {refused:?}"
        );
        assert_eq!(ApiError::from(refused.unwrap_err()).status_code, 400, "a bad name is the caller's");
    }
    let refused = hub(&server, None).model_info_at("acme/hostile", "../../x").await;
    assert!(matches!(refused, Err(HubError::BadRevision(_))), "a revision becomes a path: {refused:?}");
}

#[test]
fn addresses_of_hubs() {
    for bad in [
        "",
        "huggingface.co",
        "ftp://huggingface.co",
        "https://me:secret@hub",
        "https://hub/?a=b",
        "file:///etc",
    ] {
        let options = hub::HubOptions {
            endpoint: bad.into(),
            offline: false.into(),
            tokens: tokens(None),
            first_delay: std::time::Duration::ZERO,
            silence: std::time::Duration::ZERO,
        };
        assert!(
            matches!(hub::Hub::new(options), Err(HubError::BadEndpoint { .. })),
            "{bad:?} is no address of a Hub"
        );
    }
    assert_eq!(
        hub_at("http://localhost:1/prefix/", None, false).endpoint(),
        "http://localhost:1/prefix",
        "as given"
    );
}
