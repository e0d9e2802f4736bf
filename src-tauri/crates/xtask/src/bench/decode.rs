//! `bench decode`: greedy decoding by our chat engine and by transformers, after the same prompts, in turn.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use types::{
    GenerateParams, Provider,
    engine::{EngineCommand, EngineRequest, PromptInput},
};

use super::{
    Bench,
    child::{follow, script},
    contenders::Instructions,
    in_turn, job,
    shapes::{PROMPTS, SHAPES},
    table::{Csv, Spread, aligned, number, quoted},
};
use crate::process::say;

const HEADER: &str =
    "shape,contender,answers,p20_tokens_per_s,p50_tokens_per_s,p80_tokens_per_s,prefill_tokens_per_s,busy";

/// Tokens of an answer.
const TOKENS: usize = 64;

/// Who decodes.
struct Contender {
    ours: bool,
    bf16: bool,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let who = if self.ours { "ours" } else { "transformers" };
        write!(f, "{who}-{}", if self.bf16 { "bf16" } else { "f32" })
    }
}

const CONTENDERS: &[Contender] = &[
    Contender { ours: false, bf16: false },
    Contender { ours: false, bf16: true },
    Contender { ours: true, bf16: false },
    Contender { ours: true, bf16: true },
];

/// Tokens a second, one value an answer.
#[derive(Debug, Default, PartialEq)]
struct Measured {
    decode: Vec<f64>,
    prefill: Vec<f64>,
}

/// What contenders of a shape are given.
struct Given {
    model: PathBuf,
    prompts: PathBuf,
    /// Holds a finished model in bf16: the chat engine answers in the precision that a model was trained in.
    bf16: TempDir,
}

/// Whether there was anything to measure.
pub fn run(bench: &Bench) -> Result<bool> {
    let mut csv = Csv::new("decode", HEADER, bench.threads)?;
    for shape in SHAPES {
        let wanted = |c: &&Contender| bench.wants(&format!("decode/{}/{c}", shape.name));
        let contenders: Vec<&Contender> = CONTENDERS.iter().filter(wanted).collect();
        if contenders.is_empty() {
            continue;
        }
        say(&format!("\n── decode/{}", shape.name));
        let model = shape.model(&bench.python)?;
        let prompts = shape.rows(&bench.python, &PROMPTS)?;
        let bf16 = tempfile::tempdir()?;
        if contenders.iter().any(|contender| contender.ours && contender.bf16) {
            train_in_bf16(bench, bf16.path(), &model, &prompts)?;
        }
        let given = Given { model, prompts, bf16 };
        let (rows, busy) = in_turn(bench.rounds, &contenders, |contender, all: &mut Measured| {
            let run = if contender.ours { ours } else { peer }(bench, &given, contender)?;
            let rate = Spread::of(run.decode.clone()).map(|s| s.p50);
            all.decode.extend(run.decode);
            all.prefill.extend(run.prefill);
            Ok(format!("{:>7} tokens/s", number(rate, 1)))
        });
        say(&format!("\n{}", table(&rows)));
        for (contender, measured) in &rows {
            let mut cells =
                vec![quoted(shape.name), quoted(&contender.to_string()), measured.decode.len().to_string()];
            cells.extend(rates(measured, 2));
            cells.push(number(busy.0, 2));
            csv.add(&cells)?;
        }
    }
    Ok(csv.close())
}

fn train_in_bf16(bench: &Bench, home: &Path, model: &Path, rows: &Path) -> Result<()> {
    let provider = Provider::Huggingface;
    let settings = json!({"provider": provider, "bf16": true, "max_steps": 1, "max_seq_length": 8});
    let job = job::write(home, model, rows, settings)?;
    follow(bench.engine("train").arg(job.path()), bench.limits(Instructions::All), "")?;
    Ok(())
}

fn ours(bench: &Bench, given: &Given, contender: &Contender) -> Result<Measured> {
    let load = EngineCommand::Load {
        base_dir: given.model.clone(),
        adapter_dir: contender.bf16.then(|| given.bf16.path().join("model")),
    };
    let text = fs::read_to_string(&given.prompts)?;
    let mut commands = vec![load];
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let prompt = [&row["input"], &row["output"]].map(|part| part.as_str().unwrap_or_default()).join(" ");
        // The base model alone, as the peer has it.
        let params = GenerateParams::greedy(TOKENS);
        let input = PromptInput::Text(prompt);
        commands.push(EngineCommand::Generate { input, params, without_adapter: true });
    }
    commands.push(EngineCommand::Shutdown);
    let lines: Vec<String> = (1..)
        .zip(commands)
        .map(|(id, command)| serde_json::to_string(&EngineRequest { id, command }))
        .collect::<Result<_, _>>()?;
    let told =
        follow(&mut bench.engine("chat"), bench.limits(Instructions::All), &(lines.join("\n") + "\n"))?;
    if let Some(error) = told.lines.iter().find(|line| line["reply"] == "error") {
        bail!("{}", error["message"]);
    }
    let done: Vec<[f64; 4]> = told
        .lines
        .iter()
        .filter(|line| line["reply"] == "done")
        .map(|line| {
            let names = ["prompt_tokens", "prefill_ms", "tokens_generated", "generation_time_ms"];
            names.map(|name| line["stats"][name].as_f64().unwrap_or(f64::NAN))
        })
        .collect();
    read(&done)
}

fn peer(bench: &Bench, given: &Given, contender: &Contender) -> Result<Measured> {
    let mode = if contender.bf16 { "bf16" } else { "f32" };
    let request = json!({"model": given.model, "rows": given.prompts, "mode": mode, "tokens": TOKENS});
    let told = follow(
        script(&bench.python, "decode.py").arg(request.to_string()),
        bench.limits(Instructions::All),
        "",
    )?;
    let names = ["prompt_tokens", "prefill_ms", "tokens", "generation_ms"];
    let done: Vec<[f64; 4]> = told
        .events("decoded")
        .map(|line| names.map(|name| line[name].as_f64().unwrap_or(f64::NAN)))
        .collect();
    read(&done)
}

/// Rates from prompt tokens, time of the prompt, tokens of the answer and time of both, in ms. The first answer is left
/// out; the first token of each comes with the prompt.
fn read(answers: &[[f64; 4]]) -> Result<Measured> {
    ensure!(answers.len() > 1, "{} answers", answers.len());
    let mut measured = Measured::default();
    for &[prompt, prefill_ms, tokens, total_ms] in &answers[1..] {
        ensure!(tokens == TOKENS as f64, "an answer of {tokens} tokens instead of {TOKENS}");
        measured.decode.push((tokens - 1.0) / (total_ms - prefill_ms) * 1e3);
        measured.prefill.push(prompt / prefill_ms * 1e3);
    }
    Ok(measured)
}

fn rates(measured: &Measured, digits: usize) -> [String; 4] {
    let spread = Spread::of(measured.decode.clone());
    let prefill = Spread::of(measured.prefill.clone()).map(|s| s.p50);
    let decode = [spread.map(|s| s.p20), spread.map(|s| s.p50), spread.map(|s| s.p80)];
    [decode[0], decode[1], decode[2], prefill].map(|rate| number(rate, digits))
}

fn table(rows: &[(&Contender, Measured)]) -> String {
    let median = |measured: &Measured| Spread::of(measured.decode.clone()).map(|s| s.p50);
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(contender, measured)| {
            let peer = |bf16: bool| {
                let (_, peer) = rows.iter().find(|(peer, _)| !peer.ours && peer.bf16 == bf16)?;
                Some(median(measured)? / median(peer)?)
            };
            let mut line = vec![contender.to_string()];
            line.extend(rates(measured, 1));
            line.extend([number(peer(false), 2), number(peer(true), 2)]);
            line
        })
        .collect();
    aligned(&["", "p20 tokens/s", "p50", "p80", "prefill", "÷ f32", "÷ bf16"], &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_gives_the_first_token_and_the_first_answer_warms_up() {
        let tokens = TOKENS as f64;
        let measured = read(&[[128.0, 900.0, tokens, 9000.0], [128.0, 64.0, tokens, 694.0]]).unwrap();
        assert_eq!(measured, Measured { decode: vec![100.0], prefill: vec![2000.0] }, "63 tokens in 630 ms");
        read(&[[128.0, 900.0, tokens, 9000.0]]).unwrap_err();
        read(&[[128.0, 9.0, tokens, 90.0], [128.0, 9.0, 3.0, 90.0]]).unwrap_err();
    }
}
