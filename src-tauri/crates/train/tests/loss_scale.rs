//! Runs of a model whose gradients are in f16: the scale of the loss changes nothing that it need not, and finds its size.
#![allow(clippy::unwrap_used)]

mod support;

use models::CausalLm;
use serde_json::json;
use support::{PLAIN, Watched, batch, config, job, model};
use train::{BatchRun, Checkpoint, GivenBatches, Outcome, TrainError, run_batches};
use types::{JobFolder, StepStats, TrainEvent, TrainingConfig};

const STEPS: u64 = 12;

fn settings() -> TrainingConfig {
    config(&json!({"max_grad_norm": 0.3, "optim": "adamw_torch", "save_steps": 5, "save_total_limit": 9}))
}

/// Steps of one and the same batch.
fn run(model: &Watched<'_>, steps: u64, job: &JobFolder) -> Result<Vec<StepStats>, TrainError> {
    let settings = settings();
    let resume = Checkpoint::newest(job, &settings)?;
    let step = || vec![batch(PLAIN.vocab, &[6, 4], 1), batch(PLAIN.vocab, &[5], 2)];
    let mut batches = GivenBatches { steps: (0..steps).map(|_| step()).collect(), eval: vec![] };
    let run = BatchRun { model, batches: &mut batches, config: &settings, job, resume, answers: None };
    let mut told = Vec::new();
    let outcome = run_batches(
        run,
        &mut |event| {
            if let TrainEvent::Step(stats) = event {
                told.push(stats);
            }
        },
        &|| None,
    )?;
    assert!(matches!(outcome, Outcome::Finished(_)));
    Ok(told)
}

/// What a run computes, without the time it takes.
fn numbers(steps: &[StepStats]) -> Vec<[u64; 3]> {
    steps.iter().map(|s| [s.loss, s.grad_norm, s.learning_rate].map(f64::to_bits)).collect()
}

fn fresh() -> Box<dyn CausalLm> {
    model(&PLAIN, 2, 0.0)
}

#[test]
fn a_scaled_loss_trains_as_any_other_to_the_bit() {
    let (plain, scaled) = (fresh(), fresh());
    let (_guard, plain_job) = job();
    let (_other, scaled_job) = job();
    let want = run(&Watched::new(plain.as_ref()), STEPS, &plain_job).unwrap();
    let got = run(&Watched { f16: true, ..Watched::new(scaled.as_ref()) }, STEPS, &scaled_job).unwrap();
    assert_eq!(numbers(&got), numbers(&want));
    assert!(got.iter().all(|step| step.metrics["loss_scale"] == 65536.0), "it is told");
    assert!(want.iter().all(|step| !step.metrics.contains_key("loss_scale")), "where there is one");
}

#[test]
fn a_scale_that_is_too_large_is_halved_and_costs_steps_that_change_nothing() {
    let inner = fresh();
    let (_guard, first_job) = job();
    let narrow = |inner| Watched { f16: true, narrowed: Some(1024.0), ..Watched::new(inner) };
    let all = run(&narrow(inner.as_ref()), STEPS, &first_job).unwrap();
    let skipped = all.iter().take_while(|step| step.grad_norm == 0.0).count();
    assert!((1..8).contains(&skipped), "{skipped} steps were left out");
    for (i, step) in all.iter().enumerate() {
        let halved = i.min(skipped) as i32;
        assert_eq!(step.metrics["loss_scale"], 65536.0 / 2f64.powi(halved), "step {}", step.step);
        assert_eq!(step.grad_norm == 0.0, i < skipped, "step {}", step.step);
    }
    assert_eq!(all[skipped].loss, all[0].loss, "nothing was learnt before");
    assert_eq!(all[skipped].learning_rate, all[0].learning_rate, "and the schedule waited");
    assert!(all[skipped + 1].loss < all[0].loss && all[skipped + 1].learning_rate < all[0].learning_rate);

    // The same in two parts.
    let (inner, (_other, second_job)) = (fresh(), job());
    copy_checkpoint(&first_job, &second_job, 5);
    let rest = run(&narrow(inner.as_ref()), STEPS, &second_job).unwrap();
    assert_eq!(numbers(&rest), numbers(&all[5..]), "the scale is part of a checkpoint");
}

fn copy_checkpoint(from: &JobFolder, to: &JobFolder, step: u64) {
    std::fs::create_dir_all(to.checkpoint(step)).unwrap();
    for entry in std::fs::read_dir(from.checkpoint(step)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.checkpoint(step).join(entry.file_name())).unwrap();
    }
}

#[test]
fn gradients_that_no_scale_makes_finite_end_the_run() {
    let inner = fresh();
    let (_guard, job) = job();
    let broken = Watched { f16: true, narrowed: Some(1e12), ..Watched::new(inner.as_ref()) };
    match run(&broken, 40, &job) {
        Err(TrainError::NotFinite { step, what, .. }) => assert_eq!((step, what), (18, "the gradient")),
        other => panic!("{other:?}"),
    }
}
