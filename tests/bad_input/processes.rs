//! The engines that a server has started, by their process ids, and signals to them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, Server};

/// An engine that computes nothing until this is dropped.
pub struct Held(u32);

/// Holds an engine where it is.
pub fn hold(id: u32) -> Held {
    assert!(signal("STOP", id), "engine {id} is there to be held");
    Held(id)
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that was killed meanwhile does not go on.
        signal("CONT", self.0);
    }
}

/// Ends an engine as the system does when memory runs out.
pub fn kill(id: u32) {
    assert!(signal("KILL", id), "engine {id} is there to be killed");
}

/// The id of the server's engine of this kind: `train` or `chat`.
pub async fn engine(server: &Server, kind: &str) -> u32 {
    let parent = server.child.id().to_string();
    let start = Instant::now();
    loop {
        let found =
            Command::new("pgrep").args(["-P", &parent, "-f", &format!("engine {kind}")]).output().unwrap();
        if let Some(id) = String::from_utf8(found.stdout).unwrap().lines().next() {
            return id.parse().unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "the server has no {kind} engine");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn signal(name: &str, id: u32) -> bool {
    Command::new("kill").args([&format!("-{name}"), &id.to_string()]).output().unwrap().status.success()
}
