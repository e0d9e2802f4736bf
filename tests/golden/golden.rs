//! Reads the goldens of this folder. The parity tests of several crates include it by path; there is no other copy.
#![allow(dead_code, reason = "each crate's tests read a part of it")]

use std::path::PathBuf;

use serde::{Deserialize, de::DeserializeOwned};

/// Every tiny model.
pub const SHAPES: [&str; 15] = [
    "llama-tied-gqa",
    "llama3-rope-bias",
    "mistral-window-f16",
    "llama-linear-sharded-bf16",
    "qwen2-window",
    "qwen3-sharded-bf16",
    "qwen2-yarn",
    "smollm3-f16",
    "mistral3-text-part",
    "gemma2",
    "gemma3-bf16",
    "gemma3-text-part",
    "phi3-longrope",
    "gptj-f16",
    "gpt-oss-bf16",
];

/// `golden.json` of a shape.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// Random ids in lengths from 1 on, for logits, loss and gradients.
    pub sequences: Vec<Sequence>,
    /// Trained tokens of all sequences.
    pub trained_tokens: usize,
    /// Mean negative log-likelihood of the trained tokens, base model.
    pub loss: f64,
    /// The same with the adapter.
    pub lora_loss: f64,
    /// The rows of `dataset.jsonl` as this model's tokenizer and template give them.
    pub rows: Vec<Sequence>,
    /// Loss curves by name.
    pub curves: std::collections::BTreeMap<String, Curve>,
    /// Greedy texts.
    pub greedy: Greedy,
}

/// One sequence.
#[derive(Debug, Deserialize)]
pub struct Sequence {
    /// Its token ids.
    pub ids: Vec<u32>,
    /// Whether the loss counts the prediction of each.
    pub trained: Vec<bool>,
}

/// Settings and values of 20 optimizer steps.
#[derive(Debug, Deserialize)]
pub struct Curve {
    /// `adamw` or `sgd`.
    pub optimizer: String,
    /// Name of the schedule in transformers.
    pub schedule: String,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The part of the steps that warms up.
    pub warmup_ratio: f64,
    /// Clipping.
    pub max_grad_norm: f64,
    /// Decoupled for AdamW, torch's for SGD.
    pub weight_decay: f64,
    /// Rows of each micro-batch of each step.
    pub plan: Vec<Vec<Vec<usize>>>,
    /// Mean loss of each step.
    pub losses: Vec<f64>,
    /// Norm of the gradients before clipping.
    pub grad_norms: Vec<f64>,
    /// The learning rate each step used.
    pub learning_rates: Vec<f64>,
}

/// Greedy texts without and with the adapter.
#[derive(Debug, Deserialize)]
pub struct Greedy {
    /// Without.
    pub base: Vec<Answer>,
    /// With.
    pub lora: Vec<Answer>,
}

/// What follows a prompt.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// The text before.
    pub prompt: String,
    /// Its token ids.
    pub ids: Vec<u32>,
    /// The 64 likeliest tokens after it.
    pub new: Vec<u32>,
    /// Their text.
    pub text: String,
}

/// Every tiny encoder-decoder.
pub const PAIRS: [&str; 4] =
    ["t5-relu-tied-sharded", "flan-t5-gated-bf16", "bart-gelu", "distilbart-scaled-f16"];

/// `golden.json` of an encoder-decoder.
#[derive(Debug, Deserialize)]
pub struct Pairs {
    /// Random ids in several lengths, for memory, logits, loss and gradients.
    pub pairs: Vec<Pair>,
    /// Trained tokens of all of them.
    pub trained_tokens: usize,
    /// Mean negative log-likelihood of the trained tokens, base model.
    pub loss: f64,
    /// The same with the adapter.
    pub lora_loss: f64,
    /// The rows of `documents.jsonl` as this model's tokenizer gives them.
    pub rows: Vec<Pair>,
    /// A loss curve over those rows.
    pub curve: Curve,
    /// Greedy texts.
    pub greedy: PairGreedy,
    /// What the search for the likeliest text finds.
    pub beams: Vec<Beam>,
}

/// A source and its target, which begins with the token that the decoder starts from.
#[derive(Debug, Deserialize)]
pub struct Pair {
    /// Ids of the source.
    pub source: Vec<u32>,
    /// Ids of the target.
    pub target: Vec<u32>,
}

/// Greedy texts without and with the adapter.
#[derive(Debug, Deserialize)]
pub struct PairGreedy {
    /// Without.
    pub base: Vec<Written>,
    /// With.
    pub lora: Vec<Written>,
}

/// What is written for a source.
#[derive(Debug, Deserialize)]
pub struct Written {
    /// Ids of the source.
    pub source: Vec<u32>,
    /// What follows the decoder's start, the end of the text included where it came.
    pub new: Vec<u32>,
    /// Its text.
    pub text: String,
}

/// What a search finds.
#[derive(Debug, Deserialize)]
pub struct Beam {
    /// Whether the adapter is on.
    pub adapter: bool,
    /// Texts followed at a time.
    pub num_beams: usize,
    /// Exponent of the length that scores are divided by.
    pub length_penalty: f32,
    /// Runs of so many tokens come once; 0 allows any.
    pub no_repeat_ngram_size: usize,
    /// No end before so many tokens, the start included.
    pub min_length: usize,
    /// The most tokens, the start included.
    pub max_length: usize,
    /// `true`, `false` or `"never"`.
    pub early_stopping: serde_json::Value,
    /// The text.
    #[serde(flatten)]
    pub written: Written,
}

/// The numbers of an encoder-decoder.
pub fn pairs(name: &str) -> Pairs {
    json(&format!("{name}/golden.json"))
}

/// A path in this folder.
pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden").join(relative)
}

/// A JSON file of this folder.
pub fn json<T: DeserializeOwned>(relative: &str) -> T {
    let path = path(relative);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The numbers of a shape.
pub fn golden(shape: &str) -> Golden {
    json(&format!("{shape}/golden.json"))
}

/// How far two tensors are apart: the norm of the difference over the norm of what is expected.
pub fn relative_distance(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "as many numbers as in the golden");
    let square = |x: f64| x * x;
    let apart: f64 = got.iter().zip(want).map(|(a, b)| square(f64::from(a - b))).sum();
    let norm: f64 = want.iter().map(|b| square(f64::from(*b))).sum();
    (apart / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// The largest difference of two numbers in the same place.
pub fn largest_difference(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "as many numbers as in the golden");
    got.iter().zip(want).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Every tiny model that points at answers.
pub const SPAN_SHAPES: [&str; 4] =
    ["bert-span", "roberta-span-sharded-bf16", "distilbert-span-f16", "deberta-span"];

/// `golden.json` of a model that points at answers.
#[derive(Debug, Deserialize)]
pub struct SpanGolden {
    /// Tokens of a window.
    pub window: usize,
    /// Tokens of the text that two windows in a row share.
    pub stride: usize,
    /// The longest answer in tokens.
    pub longest_answer: usize,
    /// What states, loss, gradients and the curve are of.
    pub windows: Vec<SpanWindow>,
    /// Mean loss of the windows, base model.
    pub loss: f64,
    /// The same with the adapter and its head.
    pub lora_loss: f64,
    /// 20 steps of AdamW; `plan` has rows of `windows`.
    pub curve: Curve,
    /// Questions about texts of several windows, answered with the adapter.
    pub answers: Vec<SpanAnswer>,
    /// The windows of each row of `questions.jsonl`.
    pub rows: Vec<Vec<SpanWindow>>,
}

/// One window with the place of its answer.
#[derive(Debug, Deserialize, PartialEq)]
pub struct SpanWindow {
    /// Its token ids.
    pub ids: Vec<u32>,
    /// The segment of each.
    pub token_types: Vec<u32>,
    /// First and last token of the answer.
    pub span: (u32, u32),
}

/// The best answer over all windows of a text.
#[derive(Debug, Deserialize)]
pub struct SpanAnswer {
    /// The text.
    pub context: String,
    /// The question.
    pub question: String,
    /// Its words.
    pub answer: String,
    /// Where it begins, in characters.
    pub start: usize,
    /// Its score.
    pub score: f64,
    /// The score of there being none.
    pub no_answer: f64,
}

/// The numbers of a model that points at answers.
pub fn span_golden(shape: &str) -> SpanGolden {
    json(&format!("{shape}/golden.json"))
}
