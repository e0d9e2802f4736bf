//! Every operation answers as documented: the same keys in the same order, the same types, statuses and sentences.

use std::{collections::BTreeSet, time::Instant};

use api::OPERATIONS;
use hub_server::Trouble;
use reqwest::Method;
use serde_json::Value;
use types::files;

use crate::{
    events::{self, Events},
    golden::{self, Pair},
    hub,
    shape::Facts,
    support::{PATIENCE, Server},
};

/// The status and the JSON of an answer; of a stream, the list of its items: as many as are named, or else all.
async fn ask(server: &Server, route: &str, request: &Value, answer: &Value) -> (u16, Value) {
    let named = answer.as_array().filter(|items| items.first() != Some(&"<each>".into())).map(Vec::len);
    let (method, path) = route.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let mut asked = server.client.request(method, format!("{}{path}", server.url)).timeout(PATIENCE);
    if !request.is_null() {
        asked = asked.json(request);
    }
    let answer = asked.send().await.unwrap();
    let status = answer.status().as_u16();
    if events::is_stream(&answer) {
        let events = Events::of(answer).at_most(named.unwrap_or(usize::MAX)).await;
        return (status, events.into_iter().map(|event| event.data).collect());
    }
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{route}: not JSON ({e}): {text}")))
}

/// Asks everything in its order. What takes time is asked again until the answer is the one that is waited for.
async fn check(server: &Server, pairs: &[Pair], facts: &mut Facts) {
    for Pair { operation, route, request, status, answer, wait } in pairs {
        let (route, request) = (facts.fill(route), facts.fill_all(request));
        let start = Instant::now();
        loop {
            let (found, body) = ask(server, &route, &request, answer).await;
            let differs = facts.differs(&body, answer, "answer");
            if found == *status && differs.is_ok() {
                break;
            }
            assert!(
                *wait && start.elapsed() < PATIENCE,
                "{operation} answers {route} {request} with {status} {answer}\nfound {found} {body}\n{differs:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn every_operation_answers_as_documented() {
    let place = hub::Place::new();
    let server = place.server();
    place.hub.trouble("acme/broken", &[Trouble::RepeatsToken]);
    let mut facts = Facts::default();
    facts.set("$hub", place.hub.url());
    facts.set("$home", server.home.to_str().unwrap());
    facts.set("$rows", server.rows(12).to_str().unwrap());
    let bad = server.home.with_extension("bad.jsonl");
    files::write(&bad, b"{\"input\": \"a\", \"output\": \"b\"}\n{\"input\": \"c\"}\n").unwrap();
    facts.set("$bad", bad.to_str().unwrap());
    for part in golden::all() {
        check(&server, &part, &mut facts).await;
    }
}

#[test]
fn every_operation_has_golden_answers_good_and_bad() {
    let pairs = golden::all().concat();
    for good in [true, false] {
        let asked: BTreeSet<&str> =
            pairs.iter().filter(|pair| (pair.status == 200) == good).map(|pair| pair.operation).collect();
        let missing: Vec<&str> =
            OPERATIONS.iter().map(|operation| operation.name).filter(|name| !asked.contains(name)).collect();
        assert!(missing.is_empty(), "good = {good}: {missing:?} are not asked for");
    }
    for Pair { operation, route, .. } in &pairs {
        let known = OPERATIONS.iter().find(|known| known.name == *operation).unwrap();
        let beginning = format!("{} {}", known.method.name(), known.path.split('{').next().unwrap());
        assert!(
            route.starts_with(beginning.trim_end_matches('/')),
            "{operation} is asked for at its route: {route}"
        );
    }
}
