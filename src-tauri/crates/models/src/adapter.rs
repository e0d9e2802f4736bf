//! An adapter on a model and in PEFT's two files, `adapter_config.json` and `adapter_model.safetensors`.

use std::{collections::BTreeMap, path::Path};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use types::architecture::ModelKind;

use crate::{
    LoraConfig, Model, ModelError,
    json::JsonFile,
    lora::{Adapter, LoraLinear},
    weights::Weights,
};

const CONFIG: &str = "adapter_config.json";
/// The file of an adapter's tensors.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// What the paths of the layers have in them that read the text of a model for texts and images.
const TEXT_PART: &str = ".language_model.";
/// PEFT's pattern of the layers beside them, which have linear layers of the same names.
const IMAGE_PARTS: &str = ".*(vision_tower|multi_modal_projector).*";

/// The last part of a module's path: `q_proj` of `model.layers.0.self_attn.q_proj`.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The layers that `config` adapts; an error names a target that the model does not have.
fn targets<'m, M: Model + ?Sized>(
    model: &'m mut M,
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

/// Puts a fresh adapter on a model in place of any other.
pub(crate) fn attach<M: Model + ?Sized>(
    model: &mut M,
    config: &LoraConfig,
    seed: u64,
) -> Result<(), ModelError> {
    let device = model.device().clone();
    let mut fresh = BTreeMap::new();
    for (path, linear) in targets(model, config)? {
        let (out, inputs) = linear.shape()?;
        let adapter = Adapter::new(config, out, inputs, &path, seed, &device)?;
        fresh.insert(path, adapter);
    }
    for (path, adapter) in &mut fresh {
        adapter.move_to(model.device_of(path))?;
    }
    replace(model, fresh);
    for (_, layer) in model.trained_layers() {
        layer.train()?;
    }
    Ok(())
}

/// Takes the adapter off a model.
pub(crate) fn detach<M: Model + ?Sized>(model: &mut M) {
    replace(model, BTreeMap::new());
    for (_, layer) in model.trained_layers() {
        layer.reset();
    }
}

fn replace<M: Model + ?Sized>(model: &mut M, mut adapters: BTreeMap<String, Adapter>) {
    for (path, linear) in model.linears() {
        linear.set_adapter(adapters.remove(&path));
    }
}

/// Writes the adapter of a model into `folder`.
pub(crate) fn save<M: Model + ?Sized>(
    model: &M,
    folder: &Path,
    config: &LoraConfig,
    base_model: &str,
) -> Result<(), ModelError> {
    let weights = folder.join(WEIGHTS);
    let mut tensors = Vec::new();
    let (mut adapted, mut whole): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (name, var) in model.trainable() {
        let bytes: Vec<u8> =
            var.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect();
        let (modules, path) = match module_of(&name) {
            Trained::Adapter(path) => (&mut adapted, path),
            Trained::Whole(path) => (&mut whole, path),
        };
        let module = last(path);
        if !modules.iter().any(|m| m == module) {
            modules.push(module.to_owned());
        }
        tensors.push((name, var.dims().to_vec(), bytes));
    }
    let wrong =
        |e: safetensors::SafeTensorError| ModelError::File { path: weights.clone(), problem: e.to_string() };
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
    let whole = (!whole.is_empty()).then_some(whole);
    let mut described = peft_config(config, &adapted, whole.as_deref(), base_model, model.view().kind());
    if tensors.iter().any(|(name, ..)| name.contains(TEXT_PART)) {
        described["exclude_modules"] = IMAGE_PARTS.into();
    }
    types::files::write_json(&path, &described).map_err(|source| ModelError::Io { path, source })
}

/// Where a trained tensor belongs, from its name.
enum Trained<'a> {
    /// A part of the adapter of this linear layer.
    Adapter(&'a str),
    /// A tensor of this layer, which is trained as a whole.
    Whole(&'a str),
}

fn module_of(name: &str) -> Trained<'_> {
    let path = name.trim_end_matches(".weight").trim_end_matches(".bias");
    match path.strip_suffix(".lora_A").or_else(|| path.strip_suffix(".lora_B")) {
        Some(path) => Trained::Adapter(path),
        None => Trained::Whole(path),
    }
}

/// Puts the adapter in `folder` on a model, in place of any other, and gives its settings.
pub(crate) fn load<M: Model + ?Sized>(model: &mut M, folder: &Path) -> Result<LoraConfig, ModelError> {
    let Opened { config, scale, modules_to_save, mut weights } = open(folder, model.device())?;
    let mut loaded = BTreeMap::new();
    for (path, linear) in targets(model, &config)? {
        let (out, inputs) = linear.shape()?;
        let mut take = |part: &str, shape: &[usize]| -> Result<Tensor, ModelError> {
            weights.take(&tensor_name(&path, part), shape)
        };
        let (a, b) = (take("lora_A", &[config.rank, inputs])?, take("lora_B", &[out, config.rank])?);
        let mut adapter = Adapter::from_tensors(&a, &b, &config)?;
        adapter.scale = scale;
        loaded.insert(path, adapter);
    }
    let mut layers = Vec::new();
    for (path, layer) in model.trained_layers() {
        if modules_to_save.iter().any(|name| name == last(&path)) {
            let mut fresh = layer.clone();
            fresh.train()?;
            for (part, var) in fresh.trained() {
                var.set(&weights.take(&whole_name(&path, part), var.dims())?)?;
            }
            layers.push((path, fresh));
        }
    }
    if let Some(unknown) =
        modules_to_save.iter().find(|name| !layers.iter().any(|(path, _)| last(path) == name.as_str()))
    {
        let problem = format!("module \"{unknown}\" is not trained as a whole in a model of this kind");
        return Err(ModelError::Field {
            path: folder.join(CONFIG),
            field: "modules_to_save".into(),
            problem,
        });
    }
    weights.finish(|_| false)?;
    for (path, adapter) in &mut loaded {
        adapter.move_to(model.device_of(path))?;
    }
    replace(model, loaded);
    for (path, layer) in model.trained_layers() {
        match layers.iter().find(|(name, _)| *name == path) {
            Some((_, trained)) => *layer = trained.clone(),
            None => layer.reset(),
        }
    }
    Ok(config)
}

/// An adapter's files, read.
pub(crate) struct Opened {
    /// Its settings.
    pub config: LoraConfig,
    /// The factor of the update.
    pub scale: f64,
    /// Layers that it holds as a whole.
    pub modules_to_save: Vec<String>,
    /// Its tensors.
    pub weights: Weights,
}

/// The adapter in `folder`.
pub(crate) fn open(folder: &Path, device: &Device) -> Result<Opened, ModelError> {
    let (config, scale, modules_to_save) = read_config(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    if !path.is_file() && folder.join("adapter_model.bin").is_file() {
        let problem = "has its weights only as adapter_model.bin, a pickle, which can run code when it is opened; \
                       save the adapter as safetensors";
        return Err(ModelError::File { path: folder.to_owned(), problem: problem.into() });
    }
    let weights = Weights::open_file(&path, DType::F32, device)?;
    Ok(Opened { config, scale, modules_to_save, weights })
}

/// PEFT's name of an adapter's tensor; `part` is `lora_A` or `lora_B`.
pub(crate) fn tensor_name(path: &str, part: &str) -> String {
    format!("base_model.model.{path}.{part}.weight")
}

/// PEFT's name of a tensor of a layer that is trained as a whole; `part` is `weight` or `bias`.
pub(crate) fn whole_name(path: &str, part: &str) -> String {
    format!("base_model.model.{path}.{part}")
}

/// `adapter_config.json`.
fn peft_config(
    config: &LoraConfig,
    modules: &[String],
    modules_to_save: Option<&[String]>,
    base_model: &str,
    kind: ModelKind,
) -> Value {
    let task_type = match kind {
        // A decoder with a head of one label.
        ModelKind::Causal if modules_to_save.is_some() => "SEQ_CLS",
        ModelKind::Causal => "CAUSAL_LM",
        ModelKind::Seq2Seq => "SEQ_2_SEQ_LM",
        ModelKind::Span => "QUESTION_ANS",
    };
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
        "modules_to_save": modules_to_save,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": modules,
        "task_type": task_type,
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
    ("target_parameters", "only linear layers can be adapted"),
    ("trainable_token_indices", "trained embeddings are not supported"),
    ("alora_invocation_tokens", "activated LoRA is not supported"),
    ("arrow_config", "Arrow routing is not supported"),
    ("kasa_config", "KaSA is not supported"),
    ("velora_config", "VeLoRA is not supported"),
    ("monteclora_config", "MonteCLoRA is not supported"),
];

/// The settings in an `adapter_config.json`, the factor of the update, and the layers that the adapter holds as a whole.
fn read_config(path: &Path) -> Result<(LoraConfig, f64, Vec<String>), ModelError> {
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
            // No image is read, so nothing is lost.
            Some(Value::String(pattern)) => field == "exclude_modules" && pattern == IMAGE_PARTS,
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
    let modules_to_save = match json.get("modules_to_save") {
        None => Vec::new(),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {
            names.iter().filter_map(Value::as_str).map(|name| last(name).to_owned()).collect()
        }
        Some(_) => return Err(json.wrong("modules_to_save", "must be a list of module names")),
    };
    Ok((LoraConfig { rank, alpha, dropout, target_modules }, scale, modules_to_save))
}
