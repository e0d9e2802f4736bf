//! `modelforge demo`: the whole way on this machine, measured: the base model's answers, training, the tuned answers.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use api::{Api, ChatModel};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use store::{STARTER, Sample};
use types::{ApiError, GenerateParams, Message, Strategy, TrainingConfig, engine::PromptInput};

use super::{
    INTERRUPTED, detect,
    interrupt::Interrupts,
    progress::{Ending, Progress, follow},
    say,
    terminal::{WIDTH, bold, clock, dim, entry, green, side_by_side, small, thousands, wrap},
    train::how_to_resume,
};

/// Questions whose answers are shown in full.
const SHOWN: usize = 3;

/// Fine-tune the starter model on a sample and compare its answers before and after
///
/// Takes about two minutes and needs no connection. Every number is measured on this machine.
#[derive(clap::Args)]
pub struct Args {
    /// Which sample to learn; `modelforge datasets list` lists them
    #[arg(long, default_value = "order-slips", value_name = "NAME")]
    sample: String,
    /// Keep the models that earlier demos made of this sample; otherwise the new one replaces them
    #[arg(long)]
    keep: bool,
}

/// A held-out row: what is asked and what counts as right.
struct Question {
    prompt: Vec<Message>,
    answers: Vec<String>,
}

/// Shows the whole way.
pub async fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let api = super::open()?;
    let name = args.sample.strip_prefix("sample:").unwrap_or(&args.sample);
    let dataset = format!("sample:{name}");
    let Some(sample) = api.resources().sample(&dataset)? else { bail!("{dataset} is no sample") };
    let questions = held_out(&sample)?;

    let mut out = io::stdout();
    detect::table(&mut out, &api, &api.detect(sample.task).await?)?;
    writeln!(out, "\n{}", bold(&sample.title))?;
    writeln!(out, "{}", entry("dataset", format_args!("{dataset}, for {}", sample.task)))?;
    writeln!(
        out,
        "{}",
        entry("held out", format_args!("{} rows that are never trained on", questions.len()))
    )?;

    let base = api.chat_model(STARTER)?;
    let Some(before) = answer_all(&api, &base, &questions, "The base model answers", &mut interrupts).await?
    else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    writeln!(out, "{}", entry("base model", format_args!("{} right", score(&questions, &before))))?;

    writeln!(out, "\n{}", bold("Training"))?;
    let start = Instant::now();
    let config = TrainingConfig::from_json(&settings(&sample, &dataset)).map_err(ApiError::invalid)?;
    let mut run = api.start_training(config).await?;
    let mut view = Progress::new();
    let (ending, tally) = follow(&mut run, &mut view, &mut interrupts).await?;
    let seconds = start.elapsed().as_secs_f64();
    drop(view);
    match ending {
        Ending::Completed { .. } => {}
        Ending::Failed(error) | Ending::Halted { reason: error, .. } => bail!("{error}"),
        ending => {
            say(how_to_resume(run.job_id(), &ending));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    let last = tally.last.as_ref().context("the run ended without a step")?;
    let speed = thousands(tally.tokens_per_second() as u64);
    writeln!(
        out,
        "{}",
        entry("time", format_args!("{} for {} steps, {speed} tokens/s", clock(seconds), last.step))
    )?;
    writeln!(out, "{}", entry("last loss", small(last.loss)))?;

    let model_id = run.spec().model_id.clone();
    let tuned = api.chat_model(&model_id)?;
    let Some(after) =
        answer_all(&api, &tuned, &questions, "The tuned model answers", &mut interrupts).await?
    else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    compare(&mut out, &questions, &before, &after)?;
    writeln!(out, "{}", bold("Held-out score: answers that match exactly"))?;
    writeln!(out, "{}", entry("before", score(&questions, &before)))?;
    writeln!(out, "{}", entry("after", green(score(&questions, &after))))?;
    if !args.keep {
        forget_earlier(&api, &model_id)?;
    }
    writeln!(out, "\n{}", bold("Your model"))?;
    writeln!(out, "{}", entry("id", &model_id))?;
    writeln!(out, "{}", entry("folder", run.spec().model_dir.display()))?;
    writeln!(out, "\nTalk to it:          modelforge chat {model_id}")?;
    writeln!(out, "Train on your data:  modelforge train --model-name {STARTER} \\")?;
    writeln!(out, "                       --task {} --dataset FILE", sample.task)?;
    Ok(ExitCode::SUCCESS)
}

/// What makes the starter model learn a sample of a few hundred short rows in about a minute.
fn settings(sample: &Sample, dataset: &str) -> serde_json::Map<String, serde_json::Value> {
    let request = json!({
        "task": sample.task,
        "model_name": STARTER,
        "dataset": dataset,
        "name": format!("demo-{}", sample.name),
        "max_steps": 100,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.05,
        "lora_dropout": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": false,
        "eval_split": 0.0,
    });
    match request {
        serde_json::Value::Object(request) => request,
        _ => serde_json::Map::new(),
    }
}

fn held_out(sample: &Sample) -> anyhow::Result<Vec<Question>> {
    let mut examples = data::examples(&sample.heldout, sample.task, Strategy::Sft)?;
    let mut questions = Vec::new();
    while let Some(row) = examples.next_row()? {
        let Ok(row) = row else { bail!("{} has a bad row", sample.heldout.display()) };
        questions.push(Question {
            prompt: row.example.prompt_messages(sample.task),
            answers: row.example.answers().into_iter().map(str::to_owned).collect(),
        });
    }
    if questions.is_empty() {
        bail!("{} has no rows", sample.heldout.display());
    }
    Ok(questions)
}

/// The model's likeliest answer to every question; `None` after Ctrl-C.
async fn answer_all(
    api: &Api,
    model: &ChatModel,
    questions: &[Question],
    what: &str,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Option<Vec<String>>> {
    let bar = ProgressBar::new(questions.len() as u64).with_message(what.to_owned());
    bar.set_style(ProgressStyle::with_template("{msg}  {bar:20} {pos}/{len}")?.progress_chars("━╸─"));
    bar.enable_steady_tick(Duration::from_millis(200));
    // A token is at least a character: no right answer is cut.
    let longest = questions.iter().flat_map(|q| &q.answers).map(|a| a.chars().count()).max();
    let params = GenerateParams::greedy(longest.unwrap_or(0) + 8);
    let work = async {
        let (mut engine, _) = api.chat(model).await?;
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let input = PromptInput::Messages(question.prompt.clone());
            let (text, _) = engine.generate(input, params.clone(), false).await?.finish().await?;
            answers.push(text);
            bar.inc(1);
        }
        engine.shutdown().await?;
        anyhow::Ok(answers)
    };
    let answers = tokio::select! {
        answers = work => Some(answers?),
        () = interrupts.next() => None,
    };
    bar.finish_and_clear();
    Ok(answers)
}

/// Whether an answer is one of those that count, but for space at its ends.
fn is_right(question: &Question, answer: &str) -> bool {
    question.answers.iter().any(|right| right.trim() == answer.trim())
}

/// `0.93 (56 of 60)`.
fn score(questions: &[Question], answers: &[String]) -> String {
    let right = questions.iter().zip(answers).filter(|(question, answer)| is_right(question, answer)).count();
    format!("{:.2} ({right} of {})", right as f64 / questions.len() as f64, questions.len())
}

fn compare(
    out: &mut impl Write,
    questions: &[Question],
    before: &[String],
    after: &[String],
) -> io::Result<()> {
    writeln!(out, "\n{}", bold(side_by_side("Base model", "Fine-tuned").join("\n")))?;
    for ((question, before), after) in questions.iter().zip(before).zip(after).take(SHOWN) {
        writeln!(out, "{}", dim("-".repeat(WIDTH)))?;
        let prompt = question.prompt.last().map_or("", |message| message.content.as_str());
        for line in wrap(prompt, WIDTH) {
            writeln!(out, "{}", dim(line))?;
        }
        if let Some(right) = question.answers.first() {
            for line in wrap(&format!("right: {right}"), WIDTH) {
                writeln!(out, "{}", green(line))?;
            }
        }
        writeln!(out)?;
        for line in side_by_side(before, after) {
            writeln!(out, "{line}")?;
        }
    }
    writeln!(out)
}

/// Deletes what earlier demos made of the same sample.
fn forget_earlier(api: &Api, newest: &str) -> anyhow::Result<()> {
    let made = api.store().model(newest)?;
    for row in api.store().models()? {
        if row.model_id == newest || row.name != made.row.name {
            continue;
        }
        let earlier = api.store().model(&row.model_id)?.manifest;
        if earlier.dataset.name == made.manifest.dataset.name && earlier.base_model.name == STARTER {
            api.store().delete_model(&row.model_id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_words_are_right() {
        let question = Question { prompt: Vec::new(), answers: vec!["the kitchen".into(), "kitchen".into()] };
        for (answer, want) in
            [("the kitchen", true), (" kitchen\n", true), ("Kitchen", false), ("the kitchen.", false)]
        {
            assert_eq!(is_right(&question, answer), want, "{answer:?}");
        }
        let questions = [question];
        assert_eq!(score(&questions, &["kitchen".to_owned()]), "1.00 (1 of 1)");
    }
}
