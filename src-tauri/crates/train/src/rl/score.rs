//! What an answer is worth.

use regex::Regex;
use types::{Reward, TrainingConfig};

use crate::TrainError;

/// Who scores answers.
#[derive(Debug, Clone)]
pub enum Judge {
    /// The model's second adapter, with its scalar head on the last token.
    Model,
    /// 1 where the pattern is found in the answer, else 0.
    Pattern(Regex),
    /// 1 where the answer is the row's own but for white space around it, else 0.
    OwnAnswer,
}

impl Judge {
    /// As the settings say.
    ///
    /// # Errors
    /// The pattern is none.
    pub fn new(config: &TrainingConfig) -> Result<Self, TrainError> {
        match config.reward {
            Reward::Model => Ok(Judge::Model),
            Reward::ExactMatch => Ok(Judge::OwnAnswer),
            Reward::Regex => {
                let pattern = config.reward_pattern.as_deref().unwrap_or_default();
                types::config::pattern(pattern)
                    .map(Judge::Pattern)
                    .map_err(|e| TrainError::Pattern(e.to_string()))
            }
        }
    }

    /// The score of an answer by its text; `None` where it takes the model.
    pub(crate) fn by_text(&self, answer: &str, own: &str) -> Option<f64> {
        let right = match self {
            Judge::Model => return None,
            Judge::Pattern(pattern) => pattern.is_match(answer),
            Judge::OwnAnswer => answer.trim() == own.trim(),
        };
        Some(if right { 1.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_scored_as_the_settings_say() {
        let judge = |more: serde_json::Value| {
            let mut request =
                json!({"task": "text-generation", "model_name": "m", "dataset": "d", "strategy": "rlhf"});
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Judge::new(&TrainingConfig::from_json(request.as_object().unwrap()).unwrap()).unwrap()
        };
        let pattern = judge(json!({"reward": "regex", "reward_pattern": "(?i)^please\\b"}));
        assert_eq!(pattern.by_text("Please wait.", ""), Some(1.0));
        assert_eq!(pattern.by_text("Wait, please.", ""), Some(0.0));
        let own = judge(json!({"reward": "exact_match"}));
        assert_eq!((own.by_text(" 42\n", "42"), own.by_text("43", "42")), (Some(1.0), Some(0.0)));
        assert_eq!(judge(json!({})).by_text("x", "x"), None);
    }
}
