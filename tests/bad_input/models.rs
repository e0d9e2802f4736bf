//! Models that are deleted, in use or both, and the chat engine that dies while it answers.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    processes::{Held, engine, hold, kill},
    raw::detail,
    support::Server,
};

#[tokio::test]
async fn a_model_in_use_stays_and_a_deleted_one_is_unknown_everywhere() {
    let server = Server::start();
    let id = server.trained_model().await;
    let path = format!("/api/models/{id}");
    let folder = server.home.join("models").join(&id);

    let (mut stream, held) = answering(&server, &id).await;
    let (status, refused) = server.delete(&path).await;
    assert_eq!(status, 400, "a model that answers is not deleted: {refused}");
    assert!(detail(&refused).contains("in use") && detail(&refused).contains("cancel"), "{refused}");
    assert!(folder.join("modelforge.json").is_file(), "its files stay");
    assert_eq!(server.get(&path).await.0, 200, "and so does its row");

    let (status, cancelled) = server.post("/api/playground/cancel", json!({})).await;
    assert_eq!((status, &cancelled["message"]), (200, &json!("The answer is being ended")));
    drop(held);
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text += &String::from_utf8_lossy(&chunk);
    }
    assert!(text.contains("\"done\""), "a cancelled answer has its end: {text}");

    let (_, playground) = server.get("/api/playground/status").await;
    assert_eq!(
        (&playground["model_id"], &playground["answering"]),
        (&json!(id), &json!(false)),
        "idle in memory"
    );
    let (status, deleted) = server.delete(&path).await;
    assert_eq!(status, 200, "a model that lies idle in memory is deleted: {deleted}");
    assert!(!folder.exists(), "with its files");
    let (_, playground) = server.get("/api/playground/status").await;
    assert_eq!(playground["model_id"], Value::Null, "and is not in memory any more");

    let body = |more: Value| {
        let mut body = json!({"model_id": id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let messages = json!({"messages": [{"role": "user", "content": "Hello"}]});
    for (method, path, body) in [
        (Method::GET, path.clone(), None),
        (Method::DELETE, path.clone(), None),
        (Method::GET, format!("/api/playground/model_path?model_id={id}"), None),
        (Method::POST, "/api/playground/new".into(), body(json!({"prompt": "Hello"}))),
        (Method::POST, "/api/playground/stream".into(), body(messages)),
        (Method::POST, "/api/hub/push".into(), body(json!({"repo_name": "me/gone"}))),
    ] {
        let (status, answer) = server.send(method.clone(), &path, body).await;
        assert_eq!((status, detail(&answer)), (404, &*format!("Model {id} not found")), "{method} {path}");
    }
    assert_eq!(server.get("/api/models/").await, (200, json!([])), "it is not listed either");
}

#[tokio::test]
async fn a_chat_engine_that_is_killed_costs_one_answer() {
    let server = Server::start();
    let (mut stream, held) = answering(&server, "modelforge/starter").await;
    // A second question waits for its turn meanwhile.
    let question = json!({"model_id": "modelforge/starter", "prompt": "Hello", "max_length": 4});
    let (client, url) = (server.client.clone(), format!("{}/api/playground/new", server.url));
    let waiting = tokio::spawn({
        let question = question.clone();
        async move { client.post(url).json(&question).send().await.unwrap().status().as_u16() }
    });
    kill(engine(&server, "chat").await);
    drop(held);
    let mut text = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        text += &String::from_utf8_lossy(&chunk);
    }
    assert!(
        text.contains("event: error") && text.contains("\"status_code\":500"),
        "told in the stream: {text}"
    );
    assert!(text.contains("signal 9"), "with the reason: {text}");
    assert_eq!(waiting.await.unwrap(), 200, "who waited gets an answer from a new engine");
    let (status, answer) = server.post("/api/playground/new", question).await;
    assert_eq!(status, 200, "and so does who asks next: {answer}");
}

#[tokio::test]
async fn an_answer_at_once_tells_that_its_engine_was_killed() {
    let server = Server::start();
    let question = json!({"model_id": "modelforge/starter", "prompt": "Hello", "max_length": 4});
    assert_eq!(server.post("/api/playground/new", question.clone()).await.0, 200);
    let chat = engine(&server, "chat").await;
    let held = hold(chat);
    let (client, url) = (server.client.clone(), format!("{}/api/playground/new", server.url));
    let asked = tokio::spawn({
        let question = question.clone();
        async move {
            let answer = client.post(url).json(&question).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    });
    while server.get("/api/playground/status").await.1["answering"] != true {
        tokio::task::yield_now().await;
    }
    kill(chat);
    drop(held);
    let (status, answer) = asked.await.unwrap();
    assert_eq!(status, 500, "{answer}");
    let text = detail(&answer);
    assert!(text.starts_with("An internal error occurred: the chat engine was ended by signal 9"), "{text}");
    let (status, answer) = server.post("/api/playground/new", question).await;
    assert_eq!(status, 200, "the next question gets a new engine: {answer}");
}

/// A long answer that has begun, with its engine held in the middle of it.
async fn answering(server: &Server, model: &str) -> (Response, Held) {
    let request = json!({
        "model_id": model, "messages": [{"role": "user", "content": "Hello"}],
        // So hot that hardly any token is likelier than another, the one that ends the answer among them.
        "params": {"max_new_tokens": 400, "temperature": 10.0, "top_p": 1.0},
    });
    let url = format!("{}/api/playground/stream", server.url);
    let mut stream = server.client.post(url).json(&request).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert!(stream.chunk().await.unwrap().is_some(), "the answer begins");
    let held = hold(engine(server, "chat").await);
    let (_, playground) = server.get("/api/playground/status").await;
    assert_eq!(playground["answering"], true, "it was held before its end: {playground}");
    (stream, held)
}
