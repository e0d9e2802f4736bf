//! Runs in the background: downloading what they need, following their engines, and remembering how those ended.
//!
//! How far a run is stands in its event log, which every process can read. Kept here is only what no log can tell: that
//! there is news, how far a download is, and why an engine ended that had no last word.

use std::{
    collections::HashMap,
    fs::File,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hub::Progress;
use store::{BaseModel, RunStatus};
use tokio::sync::Notify;
use types::{ApiError, RunSpec, TrainingConfig, engine::Control};

use crate::{Api, base::Reached, run::ActiveRun};

/// How often a run that another process started is looked at until its engine is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the last words of an engine that is gone are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What this process knows of the runs that it started.
#[derive(Default)]
pub(crate) struct Runner {
    news: Notify,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Default)]
struct Known {
    /// Told to end the engine or the download at once.
    kill: Arc<Notify>,
    at_work: bool,
    /// Whether its engine was started, which does without this process.
    launched: bool,
    download: Option<Progress>,
    /// Why it ended, where it did without a word.
    end: Option<String>,
}

impl Runner {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Each change is a single assignment: a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, job_id: &str) -> Arc<Notify> {
        let known = Known { at_work: true, ..Known::default() };
        let kill = Arc::clone(&known.kill);
        self.known().insert(job_id.to_owned(), known);
        kill
    }

    fn end(&self, job_id: &str, why: Option<String>) {
        if let Some(known) = self.known().get_mut(job_id) {
            (known.at_work, known.download, known.end) = (false, None, why);
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
        let refused = config.unsupported();
        if !refused.is_empty() {
            return Err(ApiError::invalid(refused));
        }
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
                let (spec, _) = self.reserve(checked)?;
                let job_id = spec.job_id.clone();
                self.download_and_run(gate, spec, repo, sha)?;
                job_id
            }
        };
        self.store.set_current_run(Some(&job_id))?;
        let mut session = self.store.session()?;
        session.task = Some(task.to_string());
        self.store.set_session(&session)?;
        Ok(job_id)
    }

    /// Takes up a run in the background. A model that is no more on this machine is downloaded again.
    ///
    /// # Errors
    /// As [`Api::resume`].
    pub async fn resume_in_background(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        let spec = self.store.run_spec(job_id)?;
        self.playground.unload_if_idle().await;
        // A download that was broken off leaves a folder with some of the files.
        let is_here = BaseModel::find(&spec.base_dir.to_string_lossy(), &self.resources).is_ok();
        if is_here {
            let run = self.resume(job_id).await?;
            self.follow(run);
        } else {
            match self.reach(&spec.config.model_name).await? {
                Reached::OnHub { repo, .. } => {
                    // The very commit that the run began with, which its folder is named after.
                    let sha = spec.base_dir.file_name().map(|name| name.to_string_lossy().into_owned());
                    let gate = self.gate().await?;
                    let spec = self.resumable(job_id)?;
                    self.download_and_run(gate, spec, repo, sha.unwrap_or_default())?;
                }
                Reached::Here(base) => {
                    let (was, now) = (spec.base_dir.display(), base.dir.display());
                    let text = format!("the base model of {job_id} was at {was} and is now at {now}");
                    return Err(ApiError::bad_request(text));
                }
            }
        }
        Ok(self.store.set_current_run(Some(job_id))?)
    }

    /// Throws a run away: ends it if it is under way, and deletes its folder once its engine is gone.
    ///
    /// # Errors
    /// 404 for an unknown run, 500 when its folder cannot be deleted.
    pub async fn discard(self: &Arc<Self>, job_id: &str) -> Result<(), ApiError> {
        let running = self.store.run(job_id)?.status == RunStatus::Running;
        if running && !self.kill(job_id) {
            self.order(job_id, Control::Pause)?;
        }
        let (api, id) = (Arc::clone(self), job_id.to_owned());
        let deleted = async move {
            while api.store.run(&id)?.status == RunStatus::Running {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let store = Arc::clone(&api.store);
            crate::blocking(move || store.delete_run(&id)).await??;
            Ok::<_, ApiError>(())
        };
        match running {
            false => deleted.await,
            // The engine of another process finishes its step first, which can take a while.
            true => {
                tokio::spawn(deleted);
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
            if !self.runner.known().get(job_id).is_some_and(|known| known.at_work) {
                return;
            }
            news.await;
        }
    }

    /// How far the download is that a run waits for.
    pub(crate) fn download_of(&self, job_id: &str) -> Option<Progress> {
        self.runner.known().get(job_id).and_then(|known| known.download.clone())
    }

    /// Whether a run waits for its download, which takes no orders but to end.
    pub(crate) fn end_download(&self, job_id: &str) -> bool {
        self.download_of(job_id).is_some() && self.kill(job_id)
    }

    /// Ends when a run of this process has told something after this call.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + Send + '_ {
        let mut news = Box::pin(self.runner.news.notified());
        // From here on, not from the first poll.
        news.as_mut().enable();
        news
    }

    /// Ends when every run that this process started is over or has an engine, which outlives this process.
    pub async fn handed_over(&self) {
        loop {
            let news = self.news();
            if self.runner.known().values().all(|known| known.launched || !known.at_work) {
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
        let end = loop {
            tokio::select! {
                event = run.next() => match event {
                    Ok(Some(_)) => self.runner.news.notify_waiters(),
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                },
                () = kill.notified() => {
                    // It may have ended already, which is what is wanted.
                    run.kill().await.ok();
                }
            }
        };
        self.runner.end(run.job_id(), end);
    }

    /// Holds the run's lock in place of its engine until the model is here.
    fn download_and_run(
        self: &Arc<Self>,
        gate: File,
        spec: RunSpec,
        repo: String,
        sha: String,
    ) -> Result<(), ApiError> {
        let path = self.store.home().run(&spec.job_id)?.lock();
        let failed = |e: std::io::Error| ApiError::internal(format!("{}: {e}", path.display()));
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        drop(gate);
        let kill = self.runner.begin(&spec.job_id);
        let api = Arc::clone(self);
        tokio::spawn(async move {
            let job_id = spec.job_id.clone();
            let downloaded = tokio::select! {
                downloaded = api.download(&job_id, &repo, &sha) => downloaded,
                () = kill.notified() => Err(ApiError::bad_request("The download was ended. What has arrived is kept.")),
            };
            let launched = match downloaded {
                Ok(()) => api.launch_in_place_of(lock, spec).await,
                Err(error) => {
                    drop(lock);
                    Err(error)
                }
            };
            match launched {
                Ok(run) => api.follow_to_the_end(run, kill).await,
                Err(error) => api.runner.end(&job_id, Some(error.to_string())),
            }
        });
        Ok(())
    }

    async fn download(&self, job_id: &str, repo: &str, sha: &str) -> Result<(), ApiError> {
        let cache =
            store::hub_cache().ok_or_else(|| ApiError::internal("no folder is known for downloads"))?;
        let mut told = |progress: Progress| {
            if let Some(known) = self.runner.known().get_mut(job_id) {
                known.download = Some(progress);
            }
        };
        told(Progress { bytes_done: 0, bytes_total: 0, file: String::new() });
        self.hub()?.download(repo, sha, &cache, &mut told).await?;
        // What is looked for by its name, here and by other tools, is the main branch.
        if BaseModel::find(repo, &self.resources).is_err() {
            hub::note_main(&cache, repo, sha)?;
        }
        if let Some(known) = self.runner.known().get_mut(job_id) {
            known.download = None;
        }
        Ok(())
    }

    /// Under the gate, so that no other run can begin between this process's hold of the lock and the engine's.
    async fn launch_in_place_of(&self, lock: File, spec: RunSpec) -> Result<ActiveRun, ApiError> {
        let gate = self.gate().await?;
        drop(lock);
        ActiveRun::launch(Arc::clone(&self.store), self.launcher.as_ref(), spec)?.started(gate).await
    }
}
