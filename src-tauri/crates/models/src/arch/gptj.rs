//! GPT-J: attention and feed-forward side by side on one layer norm, neighbouring dimensions rotated in a part of each head.

use kernels::Heads;

use super::decoder::{
    Description, FeedForward, Linear, Names, Norm, NormKind, Place, Slot, fields,
    rope::{Rope, Scaling},
};
use crate::{ModelError, json::JsonFile};

const NAMES: Names = Names {
    embeddings: "transformer.wte",
    layers: "transformer.h",
    input_norm: "ln_1",
    attention_output_norm: None,
    feed_forward_norm: None,
    feed_forward_output_norm: None,
    final_norm: "transformer.ln_f",
    head: "lm_head",
    ignored: &[],
};

/// `GPTJForCausalLM`.
pub(super) fn describe(json: &JsonFile) -> Result<Description, ModelError> {
    fields::readable_weights(json)?;
    let hidden_size = fields::side(json, "n_embd")?;
    let context_length = fields::context(json, "n_positions")?;
    let queries = fields::side(json, "n_head")?;
    if !hidden_size.is_multiple_of(queries) {
        return Err(json.wrong("n_head", format!("{queries} does not divide n_embd {hidden_size}")));
    }
    let heads = Heads { queries, keys: queries, dim: hidden_size / queries, window: None };
    let width = json.size("rotary_dim", 2..=heads.dim)?.unwrap_or(heads.dim);
    if !width.is_multiple_of(2) {
        return Err(json.wrong("rotary_dim", format!("rotary positions need an even width, not {width}")));
    }
    let middle = fields::side_or(json, "n_inner", 4 * hidden_size)?;
    let rope = Rope { theta: 10_000.0, head: heads.dim, width, interleaved: true, scaling: Scaling::None };
    Ok(Description {
        vocab_size: fields::side(json, "vocab_size")?,
        hidden_size,
        context_length,
        heads,
        scale: fields::usual_scale(heads),
        score_cap: None,
        sinks: false,
        layers: vec![Place { window: None, rope: Some(0) }; fields::layers(json, "n_layer")?],
        ropes: vec![rope],
        norm: Norm { kind: NormKind::Layer, eps: fields::eps(json, "layer_norm_epsilon", 1e-5)? },
        query_key_norm: false,
        linears: linears(hidden_size, middle),
        feed_forward: FeedForward::Plain(fields::gelu(json, "activation_function", "gelu_new")?),
        embedding_scale: None,
        tied: json.flag("tie_word_embeddings")?,
        head_bias: true,
        logit_cap: None,
        names: &NAMES,
        gguf: None,
    })
}

fn linears(hidden: usize, middle: usize) -> Vec<Linear> {
    let square =
        |slot, path| Linear { slot, path, inputs: hidden, outputs: hidden, bias: false, fields: "n_embd" };
    let fields = "n_embd and n_inner";
    let wide = |slot, path, inputs, outputs| Linear { slot, path, inputs, outputs, bias: true, fields };
    vec![
        square(Slot::Q, "attn.q_proj"),
        square(Slot::K, "attn.k_proj"),
        square(Slot::V, "attn.v_proj"),
        square(Slot::O, "attn.out_proj"),
        wide(Slot::Up, "mlp.fc_in", hidden, middle),
        wide(Slot::Down, "mlp.fc_out", middle, hidden),
    ]
}
