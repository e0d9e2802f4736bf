//! Nothing here reaches the network: in a network namespace that has none, whatever tried to would be counted by the kernel.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use types::files;

const MODEL: &str = "acme/starter";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Prints what the kernel has counted of this namespace, after what was asked for.
const COUNTED: &str =
    "\"$0\" \"$@\"; code=$?; echo; echo COUNTERS; cat /proc/net/snmp /proc/net/snmp6; exit $code";

/// A data folder, and a cache of the Hub with a model in it as the Python tools leave it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let repository = place.cache().join("models--acme--starter");
        let snapshot = repository.join("snapshots").join(COMMIT);
        for folder in [&snapshot, &repository.join("blobs"), &repository.join("refs")] {
            fs::create_dir_all(folder).unwrap();
        }
        files::write(&repository.join("refs/main"), COMMIT.as_bytes()).unwrap();
        let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter");
        for file in fs::read_dir(starter).unwrap() {
            let file = file.unwrap();
            let name = file.file_name();
            fs::copy(file.path(), repository.join("blobs").join(&name)).unwrap();
            symlink(Path::new("../../blobs").join(&name), snapshot.join(&name)).unwrap();
        }
        let rows: String = (0..12)
            .map(|i| format!("{}\n", json!({"input": format!("What is box {i}?"), "output": "It is blue."})))
            .collect();
        files::write(&place.path().join("rows.jsonl"), rows.as_bytes()).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    /// `modelforge` in a namespace without network; what it said and how many packets or connections it tried to send.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (Output, u64) {
        let output = unshare()
            .args(["sh", "-c", COUNTED, env!("CARGO_BIN_EXE_modelforge")])
            .args(arguments)
            .current_dir(self.path())
            .env("MODELFORGE_HOME", self.path().join("home"))
            .env("HF_HUB_CACHE", self.cache())
            .env("HF_TOKEN_PATH", self.path().join("no-token"))
            .env_remove("HF_TOKEN")
            .env_remove("HF_ENDPOINT")
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let (_, counters) = said.split_once("\nCOUNTERS\n").unwrap();
        (output, attempts(counters))
    }

    /// The same for one that must succeed without an attempt.
    fn succeeds(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let (output, attempts) = self.run(arguments, variables);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}{complaint}");
        assert_eq!(attempts, 0, "{arguments:?} must not try to reach the network");
        text.split_once("\nCOUNTERS\n").unwrap().0.to_owned()
    }

    fn call(&self, operation: &str, request: &Value, variables: &[(&str, &str)]) -> Value {
        let text = self.succeeds(&["call", operation, "--json", &request.to_string()], variables);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--"]);
    command
}

/// Whether namespaces can be had here; said out loud where not.
fn can_unshare(test: &str) -> bool {
    let works = unshare().arg("true").output().is_ok_and(|output| output.status.success());
    if !works {
        // Written past the test's captured output: a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: this system gives no network namespace");
    }
    works
}

/// Connections that were opened, datagrams that were sent, and what had no way to go, of both versions of IP.
fn attempts(counters: &str) -> u64 {
    let lines: Vec<Vec<&str>> = counters.lines().map(|line| line.split_whitespace().collect()).collect();
    let mut found = 0;
    let mut sum = 0;
    for pair in lines.windows(2) {
        let [names, values] = pair else { continue };
        for (group, name) in [("Ip:", "OutNoRoutes"), ("Tcp:", "ActiveOpens"), ("Udp:", "OutDatagrams")] {
            if names.first() == Some(&group) && values.first() == Some(&group) {
                let at = names.iter().position(|n| *n == name).unwrap();
                let Ok(value) = values[at].parse::<u64>() else { continue };
                (found, sum) = (found + 1, sum + value);
            }
        }
    }
    for line in &lines {
        if let [name @ ("Ip6OutNoRoutes" | "Udp6OutDatagrams"), value] = line[..] {
            sum += value.parse::<u64>().unwrap();
            found += usize::from(!name.is_empty());
        }
    }
    assert!(found >= 3, "the kernel counts: {counters}");
    sum
}

fn run_of(steps: u32) -> Value {
    json!({
        "task": "text-generation", "model_name": MODEL, "dataset": "rows.jsonl", "strategy": "sft", "max_steps": steps,
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "max_seq_length": 128, "lora_r": 4,
    })
}

#[test]
fn what_is_cached_needs_no_network() {
    if !can_unshare("what_is_cached_needs_no_network") {
        return;
    }
    let place = Place::new();
    let custom = json!({"repo_name": "acme/elsewhere"}).to_string();
    let (output, attempts) = place.run(&["call", "finetune_validate_custom_model", "--json", &custom], &[]);
    assert!(!output.status.success() && attempts > 0, "an attempt is counted where there is one: {output:?}");

    place.call("finetune_detect", &json!({"task": "text-generation"}), &[]);
    place.call("finetune_catalogue", &json!({"task": "text-generation"}), &[]);
    place.call("finetune_validate_model", &json!({"selected_model": MODEL}), &[]);
    place.call("finetune_set_model", &json!({"selected_model": MODEL}), &[]);
    place.call("finetune_estimate", &run_of(2), &[]);
    place.call("datasets_check", &json!({"dataset": "rows.jsonl", "task": "text-generation"}), &[]);
    place.call("hub_whoami", &json!({}), &[]);
    place.succeeds(
        &[
            "train",
            "--json",
            "--task",
            "text-generation",
            "--model-name",
            MODEL,
            "--dataset",
            "rows.jsonl",
            "--max-steps",
            "2",
            "--per-device-train-batch-size",
            "2",
            "--gradient-accumulation-steps",
            "1",
            "--max-seq-length",
            "128",
            "--lora-r",
            "4",
        ],
        &[],
    );
    let models = place.call("models_list", &json!({}), &[]);
    assert_eq!(models[0]["base_model"], MODEL, "{models}");
    let model = models[0]["model_id"].as_str().unwrap();
    let prompt = json!({"model_id": model, "prompt": "What is box 3?", "max_length": 4});
    let answer = place.call("playground_new", &prompt, &[]);
    assert!(answer["generated_text"].is_string(), "{answer}");
    let export = json!({"model_id": model, "format": "safetensors"});
    place.call("models_export", &export, &[]);
}

#[test]
fn the_switch_makes_every_attempt_an_error() {
    if !can_unshare("the_switch_makes_every_attempt_an_error") {
        return;
    }
    let place = Place::new();
    let token = ("HF_TOKEN", "hf_any");
    let asks = [
        ("finetune_validate_custom_model", json!({"repo_name": "acme/elsewhere"})),
        ("finetune_set_custom_model", json!({"repo_name": "acme/elsewhere"})),
        ("finetune_validate_model", json!({"selected_model": "acme/elsewhere"})),
        ("playground_new", json!({"model_id": "acme/elsewhere", "prompt": "a"})),
        ("hub_whoami", json!({})),
    ];
    let refused = |variables: &[(&str, &str)], why: &str| {
        for (operation, request) in &asks {
            let json = request.to_string();
            let (output, attempts) = place.run(&["call", operation, "--json", &json], variables);
            let complaint = String::from_utf8_lossy(&output.stderr);
            let error: Value = serde_json::from_str(complaint.lines().last().unwrap_or_default())
                .unwrap_or_else(|_| panic!("{why}, {operation}: {complaint}"));
            assert_eq!(error["status_code"], 403, "{why}, {operation}: {error}");
            assert_eq!(attempts, 0, "{why}: {operation} must not try to reach the network");
        }
    };
    refused(&[token, ("HF_HUB_OFFLINE", "1")], "by the variable");
    place.call("settings_set", &json!({"offline": true}), &[]);
    refused(&[token], "by the setting");
}
