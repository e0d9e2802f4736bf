//! Gemma 2, and Gemma 3 on text: norms before and after both parts of a layer, weights stored less one, scaled embeddings,
//! a GELU gate, and layers that see a window among others that see all.

use kernels::Heads;
use serde_json::{Value, json};

use super::decoder::{
    Biases, Description, FeedForward, IMAGE_PARTS, LLAMA, Names, Norm, NormKind, fields, gated_linears,
    rope::Rope,
};
use crate::{ModelError, json::JsonFile};

const NAMES: Names = Names {
    attention_output_norm: Some("post_attention_layernorm"),
    feed_forward_norm: Some("pre_feedforward_layernorm"),
    feed_forward_output_norm: Some("post_feedforward_layernorm"),
    ..LLAMA
};

const TEXT_PART: Names = Names {
    embeddings: "model.language_model.embed_tokens",
    layers: "model.language_model.layers",
    final_norm: "model.language_model.norm",
    ignored: IMAGE_PARTS,
    ..NAMES
};

/// Gemma 3 leaves out of `config.json` what is as in this model.
fn usual_gemma3() -> Value {
    json!({
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    })
}

/// Query heads, key heads and their width where the config leaves them out.
const HEADS: (usize, usize, usize) = (8, 4, 256);

/// What both versions share; `ropes` are those of layers with a window and without, every `pattern`-th of which is one
/// without.
fn describe(
    json: &JsonFile,
    pattern: usize,
    ropes: impl FnOnce(Heads, usize) -> Result<Vec<Rope>, ModelError>,
) -> Result<Description, ModelError> {
    fields::readable_weights(json)?;
    fields::off(json, "use_bidirectional_attention")?;
    let hidden_size = fields::side(json, "hidden_size")?;
    let context_length = fields::context(json, "max_position_embeddings")?;
    let heads = fields::heads(json, hidden_size, Some(HEADS))?;
    let middle = fields::side(json, "intermediate_size")?;
    let bias = json.flag("attention_bias")?;
    let layers = fields::layers(json, "num_hidden_layers")?;
    let window = fields::window(json, context_length)?;
    let ropes = ropes(heads, context_length)?;
    let whole = ropes.len() - 1;
    Ok(Description {
        vocab_size: fields::side(json, "vocab_size")?,
        hidden_size,
        context_length,
        heads,
        scale: fields::query_scale(json, 256.0)?,
        score_cap: json.positive("attn_logit_softcapping")?.map(|cap| cap as f32),
        sinks: false,
        layers: fields::places(json, layers, window, (0, whole), |i| !(i + 1).is_multiple_of(pattern))?,
        ropes,
        norm: Norm { kind: NormKind::RmsLessOne, eps: fields::eps(json, "rms_norm_eps", 1e-6)? },
        query_key_norm: false,
        linears: gated_linears(
            hidden_size,
            heads,
            middle,
            Biases { qkv: bias, o: bias, feed_forward: false },
        ),
        feed_forward: FeedForward::Gated(fields::gate(
            json,
            &["hidden_activation", "hidden_act"],
            "gelu_pytorch_tanh",
        )?),
        embedding_scale: Some((hidden_size as f64).sqrt()),
        tied: json.get("tie_word_embeddings").is_none() || json.flag("tie_word_embeddings")?,
        head_bias: false,
        logit_cap: json.positive("final_logit_softcapping")?.map(|cap| cap as f32),
        names: &NAMES,
        gguf: None,
    })
}

/// `Gemma2ForCausalLM`.
pub(super) fn describe_gemma2(json: &JsonFile) -> Result<Description, ModelError> {
    describe(json, 2, |heads, context| Ok(vec![fields::rope(json, heads.dim, context, 10_000.0)?]))
}

/// `Gemma3ForCausalLM`.
pub(super) fn describe_gemma3(json: &JsonFile) -> Result<Description, ModelError> {
    let json = &json.or(&usual_gemma3());
    let pattern = json.size("sliding_window_pattern", 1..=usize::MAX)?.unwrap_or(6);
    let description = describe(json, pattern, |heads, context| {
        let both = json.object("rope_parameters")?;
        let of = |kind: &str| both.as_ref().map(|both| both.object(kind)).transpose().map(Option::flatten);
        let rope = |parameters: Option<JsonFile>, name: &str, theta: f64| {
            fields::rope_of(json, parameters, name, heads.dim, context, theta)
        };
        let local = json.positive("rope_local_base_freq")?.unwrap_or(10_000.0);
        let whole = json.positive("rope_theta")?.unwrap_or(1_000_000.0);
        let (parameters, name) = match both {
            Some(_) => (of("full_attention")?, "rope_parameters"),
            None => (json.object("rope_scaling")?, "rope_scaling"),
        };
        Ok(vec![rope(of("sliding_attention")?, "rope_parameters", local)?, rope(parameters, name, whole)?])
    })?;
    Ok(Description { query_key_norm: true, ..description })
}

/// The text part of `Gemma3ForConditionalGeneration`.
pub(super) fn describe_gemma3_text_part(json: &JsonFile) -> Result<Description, ModelError> {
    let text = json.required("text_config", json.object("text_config")?)?;
    fields::readable_weights(json)?;
    let description = describe_gemma3(&text)?;
    let tied = match json.get("tie_word_embeddings") {
        Some(_) => json.flag("tie_word_embeddings")?,
        None => description.tied,
    };
    Ok(Description { tied, names: &TEXT_PART, ..description })
}
