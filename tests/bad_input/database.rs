//! A database that was destroyed while the server was not running.

use std::{ffi::OsStr, fs, path::Path};

use serde_json::Value;

use crate::support::Server;

#[tokio::test]
async fn a_destroyed_database_is_told_kept_and_made_again_from_the_folders() {
    let mut server = Server::start();
    let model = server.trained_model().await;
    let models = server.get("/api/models/").await;
    let runs = server.get("/api/runs").await;
    let details = server.get(&format!("/api/models/{model}")).await;
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let home = server.home.clone();
    let database = home.join("modelforge.db");

    let damages: [(&str, fn(&mut Vec<u8>)); 4] = [
        ("garbage", |bytes| bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7 + 13) as u8)),
        ("cut off", |bytes| bytes.truncate(bytes.len() / 2 + 100)),
        ("a few bytes", |bytes| bytes.truncate(40)),
        ("no header", |bytes| bytes[..100].fill(0)),
    ];
    for (n, (what, damage)) in damages.into_iter().enumerate() {
        let mut bytes = whole(&database);
        damage(&mut bytes);
        destroy(&database, &bytes);
        let server = Server::on(&home, &[("HF_ENDPOINT", OsStr::new("http://127.0.0.1:9"))]);
        let (_, info) = server.get("/api/info").await;
        let kept = info["damaged_database"].as_str().unwrap_or_else(|| panic!("{what}: it is told: {info}"));
        assert_eq!(Path::new(kept), home.join(format!("modelforge.db.damaged-{}", n + 1)), "{what}");
        assert_eq!(fs::read(kept).unwrap(), bytes, "{what}: nothing of it is lost");
        assert_eq!(server.get("/api/models/").await, models, "{what}: the models are those of the folders");
        assert_eq!(server.get(&format!("/api/models/{model}")).await, details, "{what}");
        assert_eq!(server.get("/api/runs").await, runs, "{what}: and so are the runs");
    }
    let server = Server::on(&home, &[]);
    let (_, info) = server.get("/api/info").await;
    assert_eq!(info["damaged_database"], Value::Null, "it is told once");
    assert_eq!(server.get("/api/models/").await, models);
}

/// The database with what the log beside it holds.
fn whole(database: &Path) -> Vec<u8> {
    let store = store::Store::open(store::Home::at(database.parent().unwrap()).unwrap()).unwrap();
    // The last one to close brings the log into the database.
    drop(store);
    fs::read(database).unwrap()
}

fn destroy(database: &Path, bytes: &[u8]) {
    for suffix in ["-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        // A database that was closed in good order has none.
        fs::remove_file(name).ok();
    }
    fs::write(database, bytes).unwrap();
}
