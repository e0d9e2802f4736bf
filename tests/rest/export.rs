//! Exports over HTTP: where they land, that none is overwritten, and that nothing stays of one that was given up.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    events::Events,
    support::{PATIENCE, Server},
};

async fn export(server: &Server, model: &str, request: Value) -> Events {
    let url = format!("{}/api/models/{model}/export", server.url);
    Events::open(server.client.post(url).timeout(PATIENCE).json(&request)).await
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn exports_get_folders_of_their_own_and_can_be_given_up() {
    let server = Server::start();
    let model = server.trained_model().await;
    let chosen = server.home.with_extension("chosen");
    fs::create_dir(&chosen).unwrap();
    let request = json!({"format": "safetensors", "dtype": "f32", "folder": chosen});
    for name in ["test-safetensors", "test-safetensors-2"] {
        let events = export(&server, &model, request.clone()).await.rest().await;
        let (last, before) = events.split_last().unwrap();
        assert!(before.iter().all(|event| event.data["type"] == "progress"), "{before:?}");
        let folder = chosen.join(name);
        assert_eq!(last.data["path"], folder.to_str().unwrap(), "a taken name gets a number: {last:?}");
        assert_eq!(last.data["checked"], true, "f32 is exact: {last:?}");
        for file in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "chat_template.jinja",
            "generation_config.json",
        ] {
            assert!(folder.join(file).is_file(), "{file} belongs to an exported model");
        }
    }
    // The exported folder is a base model like any other.
    let said =
        json!({"model_id": chosen.join("test-safetensors"), "prompt": "What is box 3?", "max_length": 4});
    let (status, answer) = server.post("/api/playground/new", said).await;
    assert_eq!(status, 200, "{answer}");

    let before = names(&chosen);
    let mut left = export(&server, &model, request).await;
    assert_eq!(left.next().await.unwrap().data["done"], 0);
    drop(left);
    let start = std::time::Instant::now();
    // Whoever deletes the model is told when the export has let go of it.
    while server.delete(&format!("/api/models/{model}")).await.0 != 200 {
        assert!(start.elapsed() < PATIENCE, "an export that nobody waits for ends");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // It may have been complete before it was given up.
    let stayed: Vec<String> = names(&chosen).into_iter().filter(|name| !before.contains(name)).collect();
    assert!(stayed.iter().all(|name| name == "test-safetensors-3"), "nothing half made stays: {stayed:?}");
}
