//! A whole decoder layer as one operation: norm, attention and feed-forward, each with its residual.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    attention::Attention,
    heads::Heading,
    linear::{Adapter, Group, Linear},
    rows,
};
use crate::{
    FrozenWeight, Heads, RopeTable,
    buffer::Buffer,
    dropout::Mask,
    matmul::Kind,
    values::{Numbers, Values, ValuesMut, f32_tensor, hold},
};

/// A linear layer, frozen, perhaps with an adapter.
#[derive(Debug, Clone)]
pub struct LayerLinear {
    /// `[out, in]`, computed with in f32 or bf16 like all weights of the layer.
    pub weight: FrozenWeight,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// A `[rank, in]` and B `[out, rank]`, f32, of the rank that all adapters of the layer have.
    pub adapter: Option<(Tensor, Tensor)>,
    /// Probability and seed of the dropout on the adapter's input.
    pub dropout: Option<(f32, u64)>,
}

/// A decoder layer of the Llama shape: pre-norm, grouped-query attention, mostly rotary, SwiGLU.
///
/// ```text
/// x₂ = x + o(attention(q(norm₁ x), k(norm₁ x), v(norm₁ x)))        y = x₂ + down(silu(gate(norm₂ x₂)) · up(norm₂ x₂))
/// ```
///
/// The residual stream, norms, sums and adapters are f32. With bf16 weights everything that is multiplied is rounded to
/// bf16 first, and what is kept for the backward pass is bf16: queries, keys, values, mixed values, gate and up. With f32
/// weights all is f32.
#[derive(Debug, Clone)]
pub struct DecoderLayer {
    /// `[hidden]`.
    pub input_norm: Tensor,
    /// `[hidden]`.
    pub post_attention_norm: Tensor,
    /// `[dim]` each: of a norm that each head of queries, and of keys, goes through before it is rotated.
    pub query_key_norms: Option<[Tensor; 2]>,
    /// Of all norms.
    pub eps: f32,
    /// q, k, v, o, gate, up and down.
    pub linears: [LayerLinear; 7],
    /// Factor of the adapters' outputs.
    pub scale: f32,
    /// The heads of the attention.
    pub heads: Heads,
}

/// Which tokens a layer is given.
#[derive(Debug, Clone)]
pub struct LayerInput {
    /// Length of each sequence; they lie end to end.
    pub lengths: Vec<usize>,
    /// Rotary angles; none in a layer that knows no positions.
    pub table: Option<Arc<RopeTable>>,
    /// Position of each token.
    pub positions: Arc<Vec<u32>>,
}

/// Linear layers that share an input: q, k and v; o; gate and up; down.
pub(crate) const GROUPS: [std::ops::Range<usize>; 4] = [0..3, 3..4, 4..6, 6..7];
pub(crate) const QKV: usize = 0;
pub(crate) const O: usize = 1;
pub(crate) const GATE_UP: usize = 2;
pub(crate) const DOWN: usize = 3;

impl DecoderLayer {
    /// `[tokens, hidden]` f32 → the same. Gradients reach `hidden` and the adapters where they are tracked.
    ///
    /// # Errors
    /// Shapes or dtypes do not fit each other.
    pub fn forward(self, hidden: &Tensor, input: LayerInput) -> Result<Tensor> {
        self.check(hidden, &input)?;
        let hidden = hidden.contiguous()?;
        // The adapters reach the operation as one operand; it keeps no second hold on them.
        #[cfg(feature = "cuda")]
        {
            let adapters = self.adapters();
            let layer = || self.clone().without_values();
            if let Some(y) = crate::cuda::layer_beside(layer, &hidden, &adapters, &input)? {
                return Ok(y);
            }
        }
        let flat = self.flat_adapters()?;
        let op = Layer {
            layer: self.without_values(),
            input,
            saved: Mutex::new(None),
            #[cfg(feature = "cuda")]
            on_card: Mutex::new(None),
            keep: hidden.track_op() || flat.as_ref().is_some_and(Tensor::track_op),
        };
        match flat {
            None => hidden.apply_op1(op),
            Some(flat) => hidden.apply_op2(&flat, op),
        }
    }

    /// All adapters: of each group all A, then all B.
    fn adapters(&self) -> Vec<Tensor> {
        let mut all = Vec::new();
        for group in GROUPS {
            let adapters = || self.linears[group.clone()].iter().filter_map(|l| l.adapter.as_ref());
            all.extend(adapters().map(|(a, _)| a.clone()).chain(adapters().map(|(_, b)| b.clone())));
        }
        all
    }

    /// The same as one tensor.
    pub(crate) fn flat_adapters(&self) -> Result<Option<Tensor>> {
        let flat = self.adapters().iter().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
        if flat.is_empty() { Ok(None) } else { Tensor::cat(&flat, 0).map(Some) }
    }

    pub(super) fn check(&self, hidden: &Tensor, input: &LayerInput) -> Result<()> {
        let (tokens, width) = hidden.dims2()?;
        let Heads { queries, keys, dim, window } = self.heads;
        if hidden.dtype() != DType::F32 {
            bail!("the residual stream must be f32, not {:?}", hidden.dtype());
        }
        if tokens == 0 || input.lengths.iter().sum::<usize>() != tokens {
            bail!("the sequences' lengths {:?} do not sum to {tokens} tokens", input.lengths);
        }
        if keys == 0 || !queries.is_multiple_of(keys) || window == Some(0) {
            bail!("{queries} query heads cannot share {keys} key heads, window {window:?}");
        }
        match &input.table {
            Some(table) => table.check(dim, tokens, &input.positions)?,
            None if input.positions.len() == tokens => {}
            None => bail!("{} positions are given for {tokens} tokens", input.positions.len()),
        }
        if let Some(norm) = self.query_key_norms.iter().flatten().find(|norm| norm.dims() != [dim]) {
            bail!("the norm of a head must have its width {dim}, not {:?}", norm.shape());
        }
        let middle = self.linears[4].weight.dims2()?.0;
        let dtype = self.linears[0].weight.dtype();
        let (q, k) = (queries * dim, keys * dim);
        let shapes = [
            (q, width),
            (k, width),
            (k, width),
            (width, q),
            (middle, width),
            (middle, width),
            (width, middle),
        ];
        let mut rank = None;
        for (linear, (out, inputs)) in self.linears.iter().zip(shapes) {
            let (shape, own) = (linear.weight.dims2()?, linear.weight.dtype());
            if shape != (out, inputs) || own != dtype {
                bail!("a weight [{out}, {inputs}] of {dtype:?} is expected, not {shape:?} of {own:?}");
            }
            if let Some(bias) = linear.bias.as_ref().filter(|b| b.dims() != [out]) {
                bail!("a bias of [{out}] is expected, not {:?}", bias.shape());
            }
            if let Some((a, b)) = &linear.adapter {
                let r = *rank.get_or_insert(a.dim(0)?);
                if a.dims() != [r, inputs] || b.dims() != [out, r] {
                    bail!(
                        "an adapter of rank {r} does not fit [{out}, {inputs}]: {:?}, {:?}",
                        a.shape(),
                        b.shape()
                    );
                }
                if a.dtype() != DType::F32 || b.dtype() != DType::F32 {
                    bail!("an adapter must be f32");
                }
            }
        }
        if self.input_norm.dims() != [width] || self.post_attention_norm.dims() != [width] {
            bail!("a norm must have the width {width} of the residual stream");
        }
        Ok(())
    }

    /// Detaches all weights, so that they are no operands of anything.
    pub(crate) fn without_values(self) -> Frozen {
        let rank = self.linears.iter().find_map(|l| Some(l.adapter.as_ref()?.0.dims()[0])).unwrap_or(0);
        let linears = self.linears.map(|l| FrozenLinear {
            weight: l.weight.detach(),
            bias: l.bias.map(|b| b.detach()),
            adapted: l.adapter.is_some(),
            mask: l.dropout.filter(|d| d.0 > 0.0).map(|(probability, seed)| Mask::new(probability, seed)),
        });
        Frozen {
            input_norm: self.input_norm.detach(),
            post_attention_norm: self.post_attention_norm.detach(),
            query_key_norms: self.query_key_norms.map(|norms| norms.map(|norm| norm.detach())),
            eps: self.eps,
            linears,
            rank,
            scale: self.scale,
            heads: self.heads,
        }
    }
}

pub(crate) struct FrozenLinear {
    pub weight: FrozenWeight,
    pub bias: Option<Tensor>,
    pub adapted: bool,
    pub mask: Option<Mask>,
}

/// All of a layer but its adapters' values.
pub(crate) struct Frozen {
    pub input_norm: Tensor,
    pub post_attention_norm: Tensor,
    pub query_key_norms: Option<[Tensor; 2]>,
    pub eps: f32,
    pub linears: [FrozenLinear; 7],
    pub rank: usize,
    pub scale: f32,
    pub heads: Heads,
}

/// A layer's parameters as slices.
struct Parameters<'a> {
    norms: [Vec<f32>; 2],
    head_norms: Option<[Vec<f32>; 2]>,
    groups: [Group<'a>; 4],
}

/// What the backward pass needs beside the layer's input.
struct Saved {
    qkv: Numbers,
    mixed: Numbers,
    log_sums: Buffer<f32>,
    /// The residual stream after attention.
    middle: Numbers,
    gate_up: Numbers,
    /// Of each group.
    u: [Buffer<f32>; 4],
}

struct Layer {
    layer: Frozen,
    input: LayerInput,
    keep: bool,
    saved: Mutex<Option<Saved>>,
    /// The same on a card.
    #[cfg(feature = "cuda")]
    on_card: Mutex<Option<crate::cuda::SavedOnCard>>,
}

pub(super) fn vector(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.to_vec1()
}

pub(super) fn head_norms(norms: Option<&[Tensor; 2]>) -> Result<Option<[Vec<f32>; 2]>> {
    norms.map(|[query, key]| Ok([vector(query)?, vector(key)?])).transpose()
}

impl Layer {
    /// Runs `f` on the layer's parameters; `adapters` is the one operand that holds all adapters.
    fn with<R>(&self, adapters: &[f32], f: impl FnOnce(&Parameters) -> Result<R>) -> Result<R> {
        let layer = &self.layer;
        let held: Vec<_> = layer.linears.iter().map(|l| l.weight.hold()).collect();
        let mut weights = Vec::with_capacity(held.len());
        for (held, linear) in held.iter().zip(&layer.linears) {
            weights.push((held.source()?, linear, linear.weight.dims2()?));
        }
        let kind = Kind::of(weights[0].0.is_bf16());
        let mut rest = adapters;
        let mut take = |len: usize| -> Result<&[f32]> {
            let Some((own, after)) = rest.split_at_checked(len) else { bail!("the adapters are too short") };
            rest = after;
            Ok(own)
        };
        let mut groups = Vec::with_capacity(GROUPS.len());
        for members in GROUPS {
            let members = &weights[members];
            let inputs = members[0].2.1;
            let adapted = members.iter().filter(|(_, linear, _)| linear.adapted).count();
            let a = take(adapted * layer.rank * inputs)?;
            let mut linears = Vec::with_capacity(members.len());
            for (weight, linear, (out, _)) in members {
                let b = if linear.adapted { take(layer.rank * out)? } else { &[] };
                linears.push(Linear {
                    weight: *weight,
                    out: *out,
                    bias: linear.bias.as_ref().map(vector).transpose()?,
                    adapter: linear.adapted.then_some(Adapter { b, mask: linear.mask }),
                });
            }
            groups.push(Group { linears, a, inputs, rank: layer.rank, scale: layer.scale, kind });
        }
        let Ok(groups) = <[Group; 4]>::try_from(groups) else { bail!("a layer has four groups") };
        let norms = [vector(&layer.input_norm)?, vector(&layer.post_attention_norm)?];
        f(&Parameters { norms, head_norms: head_norms(layer.query_key_norms.as_ref())?, groups })
    }

    fn attention<'a>(&'a self, kind: Kind, norms: Option<&'a [Vec<f32>; 2]>) -> Attention<'a> {
        let LayerInput { lengths, table, positions } = &self.input;
        let heading = Heading { norms, eps: self.layer.eps, table: table.as_deref() };
        Attention { heads: self.layer.heads, lengths, heading, positions, kind }
    }

    fn forward(&self, x: &[f32], adapters: &[f32]) -> Result<(CpuStorage, Shape)> {
        self.with(adapters, |Parameters { norms, head_norms, groups }| {
            let width = norms[0].len();
            let tokens = x.len() / width;
            let bf16 = groups[QKV].linears[0].weight.is_bf16();
            let normed = |x: &[f32], norm: &[f32], row: usize, to: &mut [f32]| {
                rows::rms_norm(&x[row * width..(row + 1) * width], norm, self.layer.eps, to);
            };
            let mut qkv = Numbers::any(bf16, tokens * groups[QKV].outputs());
            let fill = |row: usize, to: &mut [f32]| normed(x, &norms[0], row, to);
            let u_qkv = groups[QKV].forward(tokens, &fill, qkv.values_mut(), None);
            let (mixed, log_sums) =
                self.attention(groups[QKV].kind, head_norms.as_ref()).forward(qkv.values(), bf16);
            let mut middle = Buffer::any(x.len());
            let fill = |row: usize, to: &mut [f32]| mixed.values().read(row * groups[O].inputs, to);
            let u_o = groups[O].forward(tokens, &fill, ValuesMut::F32(&mut middle), Some(x));
            let mut gate_up = Numbers::any(bf16, tokens * groups[GATE_UP].outputs());
            let fill = |row: usize, to: &mut [f32]| normed(&middle, &norms[1], row, to);
            let u_gate_up = groups[GATE_UP].forward(tokens, &fill, gate_up.values_mut(), None);
            let mut y = vec![0f32; x.len()];
            let fill = |row: usize, to: &mut [f32]| gated(gate_up.values(), row, to);
            let u_down = groups[DOWN].forward(tokens, &fill, ValuesMut::F32(&mut y), Some(&middle));
            if self.keep {
                let u = [u_qkv, u_o, u_gate_up, u_down];
                let middle = Numbers::rounded(bf16, middle);
                *self.saved.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Saved { qkv, mixed, log_sums, middle, gate_up, u });
            }
            Ok((CpuStorage::F32(y), Shape::from((tokens, width))))
        })
    }

    /// The gradients of `x`, where it is wanted, and of the adapters, from that of the result: through the four groups, the
    /// gate, the norms and attention in reverse, each as its own documentation derives it. The gradient of the residual
    /// stream is added to in place.
    fn backward(
        &self,
        x: &[f32],
        adapters: &[f32],
        g: &[f32],
        wanted: bool,
    ) -> Result<(Option<Vec<f32>>, Vec<f32>)> {
        let Some(saved) = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            bail!("the gradient of a decoder layer can be taken once");
        };
        let Saved { qkv, mixed, log_sums, middle, gate_up, u } = saved;
        self.with(adapters, |Parameters { norms, head_norms, groups }| {
            let width = norms[0].len();
            let tokens = x.len() / width;
            let eps = self.layer.eps;
            let bf16 = matches!(qkv, Numbers::Bf16(_));
            let mut gradient = vec![0f32; adapters.len()];
            let mut rest = gradient.as_mut_slice();
            let mut parts = Vec::with_capacity(groups.len());
            for group in groups {
                let (own, after) = rest.split_at_mut(group.parameters());
                parts.push(own);
                rest = after;
            }
            let [d_qkv, d_o, d_gate_up, d_down] = parts.as_mut_slice() else {
                bail!("a layer has four groups")
            };
            let through_norm = |x: &[f32], norm: &[f32], dn: &mut [f32], dx: &mut [f32]| {
                let rows = dn
                    .par_chunks_exact_mut(width)
                    .zip(dx.par_chunks_exact_mut(width))
                    .zip(x.par_chunks_exact(width));
                rows.for_each(|((dn, dx), x)| rows::rms_norm_backward(x, norm, eps, dn, dx));
            };

            let middle = middle.into_f32();
            let fill = |row: usize, to: &mut [f32]| gated(gate_up.values(), row, to);
            let mut d_act = Numbers::any(bf16, tokens * groups[DOWN].inputs);
            let to = Some(d_act.values_mut());
            groups[DOWN].backward(tokens, &fill, &u[DOWN], Values::F32(g), d_down, to);
            let d_gate = gate_gradient(gate_up, d_act, groups[DOWN].inputs)?;

            let mut dx = g.to_vec();
            let fill = |row: usize, to: &mut [f32]| {
                rows::rms_norm(&middle[row * width..(row + 1) * width], &norms[1], eps, to);
            };
            let mut dn = Buffer::any(x.len());
            let to = Some(ValuesMut::F32(&mut dn));
            groups[GATE_UP].backward(tokens, &fill, &u[GATE_UP], d_gate.values(), d_gate_up, to);
            drop(d_gate);
            through_norm(&middle, &norms[1], &mut dn, &mut dx);
            drop(middle);

            let fill = |row: usize, to: &mut [f32]| mixed.values().read(row * groups[O].inputs, to);
            let mut d_mixed = Numbers::any(bf16, tokens * groups[O].inputs);
            groups[O].backward(tokens, &fill, &u[O], Values::F32(&dx), d_o, Some(d_mixed.values_mut()));
            let attention = self.attention(groups[QKV].kind, head_norms.as_ref());
            let d_heads = attention.backward(qkv.values(), mixed.values(), &log_sums, d_mixed.values());
            drop((qkv, mixed, d_mixed));

            let fill = |row: usize, to: &mut [f32]| {
                rows::rms_norm(&x[row * width..(row + 1) * width], &norms[0], eps, to);
            };
            let to = wanted.then(|| ValuesMut::F32(&mut dn));
            groups[QKV].backward(tokens, &fill, &u[QKV], d_heads.values(), d_qkv, to);
            if wanted {
                through_norm(x, &norms[0], &mut dn, &mut dx);
            }
            Ok((wanted.then_some(dx), gradient))
        })
    }

    #[cfg(feature = "cuda")]
    fn forward_on_card(
        &self,
        (x, l1): (&candle_core::CudaStorage, &Layout),
        adapters: Option<(&candle_core::CudaStorage, &Layout)>,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let adapters = match adapters {
            Some((storage, layout)) => {
                Some((crate::cuda::numbers_of(storage, layout)?, layout.shape().elem_count()))
            }
            None => None,
        };
        let at = crate::cuda::numbers_of(x, l1)?;
        let (y, shape, saved) = crate::cuda::forward(&self.layer, &self.input, (x, at), adapters, self.keep)?;
        *self.on_card.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok((y, shape))
    }

    fn gradients(
        &self,
        x: &Tensor,
        adapters: Option<&Tensor>,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let Some(saved) = self.on_card.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                bail!("the gradient of a decoder layer can be taken once");
            };
            let flat = match adapters {
                Some(adapters) => Some((crate::cuda::numbers(adapters)?, adapters.elem_count())),
                None => None,
            };
            let wanted = (x, x.track_op());
            let (dx, gradient) = crate::cuda::backward(&self.layer, &self.input, wanted, flat, g, saved)?;
            return Ok((dx, adapters.filter(|adapters| adapters.track_op()).map(|_| gradient)));
        }
        let (x_held, g) = (hold(x), g.contiguous()?);
        let g_held = hold(&g);
        let adapters_held = adapters.map(|a| hold(a));
        let values = match &adapters_held {
            Some(held) => held.values()?.f32()?,
            None => &[],
        };
        let (dx, d_adapters) =
            self.backward(x_held.values()?.f32()?, values, g_held.values()?.f32()?, x.track_op())?;
        let d_adapters = adapters.filter(|a| a.track_op()).map(|a| f32_tensor(d_adapters, a)).transpose()?;
        Ok((dx.map(|dx| f32_tensor(dx, x)).transpose()?, d_adapters))
    }
}

/// `silu(gate) · up` of a row that holds both, side by side.
pub(super) fn gated(gate_up: Values, row: usize, to: &mut [f32]) {
    let width = to.len();
    let at = 2 * row * width;
    match gate_up {
        Values::F32(v) => rows::swiglu(&v[at..at + width], &v[at + width..at + 2 * width], to),
        Values::Bf16(v) => rows::swiglu_bf16(&v[at..at + width], &v[at + width..at + 2 * width], to),
    }
}

/// The gradients of gate and up, in their place, from that of the gated product, `[tokens, width]`, of the same type.
fn gate_gradient(mut gate_up: Numbers, g: Numbers, width: usize) -> Result<Numbers> {
    match (gate_up.values_mut(), g.values()) {
        (ValuesMut::Bf16(v), Values::Bf16(g)) => {
            v.par_chunks_exact_mut(2 * width).zip(g.par_chunks_exact(width)).for_each(|(row, g)| {
                let (gate, up) = row.split_at_mut(width);
                rows::swiglu_backward_bf16(gate, up, g);
            })
        }
        (ValuesMut::F32(v), Values::F32(g)) => {
            v.par_chunks_exact_mut(2 * width).zip(g.par_chunks_exact(width)).for_each(|(row, g)| {
                let (gate, up) = row.split_at_mut(width);
                rows::swiglu_backward(gate, up, g);
            })
        }
        _ => bail!("a gradient has the type of what it is of"),
    }
    Ok(gate_up)
}

impl CustomOp1 for Layer {
    fn name(&self) -> &'static str {
        "decoder-layer"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(Values::of(x, layout)?.f32()?, &[])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_card((x, layout), None)
    }

    fn bwd(&self, x: &Tensor, _res: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(x, None, g)?.0)
    }
}

impl CustomOp2 for Layer {
    fn name(&self) -> &'static str {
        "decoder-layer-lora"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        l1: &Layout,
        adapters: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(Values::of(x, l1)?.f32()?, Values::of(adapters, l2)?.f32()?)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        l1: &Layout,
        adapters: &candle_core::CudaStorage,
        l2: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.forward_on_card((x, l1), Some((adapters, l2)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        adapters: &Tensor,
        _res: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, Some(adapters), g)
    }
}
