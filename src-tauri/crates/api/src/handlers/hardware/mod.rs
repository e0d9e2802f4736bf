//! The machine at the moment.

pub mod load;
