//! What is measured on: shapes of models and sets of rows, made once by `peers/make.py` and kept in the user's cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use types::files;

use crate::process::{cache, in_root, root, run, say};

/// A Llama shape with random weights, embeddings tied to the output.
pub struct Shape {
    pub name: &'static str,
    hidden: u64,
    layers: u64,
    heads: u64,
    kv_heads: u64,
    mlp: u64,
    vocabulary: u64,
    rope_theta: f64,
}

#[rustfmt::skip]
pub const SHAPES: &[Shape] = &[
    // A is no published model; S is SmolLM2-135M.
    Shape { name: "A", hidden: 768, layers: 12, heads: 12, kv_heads: 4, mlp: 2048, vocabulary: 32000, rope_theta: 1e4 },
    Shape { name: "S", hidden: 576, layers: 30, heads: 9, kv_heads: 3, mlp: 1536, vocabulary: 49152, rope_theta: 1e5 },
    Shape { name: "SmolLM2-360M", hidden: 960, layers: 32, heads: 15, kv_heads: 5, mlp: 2560, vocabulary: 49152, rope_theta: 1e5 },
    Shape { name: "Llama-3.2-1B", hidden: 2048, layers: 16, heads: 32, kv_heads: 8, mlp: 8192, vocabulary: 128_256, rope_theta: 5e5 },
];

/// The rows of an optimizer step, all of them in every step.
pub struct Workload {
    pub name: &'static str,
    mix: &'static str,
    rows: usize,
    /// Tokens of a row, or of the longest.
    pub longest: usize,
    /// Rows that the peers compute at once, padded to the longest of them.
    pub batch: usize,
}

impl Workload {
    /// Whether rows differ in length.
    pub fn is_mixed(&self) -> bool {
        self.mix == "mixed"
    }
}

#[rustfmt::skip]
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "4x256", mix: "fixed", rows: 4, longest: 256, batch: 4 },
    // The same number of tokens in rows of different length.
    Workload { name: "8x256", mix: "fixed", rows: 8, longest: 256, batch: 8 },
    Workload { name: "2x1024", mix: "fixed", rows: 2, longest: 1024, batch: 2 },
    Workload { name: "1x2048", mix: "fixed", rows: 1, longest: 2048, batch: 1 },
    // Log-normal lengths, median 180, 95th percentile 900.
    Workload { name: "mixed", mix: "mixed", rows: 32, longest: 2048, batch: 8 },
];

/// Prompts to go on from, one more than is measured.
pub const PROMPTS: Workload = Workload { name: "prompts", mix: "fixed", rows: 4, longest: 129, batch: 1 };

impl Shape {
    /// Parameters of the model. Each is multiplied once a token: the embedding is the output projection too.
    pub fn parameters(&self) -> u64 {
        let kv = self.hidden / self.heads * self.kv_heads;
        let layer = 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.mlp + 2 * self.hidden;
        self.layers * layer + self.vocabulary * self.hidden + self.hidden
    }

    /// transformers' `LlamaConfig`.
    fn config(&self) -> Value {
        json!({
            "hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "intermediate_size": self.mlp, "vocab_size": self.vocabulary,
            "rope_theta": self.rope_theta, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
        })
    }

    /// The folder of the model; made where it is missing.
    pub fn model(&self, python: &Path) -> Result<PathBuf> {
        made(python, self.name, &["model"], &[self.config().to_string()])
    }

    /// The file of the rows; made where it is missing.
    pub fn rows(&self, python: &Path, workload: &Workload) -> Result<PathBuf> {
        let name = format!("{}-{}.jsonl", self.name, workload.name);
        let numbers = [workload.rows, workload.longest].map(|n| n.to_string());
        let [rows, longest] = numbers;
        made(python, &name, &["rows"], &[self.vocabulary.to_string(), workload.mix.into(), rows, longest])
    }
}

/// The path of what `make.py <what> <path> <how>` makes, which lies beside a hash of how it is made.
fn made(python: &Path, name: &str, what: &[&str], how: &[String]) -> Result<PathBuf> {
    let script = root().join("src-tauri/crates/xtask/peers/make.py");
    let recipe = format!("{} {how:?}", files::sha256(&script)?);
    let folder = cache()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    let note = folder.join(format!("{name}.recipe"));
    if path.exists() && fs::read_to_string(&note).is_ok_and(|old| old == recipe) {
        return Ok(path);
    }
    say(&format!("Making {}.", path.display()));
    // Without its note, what a run that is broken off leaves behind is made again.
    fs::remove_file(&note).ok();
    run(in_root(python).arg(script).args(what).arg(&path).args(how))?;
    files::write(&note, recipe.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_published_models() {
        let of = |name: &str| SHAPES.iter().find(|shape| shape.name == name).unwrap().parameters();
        assert_eq!(
            ["S", "SmolLM2-360M", "Llama-3.2-1B"].map(of),
            [134_515_008, 361_821_120, 1_235_814_400],
            "a shape that has another number of parameters is another model"
        );
    }
}
