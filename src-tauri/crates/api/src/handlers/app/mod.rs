//! The app itself.

pub mod changes;
pub mod health;
pub mod info;
