//! The export engine: what it leaves behind, and what it says where it cannot.

use std::{fs, path::Path, process::Command};

use data::Tokenizer;
use serde_json::{Value, json};

use types::files;

use crate::support::*;

/// Its lines and its exit code.
pub fn export(request: &Value) -> (Vec<Value>, Option<i32>) {
    let output = Command::new(BIN).args(["engine", "export", &request.to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), output.status.code())
}

pub fn request(home: &Path, changes: Value) -> Value {
    let folder = home.join("export");
    fs::create_dir(&folder).unwrap();
    let mut request = json!({
        "base_dir": starter(), "adapter_dir": home.join("models/model_20260101_000000"), "name": "Order slips",
        "format": "safetensors", "dtype": null, "folder": folder, "free_bytes": null,
    });
    request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    request
}

#[test]
fn a_finished_model_is_exported_and_checked_in_every_format() {
    let home = tempfile::tempdir().unwrap();
    assert!(run_to_end(&job(home.path(), json!({"learning_rate": 5e-3}))).0.success());
    let adapter =
        fs::read(home.path().join("models/model_20260101_000000/adapter_model.safetensors")).unwrap();
    for (format, dtype) in [
        ("safetensors", json!(null)),
        ("safetensors", json!("f32")),
        ("gguf", json!("f16")),
        ("gguf", json!("q8_0")),
    ] {
        let request = request(home.path(), json!({"format": format, "dtype": dtype}));
        let (lines, code) = export(&request);
        assert_eq!(code, Some(0), "{lines:?}");
        let (last, before) = lines.split_last().unwrap();
        let parts: Vec<u64> = before.iter().map(|line| line["progress"]["done"].as_u64().unwrap()).collect();
        assert!(parts.is_sorted() && parts[0] == 0, "{format}: it goes forward from nothing: {parts:?}");
        assert_eq!(
            before.last().unwrap()["progress"]["done"],
            before[0]["progress"]["total"],
            "and ends with all"
        );
        let folder = home.path().join("export");
        let bytes: u64 = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(last["written"]["bytes"], bytes, "{format}: {last}");
        assert_eq!(last["written"]["checked"], true, "{format}, {dtype}: {last}");
        if format == "safetensors" {
            let config: Value =
                serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
            let want = if dtype.is_null() { "bfloat16" } else { "float32" };
            assert_eq!(config["torch_dtype"], want, "the config says what the weights are");
            assert!(Tokenizer::load(&folder).unwrap().has_own_template(), "the template goes with the model");
        } else {
            let name = format!("Order-slips-{}.gguf", dtype.as_str().unwrap().to_uppercase());
            assert!(folder.join(&name).is_file(), "{name} is the only file");
        }
        fs::remove_dir_all(folder).unwrap();
    }
    let after = fs::read(home.path().join("models/model_20260101_000000/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter, after, "the model itself is left as it was");
}

#[test]
fn what_fails_says_why_and_leaves_no_folder() {
    let home = tempfile::tempdir().unwrap();
    assert!(run_to_end(&job(home.path(), json!({"max_steps": 1}))).0.success());
    let config = home.path().join("base");
    fs::create_dir(&config).unwrap();
    for entry in fs::read_dir(starter()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, config.join(path.file_name().unwrap())).unwrap();
    }
    let text = fs::read_to_string(config.join("config.json")).unwrap();
    let foreign = text.replace("LlamaForCausalLM", "GPT2LMHeadModel");
    files::write(&config.join("config.json"), foreign.as_bytes()).unwrap();
    for (changes, says) in [
        (json!({"free_bytes": 1000}), "make room or choose another folder"),
        (json!({"free_bytes": 1000, "format": "gguf"}), "make room or choose another folder"),
        (json!({"dtype": "q8_0"}), "export as f16, bf16 or f32"),
        (json!({"base_dir": config, "format": "gguf"}), "the nearest that is"),
        (json!({"base_dir": config}), "the nearest that is"),
        (json!({"adapter_dir": home.path()}), "adapter_config.json"),
    ] {
        let request = request(home.path(), changes);
        let (lines, code) = export(&request);
        let said = lines.last().unwrap()["error"].as_str().unwrap_or_default();
        assert!(code == Some(1) && said.contains(says), "{request} must say {says:?}: {lines:?}");
        assert!(!home.path().join("export").exists(), "{says}: nothing of it stays");
    }
}
