//! The gated activation of the feed-forward layer (Shazeer 2020, arXiv:2002.05202).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use crate::slices::{floats, for_each_row, store, tensor_like, with_floats};

/// `silu(gate) · up`, element by element, with `silu(x) = x · σ(x)`.
///
/// The gradients are `du = g · silu(gate)` and `dgate = g · up · σ(gate) · (1 + gate · (1 − σ(gate)))`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.shape() != up.shape() {
        bail!("gate {:?} and up {:?} differ in shape", gate.dims(), up.dims());
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, Swiglu)
}

struct Swiglu;

/// Values that one thread works on at a time.
const PIECE: usize = 1 << 12;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Runs `f(first value's index, values)` over pieces of `values`, the last one shorter.
fn pieces(values: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let whole = values.len() / PIECE * PIECE;
    let (body, rest) = values.split_at_mut(whole);
    for_each_row(body, PIECE, |i, piece| f(i * PIECE, piece));
    f(whole, rest);
}

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
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
        pieces(&mut y, |start, piece| {
            for (v, up) in piece.iter_mut().zip(&up[start..]) {
                *v *= sigmoid(*v) * up;
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
                pieces(&mut dgate, |start, piece| {
                    for ((d, x), up) in piece.iter_mut().zip(&gate[start..]).zip(&up[start..]) {
                        let s = sigmoid(*x);
                        *d *= up * s * (1.0 + x * (1.0 - s));
                    }
                });
                pieces(&mut dup, |start, piece| {
                    piece.iter_mut().zip(&gate[start..]).for_each(|(d, x)| *d *= x * sigmoid(*x));
                });
            })
        })??;
        let tracked = |t: &Tensor, d: Vec<f32>| t.track_op().then(|| tensor_like(d, t)).transpose();
        Ok((tracked(gate, dgate)?, tracked(up, dup)?))
    }
}
