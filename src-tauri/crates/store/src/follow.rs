//! How each run stands, kept in memory as far as its event log has been read: whoever asks again pays only for what
//! has been written since.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use types::{EventLine, JobFolder, Phase, RunSpec, TrainEvent};

use crate::{
    EventTail, Run, RunCurve, RunStatus, StoreError,
    curve::Curve,
    event_log::LogReader,
    runs::{index_row, read_spec},
};

/// A place in the log is remembered about every this many lines, for readers that begin in the middle.
const MARK_EVERY: u64 = 1024;

/// The runs that were asked for since the start.
#[derive(Debug, Default)]
pub(crate) struct Followed(Mutex<HashMap<String, Arc<Mutex<Following>>>>);

/// One run, as its log tells it up to the place reached.
#[derive(Debug)]
struct Following {
    reader: LogReader,
    /// As the events leave it, whether an engine is at work or not.
    run: Run,
    /// The run before its first event.
    unstarted: Run,
    /// What its log tells as a whole.
    curve: Curve,
    /// The number of a line and the byte it begins at, ascending.
    marks: Vec<(u64, u64)>,
}

impl Followed {
    /// The run as its log tells it now.
    pub fn run(&self, job: &JobFolder, job_id: &str) -> Result<Run, StoreError> {
        let following = self.following(job, job_id)?;
        let mut following = lock(&following);
        following.catch_up()?;
        Ok(following.run.clone())
    }

    /// All that the run's log has told up to now, in bounded size.
    pub fn curve(&self, job: &JobFolder, job_id: &str) -> Result<RunCurve, StoreError> {
        let following = self.following(job, job_id)?;
        let mut following = lock(&following);
        following.catch_up()?;
        Ok(following.curve.told())
    }

    /// The run's log from the line after `after` on.
    pub fn tail(&self, job: &JobFolder, job_id: &str, after: Option<u64>) -> Result<EventTail, StoreError> {
        let offset = match after {
            None => 0,
            Some(after) => {
                let following = self.following(job, job_id)?;
                let mut following = lock(&following);
                following.catch_up()?;
                let before = following.marks.partition_point(|&(seq, _)| seq <= after).checked_sub(1);
                before.and_then(|i| following.marks.get(i)).map_or(0, |&(_, offset)| offset)
            }
        };
        Ok(EventTail::new(LogReader::new(job.events(), offset), after))
    }

    /// Forgets a run.
    pub fn forget(&self, job_id: &str) {
        lock(&self.0).remove(job_id);
    }

    fn following(&self, job: &JobFolder, job_id: &str) -> Result<Arc<Mutex<Following>>, StoreError> {
        if let Some(known) = lock(&self.0).get(job_id) {
            return Ok(known.clone());
        }
        // Read without holding the list, so that a slow disk holds up nobody who asks for another run.
        let fresh = Arc::new(Mutex::new(Following::new(job, &read_spec(job, job_id)?)));
        Ok(lock(&self.0).entry(job_id.to_owned()).or_insert(fresh).clone())
    }
}

impl Following {
    fn new(job: &JobFolder, spec: &RunSpec) -> Self {
        let run = Run {
            row: index_row(spec),
            status: RunStatus::Interrupted,
            place: None,
            halted: None,
            phase: None,
            download: None,
            step: 0,
            total_steps: None,
            epoch: None,
            num_train_epochs: spec.config.num_train_epochs,
            loss: None,
            peak_memory_bytes: None,
            metrics: BTreeMap::new(),
            started_at: None,
            updated_at: None,
        };
        let (reader, unstarted) = (LogReader::new(job.events(), 0), run.clone());
        Self { reader, unstarted, run, curve: Curve::default(), marks: Vec::new() }
    }

    fn catch_up(&mut self) -> Result<(), StoreError> {
        loop {
            let batch = self.reader.read()?;
            if batch.restarted {
                self.run = self.unstarted.clone();
                self.curve = Curve::default();
                self.marks.clear();
            }
            if let Some(first) = batch.lines.first()
                && self.marks.last().is_none_or(|&(seq, _)| first.seq >= seq.saturating_add(MARK_EVERY))
            {
                self.marks.push((first.seq, batch.start));
            }
            for line in batch.lines {
                note(&mut self.run, &line);
                self.curve.note(line);
            }
            if batch.at_end {
                return Ok(());
            }
        }
    }
}

/// What a line changes about how a run stands.
fn note(run: &mut Run, line: &EventLine) {
    run.started_at.get_or_insert_with(|| line.time.clone());
    run.updated_at.get_or_insert_default().clone_from(&line.time);
    match &line.event {
        TrainEvent::Phase { phase } => {
            // As with `Started`, what ended the run before is over.
            if *phase == Phase::Downloading {
                run.status = RunStatus::Interrupted;
                run.halted = None;
            }
            run.phase = Some(*phase);
        }
        TrainEvent::Download(progress) => run.download = Some(progress.clone()),
        TrainEvent::Prepared { total_steps, .. } => run.total_steps = Some(*total_steps),
        TrainEvent::Step(stats) => {
            run.step = stats.step;
            run.total_steps = Some(stats.total_steps);
            run.epoch = Some(stats.epoch);
            run.loss = Some(stats.loss);
        }
        TrainEvent::Memory { peak_bytes, .. } => {
            run.peak_memory_bytes = run.peak_memory_bytes.max(Some(*peak_bytes));
        }
        // Those of the base model are not the run's.
        TrainEvent::Eval { step: 1.., metrics, .. } => extend(&mut run.metrics, metrics),
        // Steps after the checkpoint are done again.
        TrainEvent::Started { resumed_from, .. } => {
            run.status = RunStatus::Interrupted;
            run.step = resumed_from.unwrap_or(0);
            (run.epoch, run.phase, run.download, run.halted) = (None, None, None, None);
        }
        TrainEvent::Stopped { .. } => run.status = RunStatus::Stopped,
        TrainEvent::Halted { reason, .. } => {
            run.status = RunStatus::Stopped;
            run.halted = Some(reason.clone());
        }
        // What it did has to be done again.
        TrainEvent::OutOfMemory { .. } => run.status = RunStatus::Interrupted,
        TrainEvent::Finished { result, metrics } => {
            extend(&mut run.metrics, metrics);
            run.status = match result.success {
                true => RunStatus::Completed,
                false => {
                    RunStatus::Failed { error: result.error.as_ref().unwrap_or(&result.message).clone() }
                }
            };
        }
        // The rest is told, and changes nothing about how the run stands.
        _ => {}
    }
}

fn extend(metrics: &mut BTreeMap<String, f64>, measured: &BTreeMap<String, f64>) {
    metrics.extend(measured.iter().map(|(name, value)| (name.clone(), *value)));
}

/// What a panic leaves behind is at worst a place reached too early: the same lines are read once more.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
