//! The app itself.

pub mod health;
pub mod info;
