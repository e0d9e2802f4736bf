//! The loss of pointing at the first and the last token of an answer (Devlin et al. 2019, arXiv:1810.04805).

use candle_core::{DType, Result, Tensor, bail};

/// The sum over sequences of the mean of `−log softmax(first)[s]` and `−log softmax(last)[e]`, each softmax over the tokens
/// of the sequence: logits `[tokens, 2]`, and for each sequence its length and `(s, e)` → f32 scalar.
pub fn span_cross_entropy(logits: &Tensor, lengths: &[usize], spans: &[(u32, u32)]) -> Result<Tensor> {
    let (tokens, columns) = logits.dims2()?;
    if columns != 2 || lengths.len() != spans.len() || lengths.iter().sum::<usize>() != tokens {
        bail!("{} spans of {} sequences do not fit logits {:?}", spans.len(), lengths.len(), logits.dims());
    }
    let logits = logits.to_dtype(DType::F32)?;
    let mut sum = Tensor::zeros((), DType::F32, logits.device())?;
    let mut start = 0;
    for (&length, &(first, last)) in lengths.iter().zip(spans) {
        if first as usize >= length || last as usize >= length {
            bail!("the answer {first}..={last} is not in a sequence of {length} tokens");
        }
        let rows = logits.narrow(0, start, length)?;
        let shifted = rows.broadcast_sub(&rows.detach().max_keepdim(0)?)?;
        let totals = shifted.exp()?.sum(0)?.log()?.sum_all()?;
        let chosen = (shifted.get(first as usize)?.get(0)? + shifted.get(last as usize)?.get(1)?)?;
        sum = (sum + ((totals - chosen)? * 0.5)?)?;
        start += length;
    }
    Ok(sum)
}
