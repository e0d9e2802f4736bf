//! The machine at the moment.

pub mod cards;
pub mod load;
