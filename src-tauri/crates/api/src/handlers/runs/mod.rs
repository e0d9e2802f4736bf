//! Runs: following them and giving them orders.

pub mod curve;
pub mod delete;
pub mod events;
pub mod get;
pub mod history;
pub mod list;
pub mod pause;
pub mod resume;
pub mod stop;
