//! The closed sets of values a run can be given, each with the spelling it has in JSON.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are written in JSON, on the command line and in messages as one fixed string.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every value, in the order they are offered.
            pub const ALL: &[$name] = &[$($name::$variant,)*];
            /// The JSON spelling of every value, in the same order.
            pub const NAMES: &[&str] = &[$($text,)*];

            /// The JSON spelling.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        // By hand: a derived schema would be a list of constants, which generators of clients do not take for an enum.
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let description = concat!($($doc, "\n",)*).trim();
                json_schema!({"type": "string", "description": description, "enum": Self::NAMES})
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.name()) }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownChoice;
            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                match text { $($text => Ok($name::$variant),)* _ => Err(UnknownChoice(text.to_owned(), Self::NAMES)) }
            }
        }
    };
}

/// A string that is none of the allowed values.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not one of {1:?}")]
pub struct UnknownChoice(String, &'static [&'static str]);

choice! {
    /// What a model is fine-tuned to do.
    Task {
        /// Answer a prompt with free text.
        TextGeneration = "text-generation",
        /// Shorten a document.
        Summarization = "summarization",
        /// Copy the answer to a question out of a context.
        ExtractiveQuestionAnswering = "extractive-question-answering",
    }
}

choice! {
    /// How the weights are tuned.
    Strategy {
        /// Supervised fine-tuning: LoRA on a base in full precision or bf16.
        Sft = "sft",
        /// LoRA on a quantised base.
        Qlora = "qlora",
        /// Reinforcement learning from human feedback: reward model, then policy optimisation.
        Rlhf = "rlhf",
        /// Direct preference optimisation.
        Dpo = "dpo",
    }
}

choice! {
    /// Which implementation of the layers computes a run.
    Provider {
        /// The plain op-by-op reference path.
        Huggingface = "huggingface",
        /// The fused kernels with hand-written backward passes.
        Unsloth = "unsloth",
    }
}

choice! {
    /// The class of machine that defaults and recommendations are made for.
    Profile {
        /// No GPU, or a small one.
        LowEnd = "low_end",
        /// One consumer GPU.
        MidRange = "mid_range",
        /// A large GPU and enough memory.
        HighEnd = "high_end",
    }
}

choice! {
    /// The optimizer.
    Optim {
        /// AdamW with 32-bit state, torch's formula.
        AdamwTorch = "adamw_torch",
        /// AdamW with block-wise 8-bit state.
        Adamw8bit = "adamw_8bit",
        /// AdamW with 32-bit state that may leave the device's memory.
        PagedAdamw32bit = "paged_adamw_32bit",
        /// Plain stochastic gradient descent.
        Sgd = "sgd",
    }
}

choice! {
    /// The shape of the learning rate over a run, after the warm-up.
    LrScheduler {
        /// Straight down to zero.
        Linear = "linear",
        /// Half a cosine down to zero.
        Cosine = "cosine",
        /// Stays as it is.
        Constant = "constant",
        /// Polynomial decay; power 1 down to 1e-7, as in transformers.
        Polynomial = "polynomial",
    }
}

choice! {
    /// The dtype a quantised weight is multiplied in.
    BnbDtype { /// IEEE half.
        Float16 = "float16", /// bfloat16.
        Bfloat16 = "bfloat16", /// IEEE single.
        Float32 = "float32", }
}

choice! {
    /// The code book of 4-bit weights.
    QuantType { /// NormalFloat, for weights that are normally distributed.
        Nf4 = "nf4", /// 4-bit floating point.
        Fp4 = "fp4", }
}

choice! {
    /// What dpo makes of the likelihoods of a better and a worse answer.
    LossType {
        /// The likelihood that the better one is preferred, as Bradley and Terry model it.
        Sigmoid = "sigmoid",
        /// The squared distance of the margin from a target: identity preference optimisation.
        Ipo = "ipo",
        /// Likelihood of the better answer and the ratio of the odds of both; needs no reference.
        Orpo = "orpo",
        /// Each answer by itself against the mean divergence: Kahneman-Tversky optimisation.
        Kto = "kto",
    }
}

choice! {
    /// How rlhf learns from rewards.
    RlAlgorithm {
        /// Proximal policy optimisation with a value head.
        Ppo = "ppo",
        /// Advantages relative to other answers to the same prompt.
        Grpo = "grpo",
    }
}

choice! {
    /// Where rewards come from.
    Reward {
        /// A model trained on the preference pairs.
        Model = "model",
        /// 1 where a regular expression matches the answer.
        Regex = "regex",
        /// 1 where the answer is the row's own.
        ExactMatch = "exact_match",
    }
}

choice! {
    /// A number that an evaluation gives, which the best of a run can be told by.
    EvalMetric {
        /// Loss on rows the model does not learn from.
        EvalLoss = "eval_loss",
        /// The same as a number of equally likely tokens.
        Perplexity = "perplexity",
        /// Words that summaries share with their references.
        Rouge1 = "rouge1",
        /// Pairs of words that they share.
        Rouge2 = "rouge2",
        /// The longest sequence of words that they share.
        RougeL = "rougeL",
        /// Answers to questions that are an accepted one.
        ExactMatch = "exact_match",
        /// Words that answers to questions share with accepted ones.
        F1 = "f1",
        /// Pairs whose better answer has the higher reward.
        RewardAccuracies = "rewards/accuracies",
        /// How much higher it is.
        RewardMargins = "rewards/margins",
        /// What answers to rows that the model does not learn from are rewarded with.
        EvalReward = "eval_reward",
    }
}

choice! {
    /// The kind of files that a model is exported as.
    ExportFormat {
        /// A base model as transformers writes it, with the adapter merged into its weights.
        Safetensors = "safetensors",
        /// One file for llama.cpp and the programs built on it.
        Gguf = "gguf",
    }
}

choice! {
    /// How the weights of an exported model are stored.
    ExportDtype {
        /// IEEE half: 16 bits.
        F16 = "f16",
        /// bfloat16: 16 bits with the range of f32.
        Bf16 = "bf16",
        /// 32-bit float.
        F32 = "f32",
        /// Blocks of 32 whole numbers of 8 bits with a factor of 16 bits; gguf only.
        Q8_0 = "q8_0",
    }
}

impl Strategy {
    /// Whether the loss is the likelihood of the rows' own answers.
    pub fn is_supervised(self) -> bool {
        matches!(self, Strategy::Sft | Strategy::Qlora)
    }
}

impl ExportDtype {
    /// The distance between 1 and the next larger number: what part of a value can be rounded away. For Q8_0 that of the largest
    /// value of a block.
    pub fn rounding(self) -> f32 {
        match self {
            ExportDtype::F32 => f32::EPSILON,
            ExportDtype::F16 => 1.0 / 1024.0,
            ExportDtype::Bf16 | ExportDtype::Q8_0 => 1.0 / 128.0,
        }
    }
}

choice! {
    /// What kind of thing lies on the disk and is no longer needed.
    SpareKind {
        /// Checkpoints and working files of a run whose model is complete. Its curve stays.
        Checkpoints = "checkpoints",
        /// A run that was paused, was interrupted or failed, with its checkpoints.
        Run = "run",
        /// What a model was exported to.
        Export = "export",
        /// Parts of a download that did not come to its end.
        Download = "download",
        /// A downloaded base model that none of the models and runs here was made from.
        BaseModel = "base_model",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_choice_is_its_spellings() {
        let schema = schemars::schema_for!(Strategy);
        assert_eq!(
            schema.get("enum"),
            Some(&serde_json::json!(Strategy::NAMES)),
            "clients offer what is accepted"
        );
        assert_eq!(schema.get("description"), Some(&serde_json::json!("How the weights are tuned.")));
    }
}
