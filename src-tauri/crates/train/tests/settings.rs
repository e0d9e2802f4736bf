//! Every setting that training is responsible for: changing it changes what it should, and nothing it should not.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, fs};

use data::{Encoded, PrepareStats, Prepared, TokenRows};
use models::CausalLm;
use serde_json::{Value, json};
use support::{LayerCall, Noise, PLAIN, Watched, adapter_values, config, job, model};
use train::{
    BatchRun, Batches, Checkpoint, EpochBatches, GivenBatches, Outcome, TrainError, TrainRun, run,
    run_batches,
};
use types::{StepStats, TrainEvent, engine::Control};

const TRAIN_ROWS: usize = 22;
const EVAL_ROWS: usize = 5;

/// Rows of which two are too long to be computed together with two others.
fn rows(folder: &std::path::Path, name: &str, count: usize, seed: u64) -> TokenRows {
    rows_of(folder, name, (0..count).map(|i| 130 + (i * 2) % 5 * 2), seed)
}

fn rows_of(
    folder: &std::path::Path,
    name: &str,
    lengths: impl Iterator<Item = usize>,
    seed: u64,
) -> TokenRows {
    let mut noise = Noise::new(seed);
    let row = |length: usize| {
        let ids = (0..length).map(|_| noise.below(PLAIN.vocab) as u32).collect();
        Encoded { ids, trained: (0..length).map(|i| i >= 2).collect(), ..Encoded::default() }
    };
    let rows: Vec<Encoded> = lengths.map(row).collect();
    TokenRows::create(&folder.join(name), rows).unwrap()
}

fn prepared(folder: &std::path::Path) -> Prepared {
    Prepared {
        train: rows(folder, "train.tokens", TRAIN_ROWS, 1),
        eval: rows(folder, "eval.tokens", EVAL_ROWS, 2),
        stats: PrepareStats::default(),
        max_seq_length: 288,
    }
}

/// All that can be seen of a run.
#[derive(Debug)]
struct Trace {
    steps: Vec<StepStats>,
    evals: Vec<u64>,
    saves: Vec<u64>,
    calls: Vec<LayerCall>,
    weights: Vec<Vec<f32>>,
}

fn trace(changes: &Value) -> Trace {
    let mut all = json!({"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "eval_steps": 3,
        "save_steps": 50, "num_train_epochs": 2, "max_grad_norm": 0.5, "warmup_ratio": 0.3});
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let config = config(&all);
    let inner = model(&PLAIN, 2, config.lora_dropout);
    let model = Watched::new(inner.as_ref());
    let (guard, job) = job();
    let data = prepared(guard.path());
    let (mut steps, mut evals, mut saves) = (Vec::new(), Vec::new(), Vec::new());
    let train =
        TrainRun { model: &model, data: &data, config: &config, job: &job, resume: None, answers: None };
    let outcome = run(
        train,
        &mut |event| match event {
            TrainEvent::Step(stats) => steps.push(stats),
            TrainEvent::Eval { step, .. } => evals.push(step),
            TrainEvent::Checkpoint { step, .. } => saves.push(step),
            _ => {}
        },
        &|| None,
    );
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{changes}: {outcome:?}");
    Trace { steps, evals, saves, calls: model.take_calls(), weights: adapter_values(inner.as_ref()) }
}

impl Trace {
    /// Row lengths of each training micro-batch.
    fn micro_batches(&self) -> Vec<&[usize]> {
        let first = self.calls.iter().filter(|call| call.index == 0 && call.pass.dropout_seed.is_some());
        first.map(|call| call.lengths.as_slice()).collect()
    }

    fn eval_batches(&self) -> Vec<usize> {
        let first = self.calls.iter().filter(|call| call.index == 0 && call.pass.dropout_seed.is_none());
        first.map(|call| call.lengths.len()).collect()
    }

    fn losses(&self) -> Vec<f64> {
        self.steps.iter().map(|s| s.loss).collect()
    }

    fn rates(&self) -> Vec<f64> {
        self.steps.iter().map(|s| s.learning_rate).collect()
    }

    fn dropout_seeds(&self) -> BTreeSet<u64> {
        self.calls.iter().filter_map(|call| call.pass.dropout_seed).collect()
    }
}

fn spread(batches: &[&[usize]]) -> usize {
    batches.iter().map(|b| b.iter().max().unwrap_or(&0) - b.iter().min().unwrap_or(&0)).sum()
}

#[test]
fn each_setting_has_its_effect() {
    let base = trace(&json!({}));
    // 22 rows, 2 a batch: 11 micro-batches, 2 a step: 6 steps an epoch, of which the last has one micro-batch.
    assert_eq!((base.steps.len(), base.micro_batches().len()), (12, 22));
    let tokens: u64 = base.steps[..6].iter().map(|s| s.tokens).sum();
    assert_eq!(
        base.steps[6..].iter().map(|s| s.tokens).sum::<u64>(),
        tokens,
        "every epoch has every row once"
    );
    assert_eq!((base.steps[5].epoch, base.steps[11].epoch), (1.0, 2.0));
    let warm_up: Vec<f64> = base.rates()[..5].iter().map(|rate| (rate * 400.0).round()).collect();
    assert_eq!(warm_up, [0.0, 1.0, 2.0, 3.0, 4.0], "the rate rises over ceil(12 × 0.3) steps to 0.01");

    assert_eq!(
        base.dropout_seeds().len(),
        base.micro_batches().len(),
        "each micro-batch has masks of its own"
    );

    type Effect = fn(&Trace, &Trace) -> bool;
    let effects: &[(Value, &str, Effect)] = &[
        (json!({"num_train_epochs": 3}), "more epochs, more steps", |_, t| t.steps.len() == 18),
        (json!({"max_steps": 3}), "fewer steps than an epoch", |_, t| t.steps.len() == 3),
        (json!({"max_steps": 15}), "more steps than the epochs have", |_, t| {
            t.steps.len() == 15 && t.steps[14].epoch == 2.0 + 6.0 / 11.0
        }),
        (json!({"per_device_train_batch_size": 3}), "rows a micro-batch", |_, t| {
            t.micro_batches()[..4].iter().all(|b| b.len() == 3) && t.steps.len() == 8
        }),
        (json!({"per_device_eval_batch_size": 2}), "rows an evaluation batch", |b, t| {
            b.eval_batches()[..5] == [1; 5] && t.eval_batches()[..3] == [2, 2, 1]
        }),
        (json!({"gradient_accumulation_steps": 7}), "micro-batches a step", |_, t| {
            t.steps.len() == 4 && t.micro_batches().len() == 22
        }),
        (json!({"packing": true}), "several rows a bin", |_, t| {
            t.micro_batches().len() < 22 && t.micro_batches().iter().any(|b| b.len() > 2)
        }),
        (json!({"group_by_length": false}), "rows of a batch differ more in length", |b, t| {
            spread(&t.micro_batches()) > spread(&b.micro_batches())
        }),
        (json!({"learning_rate": 0.02}), "twice the rate in each step", |b, t| {
            b.rates().iter().zip(t.rates()).all(|(b, t)| (2.0 * b - t).abs() < 1e-12)
        }),
        (json!({"lr_scheduler_type": "linear"}), "another shape after the warm-up", |b, t| {
            t.rates()[..4] == b.rates()[..4] && t.rates()[5] != b.rates()[5]
        }),
        (json!({"lr_scheduler_type": "constant"}), "no decay", |_, t| t.rates()[4..] == [0.01; 8]),
        (json!({"lr_scheduler_type": "polynomial"}), "not quite to zero", |_, t| {
            (t.rates()[11] - (0.01 - 1e-7) * 0.125 - 1e-7).abs() < 1e-12
        }),
        (json!({"warmup_ratio": 0.0}), "the full rate at once", |_, t| t.rates()[0] == 0.01),
        (json!({"optim": "sgd"}), "other weights from the same gradients", |b, t| {
            t.steps[0].grad_norm == b.steps[0].grad_norm && t.weights != b.weights
        }),
        (json!({"weight_decay": 5.0}), "smaller weights", |b, t| {
            let size = |t: &Trace| t.weights.iter().flatten().map(|w| w * w).sum::<f32>();
            size(t) < 0.9 * size(b)
        }),
        (
            json!({"max_grad_norm": 1e-4, "optim": "sgd", "learning_rate": 1.0, "weight_decay": 0}),
            "updates no larger than the norm",
            |_, t| {
                let fresh = adapter_values(model(&PLAIN, 2, 0.0).as_ref());
                let moved =
                    t.weights.iter().flatten().zip(fresh.iter().flatten()).map(|(a, b)| (a - b).powi(2));
                moved.sum::<f32>().sqrt() < 12.1e-4 && t.steps[0].grad_norm > 1e-3
            },
        ),
        (json!({"gradient_checkpointing": true}), "layers computed twice, the same losses", |b, t| {
            let trained = |t: &Trace| t.calls.iter().filter(|c| c.pass.dropout_seed.is_some()).count();
            let apart = b.losses().iter().zip(t.losses()).map(|(b, t)| (b - t).abs()).fold(0.0, f64::max);
            trained(t) == 2 * trained(b) && apart < 1e-5
        }),
        (json!({"eval_steps": 4}), "evaluations", |b, t| {
            b.evals == [0, 3, 6, 9, 12] && t.evals == [0, 4, 8, 12]
        }),
        (json!({"save_steps": 5}), "checkpoints", |b, t| b.saves == [12] && t.saves == [5, 10, 12]),
        (json!({"lora_dropout": 0.4}), "other losses", |b, t| t.losses() != b.losses()),
        (json!({"seed": 7}), "another order and other masks", |b, t| {
            t.micro_batches() != b.micro_batches() && t.dropout_seeds().is_disjoint(&b.dropout_seeds())
        }),
    ];
    for (change, rule, effect) in effects {
        let changed = trace(change);
        assert!(effect(&base, &changed), "{change}: {rule}\n{changed:#?}");
    }
}

/// Rows of very different lengths.
fn mixed(folder: &std::path::Path) -> Prepared {
    mixed_up_to(folder, 40)
}

fn mixed_up_to(folder: &std::path::Path, longest: usize) -> Prepared {
    let lengths =
        (0..TRAIN_ROWS).map(|i| if i == 7 { longest } else { longest / 13 + longest / 40 * (i * 5 % 11) });
    let train = rows_of(folder, "mixed.tokens", lengths, 1);
    Prepared { train, ..prepared(folder) }
}

#[test]
fn short_micro_batches_of_a_step_are_computed_together_as_far_as_it_pays() {
    let cases =
        [(1, false, 40), (1, true, 40), (2, false, 40), (3, true, 40), (2, false, 320), (1, false, 600)];
    for (batch_size, grouped, longest_row) in cases {
        let folder = tempfile::tempdir().unwrap();
        let data = mixed_up_to(folder.path(), longest_row);
        let settings = |accumulation: usize| {
            config(&json!({"per_device_train_batch_size": batch_size, "group_by_length": grouped,
                "gradient_accumulation_steps": accumulation, "num_train_epochs": 2}))
        };
        // One micro-batch a step: the same plan with nothing to join.
        let (together, alone) = (settings(5), settings(1));
        let mut alone = EpochBatches::new(&data, &alone).unwrap();
        let mut single: Vec<_> = (0..alone.total_steps()).map(|step| alone.step(step).unwrap()).collect();
        assert!(single.iter().all(|step| step.batches.len() == 1));
        let micro_batches = single.len();
        // As many of the largest as stay within 512, more than which gain nothing.
        let largest = (batch_size * longest_row).min(512);
        let most = 512 / largest * largest;

        let mut batches = EpochBatches::new(&data, &together).unwrap();
        let mut computed = 0;
        for step in 0..batches.total_steps() {
            let step = batches.step(step).unwrap();
            let mut parts = Vec::new();
            while parts.last().is_none_or(|part: &train::StepBatches| part.end != step.end) {
                parts.push(single.remove(0));
            }
            assert!(parts.len() <= 5 && parts.last().unwrap().epoch == step.epoch, "the step is the same");
            let ids = |batches: &[data::Batch]| -> Vec<u32> {
                batches.iter().flat_map(|b| b.ids.clone()).collect()
            };
            let targets = |batches: &[data::Batch]| -> Vec<u32> {
                batches.iter().flat_map(|b| b.targets.clone()).collect()
            };
            let parts: Vec<data::Batch> = parts.into_iter().flat_map(|part| part.batches).collect();
            assert_eq!(ids(&step.batches), ids(&parts), "all of its rows in their order");
            assert_eq!(targets(&step.batches), targets(&parts), "which learn the same");
            for batch in &step.batches {
                let tokens = batch.ids.len();
                assert_eq!(tokens, batch.lengths.iter().sum::<usize>());
                assert!(
                    tokens <= most || batch.lengths.len() <= batch_size,
                    "{tokens} tokens: more than {most} need more memory than was estimated"
                );
            }
            for pair in step.batches.windows(2) {
                let first = pair[1].lengths.iter().take(batch_size).sum::<usize>();
                assert!(pair[0].ids.len() + first > most, "what fits together is together: {pair:?}");
            }
            computed += step.batches.len();
        }
        assert!(single.is_empty(), "every micro-batch belongs to a step");
        assert!(computed * 2 < micro_batches, "{micro_batches} micro-batches in {computed} passes");
    }
}

#[test]
fn micro_batches_computed_together_teach_what_they_teach_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = mixed(folder.path());
    let settings = config(&json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6,
        "num_train_epochs": 2, "eval_steps": 1000, "save_steps": 1000}));
    let losses = |batches: &mut dyn Batches| -> Vec<(f64, f64, u64, u64)> {
        let model = model(&PLAIN, 2, 0.0);
        let (_guard, job) = job();
        let mut steps = Vec::new();
        let run = BatchRun {
            model: model.as_ref(),
            batches,
            config: &settings,
            job: &job,
            resume: None,
            answers: None,
        };
        let outcome = run_batches(
            run,
            &mut |event| {
                if let TrainEvent::Step(s) = event {
                    steps.push((s.loss, s.grad_norm, s.tokens, s.trained_tokens));
                }
            },
            &|| None,
        );
        assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
        steps
    };
    let mut together = EpochBatches::new(&data, &settings).unwrap();
    let steps: Vec<Vec<data::Batch>> = (0..together.total_steps())
        .map(|step| together.step(step).unwrap().batches.iter().flat_map(rows_alone).collect())
        .collect();
    let eval = (0..together.eval_len()).map(|index| together.eval(index).unwrap()).collect();
    let passes: usize = (0..together.total_steps()).map(|s| together.step(s).unwrap().batches.len()).sum();
    assert!(passes < 2 * TRAIN_ROWS, "some are computed together");
    let (got, want) = (losses(&mut together), losses(&mut GivenBatches { steps, eval }));
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert!((got.0 / want.0 - 1.0).abs() < 1e-4, "loss {}, one by one {}", got.0, want.0);
        assert!((got.1 / want.1 - 1.0).abs() < 1e-3, "norm {}, one by one {}", got.1, want.1);
        assert_eq!((got.2, got.3), (want.2, want.3), "tokens and trained tokens are told as before");
    }
}

/// Each row of a batch as a batch of its own.
fn rows_alone(batch: &data::Batch) -> Vec<data::Batch> {
    let mut from = 0;
    let row = |&length: &usize| {
        let range = from..from + length;
        from += length;
        data::Batch {
            ids: batch.ids[range.clone()].into(),
            targets: batch.targets[range].into(),
            lengths: vec![length],
            ..data::Batch::default()
        }
    };
    batch.lengths.iter().map(row).collect()
}

#[test]
fn steps_can_be_asked_for_in_any_order() {
    for packing in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let data = prepared(folder.path());
        let config =
            config(&json!({"num_train_epochs": 4, "packing": packing, "gradient_accumulation_steps": 3}));
        let mut batches = EpochBatches::new(&data, &config).unwrap();
        let total = batches.total_steps();
        let forward: Vec<_> = (0..total).map(|step| batches.step(step).unwrap()).collect();
        assert_eq!((forward[total as usize - 1].epoch, forward[total as usize - 1].end.epoch), (4.0, 4));
        for step in (0..total).rev() {
            assert_eq!(batches.step(step).unwrap(), forward[step as usize], "packing {packing}, step {step}");
        }
    }
}

#[test]
fn a_dataset_without_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = || rows(folder.path(), "none", 0, 1);
    let data = Prepared { train: empty(), eval: empty(), stats: PrepareStats::default(), max_seq_length: 8 };
    assert!(matches!(EpochBatches::new(&data, &config(&json!({}))), Err(TrainError::NoRows)));
}

#[test]
fn a_probe_does_the_heaviest_steps_and_keeps_nothing() {
    let changes = json!({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "eval_steps": 3,
        "num_train_epochs": 2, "save_steps": 1, "group_by_length": false});
    let config = config(&changes);
    let inner = model(&PLAIN, 2, config.lora_dropout);
    let model = Watched::new(inner.as_ref());
    let (guard, job) = job();
    let mut data = prepared(guard.path());
    data.stats.tokens_per_epoch = (0..TRAIN_ROWS).map(|row| data.train.length(row) as u64).sum();

    let (mut most, mut longest) = (0, 0);
    let mut batches = EpochBatches::new(&data, &config).unwrap();
    for step in 0..batches.total_steps() {
        for batch in batches.step(step).unwrap().batches {
            most = most.max(batch.ids.len());
            longest = longest.max(batch.lengths.into_iter().max().unwrap());
        }
    }
    let mut told = Vec::new();
    let run =
        TrainRun { model: &model, data: &data, config: &config, job: &job, resume: None, answers: None };
    let probed = train::probe(run, &mut |step| told.push(step.clone())).unwrap();
    assert_eq!(probed.total_steps, batches.total_steps(), "the steps of the run, not of the probe");
    assert_eq!((probed.steps.len(), &probed.steps), (2, &told));
    assert!(probed.steps.iter().all(|step| step.loss.is_finite() && step.loss > 0.0), "{probed:?}");
    let seconds = probed.steps.iter().map(|step| step.step_ms / 1e3).sum::<f64>();
    assert!(probed.estimated_seconds > seconds, "the run has more steps than the probe: {probed:?}");
    let calls = model.take_calls();
    let lengths = || calls.iter().map(|call| &call.lengths);
    assert_eq!(lengths().map(|of| of.iter().sum()).max(), Some(most), "the largest micro-batch is tried");
    assert_eq!(lengths().flatten().max(), Some(&longest), "and the longest row");
    assert_eq!(fs::read_dir(job.path()).unwrap().count(), 0, "nothing is kept");
}

/// Stops in the middle of the second epoch, resumes with everything made anew, and compares with a run in one go.
fn check_resume(packing: bool, rows: fn(&std::path::Path) -> Prepared) {
    let config = config(
        &json!({"num_train_epochs": 3, "per_device_train_batch_size": if packing { 1 } else { 2 },
        "gradient_accumulation_steps": 2, "lora_dropout": 0.2, "packing": packing, "eval_steps": 4, "warmup_ratio": 0.1}),
    );
    let fresh = || model(&PLAIN, 2, 0.2);
    let part = |model: &dyn CausalLm, job: &types::JobFolder, stop_after: u64| {
        let folder = tempfile::tempdir().unwrap();
        let data = rows(folder.path());
        let resume = Checkpoint::newest(job, &config).unwrap();
        let done = std::cell::Cell::new(0);
        let mut losses = Vec::new();
        let mut prepared_steps = 0;
        let outcome = run(
            TrainRun { model, data: &data, config: &config, job, resume, answers: None },
            &mut |event| match event {
                TrainEvent::Step(stats) => {
                    done.set(stats.step);
                    losses.push((stats.step, stats.loss.to_bits(), stats.epoch.to_bits(), stats.tokens));
                }
                TrainEvent::Prepared { total_steps, .. } => prepared_steps = total_steps,
                _ => {}
            },
            &|| (done.get() >= stop_after).then_some(Control::Pause),
        );
        (outcome.unwrap(), losses, prepared_steps)
    };
    let (_guard, whole_job) = job();
    let whole = fresh();
    let (outcome, want, total) = part(whole.as_ref(), &whole_job, u64::MAX);
    let Outcome::Finished(want_summary) = outcome else { panic!("the run must finish") };
    assert_eq!(want.len() as u64, total, "the number of steps is known before the first");
    let stop_after = total / 2;
    assert!(!stop_after.is_multiple_of(total / 3), "the stop is within an epoch");

    let (_guard, job) = job();
    let (stopped, mut got, _) = part(fresh().as_ref(), &job, stop_after);
    assert!(matches!(stopped, Outcome::Stopped { step, .. } if step == stop_after));
    let resumed = fresh();
    let (outcome, rest, _) = part(resumed.as_ref(), &job, u64::MAX);
    let Outcome::Finished(summary) = outcome else { panic!("the resumed run must finish") };
    got.extend(rest);
    assert_eq!(got, want, "packing {packing}: resumed equals uninterrupted, to the bit");
    assert_eq!(summary.metrics, want_summary.metrics, "packing {packing}");
    assert_eq!(adapter_values(resumed.as_ref()), adapter_values(whole.as_ref()), "packing {packing}");
}

#[test]
fn a_run_resumed_within_an_epoch_equals_an_uninterrupted_one() {
    check_resume(false, prepared);
    check_resume(true, prepared);
    check_resume(false, mixed);
}
