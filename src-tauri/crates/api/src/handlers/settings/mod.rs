//! The app's settings.

pub mod get;
pub mod set;
