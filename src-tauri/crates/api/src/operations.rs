//! The table of everything the app can do. A row makes a Tauri command, a REST route, an entry of the OpenAPI document
//! and a TypeScript type; what it does stands in the file of its name under `handlers`.

use crate::{
    handlers,
    operation::{Method, Operation, Run, answer, read, schema},
};

/// One row an operation: `group::name: Method "path", "what it does";`. The name of the operation is `group_name`. A row
/// after `stream` answers item by item.
macro_rules! operations {
    ($($group:ident::$name:ident: $($stream:ident)? [$method:ident $path:literal] $help:literal;)*) => {
        /// Every operation, in the order of the documentation.
        pub const OPERATIONS: &[Operation] = &[$(Operation {
            name: concat!(stringify!($group), "_", stringify!($name)),
            method: Method::$method,
            path: $path,
            help: $help,
            fields: <handlers::$group::$name::Input as types::Input>::FIELDS,
            output: schema::<handlers::$group::$name::Output>,
            run: operations!(@run $($stream)? handlers::$group::$name),
        },)*];
    };
    (@run stream $($handler:ident)::+) => {
        Run::Stream(|api, request| {
            Box::pin(async move { $($handler)::+::run(&api, read(&request)?).await })
        })
    };
    (@run $($handler:ident)::+) => {
        Run::Once(|api, request| {
            Box::pin(async move { answer(&$($handler)::+::run(&api, read(&request)?).await?) })
        })
    };
}

operations! {
    finetune::validate_task: [Post "/api/finetune/validate_task"] "Says whether a task exists.";
    finetune::validate_model: [Post "/api/finetune/validate_model"] "Says whether a model can be reached.";
    finetune::validate_custom_model: [Post "/api/finetune/validate_custom_model"] "Asks the Hub about a repository.";
    finetune::detect: [Post "/api/finetune/detect"] "Looks at the machine and recommends models for a task.";
    finetune::set_model: [Post "/api/finetune/set_model"] "Keeps the choice of a model.";
    finetune::set_custom_model: [Post "/api/finetune/set_custom_model"] "Asks the Hub about a repository and keeps it as the choice.";
    finetune::session: [Get "/api/finetune/session"] "Tells what was chosen last.";
    finetune::load_settings: [Get "/api/finetune/load_settings"] "Gives the settings that a run on this machine starts from.";
    finetune::start_training: [Post "/api/finetune/start_training"] "Starts a run.";
    finetune::status: [Get "/api/finetune/status"] "Tells how far the run is.";
    finetune::reset_status: [Post "/api/finetune/reset_status"] "Forgets a run that is over. One that is under way keeps its status.";
    finetune::hardware_specs: [Get "/api/finetune/hardware_specs"] "Tells what this machine has.";
    finetune::recommended_models: [Get "/api/finetune/recommended_models/{task}"] "Recommends models for a task on this machine.";
    models::list: [Get "/api/models/"] "Lists the finished models, the newest first.";
    models::get: [Get "/api/models/{model_id}"] "Tells all of one finished model.";
    models::by_task: [Get "/api/models/task/{task}"] "Lists the finished models for a task.";
    models::delete: [Delete "/api/models/{model_id}"] "Deletes a finished model and its files.";
    hub::push: [Post "/api/hub/push"] "Puts a finished model into a new repository of the Hub.";
    playground::model_path: [Get "/api/playground/model_path"] "Tells the folder of a finished model.";
    playground::new: [Post "/api/playground/new"] "Answers a prompt.";

    app::info: [Get "/api/info"] "Tells the version and where the app keeps its files.";
    app::health: [Get "/api/health"] "Says that the app answers and its database can be read.";
    finetune::config_schema: [Get "/api/finetune/config_schema"] "Lists every setting of a run: type, range, default and what it does.";
    finetune::estimate: [Post "/api/finetune/estimate"] "Estimates the memory and the time of a run.";
    finetune::dry_run: [Post "/api/finetune/dry_run"] "Does two real steps of a run and tells what they took.";
    finetune::catalogue: [Get "/api/finetune/catalogue/{task}"] "Lists the known models for a task and whether they fit this machine.";
    runs::list: [Get "/api/runs"] "Lists the runs, the newest first.";
    runs::get: [Get "/api/runs/{job_id}"] "Tells all of one run.";
    runs::curve: [Get "/api/runs/{job_id}/curve"] "Gives all that a run has told up to now, its steps thinned out to a few thousand points.";
    runs::history: [Get "/api/runs/{job_id}/history"] "Gives the events of a run up to now.";
    runs::events: stream [Get "/api/runs/{job_id}/events"] "Gives the events of a run as they happen, until it is over.";
    runs::pause: [Post "/api/runs/{job_id}/pause"] "Writes a checkpoint and frees all memory. The run can be resumed.";
    runs::resume: [Post "/api/runs/{job_id}/resume"] "Takes up a run at its last checkpoint.";
    runs::stop: [Post "/api/runs/{job_id}/stop"] "Ends a run: keeps the model as it is now, or throws the run away.";
    runs::delete: [Delete "/api/runs/{job_id}"] "Deletes a run that is over. The model it made stays.";
    queue::get: [Get "/api/queue"] "Tells which runs wait for their turn, the next one first.";
    queue::add: [Post "/api/queue"] "Has a run start when the runs before it are over; at once where there are none.";
    queue::place: [Post "/api/queue/{job_id}/place"] "Moves a waiting run to another place of the queue.";
    queue::remove: [Delete "/api/queue/{job_id}"] "Takes a run out of the queue. One that has never begun is deleted.";
    queue::hold: [Post "/api/queue/hold"] "Has the queue wait or go on. Pausing a run holds it, starting or resuming one lets it go on.";
    datasets::check: [Post "/api/datasets/check"] "Reads a whole dataset and tells every bad line.";
    datasets::preview: [Post "/api/datasets/preview"] "Shows rows exactly as a model sees them.";
    datasets::list: [Get "/api/datasets"] "Lists the datasets that were used, the newest first.";
    datasets::samples: [Get "/api/datasets/samples"] "Lists the datasets that ship with the app.";
    playground::stream: stream [Post "/api/playground/stream"] "Answers a conversation token by token.";
    playground::cancel: [Post "/api/playground/cancel"] "Ends the answer that is under way.";
    playground::status: [Get "/api/playground/status"] "Tells which model is in memory.";
    playground::unload: [Post "/api/playground/unload"] "Frees the memory of the model.";
    conversations::list: [Get "/api/conversations"] "Lists the conversations, the newest first.";
    conversations::get: [Get "/api/conversations/{conversation_id}"] "Gives one conversation.";
    conversations::put: [Put "/api/conversations"] "Keeps a conversation, a new one or in place of the one before.";
    conversations::delete: [Delete "/api/conversations/{conversation_id}"] "Deletes a conversation.";
    settings::get: [Get "/api/settings"] "Gives the app's settings.";
    settings::set: [Put "/api/settings"] "Keeps the app's settings; one that is left out has its default again.";
    hub::set_token: [Put "/api/hub/token"] "Keeps an access token of the Hub, in the system's keychain where there is one.";
    hub::clear_token: [Delete "/api/hub/token"] "Forgets the access token of the Hub.";
    hub::token_places: [Get "/api/hub/token/places"] "Tells where an access token is looked for and what is there, in the order in which it counts.";
    hub::upload: stream [Post "/api/hub/upload"] "Puts a finished model into a repository of the Hub and tells how far it is.";
    hub::whoami: [Get "/api/hub/whoami"] "Asks the Hub whose token it is.";
    hardware::load: [Get "/api/hardware/load"] "Tells how busy this machine is.";
    hardware::cards: [Get "/api/hardware/cards"] "Lists the NVIDIA cards and tells where runs are computed.";
    models::manifest: [Get "/api/models/{model_id}/manifest"] "Tells where a finished model came from and whether that is still there.";
    models::origin: [Get "/api/models/{model_id}/origin"] "Compares what a finished model was made from with what there is now.";
    models::train_again: [Post "/api/models/{model_id}/train_again"] "Makes a finished model again, from the very same files unless told otherwise.";
    models::export: stream [Post "/api/models/{model_id}/export"] "Makes a model that other programs load out of a finished model.";
    app::changes: stream [Get "/api/changes"] "Tells what has changed, as it does, so that it can be asked for again.";
    storage::usage: [Get "/api/storage"] "Tells how much disk the app's files take, and what of them is no longer needed.";
    storage::free: [Post "/api/storage/free"] "Deletes something that is no longer needed.";
}

impl Operation {
    /// The operation with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::operation::Place;

    #[test]
    fn names_and_routes_are_unique() {
        let names: HashSet<&str> = OPERATIONS.iter().map(|o| o.name).collect();
        assert_eq!(names.len(), OPERATIONS.len(), "an operation has a name of its own");
        let routes: HashSet<String> =
            OPERATIONS.iter().map(|o| format!("{:?} {}", o.method, o.path)).collect();
        assert_eq!(routes.len(), OPERATIONS.len(), "an operation has a route of its own");
    }

    #[test]
    fn every_part_of_a_route_is_a_field() {
        for operation in OPERATIONS {
            for part in operation.path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                assert!(operation.fields.iter().any(|f| f.name == name), "{}: {part}", operation.name);
                assert_eq!(operation.place(name), Place::Path);
            }
        }
    }
}
