//! Evaluations that decide: answers and their scores, the end of a run that gets no better, and the model of the best
//! evaluation.
#![allow(clippy::unwrap_used)]

mod support;

use std::{cell::RefCell, error::Error};

use models::CausalLm;
use serde_json::{Value, json};
use support::{PLAIN, adapter_values, batch, config, job, model};
use train::{
    Answer, Answers, BatchRun, Checkpoint, GivenBatches, Outcome, Summary, metrics::Answered, run_batches,
};
use types::{JobFolder, TrainEvent, TrainingConfig, engine::Control, files};

/// Twelve steps on batches that have nothing to do with those it is measured on, so that its loss on these gets worse.
fn batches() -> GivenBatches {
    GivenBatches {
        steps: (0..12).map(|_| vec![batch(PLAIN.vocab, &[9, 7], 1)]).collect(),
        eval: vec![batch(PLAIN.vocab, &[8, 11], 100)],
    }
}

/// Says what was written down for it: a line of answers for each evaluation, the first one's for the base model.
struct Written {
    lines: RefCell<Vec<Vec<&'static str>>>,
    accepted: &'static str,
}

impl Written {
    fn new(lines: &[&[&'static str]]) -> Self {
        let lines = lines.iter().rev().map(|line| line.to_vec()).collect();
        Self { lines: RefCell::new(lines), accepted: "the red drawer" }
    }
}

impl Answers for Written {
    fn answer(&self, wanted: &dyn Fn() -> bool, each: &mut dyn FnMut(Answer)) -> Result<(), Box<dyn Error>> {
        for text in self.lines.borrow_mut().pop().ok_or("nothing is written down")? {
            if !wanted() {
                return Ok(());
            }
            let accepted = vec![self.accepted.to_owned()];
            let scored = Answered { text: text.to_owned(), accepted };
            each(Answer { prompt: "Where?".into(), reference: self.accepted.into(), scored });
        }
        Ok(())
    }
}

fn settings(changes: Value) -> TrainingConfig {
    let mut all = json!({"eval_steps": 2, "save_steps": 1000, "learning_rate": 0.05});
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config(&all)
}

/// Runs from the newest checkpoint, and pauses when `stop` says so of an event.
fn train(
    model: &dyn CausalLm,
    config: &TrainingConfig,
    job: &JobFolder,
    answers: Option<&dyn Answers>,
    stop: impl Fn(&TrainEvent) -> bool,
) -> (Outcome, Vec<TrainEvent>) {
    let (events, stopped) = (RefCell::new(Vec::new()), std::cell::Cell::new(false));
    let resume = Checkpoint::newest(job, config).unwrap();
    let run = BatchRun { model, batches: &mut batches(), config, job, resume, answers };
    let mut sink = |event: TrainEvent| {
        stopped.set(stopped.get() || stop(&event));
        events.borrow_mut().push(event);
    };
    let outcome = run_batches(run, &mut sink, &|| stopped.get().then_some(Control::Pause)).unwrap();
    (outcome, events.into_inner())
}

fn finished(outcome: Outcome) -> Summary {
    match outcome {
        Outcome::Finished(summary) => summary,
        other => panic!("the run must finish, not {other:?}"),
    }
}

/// Step and value of a metric in every evaluation that has it.
fn values(events: &[TrainEvent], metric: &str) -> Vec<(u64, f64)> {
    let value = |event: &TrainEvent| match event {
        TrainEvent::Eval { step, metrics, .. } => metrics.get(metric).map(|&value| (*step, value)),
        _ => None,
    };
    events.iter().filter_map(value).collect()
}

fn never(_: &TrainEvent) -> bool {
    false
}

/// The adapter as it is after a step of an undisturbed run.
fn weights_after(step: u64) -> Vec<Vec<f32>> {
    let (_guard, job) = job();
    let model = model(&PLAIN, 4, 0.0);
    let config = settings(json!({"save_steps": step}));
    train(model.as_ref(), &config, &job, None, |e| matches!(e, TrainEvent::Step(s) if s.step == step));
    adapter_values(model.as_ref())
}

#[test]
fn the_model_is_that_of_the_best_evaluation_where_it_is_asked_for() {
    for (best, changes) in [(None, json!({})), (Some(()), json!({"load_best_model_at_end": true}))] {
        let (_guard, job) = job();
        let model = model(&PLAIN, 4, 0.0);
        let (outcome, events) = train(model.as_ref(), &settings(changes), &job, None, never);
        let summary = finished(outcome);
        let losses = values(&events, "eval_loss");
        let lowest = losses[1..].iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap();
        assert_ne!(lowest.0, 12, "the batches are such that more training is worse: {losses:?}");
        let kept = if best.is_some() { lowest.0 } else { 12 };
        assert_eq!(summary.best_step, best.map(|()| lowest.0));
        assert_eq!(summary.steps, 12, "all steps are done");
        let of_kept = losses.iter().find(|(step, _)| *step == kept).unwrap().1;
        assert_eq!(summary.metrics["eval_loss"], of_kept, "the metrics are those of the model that came out");
        assert_eq!(summary.base_metrics["eval_loss"], losses[0].1);
        assert_eq!(adapter_values(model.as_ref()), weights_after(kept), "and so are the weights");
    }
}

#[test]
fn the_best_checkpoint_outlives_newer_ones() {
    let (_guard, job) = job();
    let model = model(&PLAIN, 4, 0.0);
    let config = settings(json!({"load_best_model_at_end": true, "save_steps": 1, "eval_steps": 1}));
    let (outcome, events) = train(model.as_ref(), &config, &job, None, never);
    let best = finished(outcome).best_step.unwrap();
    assert!(best < 10, "older than the two that are kept anyway: {:?}", values(&events, "eval_loss"));
    assert_eq!(job.checkpoints().unwrap(), [best, 11, 12]);
}

#[test]
fn a_run_that_gets_no_better_ends() {
    let losses = {
        let (_guard, job) = job();
        let (_, events) = train(model(&PLAIN, 4, 0.0).as_ref(), &settings(json!({})), &job, None, never);
        values(&events, "eval_loss")
    };
    for patience in [1, 2] {
        let mut best = f64::INFINITY;
        let mut waited = 0;
        let end = losses[1..].iter().find(|(_, loss)| {
            waited = if *loss < best { 0 } else { waited + 1 };
            best = best.min(*loss);
            waited == patience
        });
        let end = end.expect("the batches are such that it gets worse").0;
        let (_guard, job) = job();
        let model = model(&PLAIN, 4, 0.0);
        let config = settings(json!({"early_stopping_patience": patience}));
        let (outcome, events) = train(model.as_ref(), &config, &job, None, never);
        let summary = finished(outcome);
        assert_eq!((summary.steps, summary.planned_steps, summary.stalled), (end, 12, true), "{losses:?}");
        assert_eq!(summary.best_step, None, "the last step's model, unless the best is asked for");
        assert_eq!(values(&events, "eval_loss").last().unwrap().0, end, "it is measured once");
        assert_eq!(job.checkpoints().unwrap(), [end]);
    }
}

/// Evaluations of a task that is scored by its answers: four, after the base model's.
const LINES: [&[&str]; 7] = [
    &["", "", "", ""],
    &["a red drawer", "the door", "a door", "x"],
    &["red drawer", "red drawer", "a door", "x"],
    &["red drawer", "x", "a door", "red drawer"],
    &["x", "x", "x", "x"],
    &["x", "x", "red drawer", "red drawer"],
    &["red drawer", "red drawer", "red drawer", "red drawer"],
];

fn by_exact_match(changes: Value) -> TrainingConfig {
    let mut all = json!({"task": "extractive-question-answering", "eval_answers": 3,
        "metric_for_best_model": "exact_match", "load_best_model_at_end": true});
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    settings(all)
}

#[test]
fn answers_are_told_and_scored_and_tell_the_best() {
    let (_guard, job) = job();
    let model = model(&PLAIN, 4, 0.0);
    let answers = Written::new(&LINES);
    let config = by_exact_match(json!({"early_stopping_patience": 3}));
    let (outcome, events) = train(model.as_ref(), &config, &job, Some(&answers), never);
    let part = |count: f64| 100.0 * (count / 3.0);
    let want = [(0, 0.0), (2, part(1.0)), (4, part(2.0)), (6, part(1.0)), (8, 0.0), (10, part(1.0))];
    assert_eq!(values(&events, "exact_match"), want, "of three rows, a higher value being better");
    let told = events.iter().filter(|e| matches!(e, TrainEvent::Sample { .. })).count();
    assert_eq!(told, 6 * types::event::SAMPLED_ROWS, "the first rows are told each time");
    let summary = finished(outcome);
    assert_eq!((summary.steps, summary.stalled, summary.best_step), (10, true, Some(4)));
    assert_eq!(summary.answered_rows, Some(3));
    assert_eq!((summary.metrics["exact_match"], summary.base_metrics["exact_match"]), (part(2.0), 0.0));
    assert_eq!(adapter_values(model.as_ref()), weights_after(4));
}

#[test]
fn a_pause_breaks_off_the_answers_and_a_resumed_run_judges_as_an_uninterrupted_one() {
    let config = by_exact_match(json!({"early_stopping_patience": 3}));
    let (_guard, whole) = job();
    let (want, _) =
        train(model(&PLAIN, 4, 0.0).as_ref(), &config, &whole, Some(&Written::new(&LINES)), never);
    let (_guard, job) = job();
    let second_sample = |step: u64| {
        let seen = std::cell::Cell::new(0);
        move |event: &TrainEvent| {
            let sample = matches!(event, TrainEvent::Sample { step: of, .. } if *of == step);
            seen.set(seen.get() + u32::from(sample));
            seen.get() == 2
        }
    };
    // In the middle of the base model's answers: nothing is kept of them.
    let (outcome, events) =
        train(model(&PLAIN, 4, 0.0).as_ref(), &config, &job, Some(&Written::new(&LINES)), second_sample(0));
    assert_eq!(outcome, Outcome::Stopped { step: 0, checkpoint: None });
    assert!(values(&events, "exact_match").is_empty());
    // In the middle of the third evaluation, which comes again.
    let (outcome, events) =
        train(model(&PLAIN, 4, 0.0).as_ref(), &config, &job, Some(&Written::new(&LINES)), second_sample(6));
    assert!(matches!(outcome, Outcome::Stopped { step: 6, checkpoint: Some(_) }), "{outcome:?}");
    assert_eq!(values(&events, "exact_match").last().unwrap().0, 4);
    assert_eq!(job.checkpoints().unwrap(), [4, 6], "the best, and what to go on from");
    let resumed = model(&PLAIN, 4, 0.0);
    let (outcome, _) = train(resumed.as_ref(), &config, &job, Some(&Written::new(&LINES[3..])), never);
    let (got, want) = (finished(outcome), finished(want));
    assert_eq!((&got.metrics, &got.base_metrics), (&want.metrics, &want.base_metrics));
    assert_eq!((got.steps, got.best_step, got.stalled), (want.steps, want.best_step, want.stalled));
    assert_eq!(adapter_values(resumed.as_ref()), weights_after(4));
}

#[test]
fn a_run_without_scores_goes_on_and_says_so() {
    let (_guard, job) = job();
    let answers = Written::new(&LINES[..2]);
    let config = by_exact_match(json!({"early_stopping_patience": 1}));
    let (outcome, events) = train(model(&PLAIN, 4, 0.0).as_ref(), &config, &job, Some(&answers), never);
    let summary = finished(outcome);
    assert_eq!((summary.steps, summary.stalled), (12, false), "what was not measured is not worse");
    assert_eq!(summary.best_step, Some(2), "the only one that was scored");
    let warnings = events.iter().filter_map(|event| match event {
        TrainEvent::Warning { message } => Some(message.as_str()),
        _ => None,
    });
    let warnings: Vec<&str> = warnings.collect();
    assert_eq!(warnings.len(), 10, "{warnings:?}");
    assert!(warnings[0].contains("nothing is written down") && warnings[1].contains("no exact_match"));
}

#[test]
fn a_best_checkpoint_that_is_damaged_costs_no_run() {
    let (_guard, job) = job();
    let answers = Written::new(&LINES);
    let config = by_exact_match(json!({}));
    let model = model(&PLAIN, 4, 0.0);
    let at = |event: &TrainEvent| matches!(event, TrainEvent::Step(stats) if stats.step == 9);
    train(model.as_ref(), &config, &job, Some(&answers), at);
    files::write(&job.checkpoint(4).join("adapter_model.safetensors"), b"torn").unwrap();
    let answers = Written::new(&[&["x"; 4], &["x"; 4]]);
    let (outcome, events) = train(model.as_ref(), &config, &job, Some(&answers), never);
    assert_eq!(finished(outcome).best_step, None);
    let told = events.iter().any(|event| {
        matches!(event, TrainEvent::Warning { message } if message.contains("not of the best, step 4"))
    });
    assert!(told, "{events:?}");
}
