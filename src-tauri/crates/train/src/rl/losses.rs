//! The terms of a policy's loss, each with its derivative by the number that the network computes.

/// A term of a loss at one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Its value.
    pub loss: f64,
    /// Its derivative: by the log-probability, or by the value.
    pub slope: f64,
    /// Whether it is the clipped one that counts; its slope is 0 then.
    pub clipped: bool,
}

/// PPO's clipped surrogate (Schulman et al. 2017, arXiv:1707.06347): `max(−A r, −A clip(r, 1 ± range))` with
/// `r = exp(new − old)`, by log-probabilities. GRPO has the same.
pub fn clipped_policy(new: f64, old: f64, advantage: f64, range: f64) -> Term {
    let ratio = (new - old).exp();
    let free = -advantage * ratio;
    let bounded = -advantage * ratio.clamp(1.0 - range, 1.0 + range);
    if bounded > free {
        Term { loss: bounded, slope: 0.0, clipped: true }
    } else {
        Term { loss: free, slope: free, clipped: false }
    }
}

/// PPO's clipped value loss as trl has it: `½ max((v − R)², (clip(v, old ± range) − R)²)`.
pub fn clipped_value(new: f64, old: f64, returns: f64, range: f64) -> Term {
    let free = (new - returns).powi(2);
    let bounded = (new.clamp(old - range, old + range) - returns).powi(2);
    if bounded > free {
        Term { loss: 0.5 * bounded, slope: 0.0, clipped: true }
    } else {
        Term { loss: 0.5 * free, slope: new - returns, clipped: false }
    }
}

/// Bradley and Terry's loss of a pair of rewards, `−log σ(chosen − rejected)`, trl's `RewardTrainer`; the slope is that by the
/// chosen one's reward, and its negative that by the other's.
pub fn preference(chosen: f64, rejected: f64) -> Term {
    let margin = chosen - rejected;
    // log(1 + exp(−m)) without overflow on either side.
    let loss = (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
    Term { loss, slope: -1.0 / (1.0 + margin.exp()), clipped: false }
}
