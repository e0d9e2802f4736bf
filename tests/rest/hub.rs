//! The Hub: choosing a repository, signing in, downloading for a run, pushing; and what happens where it cannot be reached.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use hub_server::{HubServer, Role, Trouble, User, Visibility, tiny_safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, keys, small_run};

const ALICE: &str = "hf_alice";
pub const STARTER_ON_HUB: &str = "acme/starter";

/// A Hub with two accounts and some models, and a folder for the app.
pub struct Place {
    pub hub: HubServer,
    folder: TempDir,
}

impl Place {
    /// alice may write and is of acme, bob may only read.
    pub fn new() -> Self {
        let hub = HubServer::start().unwrap();
        for (name, token, role, of) in
            [("alice", ALICE, Role::Write, vec!["acme".to_owned()]), ("bob", "hf_bob", Role::Read, vec![])]
        {
            hub.add_user(User { name: name.into(), token: token.into(), role, organizations: of });
        }
        let weights = tiny_safetensors(100);
        let files: &[(&str, &[u8])] = &[
            ("config.json", br#"{"model_type": "llama"}"#),
            ("tokenizer.json", b"{}"),
            ("model.safetensors", &weights),
        ];
        hub.add_repo("acme/public", Visibility::Public, files);
        hub.add_repo("acme/broken", Visibility::Public, files);
        hub.add_repo("acme/private", Visibility::Private, files);
        hub.add_repo("other/gated", Visibility::Gated(vec!["alice".into()]), files);
        Self { hub, folder: tempfile::tempdir().unwrap() }
    }

    /// The app, for which this is the Hub.
    pub fn server(&self) -> Server {
        self.server_with(&[])
    }

    /// The same with more variables in its environment.
    pub fn server_with(&self, variables: &[(&str, &OsStr)]) -> Server {
        let mut all = vec![("HF_ENDPOINT", self.hub.url().as_ref())];
        all.extend(variables);
        Server::on(&self.folder.path().join("home"), &all)
    }

    /// Puts a copy of the starter model on the Hub.
    pub fn add_starter(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter");
        self.hub.add_folder(STARTER_ON_HUB, Visibility::Public, &folder).unwrap();
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The files of a folder that hold a text.
pub fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let holds =
        |path: &PathBuf| fs::read(path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes());
    files_below(folder).into_iter().filter(holds).collect()
}

fn detail(answer: &Value) -> &str {
    answer["detail"].as_str().unwrap_or_else(|| panic!("a sentence: {answer}"))
}

async fn sign_in(server: &Server, token: &str) {
    let (status, answer) = server.put("/api/hub/token", json!({"token": token})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_repository_is_chosen_only_where_it_can_be_read() {
    let place = Place::new();
    let server = place.server();
    let (status, found) =
        server.post("/api/finetune/validate_custom_model", json!({"repo_name": "acme/public"})).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(keys(&found), ["valid", "repo_name", "model_info"]);
    assert_eq!(keys(&found["model_info"]), ["id", "author", "downloads", "likes"]);
    let (status, _) =
        server.post("/api/finetune/set_custom_model", json!({"repo_name": "acme/public"})).await;
    assert_eq!(status, 200);
    let (_, session) = server.get("/api/finetune/session").await;
    assert_eq!(
        (&session["selected_model"], &session["is_custom_model"]),
        (&json!("acme/public"), &json!(true))
    );

    let custom = "Please check if it exists and you have permissions.";
    let other = "Please check if you have the required permissions.";
    let rows = server.rows(12);
    for repo in ["acme/none", "acme/private", "other/gated"] {
        for (path, request, sentence) in [
            ("/api/finetune/validate_custom_model", json!({"repo_name": repo}), custom),
            ("/api/finetune/set_custom_model", json!({"repo_name": repo}), custom),
            ("/api/finetune/validate_model", json!({"selected_model": repo}), other),
            ("/api/finetune/start_training", small_run(&rows, json!({"model_name": repo})), other),
            ("/api/playground/new", json!({"model_id": repo, "prompt": "a"}), other),
        ] {
            let (status, answer) = server.post(path, request).await;
            assert_eq!(status, 403, "{path} {repo}: {answer}");
            let beginning = format!("Model {repo} is not accessible. {sentence}");
            assert!(detail(&answer).starts_with(&beginning), "{path} {repo}: {answer}");
        }
        assert_eq!(server.get("/api/finetune/session").await.1, session, "nothing is kept of {repo}");
    }
    assert_eq!(server.get("/api/runs").await.1, json!([]), "and no run is made");

    sign_in(&server, ALICE).await;
    for repo in ["acme/private", "other/gated"] {
        let (status, answer) =
            server.post("/api/finetune/set_custom_model", json!({"repo_name": repo})).await;
        assert_eq!(status, 200, "{repo} can be read with the right token: {answer}");
    }
}

#[tokio::test]
async fn a_token_is_kept_where_it_may_be_and_shown_nowhere() {
    let place = Place::new();
    let server = place.server();
    let mut answers = Vec::new();
    let (_, nobody) = server.get("/api/hub/whoami").await;
    assert_eq!(nobody, json!({"source": "none", "account": null}), "nobody is signed in");
    let (status, kept) = server.put("/api/hub/token", json!({"token": ALICE})).await;
    assert_eq!(
        (status, &kept["source"]),
        (200, &json!("memory")),
        "no keychain, no leave for a file: {kept}"
    );
    answers.push(kept);
    let (_, somebody) = server.get("/api/hub/whoami").await;
    assert_eq!(somebody["account"]["name"], "alice", "{somebody}");
    answers.push(somebody);
    let (_, refused) = server.put("/api/hub/token", json!({"token": format!("{ALICE} {ALICE}")})).await;
    answers.push(refused);
    let broken = json!({"repo_name": "acme/broken"});
    place.hub.trouble("acme/broken", &[Trouble::RepeatsToken]);
    let (status, told) = server.post("/api/finetune/validate_custom_model", broken).await;
    assert_eq!(status, 500, "{told}");
    answers.push(told);
    let model = server.trained_model().await;
    for path in ["/api/settings", "/api/info", "/api/storage", "/api/finetune/session", "/api/runs"] {
        answers.push(server.get(path).await.1);
    }
    answers.push(server.get(&format!("/api/models/{model}")).await.1);
    for answer in &answers {
        assert!(!answer.to_string().contains(ALICE), "no answer shows the token: {answer}");
    }
    assert_eq!(files_with(&server.home, ALICE), Vec::<PathBuf>::new(), "a token in memory is in no file");

    let (_, kept) = server.put("/api/hub/token", json!({"token": ALICE, "allow_file": true})).await;
    assert_eq!(kept["source"], "file", "{kept}");
    assert_eq!(files_with(&server.home, ALICE), [server.home.join("hub_token")], "only where it may be");
    let (_, cleared) = server.delete("/api/hub/token").await;
    assert_eq!(cleared["source"], "none", "{cleared}");
    assert_eq!(files_with(&server.home, ALICE), Vec::<PathBuf>::new(), "a forgotten token is in no file");
    assert_eq!(server.get("/api/hub/whoami").await.1, nobody, "and signs nobody in");
    sign_in(&server, "hf_mistyped").await;
    let (status, answer) = server.get("/api/hub/whoami").await;
    assert_eq!(status, 403, "a token that the Hub does not know: {answer}");
    assert!(!answer.to_string().contains("hf_mistyped"), "{answer}");
    let log = fs::read_to_string(&server.log).unwrap();
    assert!(!log.contains(ALICE) && !log.contains("hf_mistyped"), "the log shows no token: {log}");
}

#[tokio::test]
async fn a_model_is_pushed_byte_for_byte_into_a_new_repository() {
    let place = Place::new();
    let server = place.server();
    let model = server.trained_model().await;
    let push = |repo: &str, private: bool| json!({"model_id": model, "repo_name": repo, "private": private});
    let (status, answer) = server.post("/api/hub/push", push("alice/mine", false)).await;
    assert_eq!(status, 403, "without a token: {answer}");
    assert!(place.hub.files("alice/mine").is_none(), "nothing is made without a token");

    sign_in(&server, ALICE).await;
    for (repo, private) in [("alice/mine", false), ("acme/hidden", true)] {
        let (status, answer) = server.post("/api/hub/push", push(repo, private)).await;
        let pushed = json!({
            "success": true, "message": "Model pushed to HuggingFace Hub successfully",
            "repo_url": format!("{}/{repo}", place.hub.url()),
        });
        assert_eq!((status, answer), (200, pushed));
        assert_eq!(place.hub.is_private(repo), Some(private), "{repo} is as private as was asked");
    }
    let folder = server.home.join("models").join(&model);
    let mut ours: Vec<String> = files_below(&folder).iter().map(|path| name_of(path)).collect();
    ours.retain(|name| name != "modelforge.json");
    let mut there = place.hub.files("alice/mine").unwrap();
    // The Hub makes this one itself.
    there.retain(|name| name != ".gitattributes");
    assert_eq!(there, ours, "every file but the manifest is there");
    for name in &ours {
        let there = place.hub.file("alice/mine", name).unwrap();
        assert!(there == fs::read(folder.join(name)).unwrap(), "{name} has the same bytes");
    }
    let card = String::from_utf8(place.hub.file("alice/mine", "README.md").unwrap()).unwrap();
    assert!(card.starts_with("---\n") && card.contains("modelforge"), "a model card with metadata: {card}");
    assert!(!card.contains(server.home.to_str().unwrap()), "no folder of this machine is told: {card}");

    let before = place.hub.files("acme/public");
    for (repo, expected, sentence) in [
        ("alice/mine", 400, "the repository alice/mine exists already"),
        ("acme/public", 400, "the repository acme/public exists already"),
        ("other/mine", 403, "the access token does not allow to make the repository other/mine"),
        ("no/such/name", 400, "\"no/such/name\" is no name of a repository"),
    ] {
        let (status, answer) = server.post("/api/hub/push", push(repo, false)).await;
        assert_eq!(status, expected, "{repo}: {answer}");
        assert!(detail(&answer).starts_with(sentence), "{repo}: {answer}");
    }
    assert_eq!(place.hub.files("acme/public"), before, "what is there is left alone");
    sign_in(&server, "hf_bob").await;
    let (status, answer) = server.post("/api/hub/push", push("bob/mine", false)).await;
    assert_eq!(status, 403, "a token that may only read: {answer}");
    assert!(place.hub.files("bob/mine").is_none(), "and nothing is made");
}

#[tokio::test]
async fn a_hub_that_is_down_is_an_error_and_an_app_that_is_offline_does_not_ask() {
    let server = Server::start();
    let custom = json!({"repo_name": "acme/public"});
    let (status, answer) = server.post("/api/finetune/validate_custom_model", custom.clone()).await;
    assert_eq!(status, 500, "nobody answers at the Hub's address: {answer}");
    assert!(detail(&answer).starts_with("An internal error occurred: "), "{answer}");
    drop(server);

    let place = Place::new();
    let server = place.server();
    let (status, answer) = server.put("/api/settings", json!({"offline": true})).await;
    assert_eq!(status, 200, "{answer}");
    for (path, request) in [
        ("/api/finetune/validate_custom_model", custom.clone()),
        ("/api/finetune/set_custom_model", custom),
        ("/api/finetune/validate_model", json!({"selected_model": "acme/public"})),
        ("/api/finetune/start_training", small_run(&server.rows(12), json!({"model_name": "acme/public"}))),
    ] {
        let (status, answer) = server.post(path, request).await;
        assert_eq!(status, 403, "{path} without the network: {answer}");
        assert!(detail(&answer).starts_with("Model acme/public is not accessible. "), "{path}: {answer}");
    }
    let (status, answer) = server.get("/api/finetune/recommended_models/text-generation").await;
    assert_eq!((status, &answer["recommended_model"]), (200, &json!("modelforge/starter")), "{answer}");
    let seen = place.hub.seen();
    assert!(seen.is_empty(), "offline, nothing is asked: {seen:?}");
}

#[tokio::test]
async fn a_model_of_the_hub_is_downloaded_for_its_run_also_over_a_connection_that_breaks() {
    let place = Place::new();
    place.add_starter();
    place.hub.trouble(STARTER_ON_HUB, &[Trouble::Drop { times: 100, after: 4 << 20 }]);
    let server = place.server();
    let request = small_run(&server.rows(12), json!({"model_name": STARTER_ON_HUB}));
    let (status, started) = server.post("/api/finetune/start_training", request.clone()).await;
    assert_eq!(status, 200, "{started}");
    let (status, second) = server.post("/api/finetune/start_training", request).await;
    let in_progress = format!("Training already in progress: {}", started["job_id"].as_str().unwrap());
    assert_eq!((status, detail(&second)), (400, in_progress.as_str()), "a download is part of its run");
    let last = server
        .status_until(|status| {
            let message = status["message"].as_str().unwrap();
            let known = [
                "Downloading the model: ",
                "Starting",
                "Preparing",
                "Loading",
                "Training",
                "Evaluating",
                "Saving",
            ];
            assert!(known.iter().any(|word| message.starts_with(word)), "it says what it does: {status}");
            status["status"] != "running"
        })
        .await;
    assert_eq!(last["status"], "completed", "{last}");
    let job = started["job_id"].as_str().unwrap();
    let (_, history) = server.get(&format!("/api/runs/{job}/history")).await;
    let events = history.as_array().unwrap();
    assert_eq!(
        (&events[0]["event"], &events[0]["phase"]),
        (&json!("phase"), &json!("downloading")),
        "its log begins with the download"
    );
    let told: Vec<_> = events[1..].iter().take_while(|event| event["event"] == "download").collect();
    let bytes: Vec<u64> = told.iter().map(|event| event["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted() && told.iter().all(|event| event["file"].is_string()), "{told:?}");
    assert_eq!(told.last().unwrap()["total_bytes"], json!(bytes.last()), "it is told to its end");
    assert_eq!(events[told.len() + 1]["event"], "started", "and the engine goes on in the same log");
    assert!(events.iter().enumerate().all(|(n, event)| event["seq"] == n), "no number is missing or twice");
    let (_, run) = server.get(&format!("/api/runs/{job}")).await;
    assert_eq!(run["download"], Value::Null, "what is over is not told as under way: {run}");
    let weights: Vec<_> = place
        .hub
        .seen()
        .into_iter()
        .filter(|s| s.method == "GET" && s.path.starts_with("/objects/"))
        .collect();
    assert!(
        weights.len() == 3 && weights[0].range.is_none() && weights[1..].iter().all(|s| s.range.is_some()),
        "a broken download goes on where it was: {weights:?}"
    );
    let cache = server.home.with_extension("hub-cache").join("models--acme--starter/snapshots");
    assert!(
        files_below(&cache).iter().any(|path| name_of(path) == "model.safetensors"),
        "it is in the shared cache"
    );
    let (_, models) = server.get("/api/models/").await;
    assert_eq!(models[0]["base_model"], STARTER_ON_HUB, "{models}");

    place.hub.forget();
    assert_eq!(server.put("/api/settings", json!({"offline": true})).await.0, 200);
    let again = small_run(&server.rows(12), json!({"model_name": STARTER_ON_HUB}));
    assert_eq!(server.post("/api/finetune/start_training", again).await.0, 200);
    let last = server.status_until(|status| status["status"] != "running").await;
    assert_eq!(last["status"], "completed", "{last}");
    let seen = place.hub.seen();
    assert!(seen.is_empty(), "what is in the cache is used without the Hub: {seen:?}");
}
