//! Checkpoints on disk: what is kept, and what happens to ones that are damaged or of another run.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use models::CausalLm;
use serde_json::{Value, json};
use support::{PLAIN, batch, config, job, model};
use train::{BatchRun, Checkpoint, GivenBatches, Outcome, TrainError, run_batches};
use types::{JobFolder, TrainEvent, TrainingConfig};

fn batches(steps: u64) -> GivenBatches {
    GivenBatches { steps: (0..steps).map(|i| vec![batch(PLAIN.vocab, &[6, 4], i)]).collect(), eval: vec![] }
}

fn resume(
    model: &dyn CausalLm,
    steps: u64,
    config: &TrainingConfig,
    job: &JobFolder,
) -> (Result<Outcome, TrainError>, Vec<TrainEvent>) {
    let mut events = Vec::new();
    let outcome = Checkpoint::newest(job, config).and_then(|resume| {
        let run = BatchRun { model, batches: &mut batches(steps), config, job, resume, answers: None };
        run_batches(run, &mut |event| events.push(event), &|| None)
    });
    (outcome, events)
}

fn settings() -> TrainingConfig {
    config(&json!({"save_steps": 2, "optim": "adamw_torch"}))
}

/// A job whose run of five steps has left the checkpoints 4 and 5.
fn trained_job() -> (tempfile::TempDir, JobFolder) {
    let (guard, job) = job();
    let (outcome, events) = resume(model(&PLAIN, 2, 0.0).as_ref(), 5, &settings(), &job);
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
    let written: Vec<u64> = events
        .iter()
        .filter_map(|e| if let TrainEvent::Checkpoint { step, .. } = e { Some(*step) } else { None })
        .collect();
    assert_eq!(written, [2, 4, 5]);
    (guard, job)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_newest_two_are_kept_and_whole() {
    let (_guard, job) = trained_job();
    assert_eq!(names(job.path()), ["checkpoint-4", "checkpoint-5"], "nothing but the newest two");
    let files = ["adapter_model.safetensors", "checkpoint.json", "optimizer.safetensors"];
    assert_eq!(names(&job.checkpoint(5)), files);
    let checkpoint = Checkpoint::newest(&job, &settings()).unwrap().unwrap();
    assert_eq!((checkpoint.step(), checkpoint.path()), (5, job.checkpoint(5).as_path()));
}

#[test]
fn as_many_are_kept_as_asked_for_and_time_asks_for_some_too() {
    for (changes, kept) in [
        (json!({"save_steps": 1, "save_total_limit": 1}), vec![5]),
        (json!({"save_steps": 1, "save_total_limit": 3}), vec![3, 4, 5]),
        // Any time is longer than this one, so each step is followed by a checkpoint.
        (json!({"save_steps": 100, "save_minutes": 1e-12, "save_total_limit": 9}), vec![1, 2, 3, 4, 5]),
        (json!({"save_steps": 100, "save_minutes": 0, "save_total_limit": 9}), vec![5]),
        (json!({"save_steps": 100, "save_minutes": 60, "save_total_limit": 9}), vec![5]),
    ] {
        let (_guard, job) = job();
        let (outcome, events) = resume(model(&PLAIN, 2, 0.0).as_ref(), 5, &config(&changes), &job);
        assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{changes}: {outcome:?}");
        assert_eq!(job.checkpoints().unwrap(), kept, "{changes}");
        let told = events.iter().filter(|e| matches!(e, TrainEvent::Checkpoint { .. })).count();
        let written = if changes["save_total_limit"] == 9 { kept.len() } else { 5 };
        assert_eq!(told, written, "{changes}: each is told once it is complete");
    }
}

#[test]
fn a_checkpoint_is_a_file_that_other_programs_read() {
    let (_guard, job) = job();
    let settings = config(&json!({"optim": "adamw_8bit"}));
    resume(model(&PLAIN, 64, 0.0).as_ref(), 2, &settings, &job).0.unwrap();
    for name in ["adapter_model.safetensors", "optimizer.safetensors"] {
        let bytes = fs::read(job.checkpoint(2).join(name)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (tensor, view) in tensors.iter() {
            let at = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
            assert_eq!(
                at % (view.dtype().bitsize() / 8),
                0,
                "{name}: {tensor} lies at a multiple of its width"
            );
        }
    }
}

#[test]
fn a_job_without_checkpoints_starts_from_the_beginning() {
    let (_guard, job) = job();
    assert!(Checkpoint::newest(&job, &settings()).unwrap().is_none());
    // A killed engine's remains have no checkpoint's name.
    fs::create_dir(job.path().join(".checkpoint-3.writing")).unwrap();
    assert!(Checkpoint::newest(&job, &settings()).unwrap().is_none());
    resume(model(&PLAIN, 2, 0.0).as_ref(), 2, &settings(), &job).0.unwrap();
    assert_eq!(names(job.path()), ["checkpoint-2"], "and are cleared away");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_with_a_warning() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("checkpoint.json", |p| fs::remove_file(p.join("checkpoint.json")).unwrap()),
        ("checkpoint.json", |p| types::files::write(&p.join("checkpoint.json"), b"{\"version\": 1").unwrap()),
        ("checkpoint.json", |p| types::files::write(&p.join("checkpoint.json"), &[b' '; 1 << 21]).unwrap()),
        ("adapter_model.safetensors", |p| fs::remove_file(p.join("adapter_model.safetensors")).unwrap()),
        ("adapter_model.safetensors", |p| {
            let path = p.join("adapter_model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            types::files::write(&path, &bytes).unwrap();
        }),
        ("optimizer.safetensors", |p| {
            let path = p.join("optimizer.safetensors");
            let bytes = fs::read(&path).unwrap();
            types::files::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("does not list", |p| {
            let path = p.join("checkpoint.json");
            let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            json["files"][0]["path"] = json!("../../secret");
            types::files::write_json(&path, &json).unwrap();
        }),
        ("step 4", |p| {
            let from = p.with_file_name("checkpoint-4").join("checkpoint.json");
            types::files::write(&p.join("checkpoint.json"), &fs::read(from).unwrap()).unwrap();
        }),
    ];
    for (named, damage) in damages {
        let (_guard, job) = trained_job();
        damage(&job.checkpoint(5));
        let (outcome, events) = resume(model(&PLAIN, 2, 0.0).as_ref(), 5, &settings(), &job);
        assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{named}: {outcome:?}");
        let Some(TrainEvent::Warning { message }) = events.first() else {
            panic!("{named}: a warning comes first")
        };
        assert!(message.contains("checkpoint-5") && message.contains(named), "{message}");
        let steps: Vec<u64> = events
            .iter()
            .filter_map(|e| if let TrainEvent::Step(s) = e { Some(s.step) } else { None })
            .collect();
        assert_eq!(steps, [5], "{named}: the run goes on from the checkpoint before");
        assert_eq!(
            names(job.path()),
            ["checkpoint-4", "checkpoint-5"],
            "{named}: the damaged one is replaced"
        );
        assert_eq!(Checkpoint::newest(&job, &settings()).unwrap().unwrap().step(), 5);
    }
}

#[test]
fn where_all_checkpoints_are_damaged_nothing_is_trained_again_unasked() {
    let (_guard, job) = trained_job();
    for step in [4, 5] {
        fs::remove_file(job.checkpoint(step).join("checkpoint.json")).unwrap();
    }
    let error = Checkpoint::newest(&job, &settings()).unwrap_err();
    assert!(matches!(error, TrainError::DamagedCheckpoint { .. }), "{error}");
    assert!(
        error.to_string().contains("checkpoint-5") && error.to_string().contains("delete this folder"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (_guard, job) = trained_job();
    let refused = |result: Result<Outcome, TrainError>, named: &str| {
        let Err(TrainError::ForeignCheckpoint { difference, .. }) = result else {
            panic!("{named}: must be refused, not {result:?}")
        };
        assert!(difference.contains(named), "the error names what differs ({named}): {difference}");
    };
    let other = config(&json!({"save_steps": 2, "optim": "adamw_torch", "learning_rate": 0.5}));
    refused(
        resume(model(&PLAIN, 2, 0.0).as_ref(), 5, &other, &job).0,
        "learning_rate was 0.01, now it is 0.5",
    );
    refused(resume(model(&PLAIN, 2, 0.0).as_ref(), 9, &settings(), &job).0, "5 steps");
    refused(resume(model(&PLAIN, 3, 0.0).as_ref(), 5, &settings(), &job).0, "lora_A");
    refused(resume(model(&support::GROUPED, 2, 0.0).as_ref(), 5, &settings(), &job).0, "tensors");

    let path = job.checkpoint(5).join("checkpoint.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["version"] = json!(2);
    types::files::write_json(&path, &json).unwrap();
    refused(resume(model(&PLAIN, 2, 0.0).as_ref(), 5, &settings(), &job).0, "version 2");
}

#[test]
fn data_in_another_order_is_refused() {
    let (_guard, job) = trained_job();
    let config = settings();
    let resume = Checkpoint::newest(&job, &config).unwrap();
    let mut halves = batches(5);
    halves.steps.iter_mut().for_each(|step| step.push(batch(PLAIN.vocab, &[3], 1)));
    let model = model(&PLAIN, 2, 0.0);
    let run = BatchRun {
        model: model.as_ref(),
        batches: &mut halves,
        config: &config,
        job: &job,
        resume,
        answers: None,
    };
    let error = run_batches(run, &mut |_| {}, &|| None).unwrap_err();
    assert!(error.to_string().contains("its place in the data"), "{error}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_an_error_and_leaves_no_half() {
    let (_guard, job) = job();
    let model = model(&PLAIN, 2, 0.0);
    let config = settings();
    let attempt = || {
        let mut batches = batches(3);
        let run = BatchRun {
            model: model.as_ref(),
            batches: &mut batches,
            config: &config,
            job: &job,
            resume: None,
            answers: None,
        };
        run_batches(run, &mut |_| {}, &|| None).unwrap_err()
    };
    // A file stands where the checkpoint's folder would go.
    types::files::write(&job.checkpoint(2), b"in the way").unwrap();
    let error = attempt();
    assert!(error.to_string().contains("checkpoint-2"), "the error names the folder: {error}");
    fs::remove_dir_all(job.path()).unwrap();
    let error = attempt();
    assert!(matches!(error, TrainError::File { .. }), "a job folder that is gone: {error}");
}
