//! Chat with a model: prompt in, text out token by token, with a cache of keys and values; or a question about a text in, and out
//! the part of it that answers.
//!
//! A model is used as it is, with its adapter on or off; nothing here trains or merges.

mod batch;
mod beam;
mod decoder;
mod error;
mod extract;
mod rules;
mod sampler;
mod session;
mod stop;
mod target;
mod writer;

pub use batch::{BatchPrompt, Written, write_batch};
pub use decoder::Decoder;
pub use error::InferError;
pub use extract::{Extracted, Search, extract};
pub use sampler::Sampler;
pub use session::{ChatSession, Listener};
pub use stop::StopText;
pub use target::Targets;
