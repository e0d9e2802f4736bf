//! Pushes: what arrives, what is refused, and that nothing is ever overwritten.

use hub::{HubError, Push};
use hub_server::{HubServer, Trouble, tiny_safetensors};
use types::ApiError;

use crate::{ALICE, BOB, hub, quiet, server, server_with_models, write};

fn model() -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let files: &[(&str, Vec<u8>)] = &[
        ("README.md", b"---\nlicense: mit\n---\n# Model\n".to_vec()),
        ("adapter_config.json", b"{\"r\": 8}".to_vec()),
        ("adapter_model.safetensors", tiny_safetensors(1000)),
        ("sub/notes with space.txt", "grüße".into()),
        ("empty.bin", vec![]),
        // More than two of the server's parts.
        ("model.safetensors", tiny_safetensors(2_300_000)),
    ];
    for (name, bytes) in files {
        write(folder.path(), name, bytes);
    }
    write(folder.path(), "secret.txt", b"not named, not pushed");
    (folder, files.iter().map(|(name, _)| name.to_string()).collect())
}

fn push(folder: &tempfile::TempDir, files: &[String], repo: &str) -> Push {
    Push {
        folder: folder.path().into(),
        files: files.to_vec(),
        repo: repo.into(),
        private: false,
        message: "Add the model".into(),
        into_existing: false,
    }
}

fn check_arrived(server: &HubServer, repo: &str, folder: &tempfile::TempDir, files: &[String]) {
    let mut want = files.to_vec();
    want.push(".gitattributes".into());
    want.sort();
    assert_eq!(server.files(repo).unwrap(), want, "the files that were named and no others");
    for name in files {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        assert!(server.file(repo, name).unwrap() == bytes, "{name} must arrive byte for byte");
    }
}

#[tokio::test]
async fn a_folder_becomes_a_repository() {
    let server = server();
    let (folder, files) = model();
    let mut told = Vec::new();
    let hub = hub(&server, Some(ALICE));
    let pushed = hub.push(push(&folder, &files, "alice/new"), &mut |p| told.push(p)).await.unwrap();
    assert_eq!(pushed.url, format!("{}/alice/new", server.url()), "the page of the repository");
    assert_eq!(pushed.commit, hub.model_info("alice/new").await.unwrap().sha, "the commit is the newest one");
    check_arrived(&server, "alice/new", &folder, &files);
    let last = told.last().unwrap();
    assert_eq!(last.bytes_done, last.bytes_total, "at the end all is there");
    assert!(told.len() > 8 && told.is_sorted_by_key(|p| p.bytes_done), "progress is told on the way");
    for seen in server.seen() {
        let at_storage = seen.path.starts_with("/objects/");
        assert_eq!(
            seen.with_token, !at_storage,
            "the token goes to the Hub and to no other address: {seen:?}"
        );
    }
    let parts = server.seen().iter().filter(|s| s.method == "PUT").count();
    assert_eq!(parts, 4, "one file whole, one in three parts");

    let private = Push { private: true, ..push(&folder, &files[..2], "hidden") };
    let pushed = hub.push(private, &mut quiet).await.unwrap();
    assert_eq!(pushed.url, format!("{}/alice/hidden", server.url()), "a name alone is the account's own");
    assert_eq!(server.is_private("alice/hidden"), Some(true), "what is to be private is");
    assert_eq!(server.is_private("alice/new"), Some(false), "what is to be public is");

    server.forget();
    hub.push(push(&folder, &files, "acme/copy"), &mut quiet).await.unwrap();
    check_arrived(&server, "acme/copy", &folder, &files);
    assert!(server.seen().iter().all(|s| s.method != "PUT"), "what the Hub has is not uploaded again");
}

#[tokio::test]
async fn a_repository_that_is_there_is_left_alone() {
    let server = server_with_models();
    let (folder, files) = model();
    let before = server.files("acme/public").unwrap();
    server.forget();
    let error =
        hub(&server, Some(ALICE)).push(push(&folder, &files, "acme/public"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, HubError::RepositoryExists { .. }), "{error:?}");
    assert!(error.to_string().contains("acme/public exists already"), "the person is told: {error}");
    assert_eq!(ApiError::from(error).status_code, 400, "another name has to be chosen");
    assert_eq!(server.files("acme/public").unwrap(), before, "nothing may be overwritten");
    let methods: Vec<String> = server.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["POST", "GET"], "it is asked for and looked at, and nothing is sent");

    let into = Push { into_existing: true, ..push(&folder, &files[..2], "acme/public") };
    hub(&server, Some(ALICE)).push(into, &mut quiet).await.unwrap();
    let readme = std::fs::read(folder.path().join("README.md")).unwrap();
    assert!(server.file("acme/public", "README.md").unwrap() == readme, "who asks for it replaces a file");
    let mut want = before;
    want.push("adapter_config.json".into());
    want.sort();
    assert_eq!(server.files("acme/public").unwrap(), want, "and the others stay");
}

#[tokio::test]
async fn a_push_that_broke_off_goes_on() {
    let server = server();
    let (folder, files) = model();
    let mut spoil = |_| server.trouble("alice/new", &[Trouble::NoCommits]);
    hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/new"), &mut spoil).await.unwrap_err();
    server.trouble("alice/new", &[]);
    server.forget();
    let secret = Push { private: true, ..push(&folder, &files, "alice/new") };
    let error = hub(&server, Some(ALICE)).push(secret, &mut quiet).await.unwrap_err();
    assert!(
        matches!(error, HubError::RepositoryExists { .. }),
        "a secret goes into no public place: {error:?}"
    );
    hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/new"), &mut quiet).await.unwrap();
    check_arrived(&server, "alice/new", &folder, &files);
    assert!(server.seen().iter().all(|s| s.method != "PUT"), "what had arrived is not sent again");
}

#[tokio::test]
async fn uploads_get_over_a_storage_that_fails_and_addresses_whose_time_is_over() {
    for status in [500, 429, 403] {
        let server = server();
        let (folder, files) = model();
        let mut first = true;
        let mut spoil = |_| {
            if std::mem::take(&mut first) {
                server.trouble("alice/new", &[Trouble::StorageFails { times: 2, status }]);
            }
        };
        let pushed = hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/new"), &mut spoil).await;
        pushed.unwrap_or_else(|e| panic!("{status}: {e}"));
        check_arrived(&server, "alice/new", &folder, &files);
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_and_one_that_went_wrong_is_told() {
    let server = server();
    let (folder, files) = model();
    let mut spoil = |_| server.trouble("alice/new", &[Trouble::AnswerLost]);
    let pushed =
        hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/new"), &mut spoil).await.unwrap();
    check_arrived(&server, "alice/new", &folder, &files);
    assert_eq!(pushed.files, files.len() as u64, "all are found there");

    let mut spoil = |_| server.trouble("alice/other", &[Trouble::KeepsWrong]);
    let error =
        hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/other"), &mut spoil).await.unwrap_err();
    match error {
        HubError::NotAsSent { repo, file } => {
            assert_eq!(
                (repo.as_str(), file.as_str()),
                ("alice/other", "README.md"),
                "the first that differs"
            );
        }
        other => panic!("what the Hub lists is compared: {other:?}"),
    }
}

#[tokio::test]
async fn who_may_not_push_is_told_why() {
    let server = server();
    let (folder, files) = model();
    let attempt = async |token, repo: &str| {
        hub(&server, token).push(push(&folder, &files, repo), &mut quiet).await.unwrap_err()
    };
    for (error, rule, status) in [
        (attempt(None, "alice/new").await, "no token", 403),
        (attempt(Some("hf_unknown"), "alice/new").await, "an unknown token", 403),
        (attempt(Some(BOB), "bob/new").await, "a token for reading", 403),
        (attempt(Some(ALICE), "other/new").await, "a foreign namespace", 403),
        (attempt(Some(ALICE), "alice/../new").await, "a bad name", 400),
        (attempt(Some(ALICE), "alice/new.git").await, "a name git takes for itself", 400),
    ] {
        let kind_fits = match rule {
            "no token" => matches!(error, HubError::NotSignedIn),
            "an unknown token" => matches!(error, HubError::TokenRefused),
            "a token for reading" | "a foreign namespace" => matches!(error, HubError::NotAllowed { .. }),
            _ => matches!(error, HubError::BadRepoName { .. }),
        };
        assert!(kind_fits, "{rule}: {error:?}");
        assert_eq!(ApiError::from(error).status_code, status, "{rule}");
    }
    assert!(
        server.files("other/new").is_none() && server.files("bob/new").is_none(),
        "nothing may have been made"
    );
}

#[tokio::test]
async fn files_that_are_not_there_or_outside_are_found_before_anything_is_sent() {
    let server = server();
    let (folder, _) = model();
    for (name, is_unsafe) in
        [("../outside.txt", true), ("/etc/passwd", true), ("nothing.txt", false), ("sub", false)]
    {
        let error =
            hub(&server, Some(ALICE)).push(push(&folder, &[name.into()], "alice/new"), &mut quiet).await;
        match error {
            Err(HubError::UnsafePath { .. }) => assert!(is_unsafe, "{name} is inside"),
            Err(HubError::File { .. }) => assert!(!is_unsafe, "{name} must not be opened"),
            other => panic!("{name} must be refused: {other:?}"),
        }
    }
    assert!(server.seen().is_empty(), "nothing may have been sent");
}

#[tokio::test]
async fn a_push_that_breaks_off_says_what_is_left() {
    let server = server();
    let (folder, files) = model();
    // The repository is made by the push, so its trouble is set by the first thing the push tells.
    let mut spoil = |_| server.trouble("alice/new", &[Trouble::NoCommits]);
    let error =
        hub(&server, Some(ALICE)).push(push(&folder, &files, "alice/new"), &mut spoil).await.unwrap_err();
    assert!(matches!(error, HubError::Unfinished { .. }), "{error:?}");
    assert_eq!(server.files("alice/new").unwrap(), [".gitattributes"], "a commit has all files or none");
    assert!(
        error.to_string().contains("the model is not in the repository alice/new yet"),
        "what is left there: {error}"
    );
    assert_eq!(ApiError::from(error).status_code, 500, "a failing Hub is a 500");
}
