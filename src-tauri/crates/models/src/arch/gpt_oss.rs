//! gpt-oss: a mixture of experts in every layer, attention sinks, windows in every other layer.

use kernels::Gate;

use super::decoder::{
    Biases, Description, Experts, FeedForward, LLAMA, Norm, NormKind, attention_linears, fields,
};
use crate::{ModelError, json::JsonFile};

/// `GptOssForCausalLM`. Its published weights are MXFP4; the experts are computed from the numbers they stand for.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    let hidden_size = fields::side(json, "hidden_size")?;
    let context_length = fields::context(json, "max_position_embeddings")?;
    let heads = fields::heads(json, hidden_size, None)?;
    let layers = fields::layers(json, "num_hidden_layers")?;
    let window = fields::window(json, context_length)?;
    let bias = json.get("attention_bias").is_none() || json.flag("attention_bias")?;
    Ok(Description {
        vocab_size: fields::side(json, "vocab_size")?,
        hidden_size,
        context_length,
        heads,
        scale: fields::usual_scale(heads),
        score_cap: None,
        sinks: true,
        layers: fields::places(json, layers, window, (0, 0), |layer| layer.is_multiple_of(2))?,
        ropes: vec![fields::rope(json, heads.dim, context_length, 150_000.0)?],
        norm: Norm { kind: NormKind::Rms, eps: fields::eps(json, "rms_norm_eps", 1e-5)? },
        query_key_norm: false,
        linears: attention_linears(hidden_size, heads, Biases { qkv: bias, o: bias, feed_forward: false }),
        feed_forward: FeedForward::Experts(experts(json)?),
        embedding_scale: None,
        tied: json.flag("tie_word_embeddings")?,
        head_bias: false,
        logit_cap: None,
        names: &LLAMA,
        gguf: None,
    })
}

fn experts(json: &JsonFile) -> Result<Experts, ModelError> {
    let count = fields::side(json, "num_local_experts")?;
    let per_token = json.size("num_experts_per_tok", 1..=count)?;
    let per_token = match per_token {
        Some(per_token) => per_token,
        None => json.size("experts_per_token", 1..=count)?.unwrap_or(4.min(count)),
    };
    if let Some(other) = json.text("hidden_act")?.filter(|&act| act != "silu") {
        return Err(json.wrong("hidden_act", format!("the activation {other:?} is not supported; silu is")));
    }
    let gate = Gate::Clamped {
        alpha: json.positive("swiglu_alpha")?.unwrap_or(1.702) as f32,
        limit: json.positive("swiglu_limit")?.unwrap_or(7.0) as f32,
    };
    let mxfp4 = match json.object("quantization_config")? {
        None => false,
        Some(quantised) => match quantised.text("quant_method")? {
            Some("mxfp4") => true,
            other => {
                let problem = format!("quant_method {other:?} is not supported; mxfp4 and plain weights are");
                return Err(json.wrong("quantization_config", problem));
            }
        },
    };
    let intermediate_size = fields::side(json, "intermediate_size")?;
    Ok(Experts { count, per_token, intermediate_size, gate, mxfp4 })
}
