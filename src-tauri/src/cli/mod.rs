//! The command line: one file a command. Results go to standard output, everything said on the way to standard error.

mod call;
mod chat;
mod config_file;
mod datasets;
mod demo;
mod detect;
mod generate;
mod interrupt;
mod models;
mod progress;
mod queue;
mod runs;
mod sampling;
mod serve;
mod setting_flags;
mod terminal;
mod train;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use api::Api;
use clap::{Parser, Subcommand};

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Fine-tune a language model on your own computer and talk to it.
#[derive(Parser)]
#[command(
    name = "modelforge",
    version,
    max_term_width = 100,
    after_help = "Start with `modelforge demo`.\n\nMODELFORGE_HOME names the folder for models, runs and the database."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(Box<train::Args>),
    Chat(chat::Args),
    Generate(generate::Args),
    Models(models::Args),
    Runs(runs::Args),
    Queue(queue::Args),
    Datasets(datasets::Args),
    Detect(detect::Args),
    Serve(serve::Args),
    Call(call::Args),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::main(args).await,
            Command::Train(args) => train::main(*args).await,
            Command::Chat(args) => chat::main(args).await,
            Command::Generate(args) => generate::main(args).await,
            Command::Models(args) => models::main(args).await,
            Command::Runs(args) => runs::main(args).await,
            Command::Queue(args) => queue::main(args).await,
            Command::Datasets(args) => datasets::main(args).await,
            Command::Detect(args) => detect::main(args).await,
            Command::Serve(args) => serve::main(args).await,
            Command::Call(args) => call::main(args).await,
        }
    });
    // Work on other threads that nobody waits for any more must not keep the command from ending.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| fail(&error))
}

/// Opens the data folder, and says so when its database had to be made anew.
fn open() -> anyhow::Result<Api> {
    crate::open_app(|notice| say(notice))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let is_closed_pipe =
        |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<io::Error>().map(io::Error::kind);
    if error.chain().filter_map(is_closed_pipe).any(|kind| kind == io::ErrorKind::BrokenPipe) {
        // Whoever reads our output, such as `head`, has seen enough.
        return ExitCode::SUCCESS;
    }
    say(format_args!("error: {error:#}"));
    ExitCode::FAILURE
}

/// A line on standard error. When nobody can read it any more there is nobody to tell so.
fn say(text: impl std::fmt::Display) {
    // In one piece, so that lines of programs that share the stream do not mix.
    io::stderr().write_all(format!("{text}\n").as_bytes()).ok();
}
