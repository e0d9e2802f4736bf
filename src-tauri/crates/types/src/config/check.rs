//! From JSON to a checked [`TrainingConfig`]: every problem at once, each with its field.

use serde_json::{Map, Value, json};

use super::{FIELDS, TrainingConfig};
use crate::{
    FieldError, Strategy,
    field::{self, Fallback, Field, Input},
};

impl Input for TrainingConfig {
    const FIELDS: &'static [Field] = FIELDS;

    fn read(request: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        Self::from_json(request)
    }
}

impl TrainingConfig {
    /// Checks a request and fills in what it leaves out.
    ///
    /// # Errors
    /// Every bad field: unknown, missing, of the wrong type, out of range, or at odds with another field.
    pub fn from_json(request: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let strategy = request.get("strategy").and_then(Value::as_str).and_then(|s| s.parse().ok());
        let default = |field: &Field| match field.default {
            Fallback::ByStrategy(_) => by_strategy(field, strategy.unwrap_or(Strategy::Sft), request),
            _ => field.fallback(),
        };
        let config: Self = field::read(FIELDS, request, default)?;
        let conflicts = config.conflicts();
        if conflicts.is_empty() { Ok(config) } else { Err(conflicts) }
    }

    /// Rules over more than one field.
    fn conflicts(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut check = |bad: bool, field: &str, msg: &str| {
            if bad {
                found.push(FieldError::value(field, msg));
            }
        };
        check(self.use_4bit && self.use_8bit, "use_8bit", "use_4bit and use_8bit cannot both be true");
        check(self.fp16 && self.bf16, "fp16", "fp16 and bf16 cannot both be true");
        check(
            self.strategy == Strategy::Qlora && !self.use_4bit && !self.use_8bit,
            "use_4bit",
            "strategy qlora needs use_4bit or use_8bit",
        );
        check(self.max_steps == 0, "max_steps", "must be -1 (off) or at least 1, not 0");
        check(
            self.provider == Some(crate::Provider::Unsloth) && self.max_seq_length.is_none(),
            "max_seq_length",
            "provider unsloth needs a number here",
        );
        let plain = self.bnb_4bit_compute_dtype == crate::BnbDtype::Float16;
        check(!self.use_4bit && !plain, "bnb_4bit_compute_dtype", "has an effect only with use_4bit");
        let plain = self.bnb_4bit_quant_type == crate::QuantType::Nf4;
        check(!self.use_4bit && !plain, "bnb_4bit_quant_type", "has an effect only with use_4bit");
        check(
            !self.use_4bit && self.use_nested_quant,
            "use_nested_quant",
            "has an effect only with use_4bit",
        );
        found
    }
}

fn by_strategy(field: &Field, strategy: Strategy, request: &Map<String, Value>) -> Value {
    match field.name {
        "learning_rate" => json!(match strategy {
            Strategy::Sft | Strategy::Qlora => 2e-4,
            Strategy::Dpo => 5e-6,
            Strategy::Rlhf => 1.41e-5,
        }),
        _ => json!(strategy == Strategy::Qlora && request.get("use_8bit") != Some(&Value::Bool(true))),
    }
}
