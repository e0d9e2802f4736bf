//! Datasets: what is in them and what is wrong with them.

pub mod check;
pub mod list;
pub mod preview;
pub mod samples;
