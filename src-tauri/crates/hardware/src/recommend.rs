//! Which models suit a task on this machine: what the engine trains, what fits, in the catalogue's order.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use types::{Profile, Strategy, Task, TrainingConfig};

use crate::{
    Catalogue, CatalogueModel, Fit, Hardware, MemoryEstimate, MemoryPlan, STARTER, Settings, catalogue,
    estimate_memory,
};

/// What a recommendation depends on besides the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Situation<'a> {
    /// Memory that a run could take now, in bytes.
    pub free_memory: u64,
    /// Nothing can be downloaded: only models that are on this machine count.
    pub offline: bool,
    /// Repositories that are on this machine.
    pub cached: &'a [String],
}

/// A model that can be trained on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PossibleModel {
    /// The model.
    #[serde(flatten)]
    pub model: CatalogueModel,
    /// Whether it is on this machine.
    pub cached: bool,
    /// The strategy that the estimate is for.
    pub strategy: Strategy,
    /// Whether the estimate is for bf16.
    pub bf16: bool,
    /// Whether that fits.
    pub fit: Fit,
    /// What it needs.
    pub memory: MemoryEstimate,
}

/// Models for a task on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Recommendation {
    /// The task.
    pub task: Task,
    /// The class of machine.
    pub profile: Profile,
    /// The model to start with: the first that fits with room to spare, else the bundled starter model.
    pub recommended: String,
    /// All models that fit, the one to try first at the front; the starter model is always among them.
    pub possible: Vec<PossibleModel>,
}

/// Recommends models of the app's catalogue.
pub fn recommend(task: Task, hardware: &Hardware, situation: Situation) -> Recommendation {
    from(catalogue(), task, hardware, situation)
}

fn from(catalogue: &Catalogue, task: Task, hardware: &Hardware, situation: Situation) -> Recommendation {
    let settings = hardware.settings();
    let possible: Vec<PossibleModel> = catalogue
        .preferred(task, hardware.profile)
        .filter_map(|model| {
            let cached = model.name == STARTER || is_cached(&model.name, situation.cached);
            let needed = if situation.offline && !cached { None } else { needs(task, model, &settings) };
            let possible = best(model, cached, needed?, situation.free_memory);
            // The starter is small enough to try where nothing else fits.
            possible.filter(|p| p.fit != Fit::TooLarge || model.name == STARTER)
        })
        .collect();
    let recommended =
        possible.iter().find(|p| p.fit == Fit::Fits).map_or(STARTER, |p| &p.model.name).to_owned();
    Recommendation { task, profile: hardware.profile, recommended, possible }
}

fn is_cached(name: &str, cached: &[String]) -> bool {
    cached.iter().any(|found| found.eq_ignore_ascii_case(name))
}

/// One way to train a model, and what it needs.
type Need = (Strategy, bool, MemoryEstimate);

/// What a model needs for each strategy that the engine carries out, in f32 and in bf16; `None` where the engine does
/// not train the model.
fn needs(task: Task, model: &CatalogueModel, settings: &Settings) -> Option<Vec<Need>> {
    let shape = model.shape.as_ref().filter(|_| model.trainable())?;
    let mut found = Vec::new();
    for &strategy in Strategy::ALL {
        for bf16 in [false, true] {
            let Some(config) = config(task, &model.name, settings, strategy, bf16) else { continue };
            if let Ok(plan) = MemoryPlan::new(&config, shape, None) {
                found.push((strategy, bf16, estimate_memory(shape, &plan)));
            }
        }
    }
    Some(found)
}

/// The machine's settings for one way of training.
fn config(
    task: Task,
    model: &str,
    settings: &Settings,
    strategy: Strategy,
    bf16: bool,
) -> Option<TrainingConfig> {
    let mut request = serde_json::to_value(settings).ok()?;
    let request = request.as_object_mut()?;
    let quantised = strategy == Strategy::Qlora;
    let own = json!({
        "task": task, "model_name": model, "dataset": "any", "strategy": strategy, "bf16": bf16,
        "use_4bit": quantised,
    });
    if let Value::Object(own) = own {
        request.extend(own);
    }
    TrainingConfig::from_json(request).ok()
}

/// The way that fits best; of two that fit alike, the earlier.
fn best(model: &CatalogueModel, cached: bool, needs: Vec<Need>, free: u64) -> Option<PossibleModel> {
    let worse = |fit: Fit| match fit {
        Fit::Fits => 0,
        Fit::Tight => 1,
        Fit::TooLarge => 2,
    };
    needs
        .into_iter()
        .map(|(strategy, bf16, memory)| (strategy, bf16, memory, Fit::of(memory.total, free)))
        .min_by_key(|&(.., fit)| worse(fit))
        .map(|(strategy, bf16, memory, fit)| PossibleModel {
            model: model.clone(),
            cached,
            strategy,
            bf16,
            fit,
            memory,
        })
}
