//! The Hugging Face Hub.

pub mod clear_token;
pub mod push;
pub mod set_token;
pub mod whoami;
