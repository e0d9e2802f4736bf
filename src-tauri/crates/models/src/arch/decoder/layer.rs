//! One decoder layer on the reference operations.

use candle_core::{DType, Result, Tensor, bail};
use kernels::{Attention, Heads, Scoring};

use super::{
    Description, FeedForward, Names, NormKind, Place, Slot, experts::ExpertLayer, model::Source, rope::Angles,
};
use crate::{LayerCache, LoraLinear, ModelError, Pass, Sequences};

/// A norm with its weights.
pub(super) enum Norm {
    Rms { weight: Tensor, eps: f32 },
    Layer { weight: Tensor, bias: Tensor, eps: f32 },
}

impl Norm {
    pub fn load(
        source: &mut Source,
        description: super::Norm,
        name: &str,
        width: usize,
        field: &str,
    ) -> std::result::Result<Self, ModelError> {
        let super::Norm { kind, eps } = description;
        let weight = source.take(&format!("{name}.weight"), &[width], field)?;
        Ok(match kind {
            NormKind::Rms => Norm::Rms { weight, eps },
            // In f32, since bf16 would lose what is stored beside the one.
            NormKind::RmsLessOne => {
                Norm::Rms { weight: (kernels::converted(&weight, DType::F32)? + 1.0)?, eps }
            }
            NormKind::Layer => {
                Norm::Layer { weight, bias: source.take(&format!("{name}.bias"), &[width], field)?, eps }
            }
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Rms { weight, eps } => kernels::rms_norm(x, weight, *eps),
            Norm::Layer { weight, bias, eps } => kernels::layer_norm(x, weight, bias, *eps),
        }
    }
}

/// A decoder layer with its weights.
pub(super) struct Layer {
    pub input_norm: Norm,
    pub attention_output_norm: Option<Norm>,
    pub feed_forward_norm: Option<Norm>,
    pub feed_forward_output_norm: Option<Norm>,
    /// Of each head of queries, and of keys.
    pub head_norms: Option<(Norm, Norm)>,
    pub attention: Attention,
    /// Which of the model's rotary embeddings it uses.
    pub rope: Option<usize>,
    pub linears: Vec<(Slot, LoraLinear)>,
    feed_forward: FeedForward,
    experts: Option<ExpertLayer>,
}

impl Layer {
    /// Takes the layer called `path` out of the weights.
    pub fn load(
        source: &mut Source,
        description: &Description,
        place: Place,
        path: &str,
    ) -> std::result::Result<Self, ModelError> {
        let hidden = description.hidden_size;
        let Names { input_norm, attention_output_norm, feed_forward_norm, feed_forward_output_norm, .. } =
            description.names;
        let mut norm = |name: &str, width: usize, field: &str| {
            Norm::load(source, description.norm, &format!("{path}.{name}"), width, field)
        };
        let input_norm = norm(input_norm, hidden, "hidden_size")?;
        let mut optional =
            |name: &Option<&str>| name.map(|name| norm(name, hidden, "hidden_size")).transpose();
        let attention_output_norm = optional(attention_output_norm)?;
        let feed_forward_norm = optional(feed_forward_norm)?;
        let feed_forward_output_norm = optional(feed_forward_output_norm)?;
        let dim = description.heads.dim;
        let head_norms = match description.query_key_norm {
            true => {
                Some((norm("self_attn.q_norm", dim, "head_dim")?, norm("self_attn.k_norm", dim, "head_dim")?))
            }
            false => None,
        };
        let mut linears = Vec::with_capacity(description.linears.len());
        for linear in &description.linears {
            let path = format!("{path}.{}", linear.path);
            let (out, inputs) = (linear.outputs, linear.inputs);
            let weight = source.take_linear(&format!("{path}.weight"), (out, inputs), linear.fields)?;
            let bias = match linear.bias {
                true => Some(source.take(&format!("{path}.bias"), &[out], linear.fields)?),
                false => None,
            };
            linears.push((linear.slot, LoraLinear::new(&path, weight, bias)));
        }
        let queries = description.heads.queries;
        let sinks = match description.sinks {
            true => {
                Some(source.take(&format!("{path}.self_attn.sinks"), &[queries], "num_attention_heads")?)
            }
            false => None,
        };
        let experts = match description.feed_forward {
            FeedForward::Experts(experts) => Some(ExpertLayer::load(source, experts, path, hidden)?),
            FeedForward::Gated(_) | FeedForward::Plain(_) => None,
        };
        Ok(Layer {
            input_norm,
            attention_output_norm,
            feed_forward_norm,
            feed_forward_output_norm,
            head_norms,
            attention: Attention {
                heads: Heads { window: place.window, ..description.heads },
                scoring: Scoring { scale: description.scale, cap: description.score_cap, sinks },
            },
            rope: place.rope,
            linears,
            feed_forward: description.feed_forward,
            experts,
        })
    }

    /// `[tokens, hidden]` → the same.
    pub fn forward(
        &self,
        hidden: &Tensor,
        ropes: &[Angles],
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let after = |norm: &Option<Norm>, x: Tensor| match norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let x = self.input_norm.forward(hidden)?;
        let attended = self.attend(&x, ropes, sequences, pass, cache)?;
        let attended = after(&self.attention_output_norm, attended)?;
        let sum = (hidden + attended)?;
        let x = match &self.feed_forward_norm {
            Some(norm) => norm.forward(&sum)?,
            None => x,
        };
        let fed = after(&self.feed_forward_output_norm, self.feed(&x, pass)?)?;
        sum + fed
    }

    fn linear(&self, slot: Slot) -> Result<&LoraLinear> {
        match self.linears.iter().find(|(found, _)| *found == slot) {
            Some((_, linear)) => Ok(linear),
            None => bail!("the layer has no linear layer {slot:?}"),
        }
    }

    /// Queries, keys and values.
    fn projected(&self, x: &Tensor, pass: Pass) -> Result<(Tensor, Tensor, Tensor)> {
        let part = |slot| self.linear(slot)?.forward(x, pass);
        let Ok(joined) = self.linear(Slot::Qkv) else {
            return Ok((part(Slot::Q)?, part(Slot::K)?, part(Slot::V)?));
        };
        let Heads { queries, keys, dim, .. } = self.attention.heads;
        let (all, queries, keys) = (joined.forward(x, pass)?, queries * dim, keys * dim);
        let part = |from, width| all.narrow(1, from, width);
        Ok((part(0, queries)?, part(queries, keys)?, part(queries + keys, keys)?))
    }

    fn attend(
        &self,
        x: &Tensor,
        ropes: &[Angles],
        sequences: &Sequences,
        pass: Pass,
        cache: Option<&mut LayerCache>,
    ) -> Result<Tensor> {
        let (mut q, mut k, v) = self.projected(x, pass)?;
        let Heads { keys, dim, .. } = self.attention.heads;
        if let Some((of_queries, of_keys)) = &self.head_norms {
            let by_head = |norm: &Norm, x: &Tensor| {
                let (tokens, width) = x.dims2()?;
                norm.forward(&x.reshape((tokens, width / dim, dim))?)?.reshape((tokens, width))
            };
            (q, k) = (by_head(of_queries, &q)?, by_head(of_keys, &k)?);
        }
        if let Some(angles) = self.rope.and_then(|index| ropes.get(index)) {
            let (table, positions) = angles.at(sequences)?;
            (q, k) = (kernels::rope(&q, &table, &positions)?, kernels::rope(&k, &table, &positions)?);
        }
        let mixed = match cache {
            None => kernels::attention(&q, &k, &v, &sequences.lengths, self.attention.clone())?,
            Some(cache) => {
                let heads = |x: &Tensor| x.reshape((x.dim(0)?, keys, dim))?.transpose(0, 1);
                let (k, v) = cache.append(&heads(&k)?, &heads(&v)?)?;
                kernels::attention_cached(&q, &k, &v, self.attention.clone())?
            }
        };
        self.linear(Slot::O)?.forward(&mixed, pass)
    }

    fn feed(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let part = |slot| self.linear(slot)?.forward(x, pass);
        let middle = match (self.feed_forward, &self.experts) {
            (FeedForward::Experts(_), Some(experts)) => return experts.forward(x),
            (FeedForward::Experts(_), None) => bail!("the layer has no experts"),
            (FeedForward::Plain(form), _) => kernels::gelu(&part(Slot::Up)?, form)?,
            (FeedForward::Gated(kind), _) => match self.linear(Slot::GateUp) {
                Ok(joined) => {
                    let both = joined.forward(x, pass)?;
                    let width = both.dim(1)? / 2;
                    kernels::gated(&both.narrow(1, 0, width)?, &both.narrow(1, width, width)?, kind)?
                }
                Err(_) => kernels::gated(&part(Slot::Gate)?, &part(Slot::Up)?, kind)?,
            },
        };
        self.linear(Slot::Down)?.forward(&middle, pass)
    }
}
