//! Runs on a base whose linear layers are quantised: they train, are chatted with on such a base, and export to one that is not.

use std::fs;

use serde_json::json;

use super::{
    export::{export, request},
    support::*,
};

#[test]
fn a_run_on_a_quantised_base_trains_chats_and_exports() {
    let first = |changes| {
        let home = tempfile::tempdir().unwrap();
        let job = job(home.path(), changes);
        let (status, stderr) = run_to_end(&job);
        assert!(status.success(), "{stderr}");
        (f64::from_bits(losses(&job)[&1]), home)
    };
    let (plain, _home) = first(json!({"max_steps": 1}));
    for (changes, kept) in [
        (json!({"strategy": "qlora"}), "4 bits (NF4)"),
        (
            json!({"strategy": "qlora", "use_nested_quant": true, "bf16": true}),
            "4 bits (NF4), scales in 8 bits",
        ),
        (json!({"use_4bit": true, "bnb_4bit_quant_type": "fp4", "provider": "huggingface"}), "4 bits (FP4)"),
        (json!({"strategy": "qlora", "use_8bit": true, "max_steps": 4}), "8 bits (int8)"),
    ] {
        let (loss, home) = first(changes.clone());
        assert_ne!(loss, plain, "{changes}: the base is really another");
        assert!((loss / plain - 1.0).abs() < 0.1, "{changes}: {loss}, on the whole base {plain}");
        let folder = home.path().join("models/model_20260101_000000");
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(card.contains(&format!("| base kept in | {kept} |")), "{changes}: {card}");

        let replies = chat(&[
            json!({"id": 1, "command": "load", "base_dir": starter(), "adapter_dir": folder}),
            json!({"id": 2, "command": "generate", "input": {"text": "What is box 1?"}, "params": {"max_new_tokens": 4}}),
        ]);
        assert!(replies.iter().all(|reply| reply["reply"] != "error"), "{changes}: {replies:?}");

        if kept.ends_with("(NF4)") {
            let (lines, code) = export(&request(home.path(), json!({})));
            assert_eq!(code, Some(0), "{lines:?}");
            assert_eq!(
                lines.last().unwrap()["written"]["checked"],
                true,
                "merged into the whole base: {lines:?}"
            );
        }
    }
}
