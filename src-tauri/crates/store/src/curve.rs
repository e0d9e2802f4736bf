//! All that a run's event log tells, in bounded size: a run of any length is shown at once, and followed from there.
//!
//! Steps are thinned out: each bucket stands for the same number of them, and when all buckets are in use, pairs become
//! one. Least, greatest, mean and last value of each bucket stay exact, so no spike is lost. The pages go on thinning the
//! same way as more steps come.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;
use types::{EventLine, StepStats, TrainEvent};

/// The most buckets; `CAPACITY` of the pages' `steps.ts` is the same.
const CAPACITY: usize = 4096;

/// The most evaluations, samples and other events.
const MOST_EVALS: usize = 2000;
const MOST_SAMPLES: usize = 600;
const MOST_OTHERS: usize = 2000;

/// All that a run's event log has told up to an event.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunCurve {
    /// The number (seq) of the last event that is in this; null where there is none.
    pub after: Option<u64>,
    /// The steps, thinned out.
    pub steps: StepColumns,
    /// The step done last, whole.
    pub last: Option<EventLine>,
    /// Everything but the steps, in order: the latest of each kind, and of a run that told very much its newest lines.
    pub events: Vec<EventLine>,
}

/// The steps of a run in buckets; every list has an entry for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct StepColumns {
    /// Steps that one bucket stands for.
    pub stride: u32,
    /// The last step of each bucket.
    pub step: Vec<u64>,
    /// Epochs done after each bucket.
    pub epoch: Vec<f64>,
    /// Training time after each bucket, in milliseconds.
    pub elapsed_ms: Vec<u64>,
    /// Steps in each bucket: only the last one can have fewer than the stride.
    pub held: Vec<u32>,
    /// What was measured: `loss`, `learning_rate`, `grad_norm`, `tokens_per_second`, and the strategy's own metrics.
    pub columns: BTreeMap<String, Column>,
}

/// One value over the steps; null in a bucket whose steps do not have it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Column {
    /// The least value of each bucket.
    #[schemars(with = "Vec<Option<f64>>")]
    pub low: Vec<f64>,
    /// The greatest.
    #[schemars(with = "Vec<Option<f64>>")]
    pub high: Vec<f64>,
    /// The mean.
    #[schemars(with = "Vec<Option<f64>>")]
    pub mean: Vec<f64>,
    /// The last.
    #[schemars(with = "Vec<Option<f64>>")]
    pub last: Vec<f64>,
}

/// Takes in a log line by line.
#[derive(Debug, Default)]
pub(crate) struct Curve {
    after: Option<u64>,
    steps: StepColumns,
    last: Option<EventLine>,
    evals: VecDeque<EventLine>,
    samples: VecDeque<EventLine>,
    others: VecDeque<EventLine>,
    /// By kind, what may have left the lists above.
    latest: BTreeMap<u8, EventLine>,
}

impl Curve {
    /// Takes in the next line.
    pub fn note(&mut self, line: EventLine) {
        self.after = Some(line.seq);
        let (list, most) = match &line.event {
            TrainEvent::Step(stats) => {
                self.steps.add(stats);
                self.last = Some(line);
                return;
            }
            // Told often, and only how it is now matters.
            TrainEvent::Memory { .. } | TrainEvent::Download(_) => {
                self.latest.insert(kind(&line.event), line);
                return;
            }
            TrainEvent::Eval { .. } => {
                self.evals.push_back(line);
                if self.evals.len() > MOST_EVALS {
                    thin(&mut self.evals);
                }
                return;
            }
            TrainEvent::Sample { .. } => (&mut self.samples, MOST_SAMPLES),
            _ => (&mut self.others, MOST_OTHERS),
        };
        list.push_back(line);
        if list.len() > most
            && let Some(oldest) = list.pop_front()
        {
            self.latest.insert(kind(&oldest.event), oldest);
        }
    }

    /// What has been taken in.
    pub fn told(&self) -> RunCurve {
        let lists = [&self.evals, &self.samples, &self.others].into_iter().flatten();
        let mut events: Vec<EventLine> = lists.chain(self.latest.values()).cloned().collect();
        events.sort_unstable_by_key(|line| line.seq);
        RunCurve { after: self.after, steps: self.steps.clone(), last: self.last.clone(), events }
    }
}

/// Events of different kinds have different numbers.
fn kind(event: &TrainEvent) -> u8 {
    match event {
        TrainEvent::Started { .. } => 0,
        TrainEvent::Phase { .. } => 1,
        TrainEvent::Download(_) => 2,
        TrainEvent::Prepared { .. } => 3,
        TrainEvent::Loaded { .. } => 4,
        TrainEvent::Memory { .. } => 5,
        TrainEvent::Checkpoint { .. } => 6,
        TrainEvent::Warning { .. } => 7,
        TrainEvent::Stopped { .. } => 8,
        TrainEvent::Finished { .. } => 9,
        _ => u8::MAX,
    }
}

/// Every second evaluation, the first, the best and the last in any case.
fn thin(evals: &mut VecDeque<EventLine>) {
    let loss = |line: &EventLine| match &line.event {
        TrainEvent::Eval { metrics, .. } => metrics.get("eval_loss").copied().unwrap_or(f64::INFINITY),
        _ => f64::INFINITY,
    };
    let best = evals.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).map(|line| line.seq);
    let last = evals.back().map(|line| line.seq);
    let mut at = 0;
    evals.retain(|line| {
        at += 1;
        at % 2 == 1 || Some(line.seq) == best || Some(line.seq) == last
    });
}

impl StepColumns {
    fn add(&mut self, stats: &StepStats) {
        // A resumed run does the steps behind its checkpoint again: what was measured last counts.
        while self.step.last().is_some_and(|&last| last >= stats.step) {
            self.pop();
        }
        self.stride = self.stride.max(1);
        if self.step.len() == CAPACITY && self.held.last().is_some_and(|&held| held >= self.stride) {
            self.halve();
        }
        let joins = self.held.last().is_some_and(|&held| held < self.stride);
        if joins {
            self.pop_place();
        }
        let held = if joins { self.held.pop().unwrap_or(0) } else { 0 };
        self.step.push(stats.step);
        self.epoch.push(stats.epoch);
        self.elapsed_ms.push(stats.elapsed_ms);
        self.held.push(held + 1);
        let rate = if stats.step_ms > 0.0 { stats.tokens as f64 * 1000.0 / stats.step_ms } else { 0.0 };
        let fixed = [
            ("loss", stats.loss),
            ("learning_rate", stats.learning_rate),
            ("grad_norm", stats.grad_norm),
            ("tokens_per_second", rate),
        ];
        let metrics = stats.metrics.iter().map(|(name, value)| (name.as_str(), *value));
        let at = self.step.len() - 1;
        for (name, value) in fixed.into_iter().chain(metrics) {
            match self.columns.get_mut(name) {
                Some(column) => column.add(at, value, held),
                None => self.columns.entry(name.to_owned()).or_default().add(at, value, held),
            }
        }
        // A metric that this step does not have.
        for column in self.columns.values_mut() {
            column.fill(at + 1);
        }
    }

    fn pop_place(&mut self) {
        self.step.pop();
        self.epoch.pop();
        self.elapsed_ms.pop();
    }

    fn pop(&mut self) {
        self.pop_place();
        self.held.pop();
        for column in self.columns.values_mut() {
            column.lists().into_iter().for_each(|list| list.truncate(self.step.len()));
        }
    }

    fn halve(&mut self) {
        for column in self.columns.values_mut() {
            column.halve(&self.held);
        }
        every_second(&mut self.step);
        every_second(&mut self.epoch);
        every_second(&mut self.elapsed_ms);
        self.held = self.held.chunks(2).map(|pair| pair.iter().sum()).collect();
        self.stride *= 2;
    }
}

impl Column {
    fn lists(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.low, &mut self.high, &mut self.mean, &mut self.last]
    }

    fn fill(&mut self, length: usize) {
        if self.mean.len() < length {
            self.lists().into_iter().for_each(|list| list.resize(length, f64::NAN));
        }
    }

    /// Takes a value into the bucket at `at`, which stands for `held` steps before it.
    fn add(&mut self, at: usize, value: f64, held: u32) {
        self.fill(at + 1);
        let (Some(low), Some(high), Some(mean), Some(last)) =
            (self.low.get_mut(at), self.high.get_mut(at), self.mean.get_mut(at), self.last.get_mut(at))
        else {
            return;
        };
        let first = held == 0 || mean.is_nan();
        *low = if first { value } else { low.min(value) };
        *high = if first { value } else { high.max(value) };
        *mean = if first { value } else { *mean + (value - *mean) / f64::from(held + 1) };
        *last = value;
    }

    /// Makes one bucket of each two; `held` tells how many steps each of them stands for.
    fn halve(&mut self, held: &[u32]) {
        let both = |list: &[f64], of: fn(f64, f64) -> f64| -> Vec<f64> {
            // A bucket without the value counts for nothing, which is what `min` and `max` make of NaN.
            list.chunks(2).map(|pair| pair.iter().copied().reduce(of).unwrap_or(f64::NAN)).collect()
        };
        self.low = both(&self.low, f64::min);
        self.high = both(&self.high, f64::max);
        self.last = both(&self.last, |a, b| if b.is_nan() { a } else { b });
        let weighted = |(values, held): (&[f64], &[u32])| {
            let known = values.iter().zip(held).filter(|(value, _)| !value.is_nan());
            let (sum, count) = known.fold((0.0, 0.0), |(sum, count), (value, held)| {
                (sum + value * f64::from(*held), count + f64::from(*held))
            });
            if count > 0.0 { sum / count } else { f64::NAN }
        };
        self.mean = self.mean.chunks(2).zip(held.chunks(2)).map(weighted).collect();
    }
}

fn every_second<T: Copy>(list: &mut Vec<T>) {
    *list = list.chunks(2).filter_map(|pair| pair.last().copied()).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> EventLine {
        let loss = 2.0 + (step as f64 * 0.7).sin();
        let metrics =
            if step > 5000 { BTreeMap::from([("kl".to_owned(), step as f64)]) } else { BTreeMap::new() };
        let stats = StepStats {
            step,
            total_steps: 20_000,
            epoch: step as f64 / 1e4,
            loss,
            learning_rate: 1e-4,
            grad_norm: 1.0,
            tokens: 100,
            trained_tokens: 50,
            step_ms: 10.0,
            elapsed_ms: step * 10,
            metrics,
        };
        line(step, TrainEvent::Step(stats))
    }

    fn line(seq: u64, event: TrainEvent) -> EventLine {
        EventLine { seq, time: "2026-01-01T00:00:00Z".into(), event }
    }

    fn lists(steps: &StepColumns) -> Vec<usize> {
        let columns =
            steps.columns.values().flat_map(|c| [c.low.len(), c.high.len(), c.mean.len(), c.last.len()]);
        columns
            .chain([steps.step.len(), steps.epoch.len(), steps.elapsed_ms.len(), steps.held.len()])
            .collect()
    }

    #[test]
    fn a_long_run_takes_a_bounded_number_of_buckets_and_loses_no_spike() {
        let mut curve = Curve::default();
        for at in 1..=20_000 {
            let mut line = step(at);
            if let TrainEvent::Step(stats) = &mut line.event
                && at == 12_345
            {
                stats.loss = 99.0;
            }
            curve.note(line);
        }
        let RunCurve { after, steps, last, events } = curve.told();
        assert_eq!((after, events.len()), (Some(20_000), 0));
        assert_eq!(last, Some(step(20_000)));
        assert_eq!((steps.stride, steps.step.len()), (8, 2500));
        assert!(lists(&steps).iter().all(|&length| length == 2500), "every list has an entry a bucket");
        assert_eq!(steps.held.iter().sum::<u32>(), 20_000, "no step is lost");
        let loss = &steps.columns["loss"];
        let highest = loss.high.iter().copied().fold(0.0, f64::max);
        assert_eq!(highest, 99.0, "a single spike stays");
        assert_eq!(steps.columns["tokens_per_second"].mean[7], 10_000.0);
        let kl = &steps.columns["kl"];
        assert!(kl.mean[600].is_nan() && kl.last[1000] == 8008.0, "a metric begins where steps have it");
        assert!((kl.mean[1000] - 8004.5).abs() < 1e-9, "the mean of its eight steps");
        let bucket = |n: usize| (n * 8 + 1..=n * 8 + 8).map(|s| 2.0 + (s as f64 * 0.7).sin());
        let (low, mean) = (bucket(100).fold(f64::MAX, f64::min), bucket(100).sum::<f64>() / 8.0);
        assert_eq!(loss.low[100], low);
        assert!((loss.mean[100] - mean).abs() < 1e-12);
        let json = serde_json::to_value(&steps).unwrap();
        assert!(json["columns"]["kl"]["mean"][0].is_null(), "what is not there is null");
    }

    #[test]
    fn steps_done_again_count_once() {
        let mut curve = Curve::default();
        (1..=6000).for_each(|at| curve.note(step(at)));
        (5001..=6000).for_each(|at| curve.note(step(at)));
        let steps = curve.told().steps;
        assert_eq!(steps.step.last(), Some(&6000));
        assert!(steps.step.windows(2).all(|two| two[0] < two[1]), "steps ascend");
        assert!(lists(&steps).iter().all(|&length| length == steps.step.len()));
        // The bucket that the cut went through is dropped as a whole.
        assert!(steps.held.iter().sum::<u32>() >= 6000 - steps.stride);
    }

    #[test]
    fn of_very_many_events_the_latest_of_each_kind_and_the_best_evaluation_stay() {
        let mut curve = Curve::default();
        let eval = |step: u64, loss: f64| TrainEvent::Eval {
            step,
            metrics: BTreeMap::from([("eval_loss".to_owned(), loss)]),
            answered_rows: None,
        };
        let phase = TrainEvent::Phase { phase: types::Phase::Training };
        curve.note(line(0, phase.clone()));
        for at in 1..=9000_u64 {
            curve.note(line(2 * at, eval(at, if at == 1234 { 0.5 } else { 1.0 })));
            curve.note(line(2 * at + 1, TrainEvent::Checkpoint { step: at, path: "c".into() }));
        }
        let events = curve.told().events;
        assert!(events.len() <= MOST_EVALS + MOST_OTHERS + 10, "{}", events.len());
        assert!(events.windows(2).all(|two| two[0].seq < two[1].seq), "in order, none twice");
        assert_eq!(events[0].event, phase, "the only one of its kind stays");
        let has = |event: TrainEvent| events.iter().any(|line| line.event == event);
        assert!(has(eval(1, 1.0)) && has(eval(1234, 0.5)) && has(eval(9000, 1.0)), "first, best and last");
    }
}
