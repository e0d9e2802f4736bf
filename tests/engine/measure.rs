//! What an engine measures: its memory, a dry run, the speed of the machine.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::json;
use types::{
    JobFolder, Manifest, RunSpec, TrainEvent,
    engine::{Calibration, ProbeLine, ProbeReport},
};

use crate::support::*;

#[test]
#[cfg(target_os = "linux")]
fn memory_is_measured_from_the_first_step_to_the_manifest() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 3}));
    assert!(run_to_end(&job).0.success());
    let log = events(&job);
    let first = log.iter().position(|e| matches!(e, TrainEvent::Step(_))).unwrap();
    let peaks: Vec<u64> = log
        .iter()
        .filter_map(|e| if let TrainEvent::Memory { peak_bytes, .. } = e { Some(*peak_bytes) } else { None })
        .collect();
    assert!(matches!(log[first + 1], TrainEvent::Memory { .. }), "the first step tells of memory: {log:?}");
    assert!(peaks.is_sorted_by(|a, b| *b as f64 > *a as f64 * 1.05), "told when it has grown: {peaks:?}");
    let weights = fs::metadata(starter().join("model.safetensors")).unwrap().len();
    assert!(peaks[0] > weights, "the model is in memory");
    let manifest = fs::read(home.path().join("models/model_20260101_000000").join(Manifest::FILE)).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest.peak_memory_bytes >= peaks.last().copied(), "{:?}", manifest.peak_memory_bytes);
}

/// What an engine says on standard output when started with these arguments, line by line, and its exit code.
fn lines_of(args: &[&std::ffi::OsStr]) -> (Vec<String>, Option<i32>) {
    let output = Command::new(BIN).arg("engine").args(args).stdin(Stdio::null()).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.code())
}

fn probe(job: &JobFolder) -> (Vec<ProbeLine>, Option<i32>) {
    let (lines, code) = lines_of(&["probe".as_ref(), job.path().as_ref()]);
    (lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect(), code)
}

#[test]
fn a_probe_measures_two_real_steps_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 50, "save_steps": 1}));
    let spec: RunSpec = serde_json::from_slice(&fs::read(job.run_json()).unwrap()).unwrap();
    let sample = starter().with_file_name("samples").join("order-slips/train.jsonl");
    edit(&job, "dataset_path", json!(sample));
    let (lines, code) = probe(&job);
    assert_eq!(code, Some(0), "{lines:?}");
    let Some(ProbeLine::Report(report)) = lines.last() else { panic!("a report comes last: {lines:?}") };
    let ProbeReport { load_ms, prepare_ms, steps, estimated_total_seconds, .. } = report;
    assert!(*load_ms > 0.0 && *prepare_ms > 0.0);
    assert_eq!((steps.len(), report.total_steps), (2, 50));
    for step in steps {
        assert!(
            step.loss.is_finite() && step.loss > 0.0 && step.tokens > 0 && step.step_ms > 0.0,
            "{step:?}"
        );
        assert!(lines.contains(&ProbeLine::Step(step.clone())), "each step is told when it is done");
    }
    let two_steps = steps.iter().map(|step| step.step_ms / 1e3).sum::<f64>();
    assert!(*estimated_total_seconds > two_steps, "fifty steps take longer than two: {report:?}");
    assert_eq!(report.peak_memory_bytes.is_some(), cfg!(target_os = "linux"), "measured or absent");
    let left: Vec<_> = fs::read_dir(job.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["run.json"], "nothing is kept");
    assert!(!spec.model_dir.exists(), "nothing is published");

    edit(&job, "dataset_path", json!("/nowhere/rows.jsonl"));
    let (lines, code) = probe(&job);
    assert_eq!(code, Some(1));
    let Some(ProbeLine::Error(error)) = lines.last() else { panic!("the reason comes last: {lines:?}") };
    assert!(error.contains("File not found"), "{error}");
}

#[test]
fn calibration_gives_rates() {
    let (lines, code) = lines_of(&["calibrate".as_ref()]);
    assert_eq!((lines.len(), code), (1, Some(0)), "one line: {lines:?}");
    let rates: Calibration = serde_json::from_str(&lines[0]).unwrap();
    for rate in [rates.matmul_f32_flops, rates.matmul_bf16_flops, rates.memory_bytes_per_second] {
        assert!(rate.is_finite() && rate > 1e6, "{rates:?}");
    }
    assert!(rates.threads > 0 && rates.device == "cpu", "{rates:?}");
}
