//! Element by element: activations, and dropout.

use candle_core::{Result, Tensor};

use super::{given, wide};
use crate::{
    dropout::Mask,
    gated::Gate,
    gelu::{CUBIC, Gelu},
};

/// Beyond, a sigmoid is 0 or 1 as f32 has them, and its exponential stays finite.
const FAR: f64 = 80.0;

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.clamp(-FAR, FAR)?.neg()?.exp()? + 1.0)?.recip()
}

/// A function's value, and its derivative where that is asked for.
type Sloped = (Tensor, Option<Tensor>);

fn gelu_of(form: Gelu, x: &Tensor, sloped: bool) -> Result<Sloped> {
    match form {
        Gelu::Exact => {
            let below = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?.affine(0.5, 0.0)?;
            let slope = || -> Result<Tensor> {
                let density = ((x.sqr()? * -0.5)?.exp()? * (1.0 / std::f64::consts::TAU.sqrt()))?;
                &below + (x * density)?
            };
            Ok(((x * &below)?, sloped.then(slope).transpose()?))
        }
        Gelu::Tanh => {
            let (root, cubic) = ((2.0 / std::f64::consts::PI).sqrt(), f64::from(CUBIC));
            let t = (((x.sqr()? * cubic)? + 1.0)? * (x * root)?)?.clamp(-FAR, FAR)?.tanh()?;
            let below = t.affine(0.5, 0.5)?;
            let slope = || -> Result<Tensor> {
                let inner = x.sqr()?.affine(3.0 * cubic * root * 0.5, root * 0.5)?;
                &below + (x * (t.sqr()?.affine(-1.0, 1.0)? * inner)?)?
            };
            Ok(((x * &below)?, sloped.then(slope).transpose()?))
        }
    }
}

/// The activation; its gradient is multiplied by the derivative.
pub(crate) fn gelu(x: &Tensor, form: Gelu) -> Result<Tensor> {
    let value = gelu_of(form, &wide(x)?, false)?.0.to_dtype(x.dtype())?;
    given("gelu", &[x], value, move |operands, _, gradient| {
        let (_, slope) = gelu_of(form, &wide(operands[0])?, true)?;
        let dx = slope.map(|slope| (wide(gradient)? * slope)?.to_dtype(operands[0].dtype()));
        Ok(vec![dx.transpose()?])
    })
}

/// 1 where a comparison holds, else 0.
fn ones_where(holds: Tensor, like: &Tensor) -> Result<Tensor> {
    holds.to_dtype(like.dtype())
}

fn gate_of(kind: Gate, x: &Tensor, sloped: bool) -> Result<Sloped> {
    match kind {
        Gate::Silu => {
            let s = sigmoid(x)?;
            let slope = || &s * ((x * s.affine(-1.0, 1.0)?)? + 1.0)?;
            Ok(((x * &s)?, sloped.then(slope).transpose()?))
        }
        Gate::Gelu(form) => gelu_of(form, x, sloped),
        Gate::Clamped { alpha, limit } => {
            let (alpha, limit) = (f64::from(alpha), f64::from(limit));
            let g = x.minimum(limit)?;
            let s = sigmoid(&(&g * alpha)?)?;
            let slope = || {
                let inside = ones_where(x.le(limit as f32)?, x)?;
                inside * (&s * (((&g * alpha)? * s.affine(-1.0, 1.0)?)? + 1.0)?)?
            };
            Ok(((&g * &s)?, sloped.then(slope).transpose()?))
        }
    }
}

fn up_of(kind: Gate, x: &Tensor, sloped: bool) -> Result<Sloped> {
    match kind {
        Gate::Silu | Gate::Gelu(_) => Ok((x.clone(), None)),
        Gate::Clamped { limit, .. } => {
            let value = (x.clamp(-f64::from(limit), f64::from(limit))? + 1.0)?;
            let slope = sloped.then(|| ones_where(x.abs()?.le(limit)?, x));
            Ok((value, slope.transpose()?))
        }
    }
}

/// The product of both halves, each after its function.
pub(crate) fn gated(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    let value = (gate_of(kind, &wide(gate)?, false)?.0 * up_of(kind, &wide(up)?, false)?.0)?;
    given("gated", &[gate, up], value.to_dtype(gate.dtype())?, move |operands, _, gradient| {
        let (gate, up) = (operands[0], operands[1]);
        let (f, f_slope) = gate_of(kind, &wide(gate)?, true)?;
        let (h, h_slope) = up_of(kind, &wide(up)?, true)?;
        let gradient = wide(gradient)?;
        let of_gate = f_slope.map(|slope| ((&gradient * slope)? * h)?.to_dtype(gate.dtype()));
        let of_up = (&gradient * f)?;
        let of_up = match h_slope {
            Some(slope) => (of_up * slope)?,
            None => of_up,
        };
        Ok(vec![of_gate.transpose()?, Some(of_up.to_dtype(up.dtype())?)])
    })
}

/// Values dropped and the others scaled, as the mask says; it is made on the processor, and again in the backward pass.
pub(crate) fn dropout(x: &Tensor, mask: Mask) -> Result<Tensor> {
    let apply = move |x: &Tensor| -> Result<Tensor> {
        let factors = Tensor::from_vec(mask.factors(x.shape()), x.shape(), x.device())?;
        (wide(x)? * factors)?.to_dtype(x.dtype())
    };
    given("dropout", &[x], apply(x)?, move |_, _, gradient| Ok(vec![Some(apply(gradient)?)]))
}
