//! Serves a small Hub to programs in other languages: prints its address, ends when its standard input does.

#![allow(clippy::print_stdout, reason = "the address is what this program is run for")]

use std::io::{self, Read};

use hub_server::{HubServer, Role, User, Visibility, tiny_safetensors};

fn main() -> io::Result<()> {
    let server = HubServer::start()?;
    let user = |name: &str, token: &str, role, organizations: &[&str]| User {
        name: name.into(),
        token: token.into(),
        role,
        organizations: organizations.iter().map(|name| name.to_string()).collect(),
    };
    server.add_user(user("alice", "hf_alice", Role::Write, &["acme"]));
    server.add_user(user("bob", "hf_bob", Role::Read, &[]));
    let weights = tiny_safetensors(10_000);
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{\"model_type\": \"llama\"}"),
        ("README.md", b"# Tiny\n"),
        ("model.safetensors", &weights),
    ];
    server.add_repo("acme/public", Visibility::Public, files);
    server.add_repo("acme/private", Visibility::Private, files);
    server.add_repo("other/gated", Visibility::Gated(vec!["alice".into()]), files);
    println!("{}", server.url());
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}
