//! What families read from `config.json` in the same words, checked: an unknown value is an error that names its field.

use kernels::{Gate, Gelu, Heads};
use serde_json::Value;

use super::{
    Place,
    rope::{Rope, Scaling, Yarn},
};
use crate::{ModelError, json::JsonFile};

/// No model has a larger side.
const MAX_SIDE: usize = 1 << 20;
/// No model sees further.
const MAX_CONTEXT: usize = 1 << 24;
/// No model has more layers.
const MAX_LAYERS: usize = 1000;

/// A side of a tensor.
pub(in crate::arch) fn side(json: &JsonFile, field: &str) -> Result<usize, ModelError> {
    json.required(field, json.size(field, 1..=MAX_SIDE)?)
}

/// A side that published configs leave out where it is the family's usual one.
pub(in crate::arch) fn side_or(json: &JsonFile, field: &str, usual: usize) -> Result<usize, ModelError> {
    Ok(json.size(field, 1..=MAX_SIDE)?.unwrap_or(usual))
}

/// How many decoder layers.
pub(in crate::arch) fn layers(json: &JsonFile, field: &str) -> Result<usize, ModelError> {
    json.required(field, json.size(field, 1..=MAX_LAYERS)?)
}

/// The longest sequence.
pub(in crate::arch) fn context(json: &JsonFile, field: &str) -> Result<usize, ModelError> {
    json.required(field, json.size(field, 1..=MAX_CONTEXT)?)
}

/// What keeps a norm from dividing by zero.
pub(in crate::arch) fn eps(json: &JsonFile, field: &str, usual: f64) -> Result<f32, ModelError> {
    let eps = json.positive(field)?.unwrap_or(usual);
    if eps >= 1.0 {
        return Err(json.wrong(field, format!("must be below 1, not {eps}")));
    }
    Ok(eps as f32)
}

/// Fails where the weights are quantised in a way that is not read: any but bitsandbytes'.
pub(in crate::arch) fn readable_weights(json: &JsonFile) -> Result<(), ModelError> {
    let Some(quantised) = json.object("quantization_config")? else { return Ok(()) };
    match quantised.text("quant_method")? {
        Some("bitsandbytes") => Ok(()),
        method => {
            let problem = format!(
                "weights quantised by {} cannot be read here; use the model's f16, bf16 or f32 weights, or those by \
                 bitsandbytes",
                method.unwrap_or("an unknown method")
            );
            Err(json.wrong("quantization_config", problem))
        }
    }
}

/// A setting that changes what is computed and is only known off.
pub(in crate::arch) fn off(json: &JsonFile, field: &str) -> Result<(), ModelError> {
    match json.flag(field)? {
        false => Ok(()),
        true => Err(json.wrong(field, "only false is supported")),
    }
}

/// The activation of the gate, in the first of `fields` that is there.
pub(in crate::arch) fn gate(json: &JsonFile, fields: &[&str], usual: &str) -> Result<Gate, ModelError> {
    let (field, name) = named(json, fields, usual)?;
    match name.as_str() {
        "silu" | "swish" => Ok(Gate::Silu),
        other => gelu_called(other).map(Gate::Gelu).ok_or_else(|| {
            let known = "silu, gelu, gelu_new and gelu_pytorch_tanh are supported";
            json.wrong(&field, format!("the activation {other:?} is not supported; {known}"))
        }),
    }
}

/// The activation of a feed-forward part without a gate.
pub(in crate::arch) fn gelu(json: &JsonFile, field: &str, usual: &str) -> Result<Gelu, ModelError> {
    let (field, name) = named(json, &[field], usual)?;
    gelu_called(&name).ok_or_else(|| {
        let known = "gelu, gelu_new and gelu_pytorch_tanh are supported";
        json.wrong(&field, format!("the activation {name:?} is not supported; {known}"))
    })
}

/// The first of `fields` that is there, and its text.
fn named(json: &JsonFile, fields: &[&str], usual: &str) -> Result<(String, String), ModelError> {
    for &field in fields {
        if let Some(text) = json.text(field)? {
            return Ok((field.to_owned(), text.to_owned()));
        }
    }
    Ok((fields.first().copied().unwrap_or_default().to_owned(), usual.to_owned()))
}

fn gelu_called(name: &str) -> Option<Gelu> {
    match name {
        "gelu" => Some(Gelu::Exact),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Some(Gelu::Tanh),
        _ => None,
    }
}

/// Heads in the words of most families. `usual` are query heads, key heads and width where the config may leave them out.
pub(in crate::arch) fn heads(
    json: &JsonFile,
    hidden: usize,
    usual: Option<(usize, usize, usize)>,
) -> Result<Heads, ModelError> {
    let queries = json.size("num_attention_heads", 1..=MAX_SIDE)?.or(usual.map(|usual| usual.0));
    let queries = json.required("num_attention_heads", queries)?;
    let keys = json.size("num_key_value_heads", 1..=MAX_SIDE)?.or(usual.map(|usual| usual.1));
    let keys = keys.unwrap_or(queries);
    if !queries.is_multiple_of(keys) {
        return Err(
            json.wrong("num_key_value_heads", format!("{keys} does not divide {queries} attention heads"))
        );
    }
    let dim = match json.size("head_dim", 2..=MAX_SIDE)?.or(usual.map(|usual| usual.2)) {
        Some(dim) => dim,
        None if hidden.is_multiple_of(queries) => hidden / queries,
        None => {
            return Err(
                json.wrong("num_attention_heads", format!("{queries} does not divide hidden_size {hidden}"))
            );
        }
    };
    if !dim.is_multiple_of(2) {
        return Err(json.wrong("head_dim", format!("rotary positions need an even width, not {dim}")));
    }
    if queries.saturating_mul(dim) > MAX_SIDE {
        return Err(json.wrong("num_attention_heads", format!("{queries} heads of {dim} are too wide")));
    }
    Ok(Heads { queries, keys, dim, window: None })
}

/// The scores' scale of most families: `1 / sqrt(head_dim)`.
pub(in crate::arch) fn usual_scale(heads: Heads) -> f32 {
    (heads.dim as f32).sqrt().recip()
}

/// The scores' scale by `query_pre_attn_scalar`.
pub(in crate::arch) fn query_scale(json: &JsonFile, usual: f64) -> Result<f32, ModelError> {
    Ok((json.positive("query_pre_attn_scalar")?.unwrap_or(usual) as f32).sqrt().recip())
}

/// The width of the sliding window, where it is shorter than the context.
pub(in crate::arch) fn window(json: &JsonFile, context: usize) -> Result<Option<usize>, ModelError> {
    Ok(json.size("sliding_window", 1..=usize::MAX)?.filter(|&w| w < context))
}

/// Places of layers of which each has a window or none, as `layer_types` says, or where there is no such list, `slides` of
/// the layer's index. `ropes` are those of layers with and without a window.
pub(in crate::arch) fn places(
    json: &JsonFile,
    layers: usize,
    window: Option<usize>,
    ropes: (usize, usize),
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Place>, ModelError> {
    let place = |slides: bool| Place {
        window: if slides { window } else { None },
        rope: Some(if slides { ropes.0 } else { ropes.1 }),
    };
    let Some(types) = json.get("layer_types") else {
        return Ok((0..layers).map(|i| place(slides(i))).collect());
    };
    let Value::Array(types) = types else { return Err(json.wrong("layer_types", "must be a list")) };
    if types.len() != layers {
        let problem = format!("has {} entries for num_hidden_layers {layers}", types.len());
        return Err(json.wrong("layer_types", problem));
    }
    let kinds = types.iter().map(|kind| match kind.as_str() {
        Some("full_attention") => Ok(place(false)),
        Some("sliding_attention") => Ok(place(true)),
        _ => {
            let known = "full_attention and sliding_attention are supported";
            Err(json.wrong("layer_types", format!("{kind} is not supported; {known}")))
        }
    });
    kinds.collect()
}

/// The rotary embedding in `rope_parameters` (transformers 5), or in `rope_theta` and `rope_scaling`, for heads of this
/// width. `usual` is the base where the config has none.
pub(in crate::arch) fn rope(
    json: &JsonFile,
    head: usize,
    context: usize,
    usual: f64,
) -> Result<Rope, ModelError> {
    let name = if json.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    rope_of(json, json.object(name)?, name, head, context, json.positive("rope_theta")?.unwrap_or(usual))
}

/// The same from the object `parameters` of the field `name`; `theta` where that has no base of its own.
pub(in crate::arch) fn rope_of(
    json: &JsonFile,
    parameters: Option<JsonFile>,
    name: &str,
    head: usize,
    context: usize,
    theta: f64,
) -> Result<Rope, ModelError> {
    let inner = |field: &str| parameters.as_ref().map(|p| p.positive(field)).transpose().map(Option::flatten);
    let theta = inner("rope_theta")?.unwrap_or(theta) as f32;
    let part = match inner("partial_rotary_factor")? {
        Some(part) => part,
        None => json.positive("partial_rotary_factor")?.unwrap_or(1.0),
    };
    let width = (head as f64 * part) as usize;
    if part > 1.0 || width < 2 || !width.is_multiple_of(2) {
        let problem = format!("{part} of a head of {head} is no even number of dimensions up to all of them");
        return Err(json.wrong("partial_rotary_factor", problem));
    }
    let plain = Rope { theta, head, width, interleaved: false, scaling: Scaling::None };
    let Some(parameters) = parameters else { return Ok(plain) };
    let kind = match parameters.text("rope_type")? {
        Some(kind) => Some(kind),
        None => parameters.text("type")?,
    };
    let number = |field: &str| parameters.required(field, parameters.positive(field)?).map(|v| v as f32);
    let original = || -> Result<usize, ModelError> {
        let field = "original_max_position_embeddings";
        let outer = json.size(field, 2..=MAX_CONTEXT)?;
        Ok(outer.or(parameters.size(field, 2..=MAX_CONTEXT)?).unwrap_or(context))
    };
    let stretched = |original: usize| -> Result<f64, ModelError> {
        Ok(parameters.positive("factor")?.unwrap_or(context as f64 / original as f64))
    };
    let scaling = match kind.unwrap_or("default") {
        "default" | "dynamic" => Scaling::None,
        "linear" => Scaling::Linear { factor: number("factor")? },
        "llama3" => {
            let (low_frequency, high_frequency) = (number("low_freq_factor")?, number("high_freq_factor")?);
            if low_frequency >= high_frequency {
                return Err(parameters.wrong("high_freq_factor", "must be above low_freq_factor"));
            }
            let original = original()? as f32;
            Scaling::Llama3 { factor: number("factor")?, low_frequency, high_frequency, original }
        }
        "yarn" => {
            let original = original()?;
            Scaling::Yarn(yarn(&parameters, original, stretched(original)?)?)
        }
        "longrope" | "su" => {
            let original = original()?;
            let factors = |field: &str| factors(&parameters, field, width / 2);
            let (short, long) = (factors("short_factor")?, factors("long_factor")?);
            let factor = stretched(original)?;
            let usual = (1.0 + factor.ln().max(0.0) / (original as f64).ln()).sqrt();
            let attention = parameters.positive("attention_factor")?.unwrap_or(usual) as f32;
            Scaling::Long { short, long, original, attention }
        }
        other => {
            let known = "default, linear, dynamic, llama3, yarn and longrope are supported";
            return Err(json.wrong(name, format!("rope type {other:?} is not supported; {known}")));
        }
    };
    Ok(Rope { scaling, ..plain })
}

fn yarn(parameters: &JsonFile, original: usize, factor: f64) -> Result<Yarn, ModelError> {
    let number = |field: &str, usual: f64| Ok::<_, ModelError>(parameters.positive(field)?.unwrap_or(usual));
    let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let attention = match (parameters.positive("mscale")?, parameters.positive("mscale_all_dim")?) {
        (Some(some), Some(all)) => scale(some) / scale(all),
        _ => scale(1.0),
    };
    let whole = match parameters.get("truncate") {
        None => true,
        Some(_) => parameters.flag("truncate")?,
    };
    Ok(Yarn {
        factor: factor as f32,
        original,
        fast: number("beta_fast", 32.0)?,
        slow: number("beta_slow", 1.0)?,
        whole,
        attention: number("attention_factor", attention)? as f32,
    })
}

/// A list of `count` numbers above 0.
fn factors(json: &JsonFile, field: &str, count: usize) -> Result<Vec<f32>, ModelError> {
    let wrong = || json.wrong(field, format!("must be a list of {count} numbers above 0"));
    let Some(Value::Array(values)) = json.get(field) else { return Err(wrong()) };
    let numbers: Option<Vec<f32>> =
        values.iter().map(|v| v.as_f64().map(|v| v as f32).filter(|v| v.is_finite() && *v > 0.0)).collect();
    numbers.filter(|numbers| numbers.len() == count).ok_or_else(wrong)
}
