//! Values as the bytes of a dtype.

use std::io::{self, Write};

use half::{bf16, f16};
use types::ExportDtype;

/// Values that share a factor in Q8_0.
pub const BLOCK: usize = 32;
/// Bytes of such a block: the factor in f16 and a byte a value.
const BLOCK_BYTES: usize = 2 + BLOCK;

/// Values that are encoded at a time; a whole number of blocks.
const PIECE: usize = 1 << 18;

/// Bytes of `count` values, for Q8_0 a whole number of blocks.
pub fn bytes(dtype: ExportDtype, count: usize) -> u64 {
    let count = count as u64;
    match dtype {
        ExportDtype::F32 => 4 * count,
        ExportDtype::F16 | ExportDtype::Bf16 => 2 * count,
        ExportDtype::Q8_0 => count / BLOCK as u64 * BLOCK_BYTES as u64,
    }
}

/// The largest of `values`, where that is more than the dtype can hold.
pub fn too_large(dtype: ExportDtype, values: &[f32]) -> Option<f32> {
    let most = match dtype {
        ExportDtype::F32 | ExportDtype::Bf16 => return None,
        ExportDtype::F16 => f16::MAX.to_f32(),
        ExportDtype::Q8_0 => f16::MAX.to_f32() * 127.0,
    };
    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    (largest > most).then_some(largest)
}

/// Writes `values`, rounded to the nearest that the dtype has.
///
/// # Errors
/// What the disk refuses.
pub fn encode(dtype: ExportDtype, values: &[f32], out: &mut impl Write) -> io::Result<()> {
    let mut encoded = Vec::with_capacity(bytes(dtype, PIECE.min(values.len())) as usize);
    for piece in values.chunks(PIECE) {
        encoded.clear();
        match dtype {
            ExportDtype::F32 => encoded.extend(piece.iter().flat_map(|v| v.to_le_bytes())),
            ExportDtype::F16 => encoded.extend(piece.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes())),
            ExportDtype::Bf16 => encoded.extend(piece.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes())),
            ExportDtype::Q8_0 => piece.as_chunks().0.iter().for_each(|block| quantize(block, &mut encoded)),
        }
        out.write_all(&encoded)?;
    }
    Ok(())
}

/// A block of ggml's Q8_0: the factor `max |v| / 127`, then each value divided by it and rounded.
fn quantize(block: &[f32; BLOCK], out: &mut Vec<u8>) {
    let factor = block.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
    let inverse = if factor > 0.0 { 1.0 / factor } else { 0.0 };
    out.extend(f16::from_f32(factor).to_le_bytes());
    out.extend(block.iter().map(|value| ((value * inverse).round() as i8) as u8));
}
