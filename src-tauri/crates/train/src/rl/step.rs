//! A step of a policy: a rollout, and the optimizer steps that learn from it.

use std::time::Instant;

use models::Pass;
use types::{RlAlgorithm, StepStats, TrainEvent, engine::Control};

use super::{
    advantages::{generalised, mean, relative_to_group, token_rewards, whiten},
    guard::{self, Verdict},
    kl::{adapted_coefficient, k1},
    policy::PolicyLoss,
    rollout::{Answer, Asked, Reader, asked, batch_of, joined},
    run::Policy,
};
use crate::{
    TrainError,
    backward::Backward,
    metrics::Observed,
    progress::Exact,
    run::Training,
    seeds::{self, Use},
};

impl Training<'_> {
    /// Does one step; without one where it is to pause while answers are written.
    pub(crate) fn policy_step(&mut self, policy: Policy<'_>) -> Result<(), TrainError> {
        let started = Instant::now();
        let (config, done) = (self.config, self.progress.step);
        let group = self.batches.step(done)?;
        let times = match config.rl_algorithm {
            RlAlgorithm::Ppo => 1,
            RlAlgorithm::Grpo => config.num_generations as usize,
        };
        let rows = asked(&group.batches);
        let prompts: Vec<&Asked> = rows.iter().flat_map(|row| std::iter::repeat_n(row, times)).collect();
        if prompts.is_empty() {
            return Err(TrainError::NothingToTrain { step: done + 1 });
        }
        let Some(mut answers) = self.answer(policy, &prompts, done, Use::Rollout)? else { return Ok(()) };
        let rollout = started.elapsed();
        self.check_finite("a reward", answers.iter().map(|answer| answer.score).sum())?;
        let divergence: f64 = mean(answers.iter().map(Answer::kl));
        self.check_finite("the divergence from the base model", divergence)?;
        match guard::judge(&answers, config, self.progress.empty_rollouts) {
            Verdict::Fine => self.progress.empty_rollouts = 0,
            Verdict::Empty(rollouts) => self.progress.empty_rollouts = rollouts,
            Verdict::Stop(why) => return Err(self.stopped_by_guard(why)),
        }
        let kl_coef = self.progress.kl_coef.map_or(config.kl_coef, |known| known.0);
        self.weigh(&mut answers, kl_coef, times);

        let learning_rate = self.learning_rate(done);
        let per_rollout = u64::from(config.num_ppo_epochs) * u64::from(config.num_mini_batches);
        let mut update = done * per_rollout;
        let size = answers.len().div_ceil(config.num_mini_batches as usize).max(1);
        let (mut observed, mut losses, mut norms) = (Observed::default(), Vec::new(), Vec::new());
        for epoch in 0..u64::from(config.num_ppo_epochs) {
            let order = seeds::order(config.seed, done, epoch, answers.len());
            for places in order.chunks(size) {
                let (loss, seen) = self.gradients_of(&answers, places, kl_coef)?;
                self.check_finite("the loss", loss)?;
                update += 1;
                let norm = self.learn(update, learning_rate)?;
                observed.extend(seen);
                losses.push(loss);
                norms.push(norm);
            }
        }
        if let Some(target) = config.kl_target {
            let adapted = adapted_coefficient(kl_coef, divergence, target, answers.len());
            self.progress.kl_coef = Some(Exact(adapted));
        }

        let tokens: u64 = answers.iter().map(|answer| answer.ids.len() as u64).sum();
        let trained_tokens: u64 = answers.iter().map(|answer| answer.len() as u64).sum();
        let loss = mean(losses.into_iter());
        let mut metrics = observed.means();
        let scores: Vec<f64> = answers.iter().map(|answer| answer.score).collect();
        let share = rollout.as_secs_f64() / started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        for (name, value) in [
            ("reward", mean(scores.iter().copied())),
            ("reward_std", deviation(&scores)),
            ("kl", divergence),
            ("kl_coef", kl_coef),
            ("entropy", mean(answers.iter().flat_map(|answer| answer.entropies.iter().copied()))),
            ("response_length", trained_tokens as f64 / answers.len() as f64),
            ("rollout_time_share", share),
        ] {
            metrics.insert(name.to_owned(), value);
        }
        self.note_loss_scale(&mut metrics);
        let progress = &mut self.progress;
        progress.step += 1;
        progress.cursor = group.end;
        progress.tokens += tokens;
        progress.trained_tokens += trained_tokens;
        progress.push_loss(loss);
        let elapsed_ms = self.elapsed().as_millis() as u64;
        self.progress.elapsed_ms = elapsed_ms;
        (self.sink)(TrainEvent::Step(StepStats {
            step: done + 1,
            total_steps: self.batches.total_steps(),
            epoch: group.epoch,
            loss,
            learning_rate,
            grad_norm: mean(norms.into_iter()),
            tokens,
            trained_tokens,
            step_ms: started.elapsed().as_secs_f64() * 1e3,
            elapsed_ms,
            metrics,
        }));
        Ok(())
    }

    /// Has prompts answered and reads the answers; `None` where the run is to pause.
    pub(crate) fn answer(
        &self,
        policy: Policy<'_>,
        prompts: &[&Asked],
        step: u64,
        purpose: Use,
    ) -> Result<Option<Vec<Answer>>, TrainError> {
        let config = self.config;
        let seeds: Vec<u64> =
            (0..prompts.len() as u64).map(|place| seeds::answer(config.seed, step, purpose, place)).collect();
        let ids: Vec<&[u32]> = prompts.iter().map(|row| row.prompt.as_slice()).collect();
        let wanted = || (self.control)() != Some(Control::Pause);
        let written = policy
            .writer
            .write(&ids, &seeds, config.response_length as usize, config.temperature, &wanted)
            .map_err(|error| TrainError::Rollout(error.to_string()))?;
        let Some(written) = written else { return Ok(None) };
        let mut answers: Vec<Answer> = Vec::with_capacity(prompts.len());
        for (row, written) in prompts.iter().zip(written) {
            let score = match policy.judge {
                super::Judge::Model => None,
                judge => judge.by_text(&policy.writer.text(&written), &policy.writer.text(&row.own)),
            };
            let prompt = row.prompt.len();
            let ids = [row.prompt.as_slice(), &written].concat();
            answers.push(Answer { ids, prompt, score: score.unwrap_or(0.0), ..Answer::default() });
        }
        let values = config.rl_algorithm == RlAlgorithm::Ppo;
        let reader = Reader {
            model: self.backward.model,
            judge: policy.judge,
            temperature: config.temperature,
            values,
        };
        reader.read(&mut answers)?;
        Ok(Some(answers))
    }

    /// Tells how much better than expected each token was.
    fn weigh(&self, answers: &mut [Answer], kl_coef: f64, group: usize) {
        let config = self.config;
        if config.rl_algorithm == RlAlgorithm::Grpo {
            for group in answers.chunks_mut(group) {
                let scores: Vec<f64> = group.iter().map(|answer| answer.score).collect();
                for (answer, advantage) in group.iter_mut().zip(relative_to_group(&scores)) {
                    answer.advantages = vec![advantage; answer.len()];
                }
            }
            return;
        }
        for answer in answers.iter_mut() {
            let kl: Vec<f64> =
                answer.log_probs.iter().zip(&answer.reference).map(|(p, q)| k1(*p, *q)).collect();
            let rewards = token_rewards(answer.score, &kl, kl_coef);
            (answer.advantages, answer.returns) =
                generalised(&rewards, &answer.values, config.gamma, config.lam);
        }
        whiten(answers.iter_mut().flat_map(|answer| answer.advantages.iter_mut()));
    }

    /// Adds up the gradients of the mean loss per token of some answers; gives that mean.
    fn gradients_of(
        &mut self,
        answers: &[Answer],
        places: &[usize],
        kl_coef: f64,
    ) -> Result<(f64, Observed), TrainError> {
        let tokens: usize = places.iter().map(|&place| answers[place].len()).sum();
        let mean = 1.0 / tokens.max(1) as f64;
        let scale = mean * self.loss_scale();
        let (mut sum, mut observed) = (0.0, Observed::default());
        let Backward { model, trainable, checkpointing, offload, .. } = self.backward;
        self.gradients.reset()?;
        for places in joined(answers, places) {
            let answers: Vec<&Answer> = places.iter().map(|&place| &answers[place]).collect();
            let batch = batch_of(answers.iter().copied());
            let loss = PolicyLoss { config: self.config, answers, kl_coef };
            let backward = Backward { model, strategy: &loss, trainable, checkpointing, offload };
            let computed = backward.run(&batch, Pass::EVAL, scale, &mut self.gradients)?;
            sum += computed.sum;
            observed.extend(computed.observed);
        }
        Ok((sum * mean, observed))
    }
}

/// The deviation of a sample; 0 of a single value.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}
