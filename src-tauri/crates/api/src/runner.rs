//! Runs in the background: downloading what they need, following their engines, and remembering how those ended.
//!
//! How far a run is stands in its event log, which every process can read. Kept here is only what no log can tell: that
//! there is news, which downloads are this process's own, and why an engine ended that had no last word.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hub::Progress;
use store::{BaseModel, Run, RunStatus};
use tokio::sync::Notify;
use types::{
    ApiError, DownloadProgress, JobFolder, Phase, RunSpec, Task, TrainEvent, TrainingConfig, engine::Control,
    event_log::EventLog, files,
};

use crate::{
    Api, Topic,
    base::Reached,
    run::{ActiveRun, give},
};

/// How often a run that another process started is looked at until its engine is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often a run's steps are announced at most.
const STEPS_ANNOUNCED: Duration = Duration::from_secs(1);

/// How often the progress of a download is told at most.
const DOWNLOAD_TOLD: Duration = Duration::from_millis(500);

/// How long the last words of an engine that is gone are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What this process knows of the runs that it started.
#[derive(Default)]
pub(crate) struct Runner {
    news: Notify,
    known: Mutex<HashMap<String, Known>>,
    /// Runs that are thrown away and not gone yet.
    discarded: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Known {
    /// Told to end the engine or the download at once.
    kill: Arc<Notify>,
    at_work: bool,
    /// Whether its engine was started, which does without this process.
    launched: bool,
    downloading: bool,
    /// Why it ended, where it did without a word.
    end: Option<String>,
}

impl Runner {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Each change is a single assignment: a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn discarded(&self) -> MutexGuard<'_, HashSet<String>> {
        self.discarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, job_id: &str) -> Arc<Notify> {
        let known = Known { at_work: true, ..Known::default() };
        let kill = Arc::clone(&known.kill);
        self.known().insert(job_id.to_owned(), known);
        kill
    }

    fn end(&self, job_id: &str, why: Option<String>) {
        if let Some(known) = self.known().get_mut(job_id) {
            (known.at_work, known.downloading, known.end) = (false, false, why);
        }
        self.news.notify_waiters();
    }
}

impl Api {
    /// Starts a run and follows it in the background. A model that is not on this machine is downloaded first.
    ///
    /// # Errors
    /// As [`Api::start_training`].
    pub async fn start_in_background(self: &Arc<Self>, config: TrainingConfig) -> Result<String, ApiError> {
        self.refuse_unsupported(&config).await?;
        self.refuse_second_run()?;
        let base = self.reach(&config.model_name).await?;
        let task = config.task;
        // Training needs the memory more than an idle conversation does.
        self.playground.unload_if_idle().await;
        let job_id = match &base {
            Reached::Here(_) => {
                let run = self.start_training(config).await?;
                let job_id = run.job_id().to_owned();
                self.follow(run);
                job_id
            }
            Reached::OnHub { repo, sha, .. } => {
                let (repo, sha) = (repo.clone(), sha.clone());
                let checked = self.check_run(config, base).await?;
                let gate = self.gate().await?;
                self.refuse_second_run()?;
                let (spec, _) = self.reserve(checked)?;
                let job_id = spec.job_id.clone();
                self.download_and_run(gate, spec, repo, sha)?;
                self.note_begun(&job_id);
                job_id
            }
        };
        self.store.set_current_run(Some(&job_id))?;
        self.note_task(task)?;
        self.announce(Topic::Runs, job_id.as_str());
        Ok(job_id)
    }

    /// Keeps the task as the one that was chosen last.
    pub(crate) fn note_task(&self, task: Task) -> Result<(), ApiError> {
        let mut session = self.store.session()?;
        session.task = Some(task.to_string());
        Ok(self.store.set_session(&session)?)
    }

    /// Takes up a run in the background. A model that is no more on this machine is downloaded again.
    ///
    /// # Errors
    /// As [`Api::resume`].
    pub async fn resume_in_background(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        let base = self.base_of_run(job_id).await?;
        let gate = self.gate().await?;
        self.take_up(gate, job_id, base).await
    }

    /// Where the base model of a run comes from now.
    pub(crate) async fn base_of_run(&self, job_id: &str) -> Result<Reached, ApiError> {
        let spec = self.store.run_spec(job_id)?;
        // A download that was broken off leaves a folder with some of the files.
        if let Ok(base) = BaseModel::find(&spec.base_dir.to_string_lossy(), &self.resources) {
            return Ok(Reached::Here(base));
        }
        match self.reach(&spec.config.model_name).await? {
            Reached::OnHub { repo, missing, .. } => {
                // The very commit that the run began with, which its folder is named after.
                let sha = spec.base_dir.file_name().map(|name| name.to_string_lossy().into_owned());
                Ok(Reached::OnHub { repo, sha: sha.unwrap_or_default(), dir: spec.base_dir, missing })
            }
            Reached::Here(base) => {
                let (was, now) = (spec.base_dir.display(), base.dir.display());
                let text = format!("the base model of {job_id} was at {was} and is now at {now}");
                Err(ApiError::bad_request(text))
            }
        }
    }

    /// Has an engine take up a run, and follows it.
    pub(crate) async fn take_up(
        self: &Arc<Self>,
        gate: File,
        job_id: &str,
        base: Reached,
    ) -> Result<(), ApiError> {
        let spec = self.resumable(job_id)?;
        self.playground.unload_if_idle().await;
        match base {
            Reached::Here(_) => {
                let run = ActiveRun::launch(Arc::clone(&self.store), &self.launcher, spec)?;
                self.follow(run.started(gate).await?);
            }
            Reached::OnHub { repo, sha, .. } => self.download_and_run(gate, spec, repo, sha)?,
        }
        self.note_begun(job_id);
        self.store.set_current_run(Some(job_id))?;
        self.announce(Topic::Runs, job_id);
        Ok(())
    }

    /// Throws a run away: ends it if it is under way, and deletes its folder once its engine is gone.
    ///
    /// # Errors
    /// 404 for an unknown run, 500 when its folder cannot be deleted.
    pub async fn discard(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        let running = self.store.run(job_id)?.status == RunStatus::Running;
        if running && !self.kill(job_id) {
            give(Control::Pause, &self.store.home().run(job_id)?)?;
        }
        let (api, id) = (Arc::clone(self), job_id.to_owned());
        let deleted = async move {
            while api.store.run(&id)?.status == RunStatus::Running {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let store = Arc::clone(&api.store);
            let folder = id.clone();
            crate::blocking(move || store.delete_run(&folder)).await??;
            api.announce(Topic::Runs, id.as_str());
            Ok::<_, ApiError>(())
        };
        match running {
            false => deleted.await,
            // The engine of another process finishes its step first, which can take a while.
            true => {
                self.runner.discarded().insert(job_id.to_owned());
                let (api, id) = (Arc::clone(self), job_id.to_owned());
                tokio::spawn(async move {
                    let deleted = deleted.await;
                    api.runner.discarded().remove(&id);
                    api.runner.news.notify_waiters();
                    deleted
                });
                Ok(())
            }
        }
    }

    /// Ends a run of this process at once; false where it has none of this id.
    fn kill(&self, job_id: &str) -> bool {
        let known = self.runner.known();
        let mine = known.get(job_id).filter(|known| known.at_work);
        if let Some(known) = mine {
            known.kill.notify_one();
        }
        mine.is_some()
    }

    /// Why a run ended that had no last word.
    pub(crate) async fn why_it_ended(&self, job_id: &str) -> String {
        // An engine's lock is free a moment before its end is read.
        tokio::time::timeout(LAST_WORDS, self.let_go(job_id)).await.ok();
        let end = self.runner.known().get(job_id).and_then(|known| known.end.clone());
        end.unwrap_or_else(|| {
            "The training engine ended without a word: it was killed, ran out of memory, or the power was cut. The run \
             can be resumed at its last checkpoint."
                .into()
        })
    }

    /// Ends when this process does not follow the run any more.
    async fn let_go(&self, job_id: &str) {
        loop {
            let news = self.news();
            if !self.follows(job_id) {
                return;
            }
            news.await;
        }
    }

    /// Whether this process throws the run away: how it ended is of no interest any more.
    pub(crate) fn discards(&self, job_id: &str) -> bool {
        self.runner.discarded().contains(job_id)
    }

    /// The run as it stands for a person: between a download and its engine, and until an engine's end is read, nobody
    /// holds its lock, and it goes on all the same.
    pub(crate) fn as_followed(&self, run: Run) -> Run {
        match run.status {
            RunStatus::Interrupted if self.follows(&run.row.job_id) => {
                Run { status: RunStatus::Running, ..run }
            }
            _ => run,
        }
    }

    /// Whether this process follows the run.
    pub(crate) fn follows(&self, job_id: &str) -> bool {
        self.runner.known().get(job_id).is_some_and(|known| known.at_work)
    }

    /// Whether this process follows any run.
    pub(crate) fn is_at_work(&self) -> bool {
        self.runner.known().values().any(|known| known.at_work)
    }

    /// Wakes everybody who waits for news.
    pub(crate) fn tell_news(&self) {
        self.runner.news.notify_waiters();
    }

    /// Whether a run waits for its download, which takes no orders but to end.
    pub(crate) fn end_download(&self, job_id: &str) -> bool {
        let downloading = self.runner.known().get(job_id).is_some_and(|known| known.downloading);
        downloading && self.kill(job_id)
    }

    /// Ends when a run of this process has told something after this call.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + Send + '_ {
        let mut news = Box::pin(self.runner.news.notified());
        // From here on, not from the first poll.
        news.as_mut().enable();
        news
    }

    /// Ends when every run that this process started is over or has an engine, which outlives this process, and every
    /// run that it throws away is gone.
    pub async fn handed_over(&self) {
        loop {
            let news = self.news();
            let handed_over = self.runner.known().values().all(|known| known.launched || !known.at_work);
            if handed_over && self.runner.discarded().is_empty() {
                return;
            }
            news.await;
        }
    }

    fn follow(self: &Arc<Self>, run: ActiveRun) {
        let kill = self.runner.begin(run.job_id());
        let api = Arc::clone(self);
        tokio::spawn(async move { api.follow_to_the_end(run, kill).await });
    }

    async fn follow_to_the_end(&self, mut run: ActiveRun, kill: Arc<Notify>) {
        if let Some(known) = self.runner.known().get_mut(run.job_id()) {
            known.launched = true;
        }
        self.runner.news.notify_waiters();
        let mut announced = None;
        let end = loop {
            tokio::select! {
                event = run.next() => match event {
                    Ok(Some(line)) => {
                        self.runner.news.notify_waiters();
                        self.announce_event(&run, &line.event, &mut announced);
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                },
                () = kill.notified() => {
                    // It may have ended already, which is what is wanted.
                    run.kill().await.ok();
                }
            }
        };
        self.end_run(run.job_id(), end);
    }

    fn announce_event(&self, run: &ActiveRun, event: &TrainEvent, announced: &mut Option<Instant>) {
        let is_step = matches!(event, TrainEvent::Step(_));
        if is_step && announced.is_some_and(|at| at.elapsed() < STEPS_ANNOUNCED) {
            return;
        }
        *announced = Some(Instant::now());
        self.announce(Topic::Runs, run.job_id());
        if matches!(event, TrainEvent::Finished { result, .. } if result.success) {
            self.announce(Topic::Models, run.spec().model_id.as_str());
        }
    }

    fn end_run(&self, job_id: &str, why: Option<String>) {
        self.runner.end(job_id, why);
        self.announce(Topic::Runs, job_id);
    }

    /// Holds the run's lock in place of its engine until the model is here.
    fn download_and_run(
        self: &Arc<Self>,
        gate: File,
        spec: RunSpec,
        repo: String,
        sha: String,
    ) -> Result<(), ApiError> {
        let job = self.store.home().run(&spec.job_id)?;
        let path = job.lock();
        let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", path.display()));
        let lock = files::open_lock(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        // What was ordered before was not meant for this.
        Control::withdraw(&job).map_err(failed)?;
        drop(gate);
        let kill = self.runner.begin(&spec.job_id);
        self.note_downloading(&spec.job_id, true);
        let api = Arc::clone(self);
        tokio::spawn(async move {
            let job_id = spec.job_id.clone();
            let ended = "The download was ended. What has arrived is kept.";
            let downloaded = tokio::select! {
                downloaded = api.download(&job_id, &repo, &sha) => Some(downloaded),
                () = kill.notified() => None,
                () = ordered(&job) => None,
            };
            let launched = match downloaded {
                Some(Ok(())) => api.launch_in_place_of(lock, spec).await,
                Some(Err(error)) => {
                    // It stays told when this process is gone. Where not even that can be written, the error is told all the same.
                    EventLog::open(&job)
                        .and_then(|mut log| log.append(TrainEvent::halted(&job, error.to_string())))
                        .ok();
                    drop(lock);
                    Err(error)
                }
                None => {
                    api.note_paused(&job);
                    drop(lock);
                    Err(ApiError::bad_request(ended))
                }
            };
            match launched {
                Ok(run) => api.follow_to_the_end(run, kill).await,
                Err(error) => api.end_run(&job_id, Some(error.to_string())),
            }
        });
        Ok(())
    }

    async fn download(&self, job_id: &str, repo: &str, sha: &str) -> Result<(), ApiError> {
        let cache =
            store::hub_cache().ok_or_else(|| ApiError::internal("no folder is known for downloads"))?;
        let job = self.store.home().run(job_id)?;
        let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", job.events().display()));
        // This process holds the run's lock, so the log is its to write.
        let mut log = EventLog::open(&job).map_err(failed)?;
        log.append(TrainEvent::Phase { phase: Phase::Downloading }).map_err(failed)?;
        let mut told: Option<Instant> = None;
        let mut tell = |Progress { file, bytes_done, bytes_total }: Progress| {
            if told.is_some_and(|at| at.elapsed() < DOWNLOAD_TOLD) && bytes_done < bytes_total {
                return;
            }
            told = Some(Instant::now());
            let progress = DownloadProgress { file, bytes: bytes_done, total_bytes: bytes_total };
            // How far it is can be lost; a disk that is full ends the download itself.
            log.append(TrainEvent::Download(progress)).ok();
            self.runner.news.notify_waiters();
            self.announce(Topic::Runs, job_id);
        };
        self.hub()?.download(repo, sha, &cache, &mut tell).await?;
        // What is looked for by its name, here and by other tools, is the main branch.
        if BaseModel::find(repo, &self.resources).is_err() {
            hub::note_main(&cache, repo, sha)?;
        }
        self.note_downloading(job_id, false);
        Ok(())
    }

    /// Says in the log of a run whose download was ended that it was ended on purpose. Asked with the run's lock held.
    fn note_paused(&self, job: &JobFolder) {
        let job_id = job.path().file_name().unwrap_or_default().to_string_lossy();
        let step = self.store.run(&job_id).map_or(0, |run| run.step);
        // Without the word it counts as interrupted, and can be taken up all the same.
        EventLog::open(job)
            .and_then(|mut log| log.append(TrainEvent::Stopped { step, checkpoint: None }))
            .ok();
    }

    fn note_downloading(&self, job_id: &str, downloading: bool) {
        if let Some(known) = self.runner.known().get_mut(job_id) {
            known.downloading = downloading;
        }
        self.runner.news.notify_waiters();
        self.announce(Topic::Runs, job_id);
    }

    /// Under the gate, so that no other run can begin between this process's hold of the lock and the engine's.
    async fn launch_in_place_of(&self, lock: File, spec: RunSpec) -> Result<ActiveRun, ApiError> {
        let gate = self.gate().await?;
        drop(lock);
        ActiveRun::launch(Arc::clone(&self.store), &self.launcher, spec)?.started(gate).await
    }
}

/// Ends when a process orders a run that still waits for its download to pause or to finish: there is nothing to keep.
async fn ordered(job: &JobFolder) {
    // One that cannot be read or removed is looked at again.
    while !matches!(Control::take(job), Ok(Some(_))) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
