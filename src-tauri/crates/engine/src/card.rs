//! The model card: `README.md` of a model folder, with the metadata block that model hubs read.

use std::{fmt::Write, fs, path::Path};

use types::{EvalMetric, Manifest, Strategy, Task, TrainingConfig, config::QuantCodes};

/// What of a model a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The adapter, which needs the base model beside it.
    Adapter,
    /// The whole model, the adapter merged into the base.
    Merged,
}

/// The card of a model. `base_dir` is asked for the base model's own license.
pub fn render(manifest: &Manifest, base_dir: &Path, holds: Holds) -> String {
    let config = &manifest.config;
    let mut card = String::from("---\n");
    let mut line = |text: String| {
        card.push_str(&text);
        card.push('\n');
    };
    let base = base_name(&manifest.base_model.name);
    line(format!("base_model: {}", yaml(&base)));
    let (library, relation) = match holds {
        Holds::Adapter => ("peft", "adapter"),
        Holds::Merged => ("transformers", "finetune"),
    };
    line(format!("base_model_relation: {relation}"));
    line(format!("library_name: {library}"));
    line(format!("pipeline_tag: {}", pipeline_tag(config.task)));
    base_license(base_dir).into_iter().for_each(&mut line);
    if let Some(dataset) = dataset_id(manifest) {
        line(format!("datasets:\n- {dataset}"));
    }
    line("tags:".into());
    for tag in ["lora", config.strategy.name(), config.task.name(), "modelforge"] {
        line(format!("- {tag}"));
    }
    model_index(manifest).into_iter().for_each(&mut line);
    line("---".into());
    line(format!("\n# {}\n", manifest.name.replace(['\n', '\r'], " ")));
    let what = match holds {
        Holds::Adapter => format!("A LoRA adapter for `{base}`"),
        Holds::Merged => format!("`{base}` with a LoRA adapter merged into its weights"),
    };
    line(format!("{what}, fine-tuned for {} with ModelForge.\n", config.task));
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
    let _ = writeln!(
        card,
        "\nEvery setting and the hashes of all inputs are kept in `{}`, in the model's folder where it was trained.",
        Manifest::FILE
    );
    card
}

/// What was measured on evaluation rows, as model hubs list results.
fn model_index(manifest: &Manifest) -> Vec<String> {
    let measured = |name: &String| {
        manifest.base_metrics.contains_key(name) || EvalMetric::ALL.iter().any(|metric| metric.name() == name)
    };
    let results: Vec<(&String, &f64)> =
        manifest.metrics.iter().filter(|(name, value)| measured(name) && value.is_finite()).collect();
    if results.is_empty() {
        return Vec::new();
    }
    let dataset = file_name(&manifest.dataset.name);
    let mut lines = vec![
        "model-index:".to_owned(),
        format!("- name: {}", yaml(&manifest.name)),
        "  results:".to_owned(),
        "  - task:".to_owned(),
        format!("      type: {}", pipeline_tag(manifest.config.task)),
        "    dataset:".to_owned(),
        format!("      name: {}", yaml(&dataset)),
        format!("      type: {}", dataset_id(manifest).unwrap_or_else(|| "dataset".to_owned())),
        "    metrics:".to_owned(),
    ];
    for (name, value) in results {
        let kind = match name.as_str() {
            "eval_loss" => "loss",
            rouge if rouge.starts_with("rouge") => "rouge",
            other => other,
        };
        lines.push(format!("    - type: {kind}\n      name: {name}\n      value: {value}"));
    }
    lines
}

/// A dataset as hubs name them: that of a file in the cache of a hub by its repository, another by its last part, where
/// that has a name of such a form.
fn dataset_id(manifest: &Manifest) -> Option<String> {
    let cached = manifest.dataset.path.iter().find_map(|part| part.to_str()?.strip_prefix("datasets--"));
    if let Some(repository) = cached {
        return Some(repository.replacen("--", "/", 1));
    }
    let name = file_name(manifest.dataset.name.rsplit(':').next().unwrap_or_default());
    let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let id: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let id = id.trim_matches(['-', '.']).to_owned();
    // What stands before the colon of a sample is no account's name, and numbers alone would not be text to a reader.
    let is_text = id.chars().any(|c| c.is_ascii_alphabetic()) && id.len() < 96;
    (is_text && !id.contains("--") && !id.contains("..")).then_some(id)
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
        let dtype = match (config.bf16, config.fp16) {
            (true, _) => "bfloat16",
            (false, true) => "float16",
            (false, false) => "float32",
        };
        return dtype.to_owned();
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

/// The lines on the license in the metadata block of the base model's own card, as far as they have a plain form. A
/// license of its own has a name and an address beside `other`.
fn base_license(base_dir: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(base_dir.join("README.md")) else { return Vec::new() };
    let block = text.strip_prefix("---").and_then(|rest| rest.split("\n---").next()).unwrap_or_default();
    let of = |key: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
        let value = value.trim_matches(['"', '\'']);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
        let fits = !value.is_empty() && value.len() < 200 && value.chars().all(plain);
        fits.then(|| format!("{key}: {}", if value.contains(':') { yaml(value) } else { value.to_owned() }))
    };
    let Some(license) = of("license") else { return Vec::new() };
    let own = license == "license: other";
    let more = ["license_name", "license_link"].into_iter().filter(|_| own).filter_map(of);
    std::iter::once(license).chain(more).collect()
}

/// A YAML string in double quotes: JSON's escapes are valid there.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_license_of_the_base_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        for (card, want) in [
            ("---\nlicense: apache-2.0\nlanguage: en\n---\n# A", &["license: apache-2.0"][..]),
            (
                "---\nlicense: other\nlicense_name: gemma-terms\nlicense_link: https://example.org/terms\n---\n",
                &[
                    "license: other",
                    "license_name: gemma-terms",
                    "license_link: \"https://example.org/terms\"",
                ],
            ),
            ("---\nlicense: 'llama3.1'\nlicense_name: unused\n---\n", &["license: llama3.1"]),
            ("---\nlicense: [mit]\n---\n", &[]),
            ("# No metadata\nlicense: mit\n", &[]),
            ("", &[]),
        ] {
            types::files::write(&folder.path().join("README.md"), card.as_bytes()).unwrap();
            assert_eq!(base_license(folder.path()), want, "of {card:?}");
        }
    }
}
