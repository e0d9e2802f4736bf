//! What training, evaluation and chat need of an encoder that points at an answer in a text.

use candle_core::{Result, Tensor};

use crate::{Model, Pass, Sequences};

/// An encoder with a head that tells for each token how likely an answer begins, and ends, there.
///
/// Hidden states are `[tokens, hidden]`, sequences end to end; every token of a sequence sees all of it.
pub trait SpanModel: Model {
    /// What enters the encoder, from ids and the segment of each token (0 or 1), `[tokens]` u32 each →
    /// `[tokens, hidden]`.
    fn embed(&self, ids: &Tensor, token_types: &Tensor, sequences: &Sequences) -> Result<Tensor>;

    /// One layer: `[tokens, hidden]` → `[tokens, hidden]`.
    fn layer(&self, index: usize, hidden: &Tensor, sequences: &Sequences, pass: Pass) -> Result<Tensor>;

    /// Logits of the beginning and the end of an answer from the output of the last layer: `[tokens, hidden]` → f32
    /// `[tokens, 2]`.
    fn span_logits(&self, hidden: &Tensor, pass: Pass) -> Result<Tensor>;
}
