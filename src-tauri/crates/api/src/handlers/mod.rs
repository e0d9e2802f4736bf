//! What each operation does: one file an operation, named like it, with its `Input`, its `Output` and `run`.

pub mod app;
pub mod conversations;
pub mod datasets;
pub mod finetune;
pub mod hardware;
pub mod hub;
pub mod models;
pub mod playground;
pub mod queue;
pub mod runs;
pub mod settings;
pub mod storage;

use schemars::JsonSchema;
use serde::Serialize;
use types::{field::Field, fields};

fields! {
    /// The input of an operation that needs to be told nothing.
    pub struct Nothing {}
}

impl types::Input for Nothing {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// The answer of an operation that did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Done {
    /// Always true: a failure is an error.
    pub success: bool,
    /// A sentence for the person.
    pub message: String,
}

impl Done {
    /// It is done.
    pub fn new(message: impl Into<String>) -> Self {
        Self { success: true, message: message.into() }
    }
}
