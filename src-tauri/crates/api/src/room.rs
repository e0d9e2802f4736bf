//! Whether this machine has the memory and the disk that a run needs, asked before anything of it is made.

use std::fs;

use hardware::{
    Card, DiskEstimate, Fit, FreeMemory, MARGIN_PERCENT, MemoryPlan, ModelShape, Nearest, estimate_disk,
    estimate_memory, nearest,
};
use serde_json::Value;
use store::Home;
use types::{ApiError, TrainingConfig};

use crate::{
    Api,
    base::Reached,
    estimate::{OnProcessor, measure_rows, shape_of},
    job::Checked,
};

impl Api {
    /// Refuses a run that cannot fit into the memory that is free, with the settings nearest to it that do, and one that the disk has
    /// no room for. What cannot be told is let through.
    ///
    /// # Errors
    /// 400 with what is needed and what there is.
    pub(crate) async fn check_room(&self, checked: &Checked) -> Result<(), ApiError> {
        self.check_download(&checked.base)?;
        // The engine tells more of a model that it cannot read.
        let Ok(shape) = shape_of(&checked.base) else { return Ok(()) };
        let config = &checked.config;
        let plan = MemoryPlan::new(config, &shape, None);
        self.check_disk(&disk_of(checked, &shape, &plan))?;
        let hardware = self.hardware().await?;
        let (places, card) = (hardware.free(), hardware.card);
        let plan = plan.placed(places);
        let free = places.of(&plan);
        // Rows are tokenized only where their lengths decide.
        if free == 0 || is_possible(&shape, &plan, free) || !matches!(checked.base, Reached::Here(_)) {
            return Ok(());
        }
        let rows = {
            let (checked, shape) = (checked.clone(), shape.clone());
            crate::blocking(move || measure_rows(&checked, &shape)).await??
        };
        let mut plan = MemoryPlan::new(config, &shape, Some(rows.longest)).placed(places);
        plan.limit_rows(config, rows.count);
        if is_possible(&shape, &plan, free) {
            return Ok(());
        }
        let need = estimate_memory(&shape, &plan).total;
        let found = nearest(config, &shape, Some(rows.longest), places);
        let elsewhere = on_processor(config, &shape, &plan, places);
        let card = card.filter(|_| plan.card);
        Err(ApiError::bad_request(refusal(need, free, card.as_ref(), found.as_ref(), elsewhere)))
    }

    /// A download goes into the cache, which can be on another disk than the runs.
    fn check_download(&self, base: &Reached) -> Result<(), ApiError> {
        let (Reached::OnHub { repo, missing, .. }, Some(cache)) = (base, store::hub_cache()) else {
            return Ok(());
        };
        match hardware::free_disk(&cache) {
            Some(free) if free < *missing => Err(ApiError::bad_request(format!(
                "{repo} takes {} more on the disk of {}, which has {} free. Make room there, or choose another cache by HF_HUB_CACHE.",
                size(*missing),
                cache.display(),
                size(free)
            ))),
            _ => Ok(()),
        }
    }

    fn check_disk(&self, disk: &DiskEstimate) -> Result<(), ApiError> {
        let folder = self.store.home().runs();
        match hardware::free_disk(&folder) {
            Some(free) if free < disk.total => Err(ApiError::bad_request(format!(
                "This run takes about {} on the disk of {}, which has {} free. Make room there, or choose another data folder by {}.",
                size(disk.total),
                folder.display(),
                size(free),
                store::HOME_VARIABLE
            ))),
            _ => Ok(()),
        }
    }
}

/// What a checked run takes on the disk.
pub(crate) fn disk_of(checked: &Checked, shape: &ModelShape, plan: &MemoryPlan) -> DiskEstimate {
    let bytes = |path: &std::path::Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let files = checked.datasets().map(bytes);
    estimate_disk(shape, plan, files.fold(0, u64::saturating_add))
}

/// Free bytes where runs are kept.
pub(crate) fn free_disk(home: &Home) -> Option<u64> {
    hardware::free_disk(&home.runs())
}

/// Whether a run could fit though the estimate is as far too high as it ever is.
fn is_possible(shape: &ModelShape, plan: &MemoryPlan, free: u64) -> bool {
    estimate_memory(shape, plan).total / (100 + MARGIN_PERCENT) * 100 <= free
}

fn refusal(
    need: u64,
    free: u64,
    card: Option<&Card>,
    found: Option<&Nearest>,
    elsewhere: Option<OnProcessor>,
) -> String {
    let (need, free) = (size(need), size(free));
    let memory = card.map_or_else(|| "memory".to_owned(), |card| format!("the memory of the {}", card.name));
    let what = format!("This run needs about {need} of {memory}, and {free} are free.");
    let elsewhere = elsewhere.map_or_else(String::new, |there| {
        let need = size(there.memory_bytes);
        format!(" As it is, it fits on the processor (Settings, Hardware), with about {need}, and takes longer there.")
    });
    let Some(found) = found else {
        return format!(
            "{what} No settings make it fit: choose a smaller model or close other programs.{elsewhere}"
        );
    };
    let changes: Vec<String> =
        found.changes.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
    format!(
        "{what} It fits with {}, which needs about {}. Closing other programs helps too.{elsewhere}",
        changes.join(", "),
        size(found.memory_bytes)
    )
}

/// A value without the quotes of a text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `1.2 GB` or `350 MB`, in units of 10^9 and 10^6 bytes.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}

/// What a run that does not fit on its card needs on the processor, where it can be computed and fits.
pub(crate) fn on_processor(
    config: &TrainingConfig,
    shape: &ModelShape,
    plan: &MemoryPlan,
    free: FreeMemory,
) -> Option<OnProcessor> {
    if !plan.card || !config.unsupported().is_empty() {
        return None;
    }
    let there = FreeMemory { card: None, ..free };
    let memory_bytes = estimate_memory(shape, &plan.clone().placed(there)).total;
    let fit = Fit::of(memory_bytes, there.machine);
    (fit != Fit::TooLarge).then_some(OnProcessor { memory_bytes, fit })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_names_what_is_missing_and_what_would_do() {
        let changes = json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8});
        let found = Nearest {
            changes: changes.as_object().unwrap().clone(),
            memory_bytes: 3_100_000_000,
            fit: Fit::Fits,
        };
        assert_eq!(
            refusal(12_340_000_000, 7_900_000_000, None, Some(&found), None),
            "This run needs about 12.3 GB of memory, and 7.9 GB are free. It fits with per_device_train_batch_size 1, \
             gradient_accumulation_steps 8, which needs about 3.1 GB. Closing other programs helps too."
        );
        let none = refusal(5_000_000_000, 1_000_000, None, None, None);
        assert!(
            none.contains("1 MB are free. No settings make it fit: choose a smaller model or close"),
            "{none}"
        );
        let card = Card { name: "NVIDIA X".into(), ..Card::default() };
        let there = OnProcessor { memory_bytes: 6_000_000_000, fit: Fit::Fits };
        let on_card = refusal(5_000_000_000, 1_000_000, Some(&card), None, Some(there));
        assert!(on_card.starts_with("This run needs about 5.0 GB of the memory of the NVIDIA X, and 1 MB"));
        let end = "As it is, it fits on the processor (Settings, Hardware), with about 6.0 GB, and takes longer there.";
        assert!(on_card.ends_with(end), "{on_card}");
    }

    #[test]
    fn the_processor_is_named_where_the_card_is_too_small_and_it_is_not() {
        let config = |changes: Value| {
            let mut request = json!({"task": "text-generation", "model_name": "m", "dataset": "d"});
            request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            TrainingConfig::from_json(request.as_object().unwrap()).unwrap()
        };
        let shape = json!({
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "vocab_size": 1000, "max_position_embeddings": 4096,
        });
        let shape = ModelShape::from_config(&shape).unwrap();
        let ask = |changes: Value, machine, card| {
            let (config, free) = (config(changes), FreeMemory { machine, card });
            on_processor(&config, &shape, &MemoryPlan::new(&config, &shape, Some(100)).placed(free), free)
        };
        let there = ask(json!({}), 1 << 34, Some(1)).unwrap();
        assert_eq!(there.fit, Fit::Fits);
        assert_eq!(ask(json!({}), there.memory_bytes / 2, Some(1)), None, "it does not fit there either");
        assert_eq!(ask(json!({"fp16": true}), 1 << 34, Some(1)), None, "only a card computes in fp16");
        assert_eq!(ask(json!({}), 1 << 34, None), None, "it is computed there anyhow");
    }
}
