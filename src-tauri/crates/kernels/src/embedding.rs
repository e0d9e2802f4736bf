//! Token embeddings from a frozen table.

use candle_core::{Result, Tensor, bail};

/// Rows of a frozen `[vocab, hidden]` table: `[tokens]` u32 → `[tokens, hidden]`. An id beyond the table is an error.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let (vocab, _) = table.dims2()?;
    if let Some(id) = ids.to_vec1::<u32>()?.into_iter().find(|&id| id as usize >= vocab) {
        bail!("token id {id} is not in the vocabulary of {vocab}");
    }
    table.detach().index_select(ids, 0)
}
