//! Learning from rewards: what the policy writes is scored, and it learns to write more of what scored well without going far
//! from its base.
//!
//! One base in memory is everything: the policy is its adapter, the reference is the base with the adapter off, values come from a
//! scalar head beside the policy's adapter, and a reward model is a second adapter with a head of its own.
//!
//! A step is a rollout and what is learnt from it: prompts are answered by the policy as it is, the answers are scored, and the
//! policy goes through them several times. The arithmetic is plain functions on numbers; those of losses give their derivatives
//! too, which one operation takes to the hidden states. No dropout takes part, since likelihoods of one policy are compared.

pub mod advantages;
mod evaluate;
mod guard;
pub mod kl;
pub mod losses;
mod policy;
mod reward_model;
mod rollout;
mod run;
mod score;
mod step;

pub use policy::Prompts;
pub use reward_model::{RewardPairs, train_reward_model};
pub(crate) use run::Policy;
pub use run::{PolicyRun, Writer, rollout_settings, train_policy};
pub use score::Judge;
