//! `modelforge serve`: the API and the user interface for a browser and for other programs.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::ValueEnum;
use server::{ServeOptions, TOKEN_VARIABLE, Token};
use store::OpenApp;

use super::{interrupt::Interrupts, say};

/// Serve the API and the user interface over HTTP
#[derive(clap::Args)]
#[command(
    after_help = "Prints its address once it answers; /api/docs there documents the API. Without --host only this \
                  machine can connect."
)]
pub struct Args {
    /// The address or name to listen on; one that other machines can reach needs a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 picks a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Every request to the API must then carry `Authorization: Bearer <TOKEN>`. At least 16 characters. The command line can
    /// be read by every user of this machine, the environment variable cannot
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true)]
    token: Option<String>,
    /// What becomes of a run that is under way when the server is stopped
    #[arg(long, value_enum, default_value_t = OnExit::Leave)]
    on_exit: OnExit,
}

/// What becomes of a run when the server ends.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnExit {
    /// It goes on by itself
    Leave,
    /// It writes a checkpoint and ends; it can be resumed
    Pause,
}

/// Serves until Ctrl-C or a termination signal.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let Args { host, port, token, on_exit } = args;
    let token = token.map(Token::new).transpose()?;
    let mut interrupts = Interrupts::listen()?;
    let api = Arc::new(super::open()?);
    let options = ServeOptions { host, port, token, ..ServeOptions::default() };
    let server = server::serve(Arc::clone(&api), options).await?;
    if let Some(other) = api.open(Some(server.url()))? {
        say(other_app(&other));
    }
    let mut out = io::stdout();
    writeln!(out, "{}", server.url()).and_then(|()| out.flush()).context("cannot tell the address")?;
    interrupts.next().await;
    server.shutdown().await;
    if on_exit == OnExit::Pause {
        tokio::select! {
            paused = api.pause_active(|job_id| say(format_args!(
                "{job_id} pauses after the step it is at. Go on with:\n  modelforge train --resume {job_id}"
            ))) => paused?,
            () = interrupts.next() => say("The run has not paused yet. It does so by itself after the step it is at."),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn other_app(other: &OpenApp) -> String {
    let OpenApp { pid, address, since } = other;
    let at = address.as_ref().map_or_else(String::new, |address| format!(" at {address}"));
    format!(
        "ModelForge is open on this data folder already{at} (process {pid}, since {since}). Both show the same."
    )
}
