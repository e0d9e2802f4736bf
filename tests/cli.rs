//! The command line as people meet it: its flags, what it prints, and how it refuses what cannot work.
#![allow(clippy::unwrap_used, reason = "what cannot be set up ends the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use types::{config::FIELDS, field::Kind, files};

const BIN: &str = env!("CARGO_BIN_EXE_modelforge");

/// Runs the program with its data in `home` and nothing to read; a Hugging Face cache of the machine is not seen.
fn modelforge(home: &Path, args: &[&str]) -> Output {
    Command::new(BIN)
        .args(args)
        .current_dir(home)
        .env("MODELFORGE_HOME", home.join("home"))
        .env("HF_HUB_CACHE", home.join("no-cache"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    files::write(&folder.join(name), text.as_bytes()).unwrap();
}

#[test]
fn train_has_one_flag_for_every_setting() {
    let temp = tempfile::tempdir().unwrap();
    let help = stdout(&modelforge(temp.path(), &["train", "--help"]));
    let flags: Vec<&str> = help
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .map(|w| w.split(['[', '=']).next().unwrap())
        .collect();
    for field in FIELDS {
        let flag = field.name.replace('_', "-");
        assert_eq!(flags.iter().filter(|f| **f == flag).count(), 1, "--{flag} is there once");
    }
    let section = help.split("Settings of the run:").nth(1).unwrap();
    let own = section.matches("      --").count();
    assert_eq!(own, FIELDS.len(), "no setting has a flag that the table does not know");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for field in FIELDS {
        assert!(words(&help).contains(&words(field.help)), "the help of {} is shown", field.name);
    }
}

#[test]
fn bad_settings_are_refused_by_flag_name() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "rows.jsonl", "{\"input\": \"a\", \"output\": \"b\"}\n");
    let good = ["--task", "text-generation", "--model-name", "modelforge/starter", "--dataset", "rows.jsonl"];
    for field in FIELDS {
        let bad = match field.kind {
            Kind::Bool => "=perhaps",
            Kind::Int { .. } => "=1.5",
            Kind::Float { .. } => "=much",
            Kind::Choice { .. } => "=neither",
            Kind::Text | Kind::LongText | Kind::TextList => "= ",
            Kind::Json { .. } => "={",
        };
        let flag = format!("--{}{bad}", field.name.replace('_', "-"));
        let name = flag.split('=').next().unwrap();
        let others: Vec<&str> = good.chunks(2).filter(|pair| pair[0] != name).flatten().copied().collect();
        let output = modelforge(temp.path(), &[&["train"], others.as_slice(), &[&flag]].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{flag}: {told}");
        assert!(told.starts_with(&format!("error: {name}: ")), "{flag} names the flag: {told}");
    }
    assert_eq!(
        fs::read_dir(temp.path().join("home/runs")).unwrap().count(),
        0,
        "no refused run leaves a folder"
    );
}

#[test]
fn a_run_that_cannot_work_is_refused_before_it_starts() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let good = "{\"input\": \"a\", \"output\": \"b\"}\n";
    write(folder, "good.jsonl", good);
    write(folder, "empty.jsonl", "");
    write(
        folder,
        "broken.jsonl",
        &format!("{}{{\"input\": \"a\", \"output\n{}", good.repeat(6), good.repeat(2)),
    );
    write(folder, "missing.jsonl", &format!("{good}{good}{{\"input\": \"a\"}}\n"));
    write(folder, "types.jsonl", &format!("{good}{{\"input\": \"a\", \"output\": 3}}\n"));
    write(folder, "useless.jsonl", "{\"input\": \"\", \"output\": \"\"}\n");
    write(folder, "bad.yaml", "task: text-generation\n\nlora_r: many\nlora_alpa: 4\n");
    write(folder, "broken.yaml", "task: [text-generation\n");
    write(folder, "broken.json", "{\n\"task\": \"text-generation\"\n\"lora_r\": 8}");
    fs::create_dir(folder.join("hollow")).unwrap();
    write(folder, "hollow/config.json", "{}");
    let train = |dataset: &str, model: &str| {
        ["train", "--task", "text-generation", "--model-name", model, "--dataset", dataset].map(str::to_owned)
    };
    let starter = "modelforge/starter";
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (train("none.jsonl", starter).into(), &["Dataset validation failed: File not found"]),
        (train("empty.jsonl", starter).into(), &["empty.jsonl", "empty"]),
        (train("broken.jsonl", starter).into(), &["Dataset validation failed", "line 7"]),
        (
            train("missing.jsonl", starter).into(),
            &["Dataset validation failed: line 3: missing field \"output\""],
        ),
        (train("types.jsonl", starter).into(), &["Dataset validation failed", "line 2", "output"]),
        (train("useless.jsonl", starter).into(), &["Dataset validation failed", "no usable row"]),
        (train("sample:unheard-of", starter).into(), &["unheard-of", "order-slips"]),
        (train("sample:short-answers", starter).into(), &["Dataset validation failed"]),
        (
            train("good.jsonl", "no-owner/no-model").into(),
            &[
                "Model no-owner/no-model is not accessible. Please check if you have the required permissions.",
            ],
        ),
        (train("good.jsonl", "hollow").into(), &["hollow", "tokenizer.json"]),
        ([&train("good.jsonl", starter)[..], &["--fp16".into()]].concat(), &["--fp16", "needs a GPU"]),
        ([&train("good.jsonl", starter)[..], &["--fp16".into()]].concat(), &["--fp16"]),
        (vec!["train".into()], &["--task", "--model-name", "--dataset"]),
        (
            vec!["train".into(), "--config=bad.yaml".into()],
            &["bad.yaml: line 3: lora_r", "line 4: lora_alpa", "lora_alpha"],
        ),
        (vec!["train".into(), "--config=broken.yaml".into()], &["broken.yaml: line "]),
        (vec!["train".into(), "--config=broken.json".into()], &["broken.json: line 3"]),
        (vec!["train".into(), "--config=none.yaml".into()], &["none.yaml"]),
        (vec!["train".into(), "--resume=train_1".into()], &["train_1", "not found"]),
        (vec!["train".into(), "--resume=../x".into()], &["not found"]),
        (vec!["models".into(), "show".into(), "model_1".into()], &["Model model_1 not found"]),
        (
            vec!["models".into(), "delete".into(), "model_1".into(), "--yes".into()],
            &["Model model_1 not found"],
        ),
        (vec!["chat".into(), "model_1".into()], &["Model model_1 not found"]),
        (vec!["generate".into(), "--prompt=a".into(), "--temperature=-1".into()], &["temperature"]),
        (vec!["demo".into(), "--sample=unheard-of".into()], &["unheard-of", "order-slips"]),
    ];
    for (args, wanted) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = modelforge(folder, &args);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        for want in wanted {
            assert!(told.contains(want), "{args:?} should tell {want:?}: {told}");
        }
        assert!(stdout(&output).is_empty(), "{args:?}: errors do not go to standard output");
    }
    assert_eq!(runs(folder), 0, "no refused run leaves a folder");
}

/// Job folders in the home.
fn runs(folder: &Path) -> usize {
    let entries = fs::read_dir(folder.join("home/runs")).unwrap();
    entries.filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir()).count()
}

#[test]
fn flags_go_before_the_file_and_the_file_before_the_defaults() {
    let temp = tempfile::tempdir().unwrap();
    write(
        temp.path(),
        "run.yaml",
        "task: text-generation\nmodel_name: modelforge/starter\ndataset: none\nlora_r: 0\n",
    );
    let refused = stderr(&modelforge(temp.path(), &["train", "--config", "run.yaml"]));
    assert!(refused.contains("run.yaml: line 4: lora_r"), "{refused}");
    let refused = stderr(&modelforge(temp.path(), &["train", "--config", "run.yaml", "--lora-r", "300"]));
    assert!(refused.starts_with("error: --lora-r: "), "the flag is in force, so it is to blame: {refused}");
    let refused = stderr(&modelforge(temp.path(), &["train", "--config", "run.yaml", "--lora-r", "8"]));
    assert!(
        refused.contains("File not found"),
        "with a good flag the file's bad value is not seen: {refused}"
    );
}

#[test]
fn a_home_that_cannot_be_used_is_told() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "home", "a file");
    let output = modelforge(temp.path(), &["models"]);
    assert!(
        !output.status.success() && stderr(&output).contains("is a file, not a folder"),
        "{}",
        stderr(&output)
    );

    let temp = tempfile::tempdir().unwrap();
    assert!(modelforge(temp.path(), &["models"]).status.success());
    let database = temp.path().join("home/modelforge.db");
    files::write(&database, &[7; 4096]).unwrap();
    let output = modelforge(temp.path(), &["models"]);
    assert!(output.status.success(), "a damaged database is no reason to fail: {}", stderr(&output));
    assert!(stderr(&output).contains("modelforge.db.damaged-1"), "but it is told: {}", stderr(&output));
    assert!(stderr(&modelforge(temp.path(), &["models"])).is_empty(), "once");
}

#[cfg(target_os = "linux")]
#[test]
fn a_home_without_permission_is_told() {
    // Nobody may make folders here, not even the superuser, who may anywhere else.
    let output = Command::new(BIN).arg("models").env("MODELFORGE_HOME", "/sys/modelforge").output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("/sys/modelforge: no permission") && told.contains("MODELFORGE_HOME"), "{told}");
}

#[test]
fn detect_has_the_documented_shape() {
    let temp = tempfile::tempdir().unwrap();
    let output = modelforge(temp.path(), &["detect", "--json", "--task", "summarization"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    let want = [
        "status_code",
        "profile",
        "task",
        "gpu_name",
        "gpu_total_memory_gb",
        "ram_total_gb",
        "available_diskspace_gb",
        "cpu_cores",
        "model_recommendation",
        "possible_options",
    ];
    assert_eq!(keys, want);
    assert_eq!((&found["status_code"], &found["task"]), (&json!(200), &json!("summarization")));
    assert!(found["ram_total_gb"].as_f64().unwrap() > 0.0 && found["cpu_cores"].as_u64().unwrap() > 0);
    let options = found["possible_options"].as_array().unwrap();
    assert!(
        options.contains(&json!("modelforge/starter")) && options.contains(&found["model_recommendation"])
    );
    let table = stdout(&modelforge(temp.path(), &["detect"]));
    assert!(table.lines().all(|line| line.chars().count() <= 80 || line.contains("data folder")), "{table}");
}

#[test]
fn lists_of_nothing_say_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    for what in ["models", "runs"] {
        let text = stdout(&modelforge(temp.path(), &[what]));
        assert!(text.contains("modelforge train"), "{what}: {text}");
        let list: Value =
            serde_json::from_slice(&modelforge(temp.path(), &[what, "list", "--json"]).stdout).unwrap();
        assert_eq!(list, json!([]), "{what}");
    }
}

#[test]
fn datasets_check_names_every_bad_line() {
    let temp = tempfile::tempdir().unwrap();
    let good = "{\"context\": \"a b\", \"question\": \"q\", \"answer\": \"b\"}\n";
    write(
        temp.path(),
        "rows.jsonl",
        &format!("{good}{{\"context\": 1}}\n{}{{nonsense\n{good}", good.repeat(2)),
    );
    let output = modelforge(temp.path(), &["datasets", "check", "rows.jsonl"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "bad rows are a failure: {text}");
    for want in ["jsonl", "extractive-question-answering", "line 2: ", "line 5: "] {
        assert!(text.contains(want), "{want:?} is told: {text}");
    }
    let report: Value = serde_json::from_slice(
        &modelforge(temp.path(), &["datasets", "check", "rows.jsonl", "--json"]).stdout,
    )
    .unwrap();
    assert_eq!(
        (&report["rows"], &report["usable_rows"], &report["error_count"]),
        (&json!(6), &json!(4), &json!(2))
    );

    let output = modelforge(temp.path(), &["datasets", "check", "none.jsonl"]);
    assert!(!output.status.success() && stderr(&output).contains("File not found"), "{}", stderr(&output));
    let samples = stdout(&modelforge(temp.path(), &["datasets", "list"]));
    assert_eq!(samples.lines().count(), 4, "one sample for each task, one of pairs: {samples}");
    for sample in samples.lines().map(|line| line.split_whitespace().next().unwrap()) {
        let output = modelforge(temp.path(), &["datasets", "check", sample]);
        assert!(output.status.success(), "{sample} can be trained on: {}", stdout(&output));
    }
}

#[test]
fn datasets_preview_marks_what_is_trained() {
    let temp = tempfile::tempdir().unwrap();
    write(temp.path(), "rows.jsonl", "{\"input\": \"What is red?\", \"output\": \"The apple.\"}\n");
    let text = stdout(&modelforge(temp.path(), &["datasets", "preview", "rows.jsonl"]));
    let trained = text.split("[[").nth(1).unwrap().split("]]").next().unwrap();
    assert!(trained.starts_with("The apple."), "the answer is trained: {text}");
    assert!(
        text.contains("What is red?") && !trained.contains("red"),
        "the question is shown, not trained: {text}"
    );
    let rows: Value = serde_json::from_slice(
        &modelforge(temp.path(), &["datasets", "preview", "rows.jsonl", "--json"]).stdout,
    )
    .unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let mut child = Command::new(BIN)
        .args(["datasets", "preview", "sample:order-slips", "--rows", "200"])
        .env("MODELFORGE_HOME", temp.path().join("home"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
}
