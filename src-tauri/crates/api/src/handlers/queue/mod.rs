//! The queue: runs that wait for their turn.

pub mod add;
pub mod get;
pub mod hold;
pub mod place;
pub mod remove;
