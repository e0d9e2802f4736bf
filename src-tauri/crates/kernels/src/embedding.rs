//! Token embeddings from a frozen table.

use candle_core::{Result, Tensor, bail};

/// Rows of a frozen `[vocab, hidden]` table: `[tokens]` u32 → `[tokens, hidden]` where the ids are: in the dtype of the
/// table, or on an NVIDIA card as f32. An id
/// beyond the table is an error.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (vocab, _) = table.dims2()?;
    let all = ids.to_vec1::<u32>()?;
    if let Some(&id) = all.iter().find(|&&id| id as usize >= vocab) {
        bail!("token id {id} is not in the vocabulary of {vocab}");
    }
    let table = table.detach();
    if table.device().same_device(ids.device()) {
        #[cfg(feature = "cuda")]
        if table.device().is_cuda() {
            return crate::cuda::embedding(&all, &table.contiguous()?);
        }
        return table.index_select(ids, 0);
    }
    // What is not multiplied may be elsewhere, where memory is less short.
    let rows = table.index_select(&Tensor::new(all, table.device())?, 0)?;
    let dtype = if ids.device().is_cuda() { candle_core::DType::F32 } else { rows.dtype() };
    rows.to_dtype(dtype)?.to_device(ids.device())
}
