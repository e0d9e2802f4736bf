//! Whether a model can be tuned for a task and with a strategy: a decoder-only model for any, one of another kind for what it is
//! made for, on the rows' own answers.

use std::{fs, io::Read, path::Path};

use hardware::catalogue;
use serde_json::Value;
use types::{
    ApiError, FieldError, Strategy, Task,
    architecture::{self, Architecture, ModelKind},
};

use crate::base::Reached;

/// The largest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// Refuses a task or a strategy that the model's architecture is not for. An architecture that is not known is left to the engine to
/// refuse, which tells more of it.
pub(crate) fn check(base: &Reached, task: Task, strategy: Strategy) -> Result<(), ApiError> {
    let named = match base {
        Reached::Here(base) => named_in(&base.dir),
        Reached::OnHub { repo, .. } => catalogue().find(repo).map(|model| model.architecture.clone()),
    };
    match named.as_deref().and_then(architecture::find) {
        Some(family) if !family.tasks.contains(&task) => {
            let message = refusal(base.name(), family, task);
            Err(ApiError::invalid(vec![FieldError::value("task", message)]))
        }
        Some(family) if family.kind != ModelKind::Causal && !strategy.is_supervised() => {
            let (model, name, kind) = (base.name(), family.name, family.kind);
            let message = format!(
                "{model} ({name}) is {kind}, which strategy {strategy} does not work with. Use strategy sft, or take {}",
                ModelKind::Causal
            );
            Err(ApiError::invalid(vec![FieldError::value("strategy", message)]))
        }
        _ => Ok(()),
    }
}

/// The architecture that a folder's `config.json` names, if it can be read.
fn named_in(dir: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(dir.join("config.json")).ok()?.take(MAX_CONFIG).read_to_string(&mut text).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    config.pointer("/architectures/0").and_then(Value::as_str).map(str::to_owned)
}

/// What does not go together, and what would: tasks for the model, kinds of models for the task.
fn refusal(model: &str, family: &Architecture, task: Task) -> String {
    let tasks: Vec<&str> = family.tasks.iter().map(|task| task.name()).collect();
    let kinds = [ModelKind::Causal, ModelKind::Seq2Seq, ModelKind::Span];
    let fitting: Vec<String> = kinds
        .into_iter()
        .filter(|kind| {
            architecture::TRAINABLE.iter().any(|other| other.kind == *kind && other.tasks.contains(&task))
        })
        .map(|kind| kind.to_string())
        .collect();
    format!(
        "{model} ({}) is {}, which can be tuned for {}, not for {task}. For {task} take {}",
        family.name,
        family.kind,
        tasks.join(" and "),
        fitting.join(" or ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_what_would_do() {
        let bart = architecture::find("BartForConditionalGeneration").unwrap();
        let text = refusal("facebook/bart-base", bart, Task::ExtractiveQuestionAnswering);
        assert!(
            text.contains("can be tuned for summarization, not for extractive-question-answering"),
            "{text}"
        );
        assert!(text.contains("take a decoder-only model"), "{text}");
    }

    #[test]
    fn what_goes_together_is_let_through_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let base = |architecture: &str| {
            let config = serde_json::json!({"architectures": [architecture]});
            types::files::write_json(&folder.path().join("config.json"), &config).unwrap();
            Reached::Here(store::BaseModel { name: "mine".into(), dir: folder.path().into() })
        };
        let fits = |architecture: &str, task| check(&base(architecture), task, Strategy::Sft).is_ok();
        for &task in Task::ALL {
            assert!(fits("LlamaForCausalLM", task), "a decoder takes {task}");
            assert!(fits("MadeUpForNothing", task), "what is not known is the engine's to refuse");
        }
        assert!(fits("T5ForConditionalGeneration", Task::TextGeneration));
        assert!(!fits("BartForConditionalGeneration", Task::TextGeneration));
        let on_hub = Reached::OnHub {
            repo: "google-t5/t5-small".into(),
            sha: String::new(),
            dir: folder.path().into(),
            missing: 0,
        };
        assert!(check(&on_hub, Task::Summarization, Strategy::Sft).is_ok());
        let refused = check(&on_hub, Task::ExtractiveQuestionAnswering, Strategy::Sft).unwrap_err();
        assert_eq!(refused.status_code, 400, "{refused:?}");
        let refused = check(&on_hub, Task::Summarization, Strategy::Dpo).unwrap_err();
        assert!(
            refused.to_string().contains("Use strategy sft, or take a decoder-only model"),
            "{refused:?}"
        );
        assert!(check(&base("LlamaForCausalLM"), Task::Summarization, Strategy::Dpo).is_ok());
    }
}
