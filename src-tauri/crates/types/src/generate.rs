//! Messages of a conversation and the settings of text generation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// Instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

/// How the next token is chosen and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateParams {
    /// The most tokens to generate.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token each time (greedy); above, logits are divided by it before the softmax.
    pub temperature: f64,
    /// Keep the likeliest tokens whose probabilities sum to this; 1 keeps all.
    pub top_p: f64,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Divides (positive) or multiplies (negative) the logits of tokens already seen; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Seed of the random choice.
    pub seed: u64,
    /// Generation ends before any of these texts.
    pub stop: Vec<String>,
    /// Texts that an encoder-decoder's search for the likeliest follows at a time: 0 as many as its files say, 1 none, so that
    /// tokens are chosen one by one and come as they are chosen. Other models choose one by one always.
    pub num_beams: usize,
    /// A model that points at answers says that there is none where that scores higher than the best answer by more than this:
    /// −1 never answers, 1 always does.
    pub no_answer_threshold: f64,
}

impl Default for GenerateParams {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            temperature: 0.7,
            top_p: 0.9,
            top_k: 0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            num_beams: 0,
            no_answer_threshold: 0.0,
        }
    }
}

impl GenerateParams {
    /// The most texts that a search follows.
    pub const MOST_BEAMS: usize = 64;

    /// Always the likeliest token, at most `max_new_tokens` of them.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, temperature: 0.0, top_p: 1.0, num_beams: 1, ..Self::default() }
    }

    /// Every value out of range, as `(field, message)`.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if self.max_new_tokens == 0 {
            found.push(("max_new_tokens", "must be at least 1".to_owned()));
        }
        if !(self.temperature.is_finite() && (0.0..=10.0).contains(&self.temperature)) {
            found.push(("temperature", format!("must be between 0 and 10, not {}", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            found.push(("top_p", format!("must be above 0 and at most 1, not {}", self.top_p)));
        }
        if self.num_beams > Self::MOST_BEAMS {
            let most = Self::MOST_BEAMS;
            found.push(("num_beams", format!("must be at most {most}, not {}", self.num_beams)));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            found.push(("repetition_penalty", format!("must be above 0, not {}", self.repetition_penalty)));
        }
        if !(-1.0..=1.0).contains(&self.no_answer_threshold) {
            let problem = format!("must be between -1 and 1, not {}", self.no_answer_threshold);
            found.push(("no_answer_threshold", problem));
        }
        found
    }
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn.
    Eos,
    /// One of the stop texts came.
    Stop,
    /// `max_new_tokens` were generated.
    Length,
    /// The model's context is full.
    Context,
    /// Somebody cancelled it.
    Cancelled,
}

/// What one generation took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GenerateStats {
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// Tokens generated, without the end token.
    pub tokens_generated: usize,
    /// Time for the prompt.
    pub prefill_ms: u64,
    /// Time for all of it.
    pub generation_time_ms: u64,
    /// Why it ended.
    pub finish: FinishReason,
    /// Where a model that points at answers found this one; absent for a model that writes its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<AnswerSpan>,
}

/// Where an answer stands in the text that it was looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerSpan {
    /// Its first character, counted from 0; as `end` where there is no answer.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
    /// How likely it is, from 0 to 1: the product of the probabilities of its first and its last token.
    pub score: f64,
    /// How likely it is that the text holds no answer, from 0 to 1.
    pub no_answer_score: f64,
}
