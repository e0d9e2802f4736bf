//! A decoder layer over the tokens that go on after cached ones, of one sequence or of several, where nothing trains.

use std::sync::Arc;

use candle_core::{CpuStorage, Result, Storage, Tensor, bail, op::BackpropOp};
use rayon::prelude::*;

use super::{
    DecoderLayer, KeyValueCache, LayerInput,
    cache::Cached,
    heads::Heading,
    layer::{gated, head_norms, vector},
    linear::{self, Group},
    rows,
    vector::{Linear, Linears},
};
use crate::{
    RopeTable,
    matmul::Kind,
    values::{Numbers, Values, ValuesMut, hold},
};

/// Linear layers that share an input.
struct Groups<T> {
    qkv: T,
    o: T,
    gate_up: T,
    down: T,
}

/// A layer's parameters as slices.
struct Parameters<'a> {
    norms: [Vec<f32>; 2],
    eps: f32,
    groups: Groups<Linears<'a>>,
}

impl DecoderLayer {
    /// What [`forward`](Self::forward) computes of one sequence, of whose tokens those in the cache are known already:
    /// `[tokens, hidden]` f32 → the same. The cache is given the new ones.
    ///
    /// Of a single token nothing but the cache is rounded. Nothing trains through it, and nothing is dropped.
    ///
    /// # Errors
    /// Shapes or dtypes do not fit each other, the cache is that of another layer, or a gradient is expected.
    pub fn forward_cached(
        &self,
        hidden: &Tensor,
        table: Option<&Arc<RopeTable>>,
        cache: &mut KeyValueCache,
    ) -> Result<Tensor> {
        let (tokens, _) = hidden.dims2()?;
        self.cached(hidden, table, &[tokens], vec![cache], |parameters, x, cached, narrow| match cached {
            [(cached, 1)] => parameters.one(x, cached, narrow),
            many => parameters.many(x, many, narrow),
        })
    }

    /// What [`forward_cached`](Self::forward_cached) computes of each of several sequences, whose next tokens, as many as
    /// `lengths` says, lie end to end and go on after a cache each: `[tokens, hidden]` f32 → the same. What is computed of a
    /// sequence does not depend on the others, nor on their number, to the bit.
    ///
    /// # Errors
    /// As there, or there are more or fewer caches than lengths.
    pub fn forward_cached_many(
        &self,
        hidden: &Tensor,
        table: Option<&Arc<RopeTable>>,
        lengths: &[usize],
        caches: Vec<&mut KeyValueCache>,
    ) -> Result<Tensor> {
        self.cached(hidden, table, lengths, caches, |parameters, x, cached, narrow| {
            parameters.many(x, cached, narrow)
        })
    }

    fn cached(
        &self,
        hidden: &Tensor,
        table: Option<&Arc<RopeTable>>,
        lengths: &[usize],
        caches: Vec<&mut KeyValueCache>,
        compute: impl Fn(&Parameters, &[f32], &mut [(Cached, usize)], bool) -> Vec<f32> + Sync,
    ) -> Result<Tensor> {
        if lengths.len() != caches.len() || lengths.contains(&0) {
            bail!("{} caches do not go on with {lengths:?} tokens", caches.len());
        }
        let places = caches.iter().zip(lengths).flat_map(|(cache, length)| cache.len()..cache.len() + length);
        let positions = Arc::new(places.map(|position| position as u32).collect());
        let input = LayerInput { lengths: lengths.to_vec(), table: table.cloned(), positions };
        self.check(hidden, &input)?;
        if hidden.track_op() {
            bail!("nothing trains through a cached layer");
        }
        #[cfg(feature = "cuda")]
        if hidden.device().is_cuda() {
            return crate::cuda::forward_cached(self, hidden, input, caches);
        }
        let hidden = hidden.contiguous()?;
        let held = hold(&hidden);
        let x = held.values()?.f32()?;
        let norms = head_norms(self.query_key_norms.as_ref())?;
        let heading = Heading { norms: norms.as_ref(), eps: self.eps, table: table.map(Arc::as_ref) };
        let y = self.with(|parameters, narrow| {
            let of = |(cache, &length)| (Cached { cache, heads: self.heads, heading }, length);
            let mut cached: Vec<(Cached, usize)> = caches.into_iter().zip(lengths).map(of).collect();
            cached.iter().try_for_each(|(cached, _)| cached.check(narrow))?;
            let mut y = Vec::new();
            // On one of the pool's threads: a thread outside would pay for waking them at every product.
            rayon::scope(|_| y = compute(parameters, x, &mut cached, narrow));
            Ok(y)
        })?;
        let storage = Storage::Cpu(CpuStorage::F32(y));
        Ok(Tensor::from_storage(storage, hidden.shape(), BackpropOp::none(), false))
    }

    /// Runs `f` on the layer's parameters, and whether its weights are bf16.
    fn with<R>(&self, f: impl FnOnce(&Parameters, bool) -> Result<R>) -> Result<R> {
        let mut held = Vec::with_capacity(self.linears.len());
        for linear in &self.linears {
            let adapter = linear.adapter.as_ref().map(|(a, b)| (hold(a), hold(b)));
            held.push((linear, linear.weight.hold(), adapter));
        }
        let mut narrow = false;
        let mut linears = Vec::with_capacity(held.len());
        for (linear, weight, adapter) in &held {
            let weight = weight.source()?;
            narrow = weight.is_bf16();
            let adapter = match adapter {
                Some((a, b)) => Some((a.values()?.f32()?, b.values()?.f32()?)),
                None => None,
            };
            let bias = linear.bias.as_ref().map(vector).transpose()?;
            linears.push(Linear { weight, out: linear.weight.dims2()?.0, bias, adapter });
        }
        let mut rest = linears.into_iter();
        let mut group = |count: usize, first: usize| -> Result<Linears> {
            Ok(Linears {
                linears: rest.by_ref().take(count).collect(),
                inputs: self.linears[first].weight.dims2()?.1,
                rank: self.linears.iter().find_map(|l| Some(l.adapter.as_ref()?.0.dims()[0])).unwrap_or(0),
                scale: self.scale,
            })
        };
        let groups = Groups { qkv: group(3, 0)?, o: group(1, 3)?, gate_up: group(2, 4)?, down: group(1, 6)? };
        let norms = [vector(&self.input_norm)?, vector(&self.post_attention_norm)?];
        f(&Parameters { norms, eps: self.eps, groups }, narrow)
    }
}

impl Parameters<'_> {
    /// A single token: products with vectors.
    fn one(&self, x: &[f32], cached: &mut Cached, narrow: bool) -> Vec<f32> {
        let Groups { qkv, o, gate_up, down } = &self.groups;
        let mut normed = vec![0f32; x.len()];
        rows::rms_norm(x, &self.norms[0], self.eps, &mut normed);
        let mut heads = vec![0f32; qkv.outputs()];
        qkv.times(&normed, &mut heads, None);
        cached.append(Values::F32(&heads), 1, narrow);
        let mixed = cached.attend_one(&heads);
        let mut middle = vec![0f32; x.len()];
        o.times(&mixed, &mut middle, Some(x));
        rows::rms_norm(&middle, &self.norms[1], self.eps, &mut normed);
        let mut both = vec![0f32; gate_up.outputs()];
        gate_up.times(&normed, &mut both, None);
        let mut activated = vec![0f32; down.inputs];
        let (gate, up) = both.split_at(down.inputs);
        rows::swiglu(gate, up, &mut activated);
        let mut y = vec![0f32; x.len()];
        down.times(&activated, &mut y, Some(&middle));
        y
    }

    /// The next tokens of one or more sequences: products of packed matrices over all of them, attention in each.
    fn many(&self, x: &[f32], cached: &mut [(Cached, usize)], narrow: bool) -> Vec<f32> {
        let kind = Kind::of(narrow);
        let all_a = [&self.groups.qkv, &self.groups.o, &self.groups.gate_up, &self.groups.down].map(a_of);
        let [a_qkv, a_o, a_gate_up, a_down] = &all_a;
        let qkv = group(&self.groups.qkv, a_qkv, kind);
        let o = group(&self.groups.o, a_o, kind);
        let gate_up = group(&self.groups.gate_up, a_gate_up, kind);
        let down = group(&self.groups.down, a_down, kind);
        let width = self.norms[0].len();
        let tokens = x.len() / width;
        let normed = |x: &[f32], norm: &[f32], row: usize, to: &mut [f32]| {
            rows::rms_norm(&x[row * width..(row + 1) * width], norm, self.eps, to);
        };
        let mut heads = Numbers::any(narrow, tokens * qkv.outputs());
        qkv.forward(tokens, &|row, to| normed(x, &self.norms[0], row, to), heads.values_mut(), None);
        let mixed = attend(cached, heads.values(), qkv.outputs(), o.inputs, (kind, narrow));
        let mut middle = vec![0f32; x.len()];
        let read = |row: usize, to: &mut [f32]| to.copy_from_slice(&mixed[row * o.inputs..][..o.inputs]);
        o.forward(tokens, &read, ValuesMut::F32(&mut middle), Some(x));
        let mut both = Numbers::any(narrow, tokens * gate_up.outputs());
        gate_up.forward(tokens, &|row, to| normed(&middle, &self.norms[1], row, to), both.values_mut(), None);
        let activated = |row: usize, to: &mut [f32]| gated(both.values(), row, to);
        let mut y = vec![0f32; x.len()];
        down.forward(tokens, &activated, ValuesMut::F32(&mut y), Some(&middle));
        y
    }
}

/// Attention of each sequence over what it sees, `[tokens, width]`, once its cache has the keys and values of its rows of
/// `qkv`, which are `stride` wide.
fn attend(
    cached: &mut [(Cached, usize)],
    qkv: Values,
    stride: usize,
    width: usize,
    (kind, narrow): (Kind, bool),
) -> Vec<f32> {
    let tokens: usize = cached.iter().map(|(_, length)| length).sum();
    let mut mixed = vec![0f32; tokens * width];
    let (mut jobs, mut rest, mut first) = (Vec::with_capacity(cached.len()), mixed.as_mut_slice(), 0);
    for (cached, length) in cached {
        let (own, after) = rest.split_at_mut(*length * width);
        jobs.push((cached, *length, qkv.from(first * stride), own));
        (rest, first) = (after, first + *length);
    }
    jobs.into_par_iter().with_max_len(1).for_each(|(cached, length, qkv, to)| {
        cached.append(qkv, length, narrow);
        if length == 1 {
            let mut queries = vec![0f32; width];
            qkv.read(0, &mut queries);
            to.copy_from_slice(&cached.attend_one(&queries));
            return;
        }
        let mixed = cached.attend(qkv, length, kind);
        to.chunks_exact_mut(width).enumerate().for_each(|(row, to)| mixed.read(row, to));
    });
    mixed
}

/// A of every adapter, one after the other.
fn a_of(linears: &Linears) -> Vec<f32> {
    linears.linears.iter().filter_map(|l| l.adapter).flat_map(|(a, _)| a).copied().collect()
}

/// The same layers for products of packed matrices.
fn group<'a>(linears: &'a Linears<'a>, a: &'a [f32], kind: Kind) -> Group<'a> {
    let of = |l: &Linear<'a>| linear::Linear {
        weight: l.weight,
        out: l.out,
        bias: l.bias.clone(),
        adapter: l.adapter.map(|(_, b)| linear::Adapter { b, mask: None }),
    };
    let Linears { inputs, rank, scale, .. } = *linears;
    Group { linears: linears.linears.iter().map(of).collect(), a, inputs, rank, scale, kind }
}
