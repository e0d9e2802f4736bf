//! Training: one loop for all strategies, and what it is made of.
//!
//! The loop asks a [`Batches`] for the micro-batches of a step, adds up their gradients, clips them, and has an optimizer
//! update the adapter. What differs between ways of training is a [`Strategy`](strategies::Strategy), between optimizers an
//! entry of [`OPTIMIZERS`], and so on: a new one is a new file and a new row of its list.
//!
//! The same seed on the same machine with the same number of threads gives the same losses to the bit, and a run that was
//! stopped and resumed gives the losses of one that was not. Nothing here draws from a generator whose state would have
//! to be saved: every random choice is a function of the seed and the place in the run.
//!
//! Deliberately not here: the folder of the finished model, the event log, and anything about generating text.

mod ahead;
pub mod backward;
pub mod batches;
mod chain;
pub mod checkpoint;
mod error;
mod evaluation;
pub mod gradients;
mod loss_scale;
pub mod metrics;
pub mod optimizers;
mod probe;
mod progress;
mod reference;
pub mod rl;
mod run;
pub mod schedules;
mod seeds;
pub mod strategies;
mod tensors;

pub use batches::{Batches, Cursor, EpochBatches, GivenBatches, StepBatches};
pub use checkpoint::Checkpoint;
pub use error::TrainError;
pub use evaluation::{Answer, Answers};
pub use metrics::METRICS;
pub use optimizers::OPTIMIZERS;
pub use probe::{Probed, probe};
pub use run::{BatchRun, Outcome, Summary, TrainRun, run, run_batches};
pub use schedules::SCHEDULES;
pub use strategies::STRATEGIES;
