//! The documented operations as programs of other people use them: `modelforge serve` and a plain HTTP client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up or does not answer ends the test"
)]

mod again;
mod contract;
mod events;
#[cfg(unix)]
mod exit;
mod export;
mod families;
mod golden;
mod hub;
mod hub_transfers;
mod playground;
mod queue;
mod runs;
mod shape;
mod strategies;
mod support;
mod wizard;
