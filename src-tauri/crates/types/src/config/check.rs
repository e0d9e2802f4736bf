//! From JSON to a checked [`TrainingConfig`]: every problem at once, each with its field.

use serde_json::{Map, Value, json};

use super::{FIELDS, TrainingConfig};
use crate::{
    EvalMetric, FieldError, LossType, Reward, Strategy,
    field::{self, Fallback, Field, Input},
};

/// The largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

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
        let mut conflicts = foreign(config.strategy, request);
        conflicts.extend(config.conflicts());
        if conflicts.is_empty() { Ok(config) } else { Err(conflicts) }
    }

    /// What the best evaluation is told by.
    pub fn best_metric(&self) -> EvalMetric {
        let usual =
            if self.strategy == Strategy::Rlhf { EvalMetric::EvalReward } else { EvalMetric::EvalLoss };
        self.metric_for_best_model.unwrap_or(usual)
    }

    /// Evaluation rows whose answers are scored, at most.
    pub fn scored_answers(&self) -> usize {
        let scored = EvalMetric::of(self.task, self.strategy).any(EvalMetric::is_of_answers);
        if scored { self.eval_answers as usize } else { 0 }
    }

    /// Whether answers are compared with what the base model finds of them, which is computed before the first step.
    pub fn needs_reference(&self) -> bool {
        self.strategy == Strategy::Dpo && self.loss_type != LossType::Orpo
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
        check(
            self.label_smoothing > 0.0 && self.loss_type != LossType::Sigmoid,
            "label_smoothing",
            "has an effect only with loss_type sigmoid",
        );
        let of_reward = |given: bool, reward: Reward| given && self.reward != reward;
        check(
            of_reward(self.reward_model.is_some(), Reward::Model),
            "reward_model",
            "has an effect only with reward model",
        );
        check(
            of_reward(self.reward_pattern.is_some(), Reward::Regex),
            "reward_pattern",
            "has an effect only with reward regex",
        );
        check(
            self.strategy == Strategy::Rlhf && self.reward == Reward::Regex && self.reward_pattern.is_none(),
            "reward_pattern",
            "reward regex needs a regular expression here",
        );
        if let Some(Err(error)) = self.reward_pattern.as_deref().map(pattern) {
            check(true, "reward_pattern", &format!("is not a regular expression: {error}"));
        }
        let judged = self.load_best_model_at_end || self.early_stopping_patience > 0;
        let measured = self.eval_split > 0.0 || self.eval_dataset.is_some();
        let unmeasured = "needs rows to measure on: eval_split above 0 or an eval_dataset";
        check(self.load_best_model_at_end && !measured, "load_best_model_at_end", unmeasured);
        check(self.early_stopping_patience > 0 && !measured, "early_stopping_patience", unmeasured);
        if let Some(metric) = self.metric_for_best_model {
            let others =
                EvalMetric::of(self.task, self.strategy).map(EvalMetric::name).collect::<Vec<_>>().join(", ");
            let foreign = format!(
                "{metric} is not measured for {} with {}; choose one of {others}",
                self.task, self.strategy
            );
            let unanswered = format!("{metric} is measured on answers: it needs eval_answers of 1 or more");
            let idle = "has an effect only with load_best_model_at_end or early_stopping_patience";
            let field = "metric_for_best_model";
            check(!metric.goes_with(self.task, self.strategy), field, &foreign);
            check(metric.is_of_answers() && self.eval_answers == 0, field, &unanswered);
            check(!judged, field, idle);
        }
        found
    }
}

/// A pattern that answers have to match, of a size that can be looked for.
///
/// # Errors
/// It is no regular expression, or its program is too large.
pub fn pattern(text: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(text).size_limit(MAX_PATTERN).build()
}

/// Settings of other strategies that are not what they are by default: none is ignored.
fn foreign(strategy: Strategy, request: &Map<String, Value>) -> Vec<FieldError> {
    let of_others = FIELDS.iter().filter(|field| !field.goes_with(strategy));
    let changed = of_others.filter(|field| match (request.get(field.name), field.fallback()) {
        (None, _) => false,
        (Some(value), default) => match (value.as_f64(), default.as_f64()) {
            (Some(value), Some(default)) => value != default,
            _ => *value != default,
        },
    });
    changed
        .map(|field| {
            let with = field.only.iter().map(|strategy| strategy.name()).collect::<Vec<_>>().join(" or ");
            FieldError::value(field.name, format!("has an effect only with strategy {with}"))
        })
        .collect()
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
