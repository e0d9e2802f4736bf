//! Rewards, advantages and losses of recorded rollouts equal those of trl's trainers, and their slopes torch's gradients.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

use std::{fs, path::Path};

use serde_json::Value;
use train::rl::{
    advantages::{generalised, relative_to_group, token_rewards, whiten},
    kl::{adapted_coefficient, k1, k3, k3_slope},
    losses::{Term, clipped_policy, clipped_value, preference},
};

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/rl.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A list for each answer.
fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-9 * (1.0 + want.abs()), "{what}: {got}, trl gives {want}");
}

fn all_close(got: &[Vec<f64>], want: &Value, what: &str) {
    let (got, want) = (got.concat(), rows(want).concat());
    assert_eq!(got.len(), want.len(), "{what}");
    got.iter().zip(&want).for_each(|(got, want)| close(*got, *want, what));
}

/// A function of two rows, token by token.
fn zipped(a: &[Vec<f64>], b: &[Vec<f64>], f: impl Fn(f64, f64) -> f64) -> Vec<Vec<f64>> {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect();
    a.iter().zip(b).map(row).collect()
}

/// The mean loss, its gradient and the part that is clipped.
fn told(terms: &[Vec<Term>]) -> (f64, Vec<Vec<f64>>, f64) {
    let count = terms.iter().map(Vec::len).sum::<usize>() as f64;
    let sum = |f: &dyn Fn(&Term) -> f64| terms.iter().flatten().map(f).sum::<f64>() / count;
    let slopes = terms.iter().map(|row| row.iter().map(|term| term.slope / count).collect()).collect();
    (sum(&|term| term.loss), slopes, sum(&|term| f64::from(u8::from(term.clipped))))
}

#[test]
fn ppo_on_recorded_rollouts_is_that_of_trl() {
    let golden = golden();
    let setting = |name: &str| golden["settings"][name].as_f64().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (rollout, want) = (&case["rollout"], &case["ppo"]);
        let [old, reference, new, values, new_values] =
            ["old", "reference", "new", "values", "new_values"].map(|name| rows(&rollout[name]));
        all_close(&zipped(&old, &reference, k3), &want["k3"], "k3");
        let kl = zipped(&old, &reference, k1);
        let scores = numbers(&rollout["scores"]);
        let rewards: Vec<Vec<f64>> =
            scores.iter().zip(&kl).map(|(score, kl)| token_rewards(*score, kl, setting("kl_coef"))).collect();
        all_close(&rewards, &want["rewards"], "rewards");
        let (advantages, returns): (Vec<_>, Vec<_>) = rewards
            .iter()
            .zip(&values)
            .map(|(rewards, values)| generalised(rewards, values, setting("gamma"), setting("lam")))
            .unzip();
        all_close(&advantages, &want["advantages"], "advantages");
        all_close(&returns, &want["returns"], "returns");
        let mut whitened = advantages;
        whiten(whitened.iter_mut().flatten());
        all_close(&whitened, &want["whitened"], "whitened advantages");

        let policy: Vec<Vec<Term>> = (0..new.len())
            .map(|i| {
                (0..new[i].len())
                    .map(|t| clipped_policy(new[i][t], old[i][t], whitened[i][t], setting("cliprange")))
                    .collect()
            })
            .collect();
        let (loss, slopes, clipped) = told(&policy);
        close(loss, want["policy_loss"].as_f64().unwrap(), "policy loss");
        all_close(&slopes, &want["policy_gradient"], "gradient of the policy loss");
        close(clipped, want["policy_clip_fraction"].as_f64().unwrap(), "clip fraction");
        assert!(clipped > 0.0 && clipped < 1.0, "both kinds of terms are recorded");

        let value: Vec<Vec<Term>> = (0..new.len())
            .map(|i| {
                let range = setting("cliprange_value");
                let term = |t: usize| clipped_value(new_values[i][t], values[i][t], returns[i][t], range);
                (0..new[i].len()).map(term).collect()
            })
            .collect();
        let (loss, slopes, clipped) = told(&value);
        close(loss, want["value_loss"].as_f64().unwrap(), "value loss");
        all_close(&slopes, &want["value_gradient"], "gradient of the value loss");
        close(clipped, want["value_clip_fraction"].as_f64().unwrap(), "clip fraction of values");
    }
}

#[test]
fn grpo_on_recorded_rollouts_is_that_of_trl() {
    let golden = golden();
    let setting = |name: &str| golden["settings"][name].as_f64().unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let (rollout, want) = (&case["rollout"], &case["grpo"]);
        let scores = numbers(&rollout["scores"]);
        let advantages: Vec<f64> =
            scores.chunks(setting("group") as usize).flat_map(relative_to_group).collect();
        all_close(std::slice::from_ref(&advantages), &serde_json::json!([want["advantages"]]), "advantages");
        let [old, reference, new] = ["old", "reference", "new"].map(|name| rows(&rollout[name]));
        let beta = setting("beta");
        let terms: Vec<Vec<Term>> = (0..new.len())
            .map(|i| {
                (0..new[i].len())
                    .map(|t| {
                        let (now, far) = (new[i][t], reference[i][t]);
                        let term = clipped_policy(now, old[i][t], advantages[i], setting("cliprange"));
                        Term {
                            loss: term.loss + beta * k3(now, far),
                            slope: term.slope + beta * k3_slope(now, far),
                            ..term
                        }
                    })
                    .collect()
            })
            .collect();
        let (loss, slopes, _) = told(&terms);
        close(loss, want["loss"].as_f64().unwrap(), "loss");
        all_close(&slopes, &want["gradient"], "gradient");
    }
    assert_eq!(relative_to_group(&[2.0, 2.0, 2.0]), [0.0; 3], "answers that are all alike teach nothing");
}

#[test]
fn the_coefficient_follows_the_divergence_as_in_trl() {
    let mut coefficient = 0.05;
    for told in golden()["controller"].as_array().unwrap() {
        let kl = told["kl"].as_f64().unwrap();
        coefficient = adapted_coefficient(coefficient, kl, 6.0, told["answers"].as_u64().unwrap() as usize);
        close(coefficient, told["coefficient"].as_f64().unwrap(), "coefficient");
    }
}

#[test]
fn the_loss_of_a_reward_model_is_that_of_trl() {
    let want = &golden()["preference"];
    let [chosen, rejected, gradient] = ["chosen", "rejected", "gradient"].map(|name| numbers(&want[name]));
    let terms: Vec<Term> = chosen.iter().zip(&rejected).map(|(c, r)| preference(*c, *r)).collect();
    let count = terms.len() as f64;
    close(terms.iter().map(|term| term.loss).sum::<f64>() / count, want["loss"].as_f64().unwrap(), "loss");
    for (term, want) in terms.iter().zip(gradient) {
        close(term.slope / count, want, "gradient");
    }
}

#[test]
fn nothing_is_divided_by_nothing() {
    let mut one = [3.0];
    whiten(one.iter_mut());
    assert_eq!(one, [0.0]);
    whiten([].iter_mut());
    assert_eq!(relative_to_group(&[5.0]), [0.0]);
    assert_eq!(generalised(&[], &[], 1.0, 0.95), (vec![], vec![]));
    assert_eq!(token_rewards(1.0, &[], 0.05), Vec::<f64>::new());
}
