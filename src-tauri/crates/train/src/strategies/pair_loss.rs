//! What the likelihoods of a better and a worse answer to the same prompt are worth, with derivatives, in f64.
//!
//! Sources: DPO, arXiv:2305.18290 eq. 7, with the label smoothing of Mitchell's conservative DPO; IPO, arXiv:2310.12036 eq. 17,
//! on the mean over tokens as trl has it; ORPO, arXiv:2403.07691 eqs. 4 to 7, the likelihood of the chosen answer being that of
//! its tokens only; KTO, arXiv:2402.01306 eq. 7, each answer of a pair being an example by itself and the divergence estimated
//! on the other half, as in trl's `kto_pair`.

use types::LossType;

/// Two answers to one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pair {
    /// The better one.
    pub chosen: Likelihood,
    /// The worse one.
    pub rejected: Likelihood,
}

/// How likely an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Likelihood {
    /// Summed log-probability of its tokens.
    pub log_prob: f64,
    /// The same from the base model; not asked for with orpo.
    pub reference: f64,
    /// How many tokens it has.
    pub tokens: usize,
}

impl Likelihood {
    /// Logarithm of the ratio to the base model's.
    fn ratio(self) -> f64 {
        self.log_prob - self.reference
    }

    /// Log-probability of a token, on average.
    fn mean(self) -> f64 {
        self.log_prob / self.length()
    }

    fn length(self) -> f64 {
        self.tokens.max(1) as f64
    }
}

/// The loss of a pair and its derivatives by the summed log-probabilities of both answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// By the chosen answer's.
    pub by_chosen: f64,
    /// By the rejected answer's.
    pub by_rejected: f64,
    /// What the chosen answer is worth.
    pub chosen_reward: f64,
    /// What the rejected answer is worth.
    pub rejected_reward: f64,
}

/// Which loss, and how strong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preference {
    /// Which.
    pub loss_type: LossType,
    /// How closely the model stays with the base; with orpo the weight of the odds ratio.
    pub beta: f64,
    /// The part of the pairs that is taken to be labelled the wrong way round.
    pub label_smoothing: f64,
}

impl Preference {
    /// The losses of pairs that are computed together, one each.
    pub fn losses(&self, pairs: &[Pair]) -> Vec<PairLoss> {
        let divergences = Divergences::of(pairs);
        pairs.iter().map(|pair| self.loss(pair, divergences)).collect()
    }

    fn loss(&self, Pair { chosen, rejected }: &Pair, divergences: Divergences) -> PairLoss {
        let beta = self.beta;
        let rewards = |chosen: f64, rejected: f64| (beta * chosen, beta * rejected);
        let of_ratios = rewards(chosen.ratio(), rejected.ratio());
        let (loss, by_chosen, by_rejected, (chosen_reward, rejected_reward)) = match self.loss_type {
            LossType::Sigmoid => {
                let (x, flipped) = (of_ratios.0 - of_ratios.1, self.label_smoothing);
                let loss = -(1.0 - flipped) * log_sigmoid(x) - flipped * log_sigmoid(-x);
                let slope = beta * (flipped * sigmoid(x) - (1.0 - flipped) * sigmoid(-x));
                (loss, slope, -slope, of_ratios)
            }
            LossType::Ipo => {
                let margin = chosen.ratio() / chosen.length() - rejected.ratio() / rejected.length();
                let apart = margin - 1.0 / (2.0 * beta);
                (apart * apart, 2.0 * apart / chosen.length(), -2.0 * apart / rejected.length(), of_ratios)
            }
            LossType::Orpo => {
                let (a, b) = (below_one(chosen.mean()), below_one(rejected.mean()));
                let log_odds = (a - (-a.exp_m1()).ln()) - (b - (-b.exp_m1()).ln());
                let slope = beta * sigmoid(-log_odds);
                let loss = -chosen.mean() - beta * log_sigmoid(log_odds);
                let by_chosen = (-1.0 + slope / a.exp_m1()) / chosen.length();
                let by_rejected = -slope / b.exp_m1() / rejected.length();
                (loss, by_chosen, by_rejected, rewards(chosen.mean(), rejected.mean()))
            }
            LossType::Kto => {
                let kept = sigmoid(beta * (chosen.ratio() - divergences.rejected));
                let left = sigmoid(beta * (divergences.chosen - rejected.ratio()));
                let slope = |s: f64| 0.5 * beta * s * (1.0 - s);
                (0.5 * ((1.0 - kept) + (1.0 - left)), -slope(kept), slope(left), of_ratios)
            }
        };
        PairLoss { loss, by_chosen, by_rejected, chosen_reward, rejected_reward }
    }
}

/// How far the model is from the base on answers of either kind, not below 0. No gradient goes through them.
#[derive(Debug, Clone, Copy)]
struct Divergences {
    chosen: f64,
    rejected: f64,
}

impl Divergences {
    fn of(pairs: &[Pair]) -> Self {
        let mean = |ratio: fn(&Pair) -> f64| {
            (pairs.iter().map(ratio).sum::<f64>() / pairs.len().max(1) as f64).max(0.0)
        };
        Self { chosen: mean(|pair| pair.chosen.ratio()), rejected: mean(|pair| pair.rejected.ratio()) }
    }
}

/// A mean log-probability so far from 0 that its odds are finite.
fn below_one(log_prob: f64) -> f64 {
    log_prob.min(-1e-9)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: f64, rejected: f64) -> Pair {
        Pair {
            chosen: Likelihood { log_prob: chosen, reference: -11.0, tokens: 5 },
            rejected: Likelihood { log_prob: rejected, reference: -9.5, tokens: 7 },
        }
    }

    #[test]
    fn derivatives_are_those_of_the_losses() {
        let step = 1e-5;
        for &loss_type in LossType::ALL {
            let label_smoothing = if loss_type == LossType::Sigmoid { 0.2 } else { 0.0 };
            let preference = Preference { loss_type, beta: 0.3, label_smoothing };
            // The divergences of kto are held: they have no gradient.
            let held = Divergences { chosen: 0.7, rejected: 0.0 };
            for (chosen, rejected) in [(-11.0, -9.5), (-4.0, -20.0), (-30.0, -3.0)] {
                let loss = |c: f64, r: f64| preference.loss(&pair(c, r), held);
                let got = loss(chosen, rejected);
                let by_chosen = loss(chosen + step, rejected).loss - loss(chosen - step, rejected).loss;
                let by_rejected = loss(chosen, rejected + step).loss - loss(chosen, rejected - step).loss;
                for (got, change) in [(got.by_chosen, by_chosen), (got.by_rejected, by_rejected)] {
                    let want = change / (2.0 * step);
                    assert!(
                        (got - want).abs() < 1e-6,
                        "{loss_type}, {chosen} and {rejected}: {got}, not {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn certain_answers_have_finite_losses() {
        for &loss_type in LossType::ALL {
            let preference = Preference { loss_type, beta: 0.1, label_smoothing: 0.0 };
            for (chosen, rejected) in [(0.0, -1e5), (-1e5, 0.0), (0.0, 0.0)] {
                let [got] = preference.losses(&[pair(chosen, rejected)])[..] else { panic!("one each") };
                let all = [got.loss, got.by_chosen, got.by_rejected];
                assert!(all.iter().all(|v| v.is_finite()), "{loss_type}, {chosen} and {rejected}: {got:?}");
            }
        }
    }
}
