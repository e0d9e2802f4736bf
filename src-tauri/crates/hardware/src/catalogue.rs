//! The models that the app knows: `catalogue.json`, embedded.
//!
//! Facts come from each model's page and `config.json` on the Hub. What a model needs is not stored; the estimator
//! computes it from the shape.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{Profile, Task, architecture};

use crate::ModelShape;

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// The Hub repository, or `modelforge/starter`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The line of models it belongs to.
    pub family: String,
    /// As `config.json` names it.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// SPDX identifier in lower case, or the name its page gives the license.
    pub license: String,
    /// Whether the Hub asks for a token of an account that has accepted the license; absent where that has changed over
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated: Option<bool>,
    /// What it is good at.
    pub tasks: Vec<Task>,
    /// The longest sequence in tokens.
    pub context_length: u64,
    /// ISO 639-1 codes of the languages its page names; absent where it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub languages: Option<Vec<String>>,
    /// The shape of a decoder-only model; absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<ModelShape>,
}

impl CatalogueModel {
    /// Whether this version trains its architecture.
    pub fn trainable(&self) -> bool {
        self.shape.is_some() && architecture::find(&self.architecture).is_some()
    }
}

/// Everything in `catalogue.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Every model.
    pub models: Vec<CatalogueModel>,
    /// For each task and class of machine the names of models, the one to try first at the front.
    preferences: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// A test holds it to be valid.
static CATALOGUE: LazyLock<Catalogue> =
    LazyLock::new(|| serde_json::from_str(include_str!("../catalogue.json")).unwrap_or_default());

/// The catalogue that ships with the app.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

impl Catalogue {
    /// The model of this name; the Hub ignores case, and so does this.
    pub fn find(&self, name: &str) -> Option<&CatalogueModel> {
        self.models.iter().find(|model| model.name.eq_ignore_ascii_case(name))
    }

    /// The models for a task on a class of machine, the one to try first at the front.
    pub fn preferred(&self, task: Task, profile: Profile) -> impl Iterator<Item = &CatalogueModel> {
        let names = self.preferences.get(task.name()).and_then(|profiles| profiles.get(profile.name()));
        names.into_iter().flatten().filter_map(|name| self.find(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use types::run::STARTER;

    use super::*;

    fn parsed() -> Catalogue {
        serde_json::from_str(include_str!("../catalogue.json")).expect("catalogue.json is valid")
    }

    #[test]
    fn every_entry_is_whole_and_stands_once() {
        let catalogue = parsed();
        assert_eq!(&catalogue, super::catalogue(), "the embedded file is the one that is used");
        let mut seen = BTreeSet::new();
        for model in &catalogue.models {
            let name = &model.name;
            assert!(seen.insert(name.to_lowercase()), "{name} stands once");
            let parts: Vec<&str> = name.split('/').collect();
            assert!(parts.len() == 2 && parts.iter().all(|p| !p.is_empty()), "{name} is owner/name");
            let texts = [&model.title, &model.family, &model.architecture, &model.license];
            assert!(texts.iter().all(|text| !text.trim().is_empty()), "{name} has all of its texts");
            assert!(!model.tasks.is_empty() && model.context_length > 0, "{name} has tasks and a context");
            let shaped = model.shape.as_ref().is_none_or(|s| s.context_length == model.context_length);
            assert!(shaped, "{name}: both context lengths are one");
            for code in model.languages.iter().flatten() {
                assert!(code.len() == 2 && code.chars().all(|c| c.is_ascii_lowercase()), "{name}: {code}");
            }
        }
        assert!(catalogue.find(STARTER).is_some_and(CatalogueModel::trainable), "the starter can be trained");
    }

    #[test]
    fn parameters_follow_from_the_shape() {
        for model in &parsed().models {
            let Some(shape) = &model.shape else { continue };
            assert_eq!(shape.parameters(), model.parameters, "{}", model.name);
            let known = types::architecture::find(&model.architecture);
            let reference_only = known.is_some_and(|known| !known.fused);
            assert_eq!(shape.reference_only, reference_only, "{}: fused kernels or not", model.name);
        }
    }

    #[test]
    fn every_task_and_profile_has_an_order() {
        let catalogue = parsed();
        for &task in Task::ALL {
            for &profile in Profile::ALL {
                let listed = &catalogue.preferences[task.name()][profile.name()];
                let found: Vec<&CatalogueModel> = catalogue.preferred(task, profile).collect();
                let names: Vec<&String> = found.iter().map(|model| &model.name).collect();
                assert_eq!(
                    names,
                    listed.iter().collect::<Vec<_>>(),
                    "{task}, {profile}: every name is known"
                );
                assert!(found.iter().all(|m| m.tasks.contains(&task)), "{profile}: each is good at {task}");
                let once: BTreeSet<&String> = listed.iter().collect();
                assert_eq!(once.len(), listed.len(), "{task}, {profile}: each name stands once");
                assert_eq!(
                    listed.last().map(String::as_str),
                    Some(STARTER),
                    "the starter is the last resort"
                );
            }
        }
        assert_eq!(catalogue.preferences.len(), Task::ALL.len(), "no order for an unknown task");
        let first: Vec<&str> = catalogue
            .preferred(Task::TextGeneration, Profile::MidRange)
            .take(3)
            .map(|model| model.name.as_str())
            .collect();
        let documented = [
            "meta-llama/Llama-3.1-8B-Instruct",
            "qwen/Qwen2.5-7B",
            "mistralai/Mistral-Small-3.1-24B-Base-2503",
        ];
        assert_eq!(first, documented, "the documented order comes first");
    }
}
