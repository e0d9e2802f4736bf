//! The dry run: two real steps of a run, measured by an engine, and nothing kept.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};
use types::{
    ApiError, JobFolder, TrainingConfig,
    engine::{ProbeLine, ProbeReport},
    files,
};

use crate::{Api, base::Reached, run::describe};

/// Ends the engine when the caller goes away.
struct Probe(Child);

impl Drop for Probe {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        self.0.start_kill().ok();
    }
}

impl Api {
    /// Does two real steps. The model must be on this machine.
    ///
    /// # Errors
    /// As for starting the run; 400 with the engine's words where the steps fail.
    pub(crate) async fn probe(&self, config: TrainingConfig) -> Result<ProbeReport, ApiError> {
        let base = Reached::Here(store::BaseModel::find(&config.model_name, &self.resources)?);
        self.playground.unload_if_idle().await;
        let checked = self.check_run(config, base).await?;
        let folder = tempfile::Builder::new()
            .prefix(".probe-")
            .tempdir_in(self.store.home().runs())
            .map_err(|e| ApiError::internal(format!("the dry run has no folder: {e}")))?;
        let job = JobFolder::new(folder.path());
        let spec = checked.spec("train_0".into(), "model_0".into(), folder.path().join("model"));
        files::write_json(&job.run_json(), &spec).map_err(ApiError::internal)?;
        let failed = |e: std::io::Error| ApiError::internal(format!("the dry run failed: {e}"));
        let arguments = ["probe".as_ref(), folder.path().as_os_str()];
        let mut probe = Probe(self.launcher.launch(&arguments, Stdio::null()).map_err(failed)?);
        let Some(output) = probe.0.stdout.take() else {
            return Err(ApiError::internal("the dry run has no standard output"));
        };
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            match serde_json::from_str(&line) {
                Ok(ProbeLine::Report(report)) => {
                    probe.0.wait().await.map_err(failed)?;
                    return Ok(report);
                }
                Ok(ProbeLine::Error(message)) => return Err(ApiError::bad_request(message)),
                // An engine of another version may say more than this one understands.
                Ok(ProbeLine::Phase(_) | ProbeLine::Step(_)) | Err(_) => {}
            }
        }
        let status = probe.0.wait().await.map_err(failed)?;
        Err(ApiError::bad_request(format!("the dry run {}: the run would end so too", describe(status))))
    }
}
