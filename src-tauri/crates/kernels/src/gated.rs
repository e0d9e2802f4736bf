//! The gated activations of the feed-forward layer (Shazeer 2020, arXiv:2002.05202).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::{
    composed,
    gelu::Gelu,
    slices::{floats, for_each_piece, store, tensor_like, with_floats},
};

/// What the gate and the other half go through before they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// `silu(gate) · up`, with `silu(x) = x · σ(x)`.
    Silu,
    /// `gelu(gate) · up`.
    Gelu(Gelu),
    /// `g · σ(alpha · g) · (u + 1)`, with `g` the gate up to `limit` and `u` the other half within ±`limit`: gpt-oss.
    Clamped {
        /// Steepness of the sigmoid.
        alpha: f32,
        /// Where both halves are cut.
        limit: f32,
    },
}

impl Gate {
    /// The gate's factor and its derivative.
    fn gate(self, x: f32) -> (f32, f32) {
        match self {
            Gate::Silu => {
                let s = sigmoid(x);
                (x * s, s * (1.0 + x * (1.0 - s)))
            }
            Gate::Gelu(form) => form.with_slope(x),
            Gate::Clamped { alpha, limit } => {
                let g = x.min(limit);
                let s = sigmoid(alpha * g);
                let slope = if x <= limit { s * (1.0 + alpha * g * (1.0 - s)) } else { 0.0 };
                (g * s, slope)
            }
        }
    }

    /// The other half's factor and its derivative.
    fn up(self, x: f32) -> (f32, f32) {
        match self {
            Gate::Silu | Gate::Gelu(_) => (x, 1.0),
            Gate::Clamped { limit, .. } => {
                (x.clamp(-limit, limit) + 1.0, if x.abs() <= limit { 1.0 } else { 0.0 })
            }
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The product of both halves, element by element, each after its function.
///
/// With `y = f(gate) · h(up)`, the gradients are `g · f′(gate) · h(up)` and `g · f(gate) · h′(up)`.
pub fn gated(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        bail!("gate {:?} and up {:?} differ in shape", gate.dims(), up.dims());
    }
    if composed::wanted(gate, false) {
        return composed::gated(gate, up, kind);
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, Gated(kind))
}

struct Gated(Gate);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut y = floats(s1, l1)?.into_owned();
        let up = floats(s2, l2)?;
        for_each_piece(&mut y, |start, piece| {
            for (v, up) in piece.iter_mut().zip(&up[start..]) {
                *v = self.0.gate(*v).0 * self.0.up(*up).0;
            }
        });
        Ok((store(y, s1.dtype()), l1.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut dgate = with_floats(grad, <[f32]>::to_vec)?;
        let mut dup = dgate.clone();
        with_floats(gate, |gate| {
            with_floats(up, |up| {
                for_each_piece(&mut dgate, |start, piece| {
                    for ((d, x), up) in piece.iter_mut().zip(&gate[start..]).zip(&up[start..]) {
                        *d *= self.0.gate(*x).1 * self.0.up(*up).0;
                    }
                });
                for_each_piece(&mut dup, |start, piece| {
                    for ((d, x), up) in piece.iter_mut().zip(&gate[start..]).zip(&up[start..]) {
                        *d *= self.0.gate(*x).0 * self.0.up(*up).1;
                    }
                });
            })
        })??;
        let tracked = |t: &Tensor, d: Vec<f32>| t.track_op().then(|| tensor_like(d, t)).transpose();
        Ok((tracked(gate, dgate)?, tracked(up, dup)?))
    }
}
