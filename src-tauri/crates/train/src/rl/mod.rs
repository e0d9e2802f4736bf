//! Learning from rewards: what the policy writes is scored, and it learns to write more of what scored well without going far
//! from its base.
//!
//! The arithmetic is plain functions on numbers; those of losses give their derivatives too, which one operation takes to the
//! hidden states.

pub mod advantages;
pub mod kl;
pub mod losses;
