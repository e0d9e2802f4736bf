//! A card that has no more memory at the first step, or in the middle of a run: the run ends with an error that says so, and goes on
//! from its checkpoint to the same numbers. Another process that takes the memory looks the same.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what is skipped is told")]

mod support;

use std::{cell::RefCell, sync::Mutex};

use candle_core::{DType, Device, Tensor};
use kernels::CardFault;
use models::{CausalLm, LoadOptions, LoraConfig};
use serde_json::json;
use support::{GROUPED, batch, config, job, write_model};
use train::{BatchRun, Checkpoint, GivenBatches, TrainError, run_batches};
use types::{JobFolder, Provider, StepStats, TrainEvent};

const STEPS: u64 = 60;
/// One of these tests leaves no memory to the others.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The card's memory, once it is to be taken: large pieces first.
#[derive(Default)]
struct Ballast(RefCell<Vec<Tensor>>);

impl Ballast {
    fn fill(&self, card: &Device) {
        let mut held = self.0.borrow_mut();
        let mut size = 1usize << 33;
        while size >= 512 && held.len() < 1 << 20 {
            let piece = Tensor::zeros(size, DType::U8, card);
            match piece.and_then(|piece| card.synchronize().map(|()| piece)) {
                Ok(piece) => held.push(piece),
                Err(_) => size /= 2,
            }
        }
    }
}

fn model(card: &Device) -> Box<dyn CausalLm> {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &GROUPED);
    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: card.clone() };
    let mut model = models::load(folder.path(), &options).unwrap().causal().unwrap();
    let lora = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, target_modules: None };
    model.attach_lora(&lora, 42).unwrap();
    model
}

/// Runs to the end, or to the step after which the card is full.
fn run(card: &Device, job: &JobFolder, full_after: Option<u64>) -> (Vec<StepStats>, Result<(), TrainError>) {
    let model = model(card);
    let settings =
        config(&json!({"save_steps": 7, "save_total_limit": 2, "lora_dropout": 0.1, "optim": "adamw_torch"}));
    let resume = Checkpoint::newest(job, &settings).unwrap();
    let step = |i: u64| vec![batch(GROUPED.vocab, &[9, 5], i), batch(GROUPED.vocab, &[7], i + 1000)];
    let mut batches = GivenBatches { steps: (0..STEPS).map(step).collect(), eval: vec![] };
    let run = BatchRun {
        model: model.as_ref(),
        batches: &mut batches,
        config: &settings,
        job,
        resume,
        answers: None,
    };
    let ballast = Ballast::default();
    let mut told = Vec::new();
    if full_after == Some(0) {
        ballast.fill(card);
    }
    let ended = run_batches(
        run,
        &mut |event| {
            if let TrainEvent::Step(stats) = event {
                if full_after == Some(stats.step) {
                    ballast.fill(card);
                }
                told.push(stats);
            }
        },
        &|| None,
    );
    (told, ended.map(|_| ()))
}

fn numbers(steps: &[StepStats]) -> Vec<(u64, u64)> {
    steps.iter().map(|s| (s.step, s.loss.to_bits())).collect()
}

#[test]
fn a_full_card_is_told_from_other_failures_and_the_run_goes_on_to_the_same_losses() {
    let card = match kernels::card(0) {
        Ok(card) => card,
        Err(error) => return println!("SKIPPED faults of a card: {error}"),
    };
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let (_guard, undisturbed) = job();
    let (want, ended) = run(&card, &undisturbed, None);
    ended.unwrap();
    for full_after in [0, 49] {
        let (_guard, job) = job();
        let (before, ended) = run(&card, &job, Some(full_after));
        match ended {
            Err(TrainError::Tensor(error)) => {
                assert_eq!(kernels::card_fault(&error), Some(CardFault::OutOfMemory), "{error}");
            }
            other => panic!("full after step {full_after}: {other:?}"),
        }
        assert_eq!(numbers(&before), numbers(&want[..full_after as usize]));
        // What held the memory is gone.
        let (after, ended) = run(&card, &job, None);
        ended.unwrap();
        let from = (full_after / 7 * 7) as usize;
        assert_eq!(numbers(&after), numbers(&want[from..]), "full after step {full_after}");
    }
}

#[test]
fn two_runs_on_one_card_come_to_what_one_comes_to_alone() {
    // Where the other program of two tells its losses.
    const TOLD: &str = "MODELFORGE_TESTS_TOLD";
    let card = match kernels::card(0) {
        Ok(card) => card,
        Err(error) => return println!("SKIPPED two runs on a card: {error}"),
    };
    let losses = || {
        let (_guard, job) = job();
        let (steps, ended) = run(&card, &job, None);
        ended.unwrap();
        format!("{:?}", numbers(&steps))
    };
    if let Some(path) = std::env::var_os(TOLD) {
        return types::files::write(path.as_ref(), losses().as_bytes()).unwrap();
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap();
    let want = losses();
    let folder = tempfile::tempdir().unwrap();
    let programs = ["one", "two"].map(|name| {
        let path = folder.path().join(name);
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.args(["two_runs_on_one_card", "--nocapture"]).env(TOLD, &path);
        (path, program.spawn().unwrap())
    });
    for (path, mut program) in programs {
        assert!(program.wait().unwrap().success());
        assert_eq!(std::fs::read_to_string(path).unwrap(), want);
    }
}
