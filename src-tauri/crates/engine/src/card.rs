//! The model card: `README.md` of a model folder, with the metadata block that model hubs read.

use std::{fmt::Write, fs, path::Path};

use types::{EvalMetric, Manifest, Strategy, Task, TrainingConfig, config::QuantCodes};

/// The card of a model. `base_dir` is asked for the base model's own license.
pub fn render(manifest: &Manifest, base_dir: &Path) -> String {
    let config = &manifest.config;
    let mut card = String::from("---\n");
    let mut line = |text: String| {
        card.push_str(&text);
        card.push('\n');
    };
    let base = base_name(&manifest.base_model.name);
    line(format!("base_model: {}", yaml(&base)));
    line("library_name: peft".into());
    line(format!("pipeline_tag: {}", pipeline_tag(config.task)));
    if let Some(license) = base_license(base_dir) {
        line(format!("license: {license}"));
    }
    line("tags:".into());
    for tag in ["lora", config.strategy.name(), config.task.name(), "modelforge"] {
        line(format!("- {tag}"));
    }
    line("---".into());
    line(format!("\n# {}\n", manifest.name.replace(['\n', '\r'], " ")));
    line(format!("A LoRA adapter for `{base}`, fine-tuned for {} with ModelForge.\n", config.task));
    line("## Training\n".into());
    line("| | |\n| --- | --- |".into());
    let dataset = &manifest.dataset;
    for (what, value) in [
        ("strategy", strategy(config)),
        ("dataset", file_name(&dataset.name)),
        ("dataset SHA-256", dataset.sha256.clone()),
        ("rows trained on", dataset.train_rows.to_string()),
        ("rows measured on", dataset.eval_rows.to_string()),
        ("steps", steps(manifest)),
        ("tokens", manifest.tokens.to_string()),
        ("time", format!("{:.1} s", manifest.seconds)),
        (
            "rank / alpha / dropout",
            format!("{} / {} / {}", config.lora_r, config.lora_alpha, config.lora_dropout),
        ),
        ("learning rate", format!("{} ({})", config.learning_rate, config.lr_scheduler_type)),
        ("base kept in", kept(config)),
        ("batch", batch(manifest)),
        ("optimizer", config.optim.to_string()),
        ("seed", manifest.seed.to_string()),
    ] {
        line(format!("| {what} | {} |", value.replace('|', "\\|")));
    }
    for text in metrics(manifest) {
        line(text);
    }
    let _ = writeln!(card, "\nEvery setting and the hashes of all inputs are in `{}`.", Manifest::FILE);
    card
}

/// The section of metrics, line by line: each beside the base model's on the same rows, as they were measured.
fn metrics(manifest: &Manifest) -> Vec<String> {
    let Manifest { metrics, base_metrics, dataset, answered_rows, .. } = manifest;
    if metrics.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["\n## Metrics\n".to_owned(), "| metric | base | fine-tuned | rows |".to_owned()];
    lines.push("| --- | --- | --- | --- |".to_owned());
    for (name, value) in metrics {
        let measured = EvalMetric::ALL.iter().find(|metric| metric.name() == name);
        let rows = match measured {
            Some(metric) if metric.is_of_answers() => answered_rows.map(|rows| rows.to_string()),
            Some(_) => Some(dataset.eval_rows.to_string()),
            // What the base model has too was measured on rows.
            None => base_metrics.contains_key(name).then(|| dataset.eval_rows.to_string()),
        };
        let base = base_metrics.get(name).map(|value| format!("{value:.4}"));
        let cell = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        lines.push(format!("| {name} | {} | {value:.4} | {} |", cell(base), cell(rows)));
    }
    if answered_rows.is_some() {
        let how = if metrics.contains_key(EvalMetric::F1.name()) {
            "exact_match and f1 are percentages by the rules of SQuAD's official script"
        } else {
            "ROUGE is the F-measure, 0 to 1, as rouge_score computes it with stemmer"
        };
        lines.push(format!("\n{how}, on answers that the models gave (the likeliest tokens)."));
    }
    lines
}

/// Rows of an optimizer step, as they were computed in the end.
fn batch(manifest: &Manifest) -> String {
    let config = &manifest.config;
    let (rows, times) = (config.per_device_train_batch_size, config.gradient_accumulation_steps);
    let Some(fallback) = &manifest.fallback else { return format!("{rows} × {times}") };
    let checkpointing = match (config.gradient_checkpointing, fallback.gradient_checkpointing) {
        (false, true) => ", with gradient checkpointing",
        _ => "",
    };
    let (now, times_now) = (fallback.per_device_train_batch_size, fallback.gradient_accumulation_steps);
    format!("{rows} × {times}; memory ran out, since then {now} × {times_now}{checkpointing}")
}

/// What the base's linear layers were kept in.
fn kept(config: &TrainingConfig) -> String {
    let Some(quantisation) = config.quantisation() else {
        return if config.bf16 { "bfloat16".to_owned() } else { "float32".to_owned() };
    };
    let codes = match quantisation.codes {
        QuantCodes::Nf4 => "4 bits (NF4)",
        QuantCodes::Fp4 => "4 bits (FP4)",
        QuantCodes::Int8 => "8 bits (int8)",
    };
    format!("{codes}{}", if quantisation.nested { ", scales in 8 bits" } else { "" })
}

fn strategy(config: &TrainingConfig) -> String {
    match config.strategy {
        Strategy::Dpo => format!("dpo (loss {}, beta {})", config.loss_type, config.beta),
        Strategy::Rlhf => format!("rlhf ({}, reward {})", config.rl_algorithm, config.reward),
        other => other.to_string(),
    }
}

fn steps(manifest: &Manifest) -> String {
    let steps = manifest.steps;
    let mut text = match manifest.planned_steps {
        Some(planned) if planned > steps => format!("{steps} of {planned} (finished early)"),
        _ => steps.to_string(),
    };
    if let Some(best) = manifest.best_step {
        let _ = write!(text, "; the model is that of step {best}, which was the best");
    }
    text
}

/// A repository as it is, a folder of this computer by its last part.
fn base_name(name: &str) -> String {
    if Path::new(name).is_absolute() || name.starts_with('.') { file_name(name) } else { name.to_owned() }
}

/// The last part of a path: a card may be published, and the folders of this computer are nobody's business.
fn file_name(dataset: &str) -> String {
    Path::new(dataset)
        .file_name()
        .map_or_else(|| dataset.to_owned(), |name| name.to_string_lossy().into_owned())
}

fn pipeline_tag(task: Task) -> &'static str {
    match task {
        Task::TextGeneration => "text-generation",
        Task::Summarization => "summarization",
        Task::ExtractiveQuestionAnswering => "question-answering",
    }
}

/// The license in the metadata block of the base model's own card, if it has one of a plain form.
fn base_license(base_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(base_dir.join("README.md")).ok()?;
    let block = text.strip_prefix("---")?.split("\n---").next()?;
    let license = block.lines().find_map(|line| line.strip_prefix("license:"))?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    (!license.is_empty() && license.len() < 64 && license.chars().all(plain)).then(|| license.to_owned())
}

/// A YAML string in double quotes: JSON's escapes are valid there.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
