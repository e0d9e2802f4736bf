//! Plain domain data shared by every other crate: training settings, job and model folders, events, messages.
//!
//! Nothing here computes on tensors, opens sockets or knows a window. What both the app process and the engine
//! process must agree on (the JSON they exchange and the layout of the folders they share) is defined here, once.

pub mod architecture;
pub mod choice;
pub mod config;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod event;
pub mod event_log;
pub mod export;
pub mod fallback;
pub mod field;
pub mod files;
pub mod folder;
pub mod generate;
pub mod id;
pub mod inputs;
pub mod manifest;
pub mod metric;
pub mod run;

pub use choice::{
    BnbDtype, EvalMetric, ExportDtype, ExportFormat, LossType, LrScheduler, Optim, Profile, Provider,
    QuantType, Reward, RlAlgorithm, SpareKind, Strategy, Task,
};
pub use config::TrainingConfig;
pub use error::{ApiError, FieldError};
pub use event::{DownloadProgress, EventLine, Phase, StepStats, TrainEvent};
pub use fallback::Fallback;
pub use field::Input;
pub use folder::{JobFolder, ModelFolder};
pub use generate::{GenerateParams, GenerateStats, Message, Role};
pub use inputs::Inputs;
pub use manifest::Manifest;
pub use metric::Better;
pub use run::{RunSpec, TrainingResult};
