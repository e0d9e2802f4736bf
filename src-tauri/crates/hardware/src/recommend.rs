//! Which models suit a task on this machine: what the engine trains, what fits, in the catalogue's order.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use types::{Profile, Strategy, Task, TrainingConfig, architecture::ModelKind, run::STARTER};

use crate::{
    Catalogue, CatalogueModel, Fit, FreeMemory, Hardware, MemoryEstimate, MemoryPlan, Settings, catalogue,
    estimate_memory,
};

/// What a recommendation depends on besides the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Situation<'a> {
    /// Memory that a run could take now.
    pub free: FreeMemory,
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
    /// Rows that are computed at once in the estimate.
    pub batch_size: u32,
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
            let needed = if situation.offline && !cached {
                None
            } else {
                needs(task, model, &settings, situation.free)
            };
            let possible = best(model, cached, needed?);
            // The starter is small enough to try where nothing else fits.
            possible.filter(|p| p.fit != Fit::TooLarge || model.name == STARTER)
        })
        .collect();
    // On a card, what there are no kernels of ours for is no place to start, but for small models made for one task.
    let card = situation.free.card.is_some();
    let suits = |p: &PossibleModel| {
        let kind = types::architecture::find(&p.model.architecture).map(|family| family.kind);
        let reference = p.model.shape.as_ref().is_some_and(|shape| shape.reference_only);
        !card || !reference || kind != Some(ModelKind::Causal)
    };
    let recommended = possible.iter().find(|p| p.fit == Fit::Fits && suits(p));
    let recommended = recommended.map_or(STARTER, |p| &p.model.name).to_owned();
    Recommendation { task, profile: hardware.profile, recommended, possible }
}

fn is_cached(name: &str, cached: &[String]) -> bool {
    cached.iter().any(|found| found.eq_ignore_ascii_case(name))
}

/// One way to train a model, and what it needs.
struct Need {
    strategy: Strategy,
    bf16: bool,
    batch_size: u32,
    memory: MemoryEstimate,
    fit: Fit,
}

/// What a model needs for each strategy that the engine carries out, in f32 and in bf16, first in what the machine's settings say,
/// on a card also a row at a time. `None` where the engine does not train the model.
fn needs(task: Task, model: &CatalogueModel, settings: &Settings, free: FreeMemory) -> Option<Vec<Need>> {
    let shape = model.shape.as_ref().filter(|_| model.trainable())?;
    let mut found = Vec::new();
    let (sizes, precisions) = ([settings.per_device_train_batch_size, 1], [settings.bf16, !settings.bf16]);
    for &strategy in Strategy::ALL {
        for (batch_size, bf16) in sizes.into_iter().flat_map(|size| precisions.map(|bf16| (size, bf16))) {
            let Some(config) = config(task, &model.name, settings, strategy, bf16, batch_size) else {
                continue;
            };
            let plan = MemoryPlan::new(&config, shape, None).placed(free);
            // The batches of cards are large, and smaller ones cost little time there.
            if batch_size < sizes[0] && !plan.card {
                continue;
            }
            let memory = estimate_memory(shape, &plan);
            let fit = Fit::of(memory.total, free.of(&plan));
            found.push(Need { strategy, bf16, batch_size, memory, fit });
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
    batch_size: u32,
) -> Option<TrainingConfig> {
    let mut request = serde_json::to_value(settings).ok()?;
    let request = request.as_object_mut()?;
    let quantised = strategy == Strategy::Qlora;
    let own = json!({
        "task": task, "model_name": model, "dataset": "any", "strategy": strategy, "bf16": bf16,
        "use_4bit": quantised, "per_device_train_batch_size": batch_size,
    });
    if let Value::Object(own) = own {
        request.extend(own);
    }
    TrainingConfig::from_json(request).ok()
}

/// The way that fits best; of two that fit alike, the earlier.
fn best(model: &CatalogueModel, cached: bool, needs: Vec<Need>) -> Option<PossibleModel> {
    let worse = |fit: Fit| match fit {
        Fit::Fits => 0,
        Fit::Tight => 1,
        Fit::TooLarge => 2,
    };
    let least = needs.into_iter().min_by_key(|need| worse(need.fit))?;
    let Need { strategy, bf16, batch_size, memory, fit } = least;
    Some(PossibleModel { model: model.clone(), cached, strategy, bf16, batch_size, fit, memory })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Card, NO_GPU};

    const GIB: u64 = 1 << 30;

    /// A made-up machine; all of its memory but 2 GB is free, and all of the card's but 1 GB.
    fn machine(ram: u64, vram: u64) -> (Hardware, FreeMemory) {
        let card = Card {
            name: "A GPU".into(),
            memory_free_bytes: Some(vram.saturating_sub(1) * GIB),
            ..Card::default()
        };
        let hardware = Hardware {
            gpu_name: if vram == 0 { NO_GPU } else { "A GPU" }.to_owned(),
            gpu_memory_gb: vram as f64,
            ram_gb: ram as f64,
            disk_space_gb: 100.0,
            cpu_cores: 4,
            cuda_version: None,
            free_memory: ram.saturating_sub(2) * GIB,
            card: (vram > 0).then_some(card),
            profile: crate::profile::of(vram as f64, ram as f64),
            fast_bf16: vram > 0,
        };
        let free = hardware.free();
        (hardware, free)
    }

    fn ask(task: Task, ram: u64, vram: u64) -> Recommendation {
        let (hardware, free) = machine(ram, vram);
        recommend(task, &hardware, Situation { free, ..Situation::default() })
    }

    #[test]
    fn machines_of_every_size_get_a_model_that_fits() {
        let small = "HuggingFaceTB/SmolLM2-360M-Instruct";
        let cases = [
            (1, 0, STARTER),
            (4, 0, small),
            (8, 0, small),
            (16, 0, small),
            (64, 0, small),
            (16, 4, small),
            (16, 8, "meta-llama/Llama-3.2-3B-Instruct"),
            (64, 12, "qwen/Qwen2.5-7B"),
            (64, 16, "meta-llama/Llama-3.1-8B-Instruct"),
            (64, 24, "meta-llama/Llama-3.1-8B-Instruct"),
            (128, 24, "meta-llama/Llama-3.1-8B-Instruct"),
        ];
        let got = cases.map(|(ram, vram, _)| (ram, vram, ask(Task::TextGeneration, ram, vram).recommended));
        let want = cases.map(|(ram, vram, want)| (ram, vram, want.to_owned()));
        assert_eq!(got, want, "GB of memory, GB on the GPU, model to start with");
    }

    #[test]
    fn only_what_trains_and_fits_is_named() {
        for &task in Task::ALL {
            for (ram, vram) in [(2, 0), (4, 0), (8, 0), (16, 4), (16, 8), (32, 12), (64, 24), (512, 80)] {
                let got = ask(task, ram, vram);
                let (_, free) = machine(ram, vram);
                let what = format!("{task}, {ram} GB, GPU with {vram} GB");
                assert!(
                    got.possible.iter().any(|p| p.model.name == STARTER),
                    "{what}: the starter is possible"
                );
                for p in &got.possible {
                    assert!(p.model.trainable(), "{what}: {} trains", p.model.name);
                    let here = free.card.unwrap_or(free.machine);
                    assert_eq!(p.fit, Fit::of(p.memory.total, here), "{what}: {}", p.model.name);
                    assert!(p.fit != Fit::TooLarge || p.model.name == STARTER, "{what}: {}", p.model.name);
                    let settings = machine(ram, vram).0.settings();
                    let config = config(task, &p.model.name, &settings, p.strategy, p.bf16, p.batch_size);
                    assert!(config.unwrap().unsupported().is_empty(), "{what}: the engine carries it out");
                }
                let chosen = got.possible.iter().find(|p| p.model.name == got.recommended).unwrap();
                assert!(
                    chosen.fit == Fit::Fits || got.recommended == STARTER,
                    "{what}: tight is not recommended"
                );
            }
        }
    }

    #[test]
    fn offline_only_models_on_this_machine_count() {
        let (hardware, free) = machine(16, 0);
        let mut situation = Situation { free, offline: true, cached: &[] };
        let got = recommend(Task::Summarization, &hardware, situation);
        assert_eq!((got.recommended.as_str(), got.possible.len()), (STARTER, 1), "nothing is cached");

        // The case of a repository's name does not matter, and what is not known stays out.
        let cached = ["huggingfacetb/smollm2-135m-instruct", "google/flan-t5-small", "someone/something"]
            .map(str::to_owned);
        situation.cached = &cached;
        let got = recommend(Task::Summarization, &hardware, situation);
        let names: Vec<&str> = got.possible.iter().map(|p| p.model.name.as_str()).collect();
        assert_eq!(names, ["google/flan-t5-small", "HuggingFaceTB/SmolLM2-135M-Instruct", STARTER]);
        assert_eq!(got.recommended, names[0]);
        assert!(got.possible.iter().all(|p| p.cached));
    }

    #[test]
    fn fewer_bits_are_taken_where_more_do_not_fit() {
        use Strategy::{Qlora, Sft};
        let way = |name: &str, ram: u64, vram: u64| {
            let got = ask(Task::TextGeneration, ram, vram).possible;
            got.into_iter().find(|p| p.model.name.ends_with(name)).map(|p| (p.strategy, p.bf16))
        };
        let small = [3, 5, 8, 64].map(|ram| way("1.7B-Instruct", ram, 0));
        let want = [None, Some((Qlora, false)), Some((Sft, true)), Some((Sft, false))];
        assert_eq!(
            small, want,
            "f32 takes 7 GB, bf16 half of it, four bits a fourth of that and the embeddings"
        );
        let large =
            [8, 12, 16, 48].map(|vram| way("Llama-3.1-8B-Instruct", 64, vram).map(|(strategy, _)| strategy));
        assert_eq!(
            large,
            [None, Some(Qlora), Some(Qlora), Some(Sft)],
            "an 8B takes 16 GB of a card in bf16, and a third of that in four bits"
        );
    }

    /// What stands between these lines of the README.
    const TABLE: [&str; 2] = ["<!-- recommendations -->\n", "<!-- /recommendations -->\n"];

    /// First choices and what they need, for computers of these sizes.
    fn table() -> String {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let cell = |task: Task, ram: u64| {
            let got = ask(task, ram, 0);
            let named = |p: &PossibleModel| {
                let precision = if p.bf16 { "bf16" } else { "f32" };
                format!("{} ({} MB, {} {precision})", p.model.name, megabytes(p.memory.total), p.strategy)
            };
            let first = got.possible.iter().find(|p| p.model.name == got.recommended).map(named);
            let fits = got.possible.iter().filter(|p| p.fit == Fit::Fits);
            let largest = fits.max_by_key(|p| p.model.parameters).map(named);
            format!("{}<br>largest: {}", first.unwrap_or_default(), largest.unwrap_or_default())
        };
        let mut table = format!(
            "| memory | {} |\n",
            Task::ALL.iter().map(|task| task.name()).collect::<Vec<_>>().join(" | ")
        );
        table.push_str(&format!("| --- |{}\n", " --- |".repeat(Task::ALL.len())));
        for ram in [4, 8, 16, 32, 64] {
            let cells: Vec<String> = Task::ALL.iter().map(|&task| cell(task, ram)).collect();
            table.push_str(&format!("| {ram} GB | {} |\n", cells.join(" | ")));
        }
        table
    }

    /// Written by `cargo xtask codegen`.
    #[test]
    fn the_readme_tells_the_recommendations() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().join("README.md");
        let readme = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        let (before, rest) = readme.split_once(TABLE[0]).expect("the README has a place for the table");
        let (committed, after) = rest.split_once(TABLE[1]).expect("the place for the table ends");
        let table = table();
        if std::env::var_os("MODELFORGE_WRITE_GENERATED").is_some() {
            let text = [before, TABLE[0], &table, TABLE[1], after].concat();
            types::files::write(&path, text.as_bytes()).unwrap();
        } else {
            assert!(committed == table, "README.md is stale: run `cargo xtask codegen`");
        }
    }
}
