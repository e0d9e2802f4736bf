//! Answers token by token, and ending them.

use serde_json::{Value, json};

use crate::{events::Events, support::Server};

async fn answer(server: &Server, model: &str, params: Value) -> Events {
    let messages = json!([{"role": "user", "content": "What is box 3?"}]);
    let body = json!({"model_id": model, "messages": messages, "params": params});
    Events::open(server.client.post(format!("{}/api/playground/stream", server.url)).json(&body)).await
}

/// An answer that goes on until the context is full, unless somebody ends it.
fn endless() -> Value {
    json!({"max_new_tokens": 100_000, "temperature": 10.0, "top_p": 1.0, "seed": 1})
}

#[tokio::test]
async fn an_answer_comes_in_pieces_and_can_be_ended() {
    let server = Server::start();
    let model = server.trained_model().await;
    let params = json!({"max_new_tokens": 24, "temperature": 0.0});

    let events = answer(&server, &model, params.clone()).await.rest().await;
    let (last, pieces) = events.split_last().unwrap();
    assert_eq!(last.data["type"], "done", "{last:?}");
    assert!(pieces.iter().all(|piece| piece.data["type"] == "text"), "text comes before the end: {pieces:?}");
    let joined: String = pieces.iter().map(|piece| piece.data["text"].as_str().unwrap()).collect();
    assert_eq!(last.data["text"], joined, "the pieces are the whole text");
    let again = answer(&server, &model, params).await.rest().await;
    assert_eq!(again.last().unwrap().data["text"], joined, "the likeliest answer is the same each time");

    let mut stream = answer(&server, &model, endless()).await;
    stream.next().await.unwrap();
    let (status, in_use) = server.delete(&format!("/api/models/{model}")).await;
    let detail = in_use["detail"].as_str().unwrap();
    assert!(
        status == 400 && detail.starts_with(&format!("Model {model} is in use")),
        "a model that answers is not deleted: {status} {in_use}"
    );
    let (_, state) = server.get("/api/playground/status").await;
    assert_eq!((&state["model_id"], &state["answering"]), (&json!(model), &json!(true)), "{state}");
    let (status, ended) = server.post("/api/playground/cancel", json!({})).await;
    assert_eq!((status, &ended["message"]), (200, &json!("The answer is being ended")));
    let rest = stream.rest().await;
    let done = &rest.last().unwrap().data;
    assert_eq!((&done["type"], &done["stats"]["finish"]), (&json!("done"), &json!("cancelled")), "{done}");

    // A caller that goes away ends its answer: the next one has its turn long before the context would be full.
    let mut left = answer(&server, &model, endless()).await;
    left.next().await.unwrap();
    drop(left);
    let request = json!({"model_id": model, "prompt": "What is box 4?", "max_length": 2});
    assert_eq!(server.post("/api/playground/new", request).await.0, 200);

    let (status, deleted) = server.delete(&format!("/api/models/{model}")).await;
    assert_eq!(status, 200, "a model that only lies in memory is deleted: {deleted}");
    let (_, state) = server.get("/api/playground/status").await;
    assert_eq!(state, json!({"model_id": null, "model": null, "answering": false}), "and leaves memory");
}
