//! What a policy scores on held-out prompts.

use super::{
    advantages::mean,
    rollout::{Answer, Asked, asked},
    run::Policy,
    step::deviation,
};
use crate::{TrainError, metrics::Observed, run::Training, seeds::Use};

impl Training<'_> {
    /// Has held-out prompts answered at the run's temperature, the same ones with the same seeds each time; `None` where the run is
    /// to pause.
    pub(crate) fn observe_policy(&mut self, policy: Policy<'_>) -> Result<Option<Observed>, TrainError> {
        let most = self.config.eval_answers as usize;
        let (mut rows, mut index) = (Vec::new(), 0);
        while index < self.batches.eval_len() && rows.len() < most {
            rows.extend(asked(&[self.batches.eval(index)?]));
            index += 1;
        }
        rows.truncate(most);
        let prompts: Vec<&Asked> = rows.iter().collect();
        let mut answers = Vec::with_capacity(prompts.len());
        for (part, prompts) in (0..).zip(prompts.chunks(policy.together)) {
            let Some(more) = self.answer(policy, prompts, part, Use::Evaluation)? else { return Ok(None) };
            answers.extend(more);
        }
        let scores: Vec<f64> = answers.iter().map(|answer| answer.score).collect();
        let mut observed = Observed::default();
        if !answers.is_empty() {
            observed.add("eval_reward", scores.iter().copied());
            observed.add("eval_reward_std", [deviation(&scores)]);
            observed.add("eval_kl", [mean(answers.iter().map(Answer::kl))]);
            observed.add("eval_response_length", answers.iter().map(|answer| answer.len() as f64));
        }
        Ok(Some(observed))
    }
}
