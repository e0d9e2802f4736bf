//! The flags of text generation, for every command that generates.

use types::GenerateParams;

/// How answers are chosen.
#[derive(clap::Args, Clone)]
pub struct Sampling {
    /// The most tokens of an answer
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    max_new_tokens: Option<usize>,
    /// 0 always takes the likeliest token; higher is more varied
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Sampling")]
    temperature: Option<f64>,
    /// Choose among the likeliest tokens whose probabilities sum to this
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Sampling")]
    top_p: Option<f64>,
    /// Choose among this many of the likeliest tokens; 0 for all
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    top_k: Option<usize>,
    /// Makes tokens that were said before less likely; 1 changes nothing
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Sampling")]
    repetition_penalty: Option<f32>,
    /// Seed of the random choice
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    seed: Option<u64>,
    /// Texts that an encoder-decoder's search follows at a time: 0 as many as its files say, 1 token by token
    #[arg(long, value_name = "N", help_heading = "Sampling")]
    num_beams: Option<usize>,
    /// A model that points at answers gives none where that scores higher than its best answer by more than this; 1 always gives
    /// one
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Sampling")]
    no_answer_threshold: Option<f64>,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT", help_heading = "Sampling")]
    stop: Vec<String>,
}

impl Sampling {
    /// The settings, with the defaults for what was left out.
    pub fn params(&self) -> GenerateParams {
        let usual = GenerateParams::default();
        GenerateParams {
            max_new_tokens: self.max_new_tokens.unwrap_or(usual.max_new_tokens),
            temperature: self.temperature.unwrap_or(usual.temperature),
            top_p: self.top_p.unwrap_or(usual.top_p),
            top_k: self.top_k.unwrap_or(usual.top_k),
            repetition_penalty: self.repetition_penalty.unwrap_or(usual.repetition_penalty),
            seed: self.seed.unwrap_or(usual.seed),
            stop: self.stop.clone(),
            num_beams: self.num_beams.unwrap_or(usual.num_beams),
            no_answer_threshold: self.no_answer_threshold.unwrap_or(usual.no_answer_threshold),
        }
    }
}
