//! Runs that wait for their turn: putting them into the queue, and beginning the next one when none is under way.
//!
//! Which runs wait is a file of the data folder ([`store::Queue`]). Whichever app is open begins them; where several are,
//! the gate lets one of them.

use std::{fs, sync::Arc, time::Duration};

use store::{Queue, RunStatus};
use types::{ApiError, TrainEvent, TrainingConfig, TrainingResult, event_log::EventLog, files};

use crate::{Api, Topic, job::Checked};

/// How often it is looked whether a run of another process has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a queue that cannot be read or written is left alone.
const LATER: Duration = Duration::from_secs(10);

/// Runs tell of each step: the queue is not looked at that often.
const BREATH: Duration = Duration::from_millis(100);

impl Api {
    /// Begins the runs that wait, one after the other, for as long as this process lives.
    pub(crate) fn keep_queue(self: &Arc<Self>) {
        let api = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let news = api.news();
                let pause = match api.begin_next().await {
                    Ok(true) => continue,
                    Ok(false) => LOOK_AGAIN,
                    Err(_) => LATER,
                };
                tokio::select! {
                    () = news => tokio::time::sleep(BREATH).await,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Begins the runs that wait, one after the other, until none waits or the queue is held, and no run of this process is
    /// under way.
    ///
    /// # Errors
    /// 500 when the queue cannot be read or written.
    pub async fn work_off_queue(self: &Arc<Self>) -> Result<(), ApiError> {
        loop {
            let news = self.news();
            if self.begin_next().await? {
                continue;
            }
            let queue = self.store.queue()?;
            if (queue.held || queue.runs.is_empty()) && !self.is_at_work() {
                return Ok(());
            }
            tokio::select! {
                () = news => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Checks a request in every respect and has it wait for its turn, which comes at once where no run is under way. A
    /// model that is not on this machine is downloaded then.
    ///
    /// # Errors
    /// As [`Api::start_in_background`], but for other runs.
    pub async fn queue_training(self: &Arc<Self>, config: TrainingConfig) -> Result<String, ApiError> {
        self.refuse_unsupported(&config).await?;
        let base = self.reach(&config.model_name).await?;
        let checked = self.check_settings(config, base).await?;
        let (spec, job) = self.reserve(checked)?;
        if let Err(error) = self.store.change_queue(|queue| queue.put(&spec.job_id, usize::MAX)) {
            // The folder holds nothing yet that anyone could use.
            fs::remove_dir_all(job.path()).ok();
            return Err(error.into());
        }
        self.note_task(spec.config.task)?;
        self.queue_changed();
        self.begin_at_once().await;
        Ok(spec.job_id)
    }

    /// Has a run that was stopped, was interrupted or failed wait for its turn.
    ///
    /// # Errors
    /// 404 for an unknown run, 400 for one that is under way or finished, 500 when the queue cannot be written.
    pub async fn queue_run(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        let run = self.store.run(job_id)?;
        match run.status {
            RunStatus::Queued => return Ok(()),
            RunStatus::Running => {
                return Err(ApiError::bad_request(format!("Training already in progress: {job_id}")));
            }
            RunStatus::Completed => return Err(Self::finished(&run)),
            RunStatus::Stopped | RunStatus::Interrupted | RunStatus::Failed { .. } => {}
        }
        self.store.change_queue(|queue| queue.put(job_id, usize::MAX))?;
        self.queue_changed();
        self.begin_at_once().await;
        Ok(())
    }

    /// How a run stands that was just asked for.
    pub(crate) fn begun_or_waits(&self, job_id: &str) -> Result<String, ApiError> {
        Ok(match self.store.queue()?.place(job_id) {
            Some(place) => format!("{job_id} waits at place {place} of the queue"),
            None => "Training started successfully".into(),
        })
    }

    /// Changes the queue, tells everybody, and begins the next run where that is possible now.
    pub(crate) async fn rearrange<T>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Queue) -> T,
    ) -> Result<T, ApiError> {
        let told = self.store.change_queue(change)?;
        self.queue_changed();
        self.begin_at_once().await;
        Ok(told)
    }

    /// Takes a run out of the queue. One that has never begun is nothing but settings, and is deleted.
    ///
    /// # Errors
    /// 404 for an unknown run, 400 for one that does not wait, 500 when the queue cannot be written.
    pub(crate) async fn cancel_queued(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        // Held so that no app begins it meanwhile.
        let gate = self.gate().await?;
        if self.store.run(job_id)?.status != RunStatus::Queued {
            return Err(ApiError::bad_request(format!("{job_id} does not wait in the queue")));
        }
        self.store.change_queue(|queue| queue.remove(job_id))?;
        if !self.store.home().run(job_id)?.events().exists() {
            self.store.delete_run(job_id)?;
        }
        drop(gate);
        self.queue_changed();
        Ok(())
    }

    /// The person pauses a run, and may want the computer for something else: what waits goes on waiting.
    pub(crate) fn hold_queue(&self) {
        // A pause that cannot be noted is a pause all the same.
        self.store.change_queue(|queue| queue.held = !queue.runs.is_empty()).ok();
    }

    /// A run has begun: it waits no more, and what waits behind it comes after it.
    pub(crate) fn note_begun(&self, job_id: &str) {
        let change = |queue: &mut Queue| {
            queue.remove(job_id);
            queue.held = false;
        };
        // It is under way all the same. A place that it keeps is given up when it is its turn.
        self.store.change_queue(change).ok();
    }

    /// The keeper of the queue, which may be another process, tries again what fails here.
    async fn begin_at_once(self: &Arc<Self>) {
        while let Ok(true) = self.begin_next().await {}
    }

    /// Begins the run that waits first, if none is under way; whether there may be more to do. A run that cannot be begun
    /// has failed and holds up no other.
    async fn begin_next(self: &Arc<Self>) -> Result<bool, ApiError> {
        let Some(next) = self.next_to_begin()? else { return Ok(false) };
        let begun = async {
            let base = self.base_of_run(&next).await?;
            // One that has begun already is known to fit, or has a smaller batch of its own by now.
            if !self.store.home().run(&next)?.events().exists() {
                self.check_room(&Checked::of(self.store.run_spec(&next)?, base.clone())).await?;
            }
            let gate = self.gate().await?;
            match self.next_to_begin()? {
                Some(still) if still == next => self.take_up(gate, &next, base).await.map(|()| true),
                _ => Ok(false),
            }
        };
        match begun.await {
            Ok(begun) => Ok(begun),
            Err(_) if self.store.active_run()?.is_some() => Ok(false),
            Err(error) => {
                self.fail_queued(&next, error)?;
                Ok(true)
            }
        }
    }

    /// The run whose turn it is now.
    fn next_to_begin(&self) -> Result<Option<String>, ApiError> {
        let queue = self.store.queue()?;
        // A run of this process that has just lost its engine may be about to get another.
        if queue.held || queue.runs.is_empty() || self.is_at_work() || self.store.active_run()?.is_some() {
            return Ok(None);
        }
        Ok(queue.runs.into_iter().next())
    }

    /// Notes in a run's own log why it could not be begun, and takes it out of the queue.
    fn fail_queued(&self, job_id: &str, error: ApiError) -> Result<(), ApiError> {
        let finished = self.store.run(job_id).is_ok_and(|run| run.status == RunStatus::Completed);
        if let Ok(job) = self.store.home().run(job_id)
            && !finished
            && let Ok(lock) = files::open_lock(&job.lock())
            && lock.try_lock().is_ok()
            && let Ok(mut log) = EventLog::open(&job)
        {
            let result = TrainingResult {
                success: false,
                model_id: None,
                model_path: None,
                message: "Training failed".into(),
                error: Some(error.to_string()),
            };
            // Where the disk is full it fails without a word.
            log.append(TrainEvent::Finished { result, metrics: Default::default() }).ok();
        }
        self.store.change_queue(|queue| queue.remove(job_id))?;
        self.announce(Topic::Runs, job_id);
        self.queue_changed();
        Ok(())
    }

    fn queue_changed(&self) {
        self.announce(Topic::Runs, None);
        self.tell_news();
    }
}
