//! A layer of an encoder or a decoder: attention, in a decoder a second one over the encoder's output, and a feed-forward
//! layer, each with a residual connection and a norm before or after it.

use candle_core::{Result, Tensor, bail};
use kernels::{Gate, Gelu, PairAttention, Sight};

use super::Positions;
use crate::{DecoderCache, LoraLinear, Memory, ModelError, Pass, Sequences, weights::Weights};

/// A linear layer with its path, such as `encoder.block.0.layer.0.SelfAttention.q`.
pub(in crate::arch) struct Linear {
    pub path: String,
    pub linear: LoraLinear,
}

impl Linear {
    /// Takes weight `[out, in]`, and the bias where there is to be one, out of `weights`. `names` are the one that the tensors
    /// are stored under and the path, without `.weight`.
    pub(in crate::arch) fn take(
        weights: &mut Weights,
        names: (&str, &str),
        (out, inputs): (usize, usize),
        bias: bool,
    ) -> std::result::Result<Self, ModelError> {
        let (stored, path) = names;
        let weight = weights.take_linear(&format!("{stored}.weight"), (out, inputs), "")?;
        let bias = bias.then(|| weights.take(&format!("{stored}.bias"), &[out])).transpose()?;
        Ok(Linear { path: path.to_owned(), linear: LoraLinear::new(path, weight, bias) })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        self.linear.forward(x, pass)
    }
}

/// A norm.
pub(in crate::arch) enum Norm {
    /// By the root mean square.
    Rms { weight: Tensor, eps: f32 },
    /// By mean and variance.
    Layer { weight: Tensor, bias: Tensor, eps: f32 },
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Rms { weight, eps } => kernels::rms_norm(x, weight, *eps),
            Norm::Layer { weight, bias, eps } => kernels::layer_norm(x, weight, bias, *eps),
        }
    }
}

/// Where the norm of a sublayer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) enum Order {
    /// `x + f(norm(x))`.
    NormFirst,
    /// `norm(x + f(x))`.
    NormLast,
}

impl Order {
    fn apply(self, x: &Tensor, norm: &Norm, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        match self {
            Order::NormFirst => x + f(&norm.forward(x)?)?,
            Order::NormLast => norm.forward(&(x + f(x)?)?),
        }
    }
}

/// Attention and the norm of its sublayer.
pub(in crate::arch) struct Attention {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    pub norm: Norm,
    pub heads: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

impl Attention {
    fn seeing(&self, sight: Sight) -> PairAttention {
        PairAttention { heads: self.heads, scale: self.scale, sight }
    }

    /// Of sequences over others.
    fn over(
        &self,
        x: &Tensor,
        lengths: &[usize],
        (others, other_lengths): (&Tensor, &[usize]),
        (sight, bias): (Sight, Option<&dyn Fn(usize, usize) -> Result<Tensor>>),
        pass: Pass,
    ) -> Result<Tensor> {
        let q = self.q.forward(x, pass)?;
        let (k, v) = (self.k.forward(others, pass)?, self.v.forward(others, pass)?);
        let mixed = self.seeing(sight).forward(&q, &k, &v, lengths, other_lengths, bias)?;
        self.o.forward(&mixed, pass)
    }

    /// Of targets over themselves, each going on after what its cache has seen.
    fn cached(
        &self,
        x: &Tensor,
        target: &Sequences,
        positions: &Positions,
        pass: Pass,
        cache: &mut DecoderCache,
    ) -> Result<Tensor> {
        let attention = self.seeing(Sight::Past { offset: target.offset });
        let (q, k, v) = (self.q.forward(x, pass)?, self.k.forward(x, pass)?, self.v.forward(x, pass)?);
        let (mut at, mut mixed) = (0, Vec::with_capacity(target.lengths.len()));
        let mut bias = None;
        for (&length, seen) in target.lengths.iter().zip(&mut cache.targets) {
            let part = |x: &Tensor| x.narrow(0, at, length);
            let (k, v) = seen.append(&attention.split(&part(&k)?)?, &attention.split(&part(&v)?)?)?;
            if bias.is_none() {
                bias = positions.bias(length, &k, target.offset)?;
            }
            mixed.push(attention.over(&part(&q)?, &k, &v, bias.as_ref())?);
            at += length;
        }
        self.o.forward(&Tensor::cat(&mixed, 0)?, pass)
    }

    /// Of targets over the one source, whose keys and values are kept.
    fn over_source(
        &self,
        x: &Tensor,
        memory: &Tensor,
        pass: Pass,
        kept: &mut Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let attention = self.seeing(Sight::All);
        let (k, v) = match kept {
            Some(known) => known.clone(),
            None => {
                let (k, v) = (self.k.forward(memory, pass)?, self.v.forward(memory, pass)?);
                kept.insert((attention.split(&k)?.detach(), attention.split(&v)?.detach())).clone()
            }
        };
        self.o.forward(&attention.over(&self.q.forward(x, pass)?, &k, &v, None)?, pass)
    }

    fn linears(&self) -> [&Linear; 4] {
        [&self.q, &self.k, &self.v, &self.o]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o]
    }
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) enum Activation {
    Relu,
    Gelu(Gelu),
}

/// The feed-forward layer and its norm.
pub(in crate::arch) struct Feed {
    /// One, or the gate and what it is multiplied with.
    pub into: Vec<Linear>,
    pub out: Linear,
    pub activation: Activation,
    pub norm: Norm,
}

impl Feed {
    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let middle = match (self.into.as_slice(), self.activation) {
            ([one], Activation::Relu) => one.forward(x, pass)?.relu()?,
            ([one], Activation::Gelu(form)) => kernels::gelu(&one.forward(x, pass)?, form)?,
            ([gate, up], Activation::Relu) => (gate.forward(x, pass)?.relu()? * up.forward(x, pass)?)?,
            ([gate, up], Activation::Gelu(form)) => {
                kernels::gated(&gate.forward(x, pass)?, &up.forward(x, pass)?, Gate::Gelu(form))?
            }
            (into, _) => bail!("a feed-forward layer has one or two parts, not {}", into.len()),
        };
        self.out.forward(&middle, pass)
    }
}

/// A layer of either stack.
pub(in crate::arch) struct Layer {
    pub order: Order,
    pub own: Attention,
    /// In a decoder.
    pub cross: Option<Attention>,
    pub feed: Feed,
}

impl Layer {
    pub(super) fn encode(
        &self,
        x: &Tensor,
        lengths: &[usize],
        positions: &Positions,
        pass: Pass,
    ) -> Result<Tensor> {
        let x = self.order.apply(x, &self.own.norm, |x| {
            let bias = positions.bias_of(x.device());
            self.own.over(x, lengths, (x, lengths), (Sight::All, bias.as_deref()), pass)
        })?;
        self.order.apply(&x, &self.feed.norm, |x| self.feed.forward(x, pass))
    }

    pub(super) fn decode(
        &self,
        x: &Tensor,
        memory: &Memory<'_>,
        lengths: &[usize],
        positions: &Positions,
        pass: Pass,
    ) -> Result<Tensor> {
        let x = self.order.apply(x, &self.own.norm, |x| {
            let bias = positions.bias_of(x.device());
            self.own.over(x, lengths, (x, lengths), (Sight::Past { offset: 0 }, bias.as_deref()), pass)
        })?;
        let cross = self.cross()?;
        let x = self.order.apply(&x, &cross.norm, |x| {
            cross.over(x, lengths, (memory.hidden, &memory.source.lengths), (Sight::All, None), pass)
        })?;
        self.order.apply(&x, &self.feed.norm, |x| self.feed.forward(x, pass))
    }

    pub(super) fn decode_cached(
        &self,
        x: &Tensor,
        memory: &Memory<'_>,
        target: &Sequences,
        positions: &Positions,
        pass: Pass,
        cache: &mut DecoderCache,
    ) -> Result<Tensor> {
        let fits = target.lengths.len() == cache.targets.len()
            && target.lengths.windows(2).all(|pair| pair[0] == pair[1])
            && cache.targets.iter().all(|seen| seen.len() == target.offset)
            && memory.source.lengths.len() == 1;
        if !fits {
            bail!(
                "a cache of {} targets of {} tokens takes one source and targets of one length that start there, not {target:?}",
                cache.targets.len(),
                cache.len()
            );
        }
        let x = self
            .order
            .apply(x, &self.own.norm, |x| self.own.cached(x, target, positions, pass, &mut *cache))?;
        let cross = self.cross()?;
        let x = self
            .order
            .apply(&x, &cross.norm, |x| cross.over_source(x, memory.hidden, pass, &mut cache.source))?;
        self.order.apply(&x, &self.feed.norm, |x| self.feed.forward(x, pass))
    }

    fn cross(&self) -> Result<&Attention> {
        match &self.cross {
            Some(cross) => Ok(cross),
            None => bail!("a layer of an encoder looks at nothing but its own sequence"),
        }
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut all = self.own.linears().to_vec();
        all.extend(self.cross.iter().flat_map(Attention::linears));
        all.extend(&self.feed.into);
        all.push(&self.feed.out);
        all
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = Vec::from(self.own.linears_mut());
        all.extend(self.cross.iter_mut().flat_map(Attention::linears_mut));
        all.extend(&mut self.feed.into);
        all.push(&mut self.feed.out);
        all
    }
}
