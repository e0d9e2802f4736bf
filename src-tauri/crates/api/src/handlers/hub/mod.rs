//! The Hugging Face Hub.

pub mod clear_token;
pub mod push;
pub mod set_token;
pub mod token_places;
pub mod upload;
pub mod whoami;
