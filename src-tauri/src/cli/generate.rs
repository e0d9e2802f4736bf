//! `modelforge generate`: one answer to one prompt, for scripts.

use std::{
    io::{self, IsTerminal, Read, Write},
    process::ExitCode,
};

use anyhow::bail;
use api::{Generation, Piece, ask};
use store::STARTER;
use types::{GenerateStats, Message, engine::PromptInput, generate::FinishReason};

use super::{INTERRUPTED, interrupt::Interrupts, sampling::Sampling, say};

/// The longest prompt that is read from standard input.
const MAX_PROMPT: u64 = 16 << 20;

/// Answer one prompt
///
/// The answer goes to standard output, what it took to standard error.
#[derive(clap::Args)]
pub struct Args {
    /// What to answer; without it, standard input is read
    #[arg(long, short)]
    prompt: Option<String>,
    /// A model's id or name, or a base model
    #[arg(long, short, default_value = STARTER)]
    model: String,
    /// The text that holds the answer, for a model that answers questions about a text
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    context: Option<String>,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as it is, without the chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    sampling: Sampling,
}

/// Generates and prints.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let prompt = match args.prompt {
        Some(prompt) => prompt,
        None => read_prompt()?,
    };
    let mut interrupts = Interrupts::listen()?;
    let api = super::open()?;
    let model = api.chat_model(&args.model)?;
    let input = if args.raw {
        PromptInput::Text(prompt)
    } else {
        let mut messages: Vec<Message> = args.system.map(Message::system).into_iter().collect();
        messages.push(Message::user(ask(model.task, args.context.as_deref(), &prompt)));
        PromptInput::Messages(messages)
    };
    let (mut engine, _) = api.chat(&model).await?;
    let mut generation = engine.generate(input, args.sampling.params(), false).await?;
    let (_, stats) = stream(&mut generation, &mut interrupts).await?;
    writeln!(io::stdout())?;
    drop(generation);
    engine.shutdown().await?;
    say(format_args!("{}", took(&stats)));
    let cancelled = stats.finish == FinishReason::Cancelled;
    Ok(if cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Prints an answer as it comes. Ctrl-C ends it early.
pub async fn stream(
    generation: &mut Generation<'_>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<(String, GenerateStats)> {
    loop {
        let piece = tokio::select! {
            piece = generation.next() => piece?,
            () = interrupts.next() => {
                generation.cancel().await?;
                continue;
            }
        };
        match piece {
            Piece::Text { text } => {
                let mut out = io::stdout().lock();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Piece::Done { text, stats } => return Ok((text, stats)),
        }
    }
}

/// `12 tokens in 0.4 s (30 tokens/s)`, and why it ended early if it did.
pub fn took(stats: &GenerateStats) -> String {
    let seconds = stats.generation_time_ms as f64 / 1e3;
    let decoding = stats.generation_time_ms.saturating_sub(stats.prefill_ms).max(1) as f64 / 1e3;
    let speed = stats.tokens_generated as f64 / decoding;
    let early = match stats.finish {
        FinishReason::Length => "; cut at --max-new-tokens",
        FinishReason::Context => "; the model's context is full",
        FinishReason::Cancelled => "; cancelled",
        _ => "",
    };
    format!("{} tokens in {seconds:.1} s ({speed:.0} tokens/s){early}", stats.tokens_generated)
}

fn read_prompt() -> anyhow::Result<String> {
    let input = io::stdin();
    if input.is_terminal() {
        bail!("give the prompt with --prompt, or pipe it in");
    }
    let mut prompt = String::new();
    input.lock().take(MAX_PROMPT).read_to_string(&mut prompt)?;
    let prompt = prompt.trim_end_matches(['\n', '\r']).to_owned();
    if prompt.trim().is_empty() {
        bail!("the prompt is empty");
    }
    Ok(prompt)
}
