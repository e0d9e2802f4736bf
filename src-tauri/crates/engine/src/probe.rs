//! A dry run: a job's own data and model and two real steps, told as JSON lines, with nothing published or kept.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use train::{Answers as _, TrainRun};
use types::{
    FieldError, JobFolder, Phase, Strategy,
    engine::{ProbeLine, ProbeReport, exit},
    event::SAMPLED_ROWS,
};

use crate::{EngineError, answers::Answers, complain, device, load, memory, tell};

/// Tries out the job in `folder`, of which only `run.json` is needed. Exit codes: 0 measured, 1 failed.
pub fn main(folder: &Path) -> u8 {
    let job = JobFolder::new(folder);
    let result = catch_unwind(AssertUnwindSafe(|| probe(&job)))
        .unwrap_or_else(|panic| Err(EngineError::panic(panic.as_ref())));
    let (line, code) = match result {
        Ok(report) => (ProbeLine::Report(report), exit::SUCCESS),
        Err(error) => (ProbeLine::Error(error.to_string()), exit::FAILURE),
    };
    match tell(&line) {
        Ok(()) => code,
        Err(error) => {
            complain(format!("standard output: {error}"));
            exit::FAILURE
        }
    }
}

fn probe(job: &JobFolder) -> Result<ProbeReport, EngineError> {
    // A dry run that nobody waits for any more is not worth its time.
    let say = |line: &ProbeLine| tell(line).map_err(EngineError::file("standard output"));
    let spec = load::spec(job)?;
    if spec.config.strategy == Strategy::Rlhf {
        let problem = "a run that learns from rewards has no dry run: how long answers get is known only once it writes them";
        return Err(EngineError::Unsupported(FieldError::value("strategy", problem)));
    }
    // Beside the job's own tokens, which an engine may be working on.
    let tokens = tempfile::Builder::new()
        .prefix(".probe-")
        .tempdir_in(job.path())
        .map_err(EngineError::file(job.path()))?;

    say(&ProbeLine::Phase(Phase::PreparingData))?;
    let started = Instant::now();
    let (tokenizer, data) = load::data(&spec, tokens.path())?;
    let prepare_ms = millis(started);

    say(&ProbeLine::Phase(Phase::LoadingModel))?;
    let started = Instant::now();
    let model = load::model(&spec, &tokenizer, false, &mut |why| complain(why))?;
    let load_ms = millis(started);

    say(&ProbeLine::Phase(Phase::Training))?;
    let run =
        TrainRun { model: &*model, data: &data, config: &spec.config, job, resume: None, answers: None };
    let mut told: io::Result<()> = Ok(());
    let probed = train::probe(run, &mut |step| {
        if told.is_ok() {
            told = tell(&ProbeLine::Step(step.clone()));
        }
    })?;
    told.map_err(EngineError::file("standard output"))?;
    // The run has rows answered before the first step too.
    let evaluations = 1 + probed.total_steps.div_ceil(u64::from(spec.config.eval_steps.max(1)));
    let answers = Answers::new(&*model, &tokenizer, &data, &spec)?;
    let answered = Cell::new(0);
    let started = Instant::now();
    // An answer that fails takes the run no time either.
    let _ = answers.answer(&|| answered.get() < SAMPLED_ROWS, &mut |_| answered.set(answered.get() + 1));
    let rows = answers.rows() as f64 / answered.get().max(1) as f64;
    let answers_ms = millis(started) * rows * evaluations as f64;
    Ok(ProbeReport {
        load_ms,
        prepare_ms,
        total_steps: probed.total_steps,
        steps: probed.steps,
        peak_memory_bytes: memory::peak(),
        device: device::name(model.device()).into(),
        estimated_total_seconds: (prepare_ms + load_ms + answers_ms) / 1e3 + probed.estimated_seconds,
    })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
