//! How far a policy is from its reference, from log-probabilities of tokens that the policy drew, and how much that costs.

/// Schulman's first estimator of `KL(policy, reference)` at a token: `log p − log q`. Unbiased, of either sign.
pub fn k1(policy: f64, reference: f64) -> f64 {
    policy - reference
}

/// Schulman's third estimator: `exp(log q − log p) − 1 − (log q − log p)`. Unbiased and never negative
/// (<http://joschu.net/blog/kl-approx.html>).
pub fn k3(policy: f64, reference: f64) -> f64 {
    let ratio = reference - policy;
    ratio.exp_m1() - ratio
}

/// The derivative of [`k3`] by the policy's log-probability.
pub fn k3_slope(policy: f64, reference: f64) -> f64 {
    -(reference - policy).exp_m1()
}

/// The coefficient of the divergence after a rollout, adapted to keep the divergence near `target` (Ziegler et al. 2019,
/// arXiv:1909.08593, section 2.2, with trl's clip at 0.2 and horizon of 10 000 answers): `coefficient · (1 + clip(kl / target − 1, ±0.2) · answers
/// / 10 000)`.
pub fn adapted_coefficient(coefficient: f64, kl: f64, target: f64, answers: usize) -> f64 {
    const HORIZON: f64 = 10_000.0;
    let error = (kl / target - 1.0).clamp(-0.2, 0.2);
    coefficient * (1.0 + error * answers as f64 / HORIZON)
}
