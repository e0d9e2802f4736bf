//! From the score of an answer to what each of its tokens was worth.

/// The reward of each token of an answer: what its divergence from the reference costs, and for the last one the score of the
/// whole answer (trl's `PPOTrainer`): `−coefficient · kl_t`, plus `score` where `t` is last.
pub fn token_rewards(score: f64, kl: &[f64], coefficient: f64) -> Vec<f64> {
    let mut rewards: Vec<f64> = kl.iter().map(|kl| -coefficient * kl).collect();
    if let Some(last) = rewards.last_mut() {
        *last += score;
    }
    rewards
}

/// Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438) over one answer, at whose end nothing is left to
/// gain. Gives advantages, and returns, which are advantages plus values.
pub fn generalised(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut later, mut next) = (0.0, 0.0);
    for ((advantage, reward), value) in advantages.iter_mut().zip(rewards).zip(values).rev() {
        let delta = reward + gamma * next - value;
        later = delta + gamma * lambda * later;
        *advantage = later;
        next = *value;
    }
    let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    (advantages, returns)
}

/// Shifts to mean 0 and scales to variance 1, as trl's `masked_whiten`: the variance is that of a sample, plus 1e-8.
pub fn whiten<'a>(values: impl Iterator<Item = &'a mut f64>) {
    let mut values: Vec<&mut f64> = values.collect();
    let mean = mean(values.iter().map(|value| **value));
    let squares: f64 = values.iter().map(|value| (**value - mean).powi(2)).sum();
    // A single value has no variance.
    let variance = squares / values.len().saturating_sub(1).max(1) as f64;
    let factor = (variance + 1e-8).sqrt().recip();
    values.iter_mut().for_each(|value| **value = (**value - mean) * factor);
}

/// The advantage of each answer over the others to the same prompt (Shao et al. 2024, arXiv:2402.03300; trl's `GRPOTrainer`):
/// `(reward − mean) / (deviation + 1e-4)`, with the deviation of a sample.
pub fn relative_to_group(rewards: &[f64]) -> Vec<f64> {
    let mean = mean(rewards.iter().copied());
    let squares: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    let deviation = (squares / rewards.len().saturating_sub(1).max(1) as f64).sqrt();
    rewards.iter().map(|reward| (reward - mean) / (deviation + 1e-4)).collect()
}

/// The mean; 0 of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}
