//! Token embeddings from a frozen table.

use candle_core::{Result, Tensor, bail};

/// Rows of a frozen `[vocab, hidden]` table: `[tokens]` u32 → `[tokens, hidden]`, for ids on a card as f32, wherever the table is. An id
/// beyond the table is an error.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (vocab, _) = table.dims2()?;
    let all = ids.to_vec1::<u32>()?;
    if let Some(&id) = all.iter().find(|&&id| id as usize >= vocab) {
        bail!("token id {id} is not in the vocabulary of {vocab}");
    }
    #[cfg(feature = "cuda")]
    if table.device().is_cuda() {
        return crate::cuda::embedding(&all, &table.contiguous()?);
    } else if ids.device().is_cuda() {
        let rows = table.detach().index_select(&Tensor::new(all, table.device())?, 0)?;
        return rows.to_dtype(candle_core::DType::F32)?.to_device(ids.device());
    }
    table.detach().index_select(ids, 0)
}
