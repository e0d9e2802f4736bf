//! An engine whose disk fills up, at every part of a run: it pauses, says why, and goes on as if nothing had been once there is room.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use serde_json::json;
use types::{EventLine, JobFolder, TrainEvent, engine::exit, files};

use crate::{
    engine::{BIN, adapter, edit, job, losses, run_to_end},
    skipped,
    small_disk::{SmallDisk, all_of},
};

const DISK: u64 = 24 << 20;

/// A job on a small disk, and the weights that it makes where nothing is in its way.
struct Case {
    disk: SmallDisk,
    /// As the engine sees it.
    folder: PathBuf,
    job: JobFolder,
    undisturbed: String,
    home: tempfile::TempDir,
}

impl Case {
    /// `None` where this machine lets nobody mount a disk.
    fn new(changes: serde_json::Value) -> Option<Self> {
        let disk = SmallDisk::new(DISK)?;
        let calm = tempfile::tempdir().unwrap();
        let undisturbed = job(calm.path(), changes.clone());
        let (status, stderr) = run_to_end(&undisturbed);
        assert!(status.success(), "{stderr}");
        let home = tempfile::tempdir().unwrap();
        let made = job(home.path(), changes);
        edit(&made, "model_dir", json!(disk.path().join("models/model_20260101_000000")));
        let folder = disk.take(made.path());
        let job = JobFolder::new(disk.seen(&folder));
        Some(Self { undisturbed: adapter(calm.path()), disk, folder, job, home })
    }

    /// Runs an engine and does something at each event.
    fn run(&self, mut at: impl FnMut(&TrainEvent)) -> (ExitStatus, String) {
        let mut command = self.disk.command(BIN);
        command.args(["engine", "train"]).arg(&self.folder);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            at(&serde_json::from_str::<EventLine>(&line.unwrap()).unwrap().event);
        }
        let said = all_of(child.stderr.take().unwrap());
        (child.wait().unwrap(), said)
    }

    fn events(&self) -> Vec<TrainEvent> {
        crate::engine::events(&self.job)
    }

    /// The run has paused and says why; what it goes on from is whole.
    fn halted(&self, status: ExitStatus, said: &str) -> u64 {
        assert!(status.success(), "a run that pauses has not failed: {status} {said}");
        let last = self.events().pop();
        let Some(TrainEvent::Halted { step, checkpoint, reason }) = last else { panic!("{last:?} {said}") };
        assert!(reason.starts_with("The disk is full."), "{reason}");
        assert_eq!(checkpoint.is_some(), step > 0);
        assert_eq!(
            self.job.checkpoints().unwrap().last().copied().unwrap_or(0),
            step,
            "it is the newest one"
        );
        step
    }

    /// With room again the run comes to its end, with the weights of one that never stopped.
    fn ends_well(&self, resumed_from: Option<u64>) {
        self.disk.free();
        let mut started = None;
        let (status, said) = self.run(|event| {
            if let TrainEvent::Started { resumed_from, .. } = event {
                started = Some(*resumed_from);
            }
        });
        assert!(status.success(), "{said}");
        assert_eq!(started, Some(resumed_from), "it goes on from what was whole");
        let model = self.disk.seen(&self.disk.path().join("models/model_20260101_000000"));
        let weights = files::sha256(&model.join("adapter_model.safetensors")).unwrap();
        assert_eq!(weights, self.undisturbed, "the weights are equal to the bit");
        assert_eq!(losses(&self.job).len(), 8, "and no step is missing from the log");
        let left = names(self.job.path());
        let strays: Vec<_> =
            left.iter().filter(|name| name.starts_with('.') || name.contains("writing")).collect();
        assert!(strays.is_empty(), "nothing half-written stays: {left:?}");
        assert_eq!(names(model.parent().unwrap()), ["model_20260101_000000"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// What happens on the disk that is not a test's own fault.
fn case(changes: serde_json::Value) -> Option<Case> {
    let case = Case::new(changes);
    if case.is_none() {
        skipped("this machine lets nobody mount a small file system, so a full disk was not tested");
    }
    case
}

/// Fills the disk at the first event that is asked for.
fn fill_at<'a>(
    case: &'a Case,
    left: u64,
    at: impl Fn(&TrainEvent) -> bool + 'a,
) -> impl FnMut(&TrainEvent) + 'a {
    let mut filled = false;
    move |event| {
        if !filled && at(event) {
            filled = true;
            case.disk.fill_but(left);
        }
    }
}

#[test]
fn before_the_engine_begins() {
    let Some(case) = case(json!({})) else { return };
    case.disk.fill_but(0);
    let (status, said) = case.run(|_| {});
    assert_eq!(
        status.code(),
        Some(exit::DISK_FULL.into()),
        "where nothing can be written the exit code tells: {said}"
    );
    assert!(case.events().is_empty());
    case.ends_well(None);
}

#[test]
fn while_rows_are_tokenized() {
    let Some(case) = case(json!({})) else { return };
    // Room for the log, what is set aside and little more; the rows take more than that.
    let rows = std::fs::read_to_string(case.home.path().join("rows.jsonl")).unwrap() + "\n";
    files::write(&case.home.path().join("rows.jsonl"), rows.repeat(400).as_bytes()).unwrap();
    case.disk.fill_but(96 << 10);
    let (status, said) = case.run(|_| {});
    assert_eq!(case.halted(status, &said), 0, "nothing has been done yet");
    files::write(&case.home.path().join("rows.jsonl"), rows.trim_end().as_bytes()).unwrap();
    case.ends_well(None);
}

#[test]
fn at_the_first_checkpoint() {
    let Some(case) = case(json!({"lora_r": 8})) else { return };
    let (status, said) =
        case.run(fill_at(&case, 128 << 10, |e| matches!(e, TrainEvent::Step(s) if s.step == 1)));
    assert_eq!(case.halted(status, &said), 0);
    case.ends_well(None);
}

#[test]
fn at_a_later_checkpoint() {
    let Some(case) = case(json!({"lora_r": 8})) else { return };
    let (status, said) =
        case.run(fill_at(&case, 128 << 10, |e| matches!(e, TrainEvent::Checkpoint { step: 2, .. })));
    let step = case.halted(status, &said);
    assert!((2..8).contains(&step), "the last whole one stays: {step}");
    case.ends_well(Some(step));
}

#[test]
fn in_the_middle_of_the_log() {
    let Some(case) = case(json!({})) else { return };
    // Not a byte is left: the very next line finds no room, but for what was set aside.
    let (status, said) = case.run(fill_at(&case, 0, |e| matches!(e, TrainEvent::Checkpoint { step: 4, .. })));
    let step = case.halted(status, &said);
    assert!(step >= 4, "{step}");
    case.ends_well(Some(step));
}

#[test]
fn when_the_model_is_written() {
    let Some(case) = case(json!({"lora_r": 8})) else { return };
    // The model goes to another disk, which is too small for it.
    let model_dir = case.disk.path().join("models");
    let mount = format!("mkdir '{0}' && mount -t tmpfs -o size=64k none '{0}'", model_dir.display());
    assert!(case.disk.command("sh").args(["-c", &mount]).status().unwrap().success());
    case.disk.fill_but(16 << 20);
    let (status, said) = case.run(|_| {});
    assert_eq!(case.halted(status, &said), 8, "all steps are done");
    assert!(names(&case.disk.seen(&model_dir)).is_empty(), "nothing half-written stays");
    let unmount = format!("umount '{}'", model_dir.display());
    assert!(case.disk.command("sh").args(["-c", &unmount]).status().unwrap().success());
    case.ends_well(Some(8));
}
