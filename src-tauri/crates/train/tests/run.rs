//! The loop on given batches: events, learning, stopping, resuming, and what ends a run early.
#![allow(clippy::unwrap_used)]

mod support;

use std::{cell::Cell, fs};

use candle_core::{DType, Device, Var};
use models::CausalLm;
use serde_json::{Value, json};
use support::{GROUPED, PLAIN, Watched, adapter_values, batch, config, job, model};
use train::{BatchRun, Checkpoint, GivenBatches, Outcome, StepBatches, Summary, TrainError, run_batches};
use types::{JobFolder, Phase, StepStats, TrainEvent, TrainingConfig, engine::Control};

/// `steps` steps of two micro-batches and two batches to evaluate on.
fn batches(vocab: usize, steps: u64) -> GivenBatches {
    GivenBatches {
        steps: (0..steps)
            .map(|i| vec![batch(vocab, &[6, 9], i % 5 * 2), batch(vocab, &[7], i % 5 * 2 + 1)])
            .collect(),
        eval: vec![batch(vocab, &[8, 5], 100), batch(vocab, &[11], 101)],
    }
}

fn train(
    model: &dyn CausalLm,
    batches: &mut GivenBatches,
    config: &TrainingConfig,
    job: &JobFolder,
    stop_after: Option<u64>,
) -> (Result<Outcome, TrainError>, Vec<TrainEvent>) {
    train_until(model, batches, config, job, stop_after.map(|step| (step, Control::Pause)))
}

/// Like [`train`], with an order that comes after a step.
fn train_until(
    model: &dyn CausalLm,
    batches: &mut GivenBatches,
    config: &TrainingConfig,
    job: &JobFolder,
    order: Option<(u64, Control)>,
) -> (Result<Outcome, TrainError>, Vec<TrainEvent>) {
    let mut events = Vec::new();
    let steps = Cell::new(0);
    let resume = match Checkpoint::newest(job, config) {
        Ok(resume) => resume,
        Err(error) => return (Err(error), events),
    };
    let run = BatchRun { model, batches, config, job, resume, answers: None };
    let outcome = run_batches(
        run,
        &mut |event| {
            if let TrainEvent::Step(stats) = &event {
                steps.set(stats.step);
            }
            events.push(event);
        },
        &|| order.filter(|(step, _)| steps.get() >= *step).map(|(_, control)| control),
    );
    (outcome, events)
}

fn finished(outcome: Result<Outcome, TrainError>) -> Summary {
    match outcome {
        Ok(Outcome::Finished(summary)) => summary,
        other => panic!("the run must finish, not {other:?}"),
    }
}

fn steps(events: &[TrainEvent]) -> Vec<&StepStats> {
    events.iter().filter_map(|e| if let TrainEvent::Step(stats) = e { Some(stats) } else { None }).collect()
}

/// What of a step is the same on every machine load: all but times.
fn numbers(events: &[TrainEvent]) -> Vec<(u64, u64, u64, u64, u64)> {
    let bits = |s: &&StepStats| {
        (s.step, s.loss.to_bits(), s.grad_norm.to_bits(), s.learning_rate.to_bits(), s.epoch.to_bits())
    };
    steps(events).iter().map(bits).collect()
}

#[test]
fn a_run_learns_its_batches_and_tells_what_it_does() {
    let model = model(&GROUPED, 8, 0.0);
    let (_guard, job) = job();
    let config = config(&json!({"eval_steps": 20, "save_steps": 25, "learning_rate": 0.02}));
    let (outcome, events) = train(model.as_ref(), &mut batches(GROUPED.vocab, 40), &config, &job, None);
    let summary = finished(outcome);
    let stats = steps(&events);
    assert_eq!(stats.iter().map(|s| s.step).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    let mean = |s: &[&StepStats]| s.iter().map(|s| s.loss).sum::<f64>() / s.len() as f64;
    assert!(mean(&stats[35..]) < 0.5 * mean(&stats[..5]), "repeating five batches must be learned");
    assert_eq!((stats[0].tokens, stats[0].trained_tokens), (22, 14), "all tokens, and those the loss counts");
    assert_eq!((summary.steps, summary.tokens, summary.trained_tokens), (40, 40 * 22, 40 * 14));
    assert_eq!(
        summary.metrics["final_loss"],
        mean(&stats[30..]),
        "final_loss is the mean of the last ten steps"
    );

    let kinds: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Phase { phase } => Some(format!("{phase:?}")),
            TrainEvent::Eval { step, .. } => Some(format!("eval {step}")),
            _ => None,
        })
        .collect();
    let want =
        ["Evaluating", "eval 0", "Training", "Evaluating", "eval 20", "Training", "Evaluating", "eval 40"];
    assert_eq!(kinds, want, "evaluations come when they are due, and at the end");
    // Told once they are complete, some time after their step.
    let saved: Vec<u64> = events
        .iter()
        .filter_map(|e| if let TrainEvent::Checkpoint { step, .. } = e { Some(*step) } else { None })
        .collect();
    assert_eq!(saved, [25, 40], "and so do checkpoints");
    let Some(TrainEvent::Eval { metrics, .. }) =
        events.iter().rev().find(|e| matches!(e, TrainEvent::Eval { .. }))
    else {
        panic!("an evaluation was told")
    };
    assert_eq!(metrics["perplexity"], metrics["eval_loss"].exp());
    assert!(summary.base_metrics["eval_loss"].is_finite() && summary.base_metrics != summary.metrics);
    assert_eq!(summary.metrics["eval_loss"], metrics["eval_loss"], "the last evaluation is the run's");
}

#[test]
fn the_loss_of_a_step_is_the_mean_over_all_of_its_trained_tokens() {
    let model = model(&PLAIN, 4, 0.0);
    let (_guard, job) = job();
    let whole = batch(PLAIN.vocab, &[12, 3], 9);
    let mut parts = GivenBatches { steps: vec![vec![batch(PLAIN.vocab, &[12], 9)]], eval: vec![] };
    let mut short = whole.clone();
    short.ids.drain(..12);
    short.targets.drain(..12);
    short.lengths.remove(0);
    parts.steps[0].push(short);
    let mut at_once = GivenBatches { steps: vec![vec![whole]], eval: vec![] };
    let settings = config(&json!({"learning_rate": 1e-9}));
    let (_, apart) = train(model.as_ref(), &mut parts, &settings, &job, None);
    let (_guard, job) = support::job();
    let (_, together) = train(model.as_ref(), &mut at_once, &settings, &job, None);
    let (apart, together) = (steps(&apart)[0].clone(), steps(&together)[0].clone());
    assert!(
        (apart.loss - together.loss).abs() < 1e-5 && (apart.grad_norm - together.grad_norm).abs() < 1e-4,
        "long and short micro-batches weigh by their tokens: {} and {}",
        apart.loss,
        together.loss
    );
}

#[test]
fn the_same_seed_gives_the_same_numbers_to_the_bit() {
    let settings = json!({"lora_dropout": 0.2, "optim": "adamw_8bit", "eval_steps": 3});
    let run = |seed: u64| {
        let model = model(&GROUPED, 4, 0.2);
        let (_guard, job) = job();
        let mut changes = settings.clone();
        changes["seed"] = json!(seed);
        let (outcome, events) =
            train(model.as_ref(), &mut batches(GROUPED.vocab, 8), &config(&changes), &job, None);
        (numbers(&events), finished(outcome).metrics, adapter_values(model.as_ref()))
    };
    let first = run(1);
    assert_eq!(first, run(1), "same seed, same machine, same threads");
    assert_ne!(first.0, run(2).0, "the seed reaches the dropout masks");
}

/// Stops a run after `stop_after`, resumes it with a fresh model, and compares with an uninterrupted one.
fn check_resume(changes: &Value, stop_after: u64) {
    let config = config(changes);
    let fresh = || model(&GROUPED, 4, 0.2);
    let (_guard, whole_job) = job();
    let whole_model = fresh();
    let mut data = batches(GROUPED.vocab, 12);
    let (outcome, want) = train(whole_model.as_ref(), &mut data, &config, &whole_job, None);
    let want_summary = finished(outcome);

    let (_guard, job) = job();
    let (outcome, first) = train(fresh().as_ref(), &mut data, &config, &job, Some(stop_after));
    let path = job.checkpoint(stop_after);
    let stopped = Outcome::Stopped { step: stop_after, checkpoint: Some(path.clone()) };
    assert_eq!(outcome.unwrap(), stopped, "a stop finishes the step and writes a checkpoint");
    assert_eq!(first.last(), Some(&TrainEvent::Stopped { step: stop_after, checkpoint: Some(path) }));

    let model = fresh();
    let (outcome, second) = train(model.as_ref(), &mut data, &config, &job, None);
    let summary = finished(outcome);
    let mut got = numbers(&first);
    got.extend(numbers(&second));
    assert_eq!(
        got,
        numbers(&want),
        "{changes}: resumed after step {stop_after} equals uninterrupted, to the bit"
    );
    assert_eq!(summary.metrics, want_summary.metrics, "{changes}: the metrics too");
    assert_eq!(summary.base_metrics, want_summary.base_metrics, "{changes}: and those of the base model");
    assert_eq!((summary.steps, summary.tokens), (want_summary.steps, want_summary.tokens));
    assert_eq!(
        adapter_values(model.as_ref()),
        adapter_values(whole_model.as_ref()),
        "{changes}: the weights too"
    );
    let elapsed: Vec<u64> = steps(&first).iter().chain(&steps(&second)).map(|s| s.elapsed_ms).collect();
    assert!(elapsed.is_sorted(), "time goes on where the first part ended: {elapsed:?}");
    let evaluations = |events: &[TrainEvent]| -> Vec<u64> {
        events
            .iter()
            .filter_map(|e| if let TrainEvent::Eval { step, .. } = e { Some(*step) } else { None })
            .collect()
    };
    let both = [evaluations(&first), evaluations(&second)].concat();
    assert_eq!(both, evaluations(&want), "{changes}: each evaluation happens once");
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    for optim in ["adamw_torch", "adamw_8bit", "paged_adamw_32bit", "sgd"] {
        check_resume(&json!({"optim": optim, "eval_steps": 4, "save_steps": 100, "warmup_ratio": 0.2}), 5);
    }
    check_resume(&json!({"eval_steps": 4, "gradient_checkpointing": true, "max_grad_norm": 0.3}), 8);
    check_resume(&json!({"eval_steps": 5, "save_steps": 3, "lr_scheduler_type": "polynomial"}), 1);
}

#[test]
fn a_run_that_is_over_resumes_to_its_end() {
    let config = config(&json!({}));
    let (_guard, job) = job();
    let trained = model(&PLAIN, 2, 0.0);
    let (outcome, _) = train(trained.as_ref(), &mut batches(PLAIN.vocab, 3), &config, &job, None);
    let first = finished(outcome);
    let again = model(&PLAIN, 2, 0.0);
    let (outcome, events) = train(again.as_ref(), &mut batches(PLAIN.vocab, 3), &config, &job, None);
    assert_eq!(finished(outcome).metrics, first.metrics, "nothing is measured again");
    assert_eq!(steps(&events).len(), 0, "and no step is done");
    assert_eq!(
        adapter_values(again.as_ref()),
        adapter_values(trained.as_ref()),
        "the trained weights are back"
    );
}

#[test]
fn a_stop_before_the_first_step_leaves_nothing() {
    let (_guard, job) = job();
    let model = model(&PLAIN, 2, 0.0);
    let (outcome, _) =
        train(model.as_ref(), &mut batches(PLAIN.vocab, 3), &config(&json!({})), &job, Some(0));
    assert_eq!(outcome.unwrap(), Outcome::Stopped { step: 0, checkpoint: None });
    assert_eq!(fs::read_dir(job.path()).unwrap().count(), 0);
}

#[test]
fn a_stop_breaks_off_an_evaluation_which_is_made_up_for_later() {
    let config = config(&json!({"eval_steps": 2}));
    let (_guard, job) = job();
    let model = model(&PLAIN, 2, 0.0);
    let mut data = batches(PLAIN.vocab, 4);
    let (outcome, events) = train(model.as_ref(), &mut data, &config, &job, Some(2));
    assert!(matches!(outcome.unwrap(), Outcome::Stopped { step: 2, checkpoint: Some(_) }));
    assert!(
        !events.iter().any(|e| matches!(e, TrainEvent::Eval { step: 1.., .. })),
        "the person waits for one step at most"
    );
    let (_, events) = train(model.as_ref(), &mut data, &config, &job, None);
    let evaluated: Vec<u64> = events
        .iter()
        .filter_map(|e| if let TrainEvent::Eval { step, .. } = e { Some(*step) } else { None })
        .collect();
    assert_eq!(evaluated, [2, 4], "the broken-off evaluation comes first");
}

#[test]
fn a_run_that_is_finished_early_is_measured_and_kept_as_it_is() {
    for (eval_steps, after) in [(1000, 3), (3, 3), (2, 1)] {
        let config = config(&json!({"eval_steps": eval_steps, "save_steps": 1000}));
        let (_guard, job) = job();
        let model = model(&PLAIN, 2, 0.0);
        let mut data = batches(PLAIN.vocab, 8);
        let order = Some((after, Control::Finish));
        let (outcome, events) = train_until(model.as_ref(), &mut data, &config, &job, order);
        let summary = finished(outcome);
        assert_eq!((summary.steps, summary.planned_steps), (after, 8), "no step is done after the order");
        assert!(summary.metrics.contains_key("eval_loss"), "the model that is kept is measured");
        let measured: Vec<u64> = events
            .iter()
            .filter_map(|e| if let TrainEvent::Eval { step, .. } = e { Some(*step) } else { None })
            .collect();
        assert_eq!(measured, [0, after], "once, even where a measurement was due: every {eval_steps}");
        assert_eq!(job.checkpoints().unwrap(), [after], "what is published lies in a checkpoint first");
    }
}

#[test]
fn before_the_first_step_there_is_nothing_to_finish() {
    let (_guard, job) = job();
    let model = model(&PLAIN, 2, 0.0);
    let mut data = batches(PLAIN.vocab, 3);
    let order = Some((0, Control::Finish));
    let (outcome, events) = train_until(model.as_ref(), &mut data, &config(&json!({})), &job, order);
    assert_eq!(outcome.unwrap(), Outcome::Stopped { step: 0, checkpoint: None });
    let warned = events.iter().filter(|e| matches!(e, TrainEvent::Warning { .. })).count();
    assert_eq!(warned, 1, "the person is told why there is no model");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint() {
    let inner = model(&PLAIN, 2, 0.0);
    let mut watched = Watched::new(inner.as_ref());
    // Two layers, two micro-batches: four calls a step, and four for the base model on two batches.
    watched.breaks_after = Some(4 + 5 * 4);
    let (_guard, job) = job();
    let config = config(&json!({"save_steps": 2, "eval_steps": 1000}));
    let (outcome, events) = train(&watched, &mut batches(PLAIN.vocab, 20), &config, &job, None);
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, TrainError::NotFinite { step: 6, what: "the loss", checkpoint: Some(4), .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("step 6") && text.contains("learning_rate (now 0.01)") && text.contains("step 4"),
        "{text}"
    );
    assert_eq!(steps(&events).len(), 5, "the step is not counted");
    assert_eq!(job.checkpoints().unwrap(), [2, 4], "good checkpoints stay");
    assert!(
        adapter_values(inner.as_ref()).iter().flatten().all(|w| w.is_finite()),
        "no bad number is learned"
    );
}

#[test]
fn weights_that_overflow_end_the_run() {
    let model = model(&PLAIN, 2, 0.0);
    let (_guard, job) = job();
    let config =
        config(&json!({"optim": "sgd", "learning_rate": 1.0, "weight_decay": 1e38, "save_steps": 1}));
    let (outcome, _) = train(model.as_ref(), &mut batches(PLAIN.vocab, 50), &config, &job, None);
    assert!(matches!(outcome, Err(TrainError::NotFinite { .. })), "{outcome:?}");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let (_guard, job) = job();
    let plain = model(&PLAIN, 2, 0.0);
    let settings = config(&json!({}));

    let (outcome, _) = train(plain.as_ref(), &mut GivenBatches::default(), &settings, &job, None);
    assert!(matches!(outcome, Err(TrainError::NoRows)), "no steps: {outcome:?}");

    let mut prompts = batches(PLAIN.vocab, 1);
    prompts.steps[0].iter_mut().for_each(|b| b.targets.fill(data::IGNORED));
    let (outcome, _) = train(plain.as_ref(), &mut prompts, &settings, &job, None);
    assert!(matches!(outcome, Err(TrainError::NothingToTrain { step: 1 })), "no answers: {outcome:?}");

    let mut watched = Watched::new(plain.as_ref());
    watched.idle.push(("half".into(), Var::zeros(2, DType::F16, &Device::Cpu).unwrap()));
    let (outcome, _) = train(&watched, &mut batches(PLAIN.vocab, 1), &settings, &job, None);
    assert!(matches!(outcome, Err(TrainError::AdapterDtype { .. })), "an adapter in f16: {outcome:?}");
}

#[test]
fn micro_batches_without_an_answer_are_carried_by_the_others() {
    let model = model(&PLAIN, 2, 0.0);
    let (_guard, job) = job();
    let mut data = batches(PLAIN.vocab, 1);
    data.steps[0][1].targets.fill(data::IGNORED);
    let mut alone = GivenBatches { steps: vec![vec![data.steps[0][0].clone()]], eval: vec![] };
    let settings = config(&json!({"learning_rate": 1e-9}));
    let (_, with) = train(model.as_ref(), &mut data, &settings, &job, None);
    let (_guard, job) = support::job();
    let (_, without) = train(model.as_ref(), &mut alone, &settings, &job, None);
    let (with, without) = (steps(&with)[0], steps(&without)[0]);
    assert!(
        (with.loss - without.loss).abs() < 1e-6 * without.loss,
        "a batch without trained tokens adds nothing"
    );
    assert_eq!(with.trained_tokens, without.trained_tokens);
}

#[test]
fn phases_of_a_run_without_evaluation_rows() {
    let model = model(&PLAIN, 2, 0.0);
    let (_guard, job) = job();
    let mut data = batches(PLAIN.vocab, 2);
    data.eval.clear();
    let (outcome, events) = train(model.as_ref(), &mut data, &config(&json!({"eval_steps": 1})), &job, None);
    let metrics = finished(outcome).metrics;
    assert_eq!(metrics.keys().collect::<Vec<_>>(), ["final_loss"], "what was not measured is absent");
    assert!(!events.contains(&TrainEvent::Phase { phase: Phase::Evaluating }));
}

#[test]
fn given_batches_know_their_place() {
    use train::Batches;
    let mut data = batches(PLAIN.vocab, 2);
    let StepBatches { end, epoch, .. } = data.step(1).unwrap();
    assert_eq!((end.epoch, end.micro_batch, epoch), (0, 4, 1.0));
    assert!(data.step(2).is_err() && data.eval(2).is_err(), "there is nothing beyond the end");
}
