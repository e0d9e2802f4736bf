//! When a policy that learns from rewards is stopped: it has found a way to score that nobody wanted.

use types::TrainingConfig;

use super::rollout::Answer;

/// Rollouts in a row without a word before a run is stopped.
const EMPTY_ROLLOUTS: u32 = 3;

/// What a rollout tells of the policy that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// No answer has a token but the one that ends it: how many rollouts of this kind there have been in a row.
    Empty(u32),
    /// It has to end, for this reason.
    Stop(String),
}

/// Looks at a rollout; `empty` is how many in a row before it had no words.
pub(crate) fn judge(answers: &[Answer], config: &TrainingConfig, empty: u32) -> Verdict {
    let tokens: usize = answers.iter().map(Answer::len).sum();
    let kl = answers.iter().map(Answer::kl).sum::<f64>() / tokens.max(1) as f64;
    let limit = config.kl_limit;
    if kl > limit {
        return Verdict::Stop(format!(
            "the answers have gone {kl:.2} nats per token away from the base model, more than kl_limit ({limit}); \
             raise kl_coef or lower learning_rate"
        ));
    }
    if !answers.iter().all(|answer| answer.len() <= 1) {
        return Verdict::Fine;
    }
    match empty + 1 {
        EMPTY_ROLLOUTS => Verdict::Stop(format!(
            "the answers have collapsed: in {EMPTY_ROLLOUTS} rollouts none had a word; lower learning_rate, raise kl_coef, \
             or reward something else"
        )),
        fewer => Verdict::Empty(fewer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> TrainingConfig {
        let request = json!({"task": "text-generation", "model_name": "m", "dataset": "d", "strategy": "rlhf", "kl_limit": 0.5});
        TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
    }

    fn answer(tokens: usize, kl: f64) -> Answer {
        let (log_probs, reference) = (vec![-1.0; tokens], vec![-1.0 - kl; tokens]);
        Answer { ids: vec![1; tokens + 2], prompt: 2, log_probs, reference, ..Answer::default() }
    }

    #[test]
    fn a_policy_that_runs_away_or_falls_silent_is_stopped_in_words() {
        let (config, fine) = (config(), [answer(5, 0.4), answer(1, 0.4)]);
        assert_eq!(judge(&fine, &config, 2), Verdict::Fine);
        let away = judge(&[answer(5, 0.4), answer(5, 0.7)], &config, 0);
        assert!(matches!(&away, Verdict::Stop(why) if why.contains("0.55 nats per token")), "{away:?}");
        let silent = [answer(1, 0.0), answer(1, 0.0)];
        assert_eq!(judge(&silent, &config, 0), Verdict::Empty(1));
        assert_eq!(judge(&silent, &config, 1), Verdict::Empty(2));
        assert!(matches!(judge(&silent, &config, 2), Verdict::Stop(why) if why.contains("collapsed")));
    }
}
