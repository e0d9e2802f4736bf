//! Norms over the last dimension, with frozen weights.

use candle_core::{D, Result, Tensor};

use super::{given, wide};

/// `w · x / sqrt(mean(x²) + eps)`; see [`crate::rms_norm`] for the gradient.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let weight = wide(weight)?;
    let scale = move |x: &Tensor| (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip();
    let own = wide(x)?;
    let value = own.broadcast_mul(&scale(&own)?)?.broadcast_mul(&weight)?.to_dtype(x.dtype())?;
    given("rms-norm", &[x], value, move |operands, _, gradient| {
        let x = wide(operands[0])?;
        let r = scale(&x)?;
        let d = wide(gradient)?.broadcast_mul(&weight)?;
        let pull = ((&d * &x)?.mean_keepdim(D::Minus1)? * (r.sqr()? * &r)?)?;
        let dx = (d.broadcast_mul(&r)? - x.broadcast_mul(&pull)?)?;
        Ok(vec![Some(dx.to_dtype(operands[0].dtype())?)])
    })
}

/// `w · (x − mean) / sqrt(variance + eps) + b`; see [`crate::layer_norm`] for the gradient.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let weight = wide(weight)?;
    // What the weight is multiplied with, and the factor that deviations from the mean have in it.
    let normed = move |x: &Tensor| -> Result<(Tensor, Tensor)> {
        let from_mean = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = from_mean.sqr()?.mean_keepdim(D::Minus1)?;
        let r = (variance + f64::from(eps))?.sqrt()?.recip()?;
        Ok((from_mean.broadcast_mul(&r)?, r))
    };
    let (n, _) = normed(&wide(x)?)?;
    let value = n.broadcast_mul(&weight)?.broadcast_add(&wide(bias)?)?.to_dtype(x.dtype())?;
    given("layer-norm", &[x], value, move |operands, _, gradient| {
        let (n, r) = normed(&wide(operands[0])?)?;
        let d = wide(gradient)?.broadcast_mul(&weight)?;
        let pull = (&d * &n)?.mean_keepdim(D::Minus1)?;
        let shifted = d.broadcast_sub(&d.mean_keepdim(D::Minus1)?)?;
        let dx = (shifted - n.broadcast_mul(&pull)?)?.broadcast_mul(&r)?;
        Ok(vec![Some(dx.to_dtype(operands[0].dtype())?)])
    })
}
