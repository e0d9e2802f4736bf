//! Choosing, checking and starting a run.

pub mod catalogue;
pub mod config_schema;
pub mod detect;
pub mod dry_run;
pub mod estimate;
pub mod hardware_specs;
pub mod load_settings;
pub mod recommended_models;
pub mod reset_status;
pub mod session;
pub mod set_custom_model;
pub mod set_model;
pub mod start_training;
pub mod status;
pub mod validate_custom_model;
pub mod validate_model;
pub mod validate_task;
