//! `modelforge call`: any operation of the app, in and out as JSON, for scripts.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    sync::Arc,
};

use api::{Api, OPERATIONS, Operation};
use serde_json::{Map, Value};
use types::ApiError;

use super::{say, terminal::bold};

/// The largest request that is read from standard input.
const MAX_REQUEST: u64 = 64 << 20;

/// Run one operation of the app on JSON, as the REST interface answers it
///
/// The answer goes to standard output; a stream prints one line for each item. An error goes to standard error as
/// {"status_code", "detail"}, and the exit code is 1. A run that is started goes on when the command has ended.
#[derive(clap::Args)]
pub struct Args {
    /// The operation; without it, all are listed
    operation: Option<String>,
    /// The request as a JSON object; - reads it from standard input
    #[arg(long, value_name = "JSON", default_value = "{}", requires = "operation")]
    json: String,
}

/// Calls and prints.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let Some(name) = args.operation else {
        list()?;
        return Ok(ExitCode::SUCCESS);
    };
    let (operation, request) = match find(&name).and_then(|found| Ok((found, read(&args.json)?))) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    let api = Arc::new(super::open()?);
    let answered = match operation.is_stream() {
        true => stream(&api, operation, request).await,
        false => once(&api, operation, request).await,
    };
    match answered {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Who does not want to read the answer is no failing operation.
        Err(error) => match error.downcast_ref::<ApiError>() {
            Some(error) => refuse(error),
            None => Err(error),
        },
    }
}

fn list() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut group = "";
    for operation in OPERATIONS {
        if operation.group() != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            group = operation.group();
            writeln!(out, "{gap}{}", bold(group))?;
        }
        writeln!(out, "  {:32} {}", operation.name, operation.help)?;
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Operation, ApiError> {
    let unknown =
        || ApiError::not_found(format!("There is no operation `{name}`: `modelforge call` lists them"));
    Operation::find(name).ok_or_else(unknown)
}

fn read(json: &str) -> Result<Map<String, Value>, ApiError> {
    let mut text = String::new();
    let text = match json {
        "-" => {
            let read = io::stdin().lock().take(MAX_REQUEST).read_to_string(&mut text);
            read.map_err(|e| ApiError::bad_request(format!("The request cannot be read: {e}")))?;
            &text
        }
        json => json,
    };
    serde_json::from_str(text)
        .map_err(|e| ApiError::bad_request(format!("The request is no JSON object: {e}")))
}

async fn once(api: &Arc<Api>, operation: &Operation, request: Map<String, Value>) -> anyhow::Result<()> {
    let answer = operation.call(api, request).await?;
    writeln!(io::stdout(), "{answer:#}")?;
    api.handed_over().await;
    Ok(())
}

async fn stream(api: &Arc<Api>, operation: &Operation, request: Map<String, Value>) -> anyhow::Result<()> {
    let mut items = operation.stream(api, request).await?;
    while let Some(item) = items.recv().await {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", item?.data)?;
        out.flush()?;
    }
    Ok(())
}

fn refuse(error: &ApiError) -> anyhow::Result<ExitCode> {
    say(serde_json::to_string(error)?);
    Ok(ExitCode::FAILURE)
}
