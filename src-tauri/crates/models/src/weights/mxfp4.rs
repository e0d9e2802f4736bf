//! MXFP4 weights: blocks of 32 four-bit numbers that share a power of two.
//! <https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf>

use candle_core::{DType, Tensor};
use half::bf16;

use super::Weights;
use crate::ModelError;

/// Numbers of a block.
const BLOCK: usize = 32;
/// What four bits stand for (E2M1), the sign in the highest.
const VALUES: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
/// What is taken from a block's exponent.
const BIAS: i32 = 127;

/// Takes the tensor `name` of shape `[…, columns]`, stored as `name_blocks` `[…, columns / 32, 16]`, two numbers a byte, the
/// first in the low half, and `name_scales` `[…, columns / 32]`, the exponents.
pub(crate) fn take(
    weights: &mut Weights,
    name: &str,
    shape: &[usize],
    fields: &str,
) -> Result<Tensor, ModelError> {
    let (rows, columns) = shape.split_at(shape.len().saturating_sub(1));
    let columns = columns.first().copied().unwrap_or(0);
    if !columns.is_multiple_of(BLOCK) {
        let problem = format!("{columns} columns are no whole number of MXFP4 blocks of {BLOCK}");
        return Err(weights.wrong(name, &weights.source, problem));
    }
    let scaled = [rows, &[columns / BLOCK]].concat();
    let packed = [scaled.as_slice(), &[BLOCK / 2]].concat();
    let blocks = weights.take_bytes(&format!("{name}_blocks"), &packed, fields)?;
    let scales = weights.take_bytes(&format!("{name}_scales"), &scaled, fields)?;
    let numbers = blocks.chunks_exact(BLOCK / 2).zip(&scales).flat_map(|(block, &scale)| {
        let scale = f64::from(i32::from(scale) - BIAS).exp2() as f32;
        block
            .iter()
            .flat_map(|byte| [byte & 15, byte >> 4])
            .map(move |code| VALUES[usize::from(code)] * scale)
    });
    // Four bits and a power of two are exact in bf16.
    Ok(match weights.dtype {
        DType::BF16 => {
            Tensor::from_vec(numbers.map(bf16::from_f32).collect::<Vec<_>>(), shape, &weights.device)?
        }
        _ => Tensor::from_vec(numbers.collect::<Vec<f32>>(), shape, &weights.device)?,
    })
}
