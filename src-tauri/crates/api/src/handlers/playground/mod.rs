//! Talking to a model.

pub mod cancel;
pub mod model_path;
pub mod new;
pub mod status;
pub mod stream;
pub mod unload;
