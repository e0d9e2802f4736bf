//! Orders to an engine at work: pause, finish early, cancel an answer.

use std::{
    fs,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use types::{Manifest, TrainEvent, engine::Control, files};

use crate::support::*;

#[test]
fn a_paused_run_keeps_a_checkpoint_and_the_next_start_finishes() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"save_steps": 100}));
    let mut engine = Engine::start(&job);
    engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == 2));
    Control::Pause.give(&job).unwrap();
    let stopped = engine.until(|e| matches!(e, TrainEvent::Stopped { .. }));
    let TrainEvent::Stopped { step, checkpoint } = stopped else { unreachable!() };
    assert!(step < 8, "the run pauses soon, not at its end");
    assert_eq!(checkpoint, Some(job.checkpoint(step)), "a paused run keeps a checkpoint of its last step");
    assert!(engine.finish().0.success(), "pausing is not a failure");
    assert!(!job.control().exists(), "an order that was carried out is gone");
    assert!(!home.path().join("models").exists(), "a paused run makes no model");
    // Nobody took this one up before the run ended: it is none for the engine that goes on.
    Control::Pause.give(&job).unwrap();
    assert!(run_to_end(&job).0.success());
    assert_eq!(losses(&job).keys().copied().collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let (status, stderr) = run_to_end(&job);
    assert!(
        !status.success() && stderr.contains("finished already"),
        "a finished run is not trained again: {stderr}"
    );
}

#[test]
fn a_run_that_is_finished_early_gives_a_whole_model_that_says_so() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 1000, "eval_steps": 1000, "save_steps": 1000}));
    let mut engine = Engine::start(&job);
    engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == 2));
    Control::Finish.give(&job).unwrap();
    let finished = engine.until(|e| matches!(e, TrainEvent::Finished { .. }));
    let TrainEvent::Finished { result, metrics } = finished else { unreachable!() };
    assert!(engine.finish().0.success() && result.success, "{result:?}");
    let steps = losses(&job).len() as u64;
    assert!((2..1000).contains(&steps), "no further steps are done");
    assert_eq!(result.message, format!("Training finished early at step {steps} of 1000"));
    assert!(metrics.contains_key("eval_loss"), "the model that is kept is measured: {metrics:?}");

    let folder = home.path().join("models/model_20260101_000000");
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(Manifest::FILE)).unwrap()).unwrap();
    assert_eq!((manifest.steps, manifest.planned_steps), (steps, Some(1000)), "the manifest tells the truth");
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains(&format!("{steps} of 1000 (finished early)")), "and so does the card: {card}");
    let load = json!({"id": 1, "command": "load", "base_dir": starter(), "adapter_dir": folder});
    let replies = chat(&[load]);
    assert_eq!(replies[0]["reply"], json!("loaded"), "the model can be talked to: {replies:?}");
}

/// Sends a signal to an engine.
#[cfg(unix)]
fn signal(engine: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), engine.id().to_string()]).status().unwrap();
    assert!(status.success(), "{name}");
}

#[test]
#[cfg(unix)]
fn every_signal_to_end_pauses_a_run_which_then_goes_on_to_the_bit() {
    let calm = tempfile::tempdir().unwrap();
    let changes = json!({"max_steps": 24, "eval_steps": 1000, "save_steps": 1000, "lora_dropout": 0.1});
    let undisturbed = job(calm.path(), changes.clone());
    assert!(run_to_end(&undisturbed).0.success());

    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), changes);
    // A Ctrl-C, an end of the session, and what a shutdown sends.
    for (name, at) in [("INT", 4), ("HUP", 9), ("TERM", 14)] {
        let mut engine = Engine::start(&job);
        engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step >= at));
        signal(&engine.child, name);
        let stopped = engine.until(|e| matches!(e, TrainEvent::Stopped { .. } | TrainEvent::Finished { .. }));
        assert!(
            matches!(&stopped, TrainEvent::Stopped { checkpoint: Some(folder), .. } if folder.is_dir()),
            "{name}: {stopped:?}"
        );
        assert!(engine.finish().0.success(), "{name}: being asked to end is not a failure");
    }
    assert!(run_to_end(&job).0.success());
    assert_eq!(losses(&job), losses(&undisturbed), "no loss is another");
    assert_eq!(adapter(home.path()), adapter(calm.path()), "nor are the weights");
}

#[test]
#[cfg(unix)]
fn a_run_that_is_suspended_stands_still_and_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({"max_steps": 40, "eval_steps": 1000, "save_steps": 1000}));
    let mut engine = Engine::start(&job);
    engine.until(|e| matches!(e, TrainEvent::Step(s) if s.step == 3));
    signal(&engine.child, "STOP");
    thread::sleep(Duration::from_millis(300));
    let length = || fs::metadata(job.events()).unwrap().len();
    let told = length();
    let (status, _) = run_to_end(&job);
    assert_eq!(status.code(), Some(3), "the job is still its own");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(length(), told, "a suspended engine does nothing");
    signal(&engine.child, "CONT");
    assert!(engine.finish().0.success());
    assert_eq!(losses(&job).keys().copied().collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
}

#[test]
fn a_listener_that_reads_nothing_holds_up_no_run() {
    let home = tempfile::tempdir().unwrap();
    // More events than a pipe holds.
    let steps = 320;
    let job = job(
        home.path(),
        json!({"max_steps": steps, "eval_steps": 1000, "save_steps": 1000, "gradient_accumulation_steps": 1,
            "per_device_train_batch_size": 1, "max_seq_length": 16, "eval_split": 0}),
    );
    let mut engine = Engine::start(&job);
    let started = Instant::now();
    while !fs::read_to_string(job.events()).is_ok_and(|log| log.contains("\"event\":\"finished\"")) {
        assert!(started.elapsed() < Duration::from_secs(180), "the run stands still");
        thread::sleep(Duration::from_millis(100));
    }
    let mut heard = 0;
    while let Some(event) = engine.next() {
        heard += usize::from(matches!(event, TrainEvent::Step(_)));
    }
    assert_eq!(heard, steps, "and hears everything once it reads again");
    assert!(engine.finish().0.success());
}

#[test]
fn a_clock_that_was_set_changes_nothing() {
    let (calm, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let changes = json!({"max_steps": 12, "save_steps": 3});
    let undisturbed = job(calm.path(), changes.clone());
    assert!(run_to_end(&undisturbed).0.success());
    let job = job(home.path(), changes);
    for year in ["2055", "1999"] {
        let mut engine = Engine::start(&job);
        engine.until(|e| matches!(e, TrainEvent::Step(_)));
        Control::Pause.give(&job).unwrap();
        assert!(engine.finish().0.success());
        // As if the clock had been wrong until now.
        let now = types::id::now_rfc3339();
        let log = fs::read_to_string(job.events()).unwrap();
        let wrong = log.replace(&format!("\"time\":\"{}", &now[..4]), &format!("\"time\":\"{year}"));
        assert_ne!(wrong, log);
        files::write(&job.events(), wrong.as_bytes()).unwrap();
    }
    assert!(run_to_end(&job).0.success());
    assert_eq!(losses(&job), losses(&undisturbed));
    assert_eq!(adapter(home.path()), adapter(calm.path()));
    let elapsed: Vec<u64> = events(&job)
        .into_iter()
        .filter_map(|event| if let TrainEvent::Step(stats) = event { Some(stats.elapsed_ms) } else { None })
        .collect();
    assert!(elapsed.is_sorted(), "time taken never runs backwards: {elapsed:?}");
}

#[test]
fn before_the_first_step_a_run_can_only_be_paused() {
    let home = tempfile::tempdir().unwrap();
    let job = job(home.path(), json!({}));
    // Enough to read that the order is there before the model is wanted.
    let row = json!({"input": "What is in the box?", "output": "The box is empty."}).to_string() + "\n";
    files::write(&home.path().join("rows.jsonl"), row.repeat(10_000).as_bytes()).unwrap();
    for control in [Control::Pause, Control::Finish] {
        let mut engine = Engine::start(&job);
        engine.until(|e| matches!(e, TrainEvent::Started { .. }));
        control.give(&job).unwrap();
        let stopped = engine.until(|e| matches!(e, TrainEvent::Stopped { .. } | TrainEvent::Step(_)));
        assert_eq!(stopped, TrainEvent::Stopped { step: 0, checkpoint: None }, "{control:?}");
        assert!(engine.finish().0.success(), "{control:?} is no failure");
        let log = events(&job);
        let loaded = log.iter().any(|e| matches!(e, TrainEvent::Loaded { .. }));
        assert_eq!(loaded, control == Control::Finish, "a pause does not wait for the model to load");
        let warned =
            log.iter().any(|e| matches!(e, TrainEvent::Warning { message } if message.contains("no model")));
        assert_eq!(warned, control == Control::Finish, "why there is no model is told");
    }
    assert!(!home.path().join("models").exists());
}

#[test]
fn a_cancel_reaches_a_prompt_before_its_first_token() {
    let words = "The ferry leaves the old pier. ".repeat(30);
    let generate = |id| json!({"id": id, "command": "generate", "input": {"text": words}, "params": {"max_new_tokens": 4}});
    let load = json!({"id": 1, "command": "load", "base_dir": starter(), "adapter_dir": null});
    // Read while the model loads, so the answer is cancelled before its prompt is begun.
    let replies = chat(&[load, generate(2), json!({"id": 3, "command": "cancel", "target": 2})]);
    let done = replies.iter().find(|reply| reply["id"] == json!(2)).unwrap();
    assert_eq!(
        (&done["reply"], &done["stats"]["finish"]),
        (&json!("done"), &json!("cancelled")),
        "{replies:?}"
    );
    assert_eq!(done["stats"]["tokens_generated"], json!(0), "no text is needed for a cancel to take effect");
}
