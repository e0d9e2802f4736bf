//! `modelforge chat`: talk to a model.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use api::{ChatEngine, ask};
use tokio::sync::mpsc::{Receiver, channel};
use types::{GenerateParams, Message, Task, engine::PromptInput, generate::FinishReason};

use super::{
    generate::{stream, took},
    interrupt::Interrupts,
    sampling::Sampling,
    say,
    terminal::{bold, dim, thousands},
};

const HELP: &str = "\
/reset           forget the conversation
/system TEXT     give the model instructions (without TEXT: none)
/context TEXT    ask about this text from now on (without TEXT: none)
/exit            leave; so does Ctrl-D. Ctrl-C ends an answer early";

/// Talk to a model
///
/// Reads from a pipe too: every line is a message, every answer is printed.
#[derive(clap::Args)]
pub struct Args {
    /// A model's id or name, or a base model such as modelforge/starter
    model: String,
    /// Instructions for the model
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// The text to answer questions about
    #[arg(long, value_name = "TEXT")]
    context: Option<String>,
    #[command(flatten)]
    sampling: Sampling,
}

/// A conversation and how it is led.
struct Conversation {
    task: Option<Task>,
    system: Option<String>,
    context: Option<String>,
    turns: Vec<Message>,
}

/// What a line of the person asks for.
#[derive(Debug, PartialEq)]
enum Line<'a> {
    Exit,
    Help,
    Reset,
    System(Option<&'a str>),
    Context(Option<&'a str>),
    Unknown(&'a str),
    Nothing,
    Words(&'a str),
}

/// Talks until the person leaves.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let api = super::open()?;
    let model = api.chat_model(&args.model)?;
    let (mut engine, loaded) = api.chat(&model).await?;
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    if interactive {
        let facts = format!("{}, {} parameters", loaded.architecture, thousands(loaded.parameters));
        say(format_args!("{}  {}", bold(&model.name), dim(facts)));
        if model.task == Some(Task::ExtractiveQuestionAnswering) && args.context.is_none() {
            say("This model answers questions about a text. Give it with /context TEXT.");
        }
        say(dim("/help lists the commands."));
    }
    let mut conversation =
        Conversation { task: model.task, system: args.system, context: args.context, turns: Vec::new() };
    let params = args.sampling.params();
    let mut lines = read_lines();
    loop {
        if interactive {
            write!(io::stdout(), "{}", bold("> "))?;
            io::stdout().flush()?;
        }
        let line = tokio::select! {
            line = lines.recv() => line,
            () = interrupts.next() => None,
        };
        let Some(line) = line.transpose()? else {
            if interactive {
                writeln!(io::stdout())?;
            }
            break;
        };
        match parse(&line) {
            Line::Exit => break,
            Line::Help => say(HELP),
            Line::Nothing => {}
            Line::Reset => conversation.turns.clear(),
            Line::System(text) => {
                conversation.system = text.map(str::to_owned);
                conversation.turns.clear();
            }
            Line::Context(text) => conversation.context = text.map(str::to_owned),
            Line::Unknown(command) => say(format_args!("There is no {command}. /help lists the commands.")),
            Line::Words(words) => {
                conversation.answer(&mut engine, words, &params, &mut interrupts, interactive).await?;
            }
        }
    }
    engine.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}

impl Conversation {
    async fn answer(
        &mut self,
        engine: &mut ChatEngine,
        words: &str,
        params: &GenerateParams,
        interrupts: &mut Interrupts,
        interactive: bool,
    ) -> anyhow::Result<()> {
        let question = Message::user(ask(self.task, self.context.as_deref(), words));
        let mut messages: Vec<Message> = self.system.clone().map(Message::system).into_iter().collect();
        messages.extend(self.turns.iter().cloned());
        messages.push(question.clone());
        let mut generation = engine.generate(PromptInput::Messages(messages), params.clone(), false).await?;
        let (text, stats) = stream(&mut generation, interrupts).await?;
        writeln!(io::stdout())?;
        if interactive {
            say(dim(took(&stats)));
        }
        // Models for one-step tasks were trained on single questions: a history would only confuse them.
        let converses = matches!(self.task, None | Some(Task::TextGeneration)) && self.context.is_none();
        if converses && stats.finish != FinishReason::Cancelled {
            self.turns.extend([question, Message::assistant(text)]);
        }
        if stats.finish == FinishReason::Context && !self.turns.is_empty() {
            self.turns.clear();
            say("The conversation has filled the model's context and starts anew.");
        }
        Ok(())
    }
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
    match word {
        "" => Line::Nothing,
        "/exit" | "/quit" | "/bye" => Line::Exit,
        "/help" | "/?" => Line::Help,
        "/reset" | "/clear" => Line::Reset,
        "/system" => Line::System(rest),
        "/context" => Line::Context(rest),
        _ if word.starts_with('/') => Line::Unknown(word),
        _ => Line::Words(line),
    }
}

/// Standard input line by line, from a thread of its own: a read that waits for a person cannot be called off.
fn read_lines() -> Receiver<io::Result<String>> {
    let (sender, receiver) = channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_words_are_told_apart() {
        for (line, want) in [
            ("", Line::Nothing),
            ("  \t", Line::Nothing),
            ("/exit", Line::Exit),
            (" /quit ", Line::Exit),
            ("/reset", Line::Reset),
            ("/system", Line::System(None)),
            ("/system  Be short. ", Line::System(Some("Be short."))),
            ("/context a b", Line::Context(Some("a b"))),
            ("/foo bar", Line::Unknown("/foo")),
            (" What is 1/2? ", Line::Words("What is 1/2?")),
        ] {
            assert_eq!(parse(line), want, "{line:?}");
        }
    }
}
