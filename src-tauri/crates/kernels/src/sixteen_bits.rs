//! Which numbers a model is kept and multiplied in.

use candle_core::{DType, Device, Result, Tensor};

/// The numbers that a model is kept and multiplied in on a device: f32 unless it is asked for `bf16` or `fp16`. A card before compute
/// capability 8.0 has no bf16 and takes f16 for it; a processor has no f16 and takes bf16 for that.
///
/// # Errors
/// The card does not tell what it can do.
pub fn computed_in(device: &Device, bf16: bool, fp16: bool) -> Result<DType> {
    if !bf16 && !fp16 {
        return Ok(DType::F32);
    }
    if device.is_metal() && !multiplies_bf16(device) {
        return Ok(DType::F32);
    }
    Ok(sixteen_bits(fp16, capability(device)?))
}

/// Whether a Mac's GPU does: older systems have no such numbers there.
fn multiplies_bf16(device: &Device) -> bool {
    let multiply = || -> Result<f32> {
        let one = Tensor::ones((1, 1), DType::BF16, device)?;
        one.matmul(&one)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()
    };
    multiply().is_ok_and(|one| one == 1.0)
}

/// Of a card of this compute capability, such as 75; of a processor where there is none.
fn sixteen_bits(fp16: bool, capability: Option<i32>) -> DType {
    match capability {
        Some(capability) if fp16 || capability < 80 => DType::F16,
        _ => DType::BF16,
    }
}

fn capability(device: &Device) -> Result<Option<i32>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(card) => crate::cuda::capability(card).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_before_ampere_take_f16_and_processors_bf16() {
        let cases = [
            (false, None, DType::BF16),
            (true, None, DType::BF16),
            (false, Some(75), DType::F16),
            (true, Some(75), DType::F16),
            (false, Some(80), DType::BF16),
            (true, Some(80), DType::F16),
            (false, Some(120), DType::BF16),
        ];
        for (fp16, capability, want) in cases {
            assert_eq!(sixteen_bits(fp16, capability), want, "fp16: {fp16}, {capability:?}");
        }
        assert_eq!(computed_in(&Device::Cpu, false, false).unwrap(), DType::F32);
        assert_eq!(computed_in(&Device::Cpu, false, true).unwrap(), DType::BF16);
    }
}
