//! An adapter on a model and in PEFT's two files, `adapter_config.json` and `adapter_model.safetensors`.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use crate::{
    CausalLm, LoraConfig, ModelError,
    json::JsonFile,
    lora::{Adapter, LoraLinear},
    weights::Weights,
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The last part of a module's path: `q_proj` of `model.layers.0.self_attn.q_proj`.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The layers that `config` adapts; an error names a target that the model does not have.
fn targets<'m>(
    model: &'m mut dyn CausalLm,
    config: &LoraConfig,
) -> Result<Vec<(String, &'m mut LoraLinear)>, ModelError> {
    config.check()?;
    let linears = model.linears();
    let Some(wanted) = &config.target_modules else { return Ok(linears) };
    if let Some(name) =
        wanted.iter().find(|name| !linears.iter().any(|(path, _)| last(path) == name.as_str()))
    {
        let mut valid: Vec<&str> = Vec::new();
        for (path, _) in &linears {
            if !valid.contains(&last(path)) {
                valid.push(last(path));
            }
        }
        return Err(ModelError::UnknownModule { name: name.clone(), valid: valid.join(", ") });
    }
    Ok(linears.into_iter().filter(|(path, _)| wanted.iter().any(|name| name == last(path))).collect())
}

impl dyn CausalLm + '_ {
    /// Puts a fresh adapter on the model in place of any other; the same seed gives the same adapter.
    pub fn attach_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<(), ModelError> {
        let device = self.device().clone();
        let mut fresh = BTreeMap::new();
        for (path, linear) in targets(self, config)? {
            let (out, inputs) = linear.shape()?;
            let adapter = Adapter::new(config, out, inputs, &path, seed, &device)?;
            fresh.insert(path, adapter);
        }
        self.replace_adapters(fresh);
        Ok(())
    }

    /// Takes the adapter off.
    pub fn detach_lora(&mut self) {
        self.replace_adapters(BTreeMap::new());
    }

    fn replace_adapters(&mut self, mut adapters: BTreeMap<String, Adapter>) {
        for (path, linear) in self.linears() {
            linear.set_adapter(adapters.remove(&path));
        }
    }

    /// Writes the adapter into `folder` as PEFT does. `base_model` is what PEFT calls `base_model_name_or_path`.
    pub fn save_adapter(
        &self,
        folder: &Path,
        config: &LoraConfig,
        base_model: &str,
    ) -> Result<(), ModelError> {
        let weights = folder.join(WEIGHTS);
        let mut tensors = Vec::new();
        let mut modules: Vec<String> = Vec::new();
        for (name, var) in self.trainable() {
            let bytes: Vec<u8> =
                var.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
            let module = last(
                name.trim_end_matches(".weight").trim_end_matches(".lora_A").trim_end_matches(".lora_B"),
            );
            if !modules.iter().any(|m| m == module) {
                modules.push(module.to_owned());
            }
            tensors.push((name, var.dims().to_vec(), bytes));
        }
        let wrong = |e: safetensors::SafeTensorError| ModelError::File {
            path: weights.clone(),
            problem: e.to_string(),
        };
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(wrong)?;
        let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(wrong)?;
        types::files::write(&weights, &bytes)
            .map_err(|source| ModelError::Io { path: weights.clone(), source })?;
        let path = folder.join(CONFIG);
        types::files::write_json(&path, &peft_config(config, &modules, base_model))
            .map_err(|source| ModelError::Io { path, source })
    }

    /// Puts the adapter in `folder` on the model, in place of any other, and gives its settings.
    ///
    /// # Errors
    /// When it was made for another model, or uses a feature of PEFT that is not computed here.
    pub fn load_adapter(&mut self, folder: &Path) -> Result<LoraConfig, ModelError> {
        let (config, scale, mut weights) = open(folder, self.device())?;
        let mut loaded = BTreeMap::new();
        for (path, linear) in targets(self, &config)? {
            let (out, inputs) = linear.shape()?;
            let mut take = |part: &str, shape: &[usize]| -> Result<Tensor, ModelError> {
                weights.take(&tensor_name(&path, part), shape)
            };
            let (a, b) = (take("lora_A", &[config.rank, inputs])?, take("lora_B", &[out, config.rank])?);
            let mut adapter = Adapter::from_tensors(&a, &b, &config)?;
            adapter.scale = scale;
            loaded.insert(path, adapter);
        }
        weights.finish(|_| false)?;
        self.replace_adapters(loaded);
        Ok(config)
    }
}

/// The adapter in `folder`: its settings, the factor of the update, and its tensors.
pub(crate) fn open(folder: &Path, device: &Device) -> Result<(LoraConfig, f64, Weights), ModelError> {
    let (config, scale) = read_config(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    if !path.is_file() && folder.join("adapter_model.bin").is_file() {
        let problem = "has its weights only as adapter_model.bin, a pickle, which can run code when it is opened; \
                       save the adapter as safetensors";
        return Err(ModelError::File { path: folder.to_owned(), problem: problem.into() });
    }
    Ok((config, scale, Weights::open_file(&path, DType::F32, device)?))
}

/// PEFT's name of an adapter's tensor; `part` is `lora_A` or `lora_B`.
pub(crate) fn tensor_name(path: &str, part: &str) -> String {
    format!("base_model.model.{path}.{part}.weight")
}

/// `adapter_config.json`.
fn peft_config(config: &LoraConfig, modules: &[String], base_model: &str) -> Value {
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": number(config.alpha),
        "lora_bias": false,
        "lora_dropout": config.dropout,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false
    })
}

/// A whole number without `.0`, as PEFT writes it.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// Features of PEFT that change what an adapter computes and are not computed here.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("use_dora", "DoRA is not supported: it must be false"),
    ("use_qalora", "QA-LoRA is not supported: it must be false"),
    ("use_bdlora", "block-diagonal LoRA is not supported: it must be false"),
    ("fan_in_fan_out", "transposed weights are not supported: it must be false"),
    ("lora_bias", "a bias in the adapter is not supported: it must be false"),
    ("rank_pattern", "the rank must be the same in every layer"),
    ("alpha_pattern", "alpha must be the same in every layer"),
    ("layers_to_transform", "the adapter must be on every layer"),
    ("layers_pattern", "the adapter must be on every layer"),
    ("layer_replication", "repeated layers are not supported"),
    ("exclude_modules", "name the modules in target_modules instead"),
    ("modules_to_save", "whole modules beside the adapter are not supported"),
    ("target_parameters", "only linear layers can be adapted"),
    ("trainable_token_indices", "trained embeddings are not supported"),
    ("alora_invocation_tokens", "activated LoRA is not supported"),
    ("arrow_config", "Arrow routing is not supported"),
    ("kasa_config", "KaSA is not supported"),
    ("velora_config", "VeLoRA is not supported"),
    ("monteclora_config", "MonteCLoRA is not supported"),
];

/// The settings in an `adapter_config.json`, and the factor of the update.
fn read_config(path: &Path) -> Result<(LoraConfig, f64), ModelError> {
    let json = JsonFile::read(path)?;
    let peft_type = json.required("peft_type", json.text("peft_type")?)?;
    if peft_type != "LORA" {
        return Err(json.wrong("peft_type", format!("only LORA adapters are supported, not {peft_type:?}")));
    }
    if let Some(bias) = json.text("bias")?.filter(|&b| b != "none") {
        return Err(
            json.wrong("bias", format!("trained biases are not supported: {bias:?} must be \"none\""))
        );
    }
    if let Some(method) = json.get("init_lora_weights").and_then(Value::as_str)
        && !["gaussian", "eva", "orthogonal"].contains(&method)
    {
        let problem = format!("{method:?} changes the base model's weights, which is not supported");
        return Err(json.wrong("init_lora_weights", problem));
    }
    for &(field, problem) in UNSUPPORTED {
        let absent = match json.get(field) {
            None | Some(Value::Bool(false)) => true,
            Some(Value::Array(a)) => a.is_empty(),
            Some(Value::Object(o)) => o.is_empty(),
            Some(_) => false,
        };
        if !absent {
            return Err(json.wrong(field, problem));
        }
    }
    let rank = json.required("r", json.size("r", 1..=4096)?)?;
    let alpha = json.required("lora_alpha", json.positive("lora_alpha")?)?;
    let dropout = match json.get("lora_dropout") {
        None => 0.0,
        Some(v) => v
            .as_f64()
            .filter(|v| (0.0..1.0).contains(v))
            .ok_or_else(|| json.wrong("lora_dropout", format!("must be at least 0 and below 1, not {v}")))?,
    };
    let target_modules = match json.get("target_modules") {
        Some(Value::String(all)) if all == "all-linear" => None,
        Some(Value::Array(names)) if !names.is_empty() && names.iter().all(Value::is_string) => {
            Some(names.iter().filter_map(|n| n.as_str()).map(|n| last(n).to_owned()).collect())
        }
        _ => return Err(json.wrong("target_modules", "must be a list of module names or \"all-linear\"")),
    };
    let scale = if json.flag("use_rslora")? { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
    Ok((LoraConfig { rank, alpha, dropout, target_modules }, scale))
}
