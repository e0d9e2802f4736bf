//! What goes to the Hub and comes from it, step by step: pausing and throwing away downloads, pushes that are told as they
//! go, and that the access token is nowhere on the way.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hub_server::Trouble;
use serde_json::{Value, json};

use crate::{
    events::{Event, Events},
    hub::{Place, STARTER_ON_HUB, files_with},
    support::{PATIENCE, Server, small_run},
};

const SECRET: &str = "hf_alice";

async fn sign_in(server: &Server) {
    let (status, answer) = server.put("/api/hub/token", json!({"token": SECRET})).await;
    assert_eq!(status, 200, "{answer}");
}

async fn upload(server: &Server, request: Value) -> Events {
    let url = format!("{}/api/hub/upload", server.url);
    Events::open(server.client.post(url).timeout(PATIENCE).json(&request)).await
}

/// The download of a run that has begun to bring something; its bytes.
async fn under_way(server: &Server, job: &str) -> u64 {
    loop {
        let (_, run) = server.get(&format!("/api/runs/{job}")).await;
        assert_eq!(run["status"], "running", "{run}");
        match run["download"]["bytes"].as_u64() {
            Some(bytes) if bytes > 1 << 20 => return bytes,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn begin_slow_download(place: &Place, server: &Server) -> String {
    place.add_starter();
    place.hub.trouble(STARTER_ON_HUB, &[Trouble::Slow(Duration::from_millis(10))]);
    let request = small_run(&server.rows(12), json!({"model_name": STARTER_ON_HUB}));
    let (status, started) = server.post("/api/finetune/start_training", request).await;
    assert_eq!(status, 200, "{started}");
    started["job_id"].as_str().unwrap().to_owned()
}

async fn over(server: &Server, job: &str) -> Value {
    loop {
        let (_, run) = server.get(&format!("/api/runs/{job}")).await;
        if run["status"] != "running" {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_download_is_paused_and_goes_on_where_it_was() {
    let place = Place::new();
    let server = place.server();
    let job = begin_slow_download(&place, &server).await;
    let had = under_way(&server, &job).await;
    let (status, answer) = server.post(&format!("/api/runs/{job}/pause"), json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let run = over(&server, &job).await;
    assert_eq!(run["status"], "stopped", "it was paused, not broken off: {run}");
    place.hub.trouble(STARTER_ON_HUB, &[]);
    place.hub.forget();
    let (status, answer) = server.post(&format!("/api/runs/{job}/resume"), json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let run = over(&server, &job).await;
    assert_eq!(run["status"], "completed", "{run}");
    let start: u64 = place
        .hub
        .seen()
        .iter()
        .filter(|seen| seen.path.starts_with("/objects/"))
        .filter_map(|seen| {
            seen.range.as_ref()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok()
        })
        .sum();
    // What was told counts small files too, which were there as a whole.
    assert!(
        start + (2 << 20) > had && start > 0,
        "what had arrived is not asked for again: {start} of {had}"
    );
}

#[tokio::test]
async fn a_download_is_thrown_away_with_its_run() {
    let place = Place::new();
    let server = place.server();
    let job = begin_slow_download(&place, &server).await;
    under_way(&server, &job).await;
    let (status, answer) = server.post(&format!("/api/runs/{job}/stop"), json!({"keep": false})).await;
    assert_eq!(status, 200, "{answer}");
    let start = std::time::Instant::now();
    while server.get(&format!("/api/runs/{job}")).await.0 != 404 {
        assert!(start.elapsed() < PATIENCE, "it ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    place.hub.forget();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(place.hub.seen().is_empty(), "nothing is asked any more");
}

#[tokio::test]
async fn weights_that_can_run_code_are_refused_when_the_model_is_chosen() {
    let place = Place::new();
    let server = place.server();
    let files: &[(&str, &[u8])] = &[("config.json", b"{}"), ("pytorch_model.bin", b"\x80\x04")];
    place.hub.add_repo("acme/pickle", hub_server::Visibility::Public, files);
    for (path, request) in [
        ("/api/finetune/validate_custom_model", json!({"repo_name": "acme/pickle"})),
        ("/api/finetune/set_custom_model", json!({"repo_name": "acme/pickle"})),
        ("/api/finetune/validate_model", json!({"selected_model": "acme/pickle"})),
        ("/api/finetune/start_training", small_run(&server.rows(12), json!({"model_name": "acme/pickle"}))),
    ] {
        let (status, answer) = server.post(path, request).await;
        let detail = answer["detail"].as_str().unwrap();
        assert_eq!(status, 400, "{path}: {answer}");
        assert!(
            detail.contains("pytorch_model.bin") && detail.contains("run code"),
            "the reason is told: {detail}"
        );
    }
    assert_eq!(server.get("/api/runs").await.1, json!([]), "no run is made");
}

#[tokio::test]
async fn a_push_is_told_as_it_goes_and_what_arrived_is_compared() {
    let place = Place::new();
    let server = place.server();
    let model = server.trained_model().await;
    sign_in(&server).await;
    let request = |repo: &str, more: Value| {
        let mut request = json!({"model_id": model, "repo_name": repo, "private": true});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let done = |events: &[Event]| events.last().unwrap().data.clone();

    let events = upload(&server, request("alice/adapter", json!({}))).await.rest().await;
    assert!(events.iter().any(|event| event.data["type"] == "sending"), "{events:?}");
    let last = done(&events);
    assert_eq!(
        (&last["type"], &last["repo_url"]),
        (&json!("done"), &json!(format!("{}/alice/adapter", place.hub.url())))
    );
    let there = place.hub.files("alice/adapter").unwrap();
    assert_eq!(last["files"], there.len() - 1, "all files but the one that the Hub makes: {there:?}");
    let card = String::from_utf8(place.hub.file("alice/adapter", "README.md").unwrap()).unwrap();
    for line in [
        "base_model: \"modelforge/starter\"",
        "base_model_relation: adapter",
        "library_name: peft",
        "pipeline_tag: text-generation",
        "license: cc0-1.0",
        "datasets:",
        "model-index:",
    ] {
        assert!(card.lines().any(|have| have == line), "{line} stands in the card: {card}");
    }

    let events = upload(&server, request("alice/adapter", json!({}))).await.rest().await;
    assert_eq!(done(&events), json!({"type": "exists", "repository": "alice/adapter"}), "it is asked before");
    let events = upload(&server, request("alice/adapter", json!({"into_existing": true}))).await.rest().await;
    assert_eq!(done(&events)["type"], "done", "and done when that was said: {events:?}");

    let events = upload(&server, request("alice/whole", json!({"merged": true}))).await.rest().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.data["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"merging") && kinds.contains(&"sending"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"done"), "{events:?}");
    let there = place.hub.files("alice/whole").unwrap();
    for name in ["model.safetensors", "config.json", "tokenizer.json", "README.md"] {
        assert!(there.iter().any(|have| have == name), "{name} belongs to a whole model: {there:?}");
    }
    assert!(!there.iter().any(|name| name.starts_with("adapter")), "the adapter is merged: {there:?}");
    let card = String::from_utf8(place.hub.file("alice/whole", "README.md").unwrap()).unwrap();
    for line in ["library_name: transformers", "base_model_relation: finetune", "license: cc0-1.0"] {
        assert!(card.lines().any(|have| have == line), "{line} stands in the card: {card}");
    }
    let exports: Vec<_> = fs::read_dir(server.home.join("exports")).unwrap().collect();
    assert!(exports.is_empty(), "the merged model is not kept: {exports:?}");

    let url = format!("{}/api/hub/upload", server.url);
    let refused = server.client.post(url).json(&request("other/mine", json!({}))).send().await.unwrap();
    assert_eq!(refused.status(), 403, "what is refused before it begins is an answer, not a stream");
}

#[tokio::test]
async fn a_push_that_nobody_waits_for_ends_and_the_next_one_goes_on() {
    let place = Place::new();
    let server = place.server();
    let model = server.trained_model().await;
    sign_in(&server).await;
    let request = json!({"model_id": model, "repo_name": "alice/mine", "private": true});
    let mut events = upload(&server, request.clone()).await;
    assert_eq!(events.next().await.unwrap().data["type"], "sending");
    drop(events);
    let events = upload(
        &server,
        json!({"model_id": model, "repo_name": "alice/mine", "private": true, "into_existing": true}),
    );
    let last = events.await.rest().await.pop().unwrap();
    assert_eq!(last.data["type"], "done", "{last:?}");
}

/// The command lines and the environments of a process and of those that it started.
#[cfg(target_os = "linux")]
fn told_by_the_system(pid: u32) -> Vec<(String, String)> {
    let read = |pid: u32, file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        (status.lines().any(|line| line == format!("PPid:\t{pid}"))).then_some(child)
    });
    let mut told = vec![("the app's command line".to_owned(), read(pid, "cmdline"))];
    for child in children {
        told.push((format!("command line of {child}"), read(child, "cmdline")));
        told.push((format!("environment of {child}"), read(child, "environ")));
    }
    told
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_token_is_nowhere_while_it_is_used() {
    for from_variable in [true, false] {
        let place = Place::new();
        let server = match from_variable {
            true => place.server_with(&[("HF_TOKEN", SECRET.as_ref())]),
            false => place.server(),
        };
        if !from_variable {
            sign_in(&server).await;
        }
        place.add_starter();
        let (_, somebody) = server.get("/api/hub/whoami").await;
        assert_eq!(somebody["account"]["name"], "alice", "the token is in use: {somebody}");
        let (_, places) = server.get("/api/hub/token/places").await;
        let in_use: Vec<&Value> =
            places.as_array().unwrap().iter().filter(|p| p["state"] == "in_use").collect();
        assert_eq!(in_use.len(), 1, "one place counts: {places}");
        assert_eq!(in_use[0]["place"], if from_variable { "environment" } else { "memory" }, "{places}");

        // A private model is downloaded with the token, trained on, and pushed; a Hub that repeats it fails.
        let request = small_run(&server.rows(12), json!({"model_name": STARTER_ON_HUB, "max_steps": 40}));
        let (status, started) = server.post("/api/finetune/start_training", request).await;
        assert_eq!(status, 200, "{started}");
        let mut told = Vec::new();
        server
            .status_until(|status| {
                let training = status["message"].as_str().unwrap().starts_with("Training");
                if training {
                    told = told_by_the_system(server.child.id());
                }
                training || status["status"] != "running"
            })
            .await;
        assert!(told.len() > 2, "an engine is at work: {told:?}");
        let last = server.status_until(|status| status["status"] != "running").await;
        assert_eq!(last["status"], "completed", "{last}");
        let (_, models) = server.get("/api/models/").await;
        let model = models[0]["model_id"].as_str().unwrap();
        let push = json!({"model_id": model, "repo_name": "alice/mine"});
        let events = upload(&server, push).await.rest().await;
        assert_eq!(events.last().unwrap().data["type"], "done", "{events:?}");
        place.hub.trouble("acme/broken", &[Trouble::RepeatsToken]);
        let custom = json!({"repo_name": "acme/broken"});
        let (_, error) = server.post("/api/finetune/validate_custom_model", custom).await;

        let job = started["job_id"].as_str().unwrap();
        told.push(("an error".into(), error.to_string()));
        told.push(("events".into(), server.get(&format!("/api/runs/{job}/history")).await.1.to_string()));
        told.push(("places".into(), places.to_string()));
        told.push(("log".into(), fs::read_to_string(&server.log).unwrap()));
        for name in place.hub.files("alice/mine").unwrap() {
            let bytes = place.hub.file("alice/mine", &name).unwrap();
            told.push((format!("pushed {name}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
        for (what, text) in told {
            assert!(!text.contains(SECRET), "{what} must not show the token: {text}");
        }
        let cache: PathBuf = server.home.with_extension("hub-cache");
        for folder in [server.home.as_path(), cache.as_path()] as [&Path; 2] {
            assert_eq!(files_with(folder, SECRET), Vec::<PathBuf>::new(), "no file holds it");
        }
    }
}
