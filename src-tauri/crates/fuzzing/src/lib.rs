//! One function for every parser of files from outside: any bytes may go in, and what comes out is a value or an error.
//!
//! A function here panics where a parser breaks a promise it makes to the rest of the program. libFuzzer runs them from
//! `fuzz/`; `tests/bounded.rs` runs them over the same seeds on every test run.

mod dataset;
mod model;
mod text;

pub use dataset::{dataset_csv, dataset_json, dataset_jsonl, dataset_parquet};
pub use model::{adapter_config, model_config, safetensors, safetensors_index};
pub use text::{chat_template, tokenizer, tokenizer_config, training_config};

/// A parser with its name, which is also that of its seeds' folder and of its program in `fuzz/`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Gives bytes to the parser.
    pub run: fn(&[u8]),
}

/// Every parser.
pub const TARGETS: &[Target] = &[
    Target { name: "adapter_config", run: adapter_config },
    Target { name: "chat_template", run: chat_template },
    Target { name: "dataset_csv", run: dataset_csv },
    Target { name: "dataset_json", run: dataset_json },
    Target { name: "dataset_jsonl", run: dataset_jsonl },
    Target { name: "dataset_parquet", run: dataset_parquet },
    Target { name: "model_config", run: model_config },
    Target { name: "safetensors", run: safetensors },
    Target { name: "safetensors_index", run: safetensors_index },
    Target { name: "tokenizer", run: tokenizer },
    Target { name: "tokenizer_config", run: tokenizer_config },
    Target { name: "training_config", run: training_config },
];

/// A folder that holds these files while `body` runs.
#[allow(clippy::expect_used)]
fn with_files(files: &[(&str, &[u8])], body: impl FnOnce(&std::path::Path)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in files {
        let file = std::fs::File::create(folder.path().join(name)).expect("a temporary file");
        std::io::Write::write_all(&mut { file }, bytes).expect("space for a temporary file");
    }
    body(folder.path());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_target_has_a_program_and_no_program_is_without_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for Target { name, .. } in TARGETS {
            let program = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(
                program.contains(&format!("fuzzing::{name}(")),
                "fuzz_targets/{name}.rs must call its target"
            );
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} must be in fuzz/Cargo.toml");
        }
        for folder in ["fuzz_targets", "seeds"].map(|name| folder.join(name)) {
            assert_eq!(
                fs::read_dir(folder).unwrap().count(),
                TARGETS.len(),
                "nothing may be without a target"
            );
        }
    }
}
