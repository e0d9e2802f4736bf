//! `settings_set`.

use std::sync::Arc;

pub use store::table::settings::Settings as Output;
use store::table::settings::Theme;
use types::{
    ApiError,
    field::{Fallback, Field, Kind},
    fields,
};

use crate::{Api, Topic};

fields! {
    /// Every setting of the app; what is left out has its default.
    pub struct Input {
        theme: Theme, Kind::Choice { values: &["system", "light", "dark"] }, Fallback::Text("system"), "Which colours the app is drawn in.";
        language: Option<String>, Kind::Text, Fallback::Found("the system's language"), "The language tag (BCP 47) of the app's texts.";
        offline: bool, Kind::Bool, Fallback::Bool(false), "Whether to stay away from the network.";
        hub_endpoint: Option<String>, Kind::Text, Fallback::Found("the public Hub"), "The http or https address of another Hugging Face Hub.";
        compute_on: String, Kind::Text, Fallback::Text("auto"), "Where runs and chats are computed: auto (the NVIDIA card with the most free memory, else the processor), cpu, or the UUID of a card.";
        unload_after_minutes: u32, Kind::Int { min: 0, max: 10_080 }, Fallback::Int(15), "A model that nobody talks to leaves memory after so many minutes; 0 keeps it.";
    }
}

impl types::Input for Input {
    const FIELDS: &'static [Field] = Self::TABLE;
}

/// Puts them in place of the ones before.
pub async fn run(api: &Arc<Api>, input: Input) -> Result<Output, ApiError> {
    let settings = Output {
        theme: input.theme,
        language: input.language,
        offline: input.offline,
        hub_endpoint: input.hub_endpoint,
        compute_on: input.compute_on,
        unload_after_minutes: input.unload_after_minutes,
    };
    match settings.problem() {
        Some(problem) => Err(ApiError::invalid(vec![problem])),
        None => {
            api.store().set_settings(&settings)?;
            api.set_offline(settings.offline);
            api.compute_on(&settings.compute_on);
            api.announce(Topic::Settings, None);
            Ok(settings)
        }
    }
}
