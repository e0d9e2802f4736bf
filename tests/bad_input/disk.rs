//! A database whose writer is killed, whose disk can be read only, and one of a newer version.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::Server;

const NO_HUB: (&str, &str) = ("HF_ENDPOINT", "http://127.0.0.1:9");
const WRITES: usize = 1000;
/// How often the server is killed on the way.
const KILLS: usize = 12;

fn serve(home: &Path) -> Server {
    Server::on(home, &[(NO_HUB.0, OsStr::new(NO_HUB.1))])
}

fn conversation(title: usize) -> Value {
    json!({
        "title": title.to_string(), "model": "modelforge/starter",
        "messages": [{"role": "user", "content": "word ".repeat(40 + title % 900)}],
    })
}

/// A write that was answered is there, whatever happens to the process the moment after; one that was not may be there
/// or not, but whole.
#[tokio::test]
async fn kill_9_during_a_thousand_writes_loses_none_that_was_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let confirmed = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for kill in 1..=KILLS {
        let mut server = serve(&home);
        let (code, _) = server.get("/api/conversations").await;
        assert_eq!(code, 200, "the database opens after kill {}", kill - 1);
        let until = WRITES * kill / KILLS;
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (confirmed, next) = (Arc::clone(&confirmed), Arc::clone(&next));
                let (client, url) = (server.client.clone(), format!("{}/api/conversations", server.url));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        // Beyond its share it writes on until it is killed.
                        let sent = client.put(&url).json(&conversation(n)).send().await;
                        let Ok(answer) = sent else { return };
                        if answer.status().is_success() && answer.bytes().await.is_ok() {
                            confirmed.lock().unwrap().insert(n.to_string());
                        }
                    }
                })
            })
            .collect();
        while confirmed.lock().unwrap().len() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A moment of its own for each kill, so that it falls into any part of a write.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        std::thread::sleep(Duration::from_micros(seed % 4000));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let server = serve(&home);
    let (_, info) = server.get("/api/info").await;
    assert_eq!(info["damaged_database"], Value::Null, "nothing was damaged");
    let (_, rows) = server.get("/api/conversations").await;
    let rows = rows.as_array().unwrap();
    let titles: BTreeSet<String> = rows.iter().map(|row| row["title"].as_str().unwrap().to_owned()).collect();
    let confirmed = confirmed.lock().unwrap().clone();
    assert!(confirmed.len() >= WRITES, "{}", confirmed.len());
    assert!(confirmed.is_subset(&titles), "lost: {:?}", confirmed.difference(&titles).collect::<Vec<_>>());
    assert_eq!(titles.len(), rows.len(), "none is there twice");
    for row in rows.iter().step_by(97) {
        let (_, one) = server.get(&format!("/api/conversations/{}", row["id"].as_str().unwrap())).await;
        let title: usize = row["title"].as_str().unwrap().parse().unwrap();
        let content = &one["messages"][0]["content"];
        assert_eq!(*content, conversation(title)["messages"][0]["content"], "what is there is whole");
    }
    println!("{} of {} writes confirmed over {KILLS} kills, none lost", confirmed.len(), rows.len());
}

fn refused(home: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_modelforge"))
        .args(["serve", "--port", "0"])
        .env("MODELFORGE_HOME", home)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "it ends with an error: {output:?}");
    output
}

#[test]
fn a_newer_database_is_told_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    drop(serve(&home));
    let database = home.join("modelforge.db");
    // The last one to close brings the log into the database.
    drop(store::Store::open(store::Home::at(&home).unwrap()).unwrap());
    let mut before = fs::read(&database).unwrap();
    // Where the file format has what SQLite calls the user version: https://sqlite.org/fileformat.html
    before[60..64].copy_from_slice(&4711_u32.to_be_bytes());
    fs::write(&database, &before).unwrap();
    let said = String::from_utf8(refused(&home).stderr).unwrap();
    assert!(said.contains("newer ModelForge (layout 4711"), "{said}");
    assert!(said.contains("Update ModelForge"), "it says what to do: {said}");
    assert_eq!(fs::read(&database).unwrap(), before, "not a byte of it is changed");
    let beside: Vec<String> = fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("damaged"))
        .collect();
    assert!(beside.is_empty(), "nor is it taken for a damaged one: {beside:?}");
}

/// A file system of its own, taken away when this is dropped.
#[cfg(target_os = "linux")]
struct Mounted(PathBuf);

#[cfg(target_os = "linux")]
impl Mounted {
    fn at(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(path.to_owned()))
    }

    fn again(&self, how: &str) {
        let options = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_can_be_read_only_is_told_and_what_is_there_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::at(&folder.path().join("disk")) else {
        println!("SKIPPED: nothing can be mounted here");
        return;
    };
    let home = folder.path().join("disk").join("home");
    let server = serve(&home);
    let (code, kept) = server.put("/api/conversations", conversation(1)).await;
    assert_eq!(code, 200, "{kept}");
    // A disk with a file that is open for writing does not become read-only.
    drop(server);
    disk.again("ro");
    let said = String::from_utf8(refused(&home).stderr).unwrap();
    assert!(said.contains("no permission") && said.contains("MODELFORGE_HOME"), "it says what to do: {said}");
    disk.again("rw");
    let server = serve(&home);
    let (_, rows) = server.get("/api/conversations").await;
    assert_eq!(rows[0]["title"], "1", "what was kept is there again: {rows}");
}
