//! The client against a server that speaks the Hub's protocol.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

mod downloads;
mod faults;
mod keychain;
mod official_client;
mod processes;
mod pushes;
mod repositories;
mod secrets;
mod tokens;

use std::{path::Path, time::Duration};

use hub::{Environment, Hub, HubOptions, Progress, Token, TokenPlaces, Tokens};
use hub_server::{HubServer, Role, User, Visibility, tiny_safetensors};

const ALICE: &str = "hf_alice";
const BOB: &str = "hf_bob";

/// A Hub with two accounts: alice, who may write and is of acme, and bob, who may read.
fn server() -> HubServer {
    let server = HubServer::start().unwrap();
    let user = |name: &str, token: &str, role, organizations: &[&str]| User {
        name: name.into(),
        token: token.into(),
        role,
        organizations: organizations.iter().map(|name| name.to_string()).collect(),
    };
    server.add_user(user("alice", ALICE, Role::Write, &["acme"]));
    server.add_user(user("bob", BOB, Role::Read, &[]));
    server
}

/// [`server`] with a model of each visibility.
fn server_with_models() -> HubServer {
    let server = server();
    let weights = tiny_safetensors(100_000);
    let files: &[(&str, &[u8])] = &[
        ("README.md", b"# Tiny\n"),
        ("config.json", b"{\"model_type\": \"llama\"}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", &weights),
        ("pytorch_model.bin", b"never wanted"),
    ];
    server.add_repo("acme/public", Visibility::Public, files);
    server.add_repo("acme/private", Visibility::Private, files);
    server.add_repo("other/gated", Visibility::Gated(vec!["alice".into()]), files);
    server
}

fn tokens(token: Option<&str>) -> Tokens {
    let token = token.map(|text| Token::parse(text).unwrap());
    Tokens::new(TokenPlaces {
        environment: Environment { token, ..Environment::default() },
        ..TokenPlaces::default()
    })
}

fn hub_at(endpoint: &str, token: Option<&str>, offline: bool) -> Hub {
    // A machine that is busy with other tests is silent for a while, too.
    hub_with(endpoint, token, offline, Duration::from_secs(30))
}

fn hub_with(endpoint: &str, token: Option<&str>, offline: bool, silence: Duration) -> Hub {
    Hub::new(HubOptions {
        endpoint: endpoint.into(),
        offline: offline.into(),
        tokens: tokens(token),
        first_delay: Duration::from_millis(1),
        silence,
    })
    .unwrap()
}

fn hub(server: &HubServer, token: Option<&str>) -> Hub {
    hub_at(server.url(), token, false)
}

/// For those who do not care how far it is.
fn quiet(_: Progress) {}

/// How often a file of this path was asked for, and with which ranges.
fn ranges(server: &HubServer, path: &str) -> Vec<Option<String>> {
    server
        .seen()
        .into_iter()
        .filter(|s| s.method == "GET" && s.path.contains(path))
        .map(|s| s.range)
        .collect()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
