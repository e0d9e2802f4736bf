//! Finished models.

pub mod by_task;
pub mod delete;
pub mod export;
pub mod get;
pub mod list;
pub mod manifest;
pub mod origin;
pub mod train_again;
