//! Conversations that are kept.

pub mod delete;
pub mod get;
pub mod list;
pub mod put;
