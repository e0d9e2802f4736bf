//! `bench train`: optimizer steps of our engine and of PyTorch with PEFT on the same models and rows, in turn.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    Bench,
    busy::Busy,
    child::{Told, follow, script},
    contenders::{CONTENDERS, Contender, Program},
    in_turn, job,
    shapes::{SHAPES, Shape, WORKLOADS, Workload},
    table::{Csv, Spread, aligned, number, quoted},
};
use crate::process::say;

const HEADER: &str =
    "shape,rows,contender,steps,p20_ms,p50_ms,p80_ms,tokens_per_s,peak_bytes,net_bytes,loss,busy";

/// What all contenders of a table are given.
struct Given<'a> {
    workload: &'a Workload,
    model: PathBuf,
    rows: PathBuf,
}

/// What one contender measured, all rounds together.
#[derive(Debug, Default, Clone, PartialEq)]
struct Measured {
    /// Times of steps. The first of each round is left out: it touches memory and code for the first time.
    step_ms: Vec<f64>,
    /// Tokens of a step; padding is none.
    tokens: f64,
    /// Of the last step.
    loss: f64,
    /// Peak memory in bytes, and how much of it came after the program itself was loaded: the largest of the rounds.
    memory: Option<(u64, u64)>,
}

/// A contender and its results.
type Row<'a> = (&'a Contender, Measured);

/// Whether there was anything to measure.
pub fn run(bench: &Bench) -> Result<bool> {
    let mut csv = Csv::new("train", HEADER, bench.threads)?;
    for shape in SHAPES {
        let mut tables = Vec::new();
        for workload in WORKLOADS {
            let place = format!("train/{}/{}", shape.name, workload.name);
            let wanted = |c: &&Contender| bench.wants(&format!("{place}/{c}"));
            let contenders: Vec<&Contender> = CONTENDERS.iter().filter(wanted).collect();
            if contenders.is_empty() {
                continue;
            }
            say(&format!("\n── {place}"));
            let model = shape.model(&bench.python)?;
            let rows = shape.rows(&bench.python, workload)?;
            let given = Given { workload, model, rows };
            let (measured, busy) = in_turn(bench.rounds, &contenders, |contender, all: &mut Measured| {
                let run = one(bench, &given, contender)?;
                let ms = run.median();
                all.add(run);
                Ok(format!("{:>7} ms", number(ms, 0)))
            });
            let tokens: Vec<f64> = measured.iter().map(|(_, measured)| measured.tokens).collect();
            ensure!(tokens.windows(2).all(|pair| pair[0] == pair[1]), "they had different rows: {tokens:?}");
            say(&format!("\n{}", table(bench, shape, &measured)));
            for row in &measured {
                csv.add(&cells(shape, workload, row, busy))?;
            }
            tables.push((workload.name, measured));
        }
        for (contender, growth) in growth(&tables) {
            say(&format!("{:<28} {growth:.2} times from {SHORT} to {LONG}", contender.to_string()));
        }
    }
    Ok(csv.close())
}

/// The same tokens in short rows and in a long one.
const SHORT: &str = "8x256";
const LONG: &str = "1x2048";

/// By what each contender's step grows from short rows to a long one, where both were measured.
fn growth<'a>(tables: &[(&str, Vec<Row<'a>>)]) -> Vec<(&'a Contender, f64)> {
    let rows = |name: &str| tables.iter().find(|table| table.0 == name).map_or(&[][..], |table| &table.1);
    let grown = |(contender, long): &Row<'a>| {
        let (_, short) = rows(SHORT).iter().find(|(other, _)| std::ptr::eq(*other, *contender))?;
        Some((*contender, long.median()? / short.median()?))
    };
    rows(LONG).iter().filter_map(grown).collect()
}

/// One run of one contender.
fn one(bench: &Bench, given: &Given, contender: &Contender) -> Result<Measured> {
    let Given { workload, model, rows } = given;
    match contender.program {
        Program::Torch { mode } => {
            let request = json!({
                "model": model, "rows": rows, "mode": mode, "checkpointing": contender.checkpointing,
                "steps": bench.steps, "batch": workload.batch, "rank": job::RANK, "alpha": job::ALPHA,
                "learning_rate": job::LEARNING_RATE,
            });
            let mut command = script(&bench.python, "train.py");
            read(&follow(command.arg(request.to_string()), bench.limits(contender.instructions), "")?)
        }
        Program::Ours { provider, bf16 } => {
            ours(bench, given, contender, json!({"provider": provider, "bf16": bf16}))
        }
        Program::Nf4 => {
            let quantised = json!({
                "provider": "unsloth", "bf16": true, "strategy": "qlora", "use_4bit": true, "use_nested_quant": true,
            });
            ours(bench, given, contender, quantised)
        }
    }
}

/// One run of our engine with these settings.
fn ours(bench: &Bench, given: &Given, contender: &Contender, settings: Value) -> Result<Measured> {
    let Given { workload, model, rows } = given;
    let home = tempfile::tempdir()?;
    // Rows of one length are computed at once; a mix is packed into sequences of the longest length.
    let packing = workload.is_mixed();
    let mut all = json!({
        "gradient_checkpointing": contender.checkpointing, "max_steps": bench.steps, "packing": packing,
        "max_seq_length": workload.longest, "per_device_train_batch_size": if packing { 1 } else { workload.batch },
    });
    if let (Some(all), Value::Object(settings)) = (all.as_object_mut(), settings) {
        all.extend(settings);
    }
    let job = job::write(home.path(), model, rows, all)?;
    let mut command = bench.engine("train");
    read(&follow(command.arg(job.path()), bench.limits(contender.instructions), "")?)
}

/// The steps of a run. The peers tell a step as our engine does.
fn read(told: &Told) -> Result<Measured> {
    let steps: Vec<(f64, f64, f64)> = told
        .events("step")
        .map(|step| {
            let value = |name: &str| step[name].as_f64().with_context(|| format!("a step without {name}"));
            Ok((value("step_ms")?, value("tokens")?, value("loss")?))
        })
        .collect::<Result<_>>()?;
    let [_, warm @ ..] = steps.as_slice() else { bail!("it told of no step") };
    let &(_, tokens, loss) = warm.last().context("it did a single step")?;
    let step_ms = warm.iter().map(|step| step.0).collect();
    Ok(Measured { step_ms, tokens, loss, memory: told.memory.map(|(first, peak)| (peak, peak - first)) })
}

impl Measured {
    fn add(&mut self, run: Measured) {
        self.step_ms.extend(run.step_ms);
        (self.tokens, self.loss) = (run.tokens, run.loss);
        let larger = |a: (u64, u64), b: (u64, u64)| (a.0.max(b.0), a.1.max(b.1));
        self.memory = match (self.memory, run.memory) {
            (Some(a), Some(b)) => Some(larger(a, b)),
            (a, b) => a.or(b),
        };
    }

    fn spread(&self) -> Option<Spread> {
        Spread::of(self.step_ms.clone())
    }

    fn median(&self) -> Option<f64> {
        self.spread().map(|spread| spread.p50)
    }

    fn tokens_per_second(&self) -> Option<f64> {
        Some(self.tokens / self.median()? * 1e3)
    }
}

/// A row divided by its peers.
#[derive(Debug, PartialEq)]
struct Ratios {
    /// Median time by that of PyTorch in f32 and in bf16 autocast.
    f32: Option<f64>,
    autocast: Option<f64>,
    /// Peak memory by the least that PyTorch needs without checkpointing in any precision, gross and net.
    gross: Option<f64>,
    net: Option<f64>,
}

impl Ratios {
    fn of((contender, measured): &Row, all: &[Row]) -> Self {
        let time = |mode: &str| {
            let (_, peer) = all.iter().find(|(peer, _)| peer.is_peer_of(contender, mode))?;
            Some(measured.median()? / peer.median()?)
        };
        let memory = |part: fn((u64, u64)) -> u64| {
            let peers = all.iter().filter(|(peer, _)| peer.is_memory_peer());
            let least = peers.filter_map(|(_, peer)| peer.memory.map(part)).min()?;
            Some(part(measured.memory?) as f64 / least as f64)
        };
        Self { f32: time("f32"), autocast: time("autocast"), gross: memory(|m| m.0), net: memory(|m| m.1) }
    }
}

fn table(bench: &Bench, shape: &Shape, rows: &[Row]) -> String {
    // A frozen weight costs two operations forward and two backward for each token.
    let floor_ms = |tokens: f64| 4.0 * shape.parameters() as f64 * tokens / bench.peak.bf16 * 1e3;
    let header = [
        "",
        "p20 ms",
        "p50 ms",
        "p80 ms",
        "tokens/s",
        "% of peak",
        "peak MB",
        "net MB",
        "loss",
        "÷ f32",
        "÷ autocast",
        "memory ÷",
        "net ÷",
    ];
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let (contender, measured) = row;
            let (spread, ratios) = (measured.spread(), Ratios::of(row, rows));
            let mega = |bytes: u64| bytes as f64 / 1e6;
            vec![
                contender.to_string(),
                number(spread.map(|s| s.p20), 0),
                number(spread.map(|s| s.p50), 0),
                number(spread.map(|s| s.p80), 0),
                number(measured.tokens_per_second(), 0),
                number(spread.map(|s| 100.0 * floor_ms(measured.tokens) / s.p50), 1),
                number(measured.memory.map(|m| mega(m.0)), 0),
                number(measured.memory.map(|m| mega(m.1)), 0),
                number(Some(measured.loss), 4),
                number(ratios.f32, 2),
                number(ratios.autocast, 2),
                number(ratios.gross, 2),
                number(ratios.net, 2),
            ]
        })
        .collect();
    aligned(&header, &lines)
}

fn cells(shape: &Shape, workload: &Workload, (contender, measured): &Row, busy: Busy) -> Vec<String> {
    let spread = measured.spread();
    let bytes = |part: Option<u64>| part.map(|bytes| bytes.to_string()).unwrap_or_default();
    vec![
        quoted(shape.name),
        quoted(workload.name),
        quoted(&contender.to_string()),
        measured.step_ms.len().to_string(),
        number(spread.map(|s| s.p20), 2),
        number(spread.map(|s| s.p50), 2),
        number(spread.map(|s| s.p80), 2),
        number(measured.tokens_per_second(), 1),
        bytes(measured.memory.map(|m| m.0)),
        bytes(measured.memory.map(|m| m.1)),
        number(Some(measured.loss), 6),
        number(busy.0, 2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(steps: &[(f64, f64)], memory: (u64, u64)) -> Told {
        let step =
            |&(ms, loss): &(f64, f64)| json!({"event": "step", "step_ms": ms, "tokens": 100, "loss": loss});
        let lines = std::iter::once(json!({"event": "started"})).chain(steps.iter().map(step)).collect();
        Told { lines, memory: Some(memory) }
    }

    #[test]
    fn rounds_are_added_without_their_first_steps() {
        let mut all = Measured::default();
        all.add(read(&told(&[(90.0, 5.0), (10.0, 4.0), (30.0, 3.0)], (100, 900))).unwrap());
        all.add(read(&told(&[(80.0, 5.0), (20.0, 4.0), (20.0, 3.0)], (50, 800))).unwrap());
        assert_eq!(all.step_ms, [10.0, 30.0, 20.0, 20.0], "the first step of a round is no measurement");
        assert_eq!(
            (all.loss, all.memory),
            (3.0, Some((900, 800))),
            "the last loss, the largest peak and net"
        );
        assert_eq!(all.tokens_per_second(), Some(5000.0), "100 tokens in 20 ms");
        read(&told(&[(90.0, 5.0)], (1, 2))).unwrap_err();
        read(&told(&[], (1, 2))).unwrap_err();
    }

    #[test]
    fn growth_is_told_of_who_was_measured_on_both() {
        let row = |index: usize, ms: f64| {
            (&CONTENDERS[index], Measured { step_ms: vec![ms], ..Measured::default() })
        };
        let tables = [
            (SHORT, vec![row(0, 100.0), row(1, 100.0)]),
            ("4x256", vec![row(2, 1.0)]),
            (LONG, vec![row(1, 150.0), row(2, 9.0)]),
        ];
        let grown: Vec<f64> = growth(&tables).into_iter().map(|(_, growth)| growth).collect();
        assert_eq!(grown, [1.5], "the first has no long row, the third no short ones");
    }

    #[test]
    fn ratios_are_those_of_medians_to_the_peer_under_the_same_conditions() {
        let row = |name: &str, ms: f64, memory: (u64, u64)| -> Row {
            let contender = CONTENDERS.iter().find(|c| c.to_string() == name).unwrap();
            (contender, Measured { step_ms: vec![ms], memory: Some(memory), ..Measured::default() })
        };
        let rows = [
            row("torch-f32", 400.0, (1000, 900)),
            row("torch-bf16", 250.0, (800, 400)),
            row("torch-autocast", 200.0, (900, 600)),
            row("torch-autocast-checkpointed", 300.0, (500, 100)),
            row("torch-f32-avx2", 800.0, (100, 10)),
            row("reference-bf16", 100.0, (200, 100)),
            row("reference-bf16-checkpointed", 150.0, (160, 80)),
            row("fused-f32-avx2", 600.0, (300, 200)),
        ];
        let ratios =
            |name: &str| Ratios::of(rows.iter().find(|row| row.0.to_string() == name).unwrap(), &rows);
        let (gross, net) = (Some(0.25), Some(0.25));
        assert_eq!(ratios("reference-bf16"), Ratios { f32: Some(0.25), autocast: Some(0.5), gross, net });
        let (gross, net) = (Some(0.2), Some(0.2));
        assert_eq!(
            ratios("reference-bf16-checkpointed"),
            Ratios { f32: None, autocast: Some(0.5), gross, net },
            "time by the checkpointed peer, memory by the best that is not"
        );
        assert_eq!(ratios("fused-f32-avx2").f32, Some(0.75), "by the peer held to the same instructions");
    }
}
