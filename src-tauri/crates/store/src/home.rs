//! The data folder: where it is and what it holds.

use std::{
    fs, io,
    path::{Path, PathBuf, absolute},
};

use types::{JobFolder, ModelFolder, id};

use crate::StoreError;

/// The environment variable that moves all data to another folder.
pub const HOME_VARIABLE: &str = "MODELFORGE_HOME";

/// The data folder: `models/`, `runs/`, `datasets/`, `modelforge.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// The folder that [`HOME_VARIABLE`] names, or else the platform's folder for data, made on first use.
    pub fn open() -> Result<Self, StoreError> {
        match std::env::var_os(HOME_VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => Self::at(Path::new(&path)),
            None => {
                let dirs = directories::ProjectDirs::from("", "", "ModelForge").ok_or(StoreError::NoHome)?;
                Self::at(dirs.data_local_dir())
            }
        }
    }

    /// The data folder at `path`, made on first use.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let path = absolute(path).map_err(StoreError::io("find", path))?;
        let home = Self(path);
        for folder in [&home.0, &home.models(), &home.runs(), &home.datasets()] {
            fs::create_dir_all(folder).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => StoreError::HomeIsFile { path: folder.clone() },
                _ => StoreError::Io { doing: "make the folder", path: folder.clone(), source },
            })?;
        }
        Ok(home)
    }

    /// The folder itself, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Holds one folder a finished model.
    pub fn models(&self) -> PathBuf {
        self.0.join("models")
    }

    /// Holds one folder a run.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// Holds datasets that the app itself brought here.
    pub fn datasets(&self) -> PathBuf {
        self.0.join("datasets")
    }

    /// Holds one folder an export, once there is any.
    pub fn exports(&self) -> PathBuf {
        self.0.join("exports")
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.0.join("modelforge.db")
    }

    /// Locked from the decision to start a run until its engine holds the run's own lock.
    pub fn start_lock(&self) -> PathBuf {
        self.runs().join("start.lock")
    }

    /// The folder of the model `model_id`, whether it is there or not.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] for what is no model id, so that no id leaves the folder.
    pub fn model(&self, model_id: &str) -> Result<ModelFolder, StoreError> {
        if !id::is_valid("model", model_id) {
            return Err(StoreError::UnknownModel(model_id.to_owned()));
        }
        Ok(ModelFolder::new(self.models().join(model_id)))
    }

    /// The folder of the run `job_id`, whether it is there or not.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`] for what is no job id, so that no id leaves the folder.
    pub fn run(&self, job_id: &str) -> Result<JobFolder, StoreError> {
        if !id::is_valid("train", job_id) {
            return Err(StoreError::UnknownRun(job_id.to_owned()));
        }
        Ok(JobFolder::new(self.runs().join(job_id)))
    }

    /// The folder of the model that the run `job_id` makes, whether it is there or not.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn model_of(&self, job_id: &str) -> Result<ModelFolder, StoreError> {
        self.model(&model_id(job_id)).map_err(|_| StoreError::UnknownRun(job_id.to_owned()))
    }

    /// Reserves a new run by making its folder: its job id and the model id that goes with it.
    pub fn reserve_run(&self) -> Result<(String, String), StoreError> {
        let mut failure = None;
        let job_id = id::fresh("train", |job_id| {
            if self.models().join(model_id(job_id)).exists() {
                return true;
            }
            let folder = self.runs().join(job_id);
            match fs::create_dir(&folder) {
                Ok(()) => false,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => true,
                Err(source) => {
                    failure = Some(StoreError::Io { doing: "make the folder", path: folder, source });
                    false
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok((job_id.clone(), model_id(&job_id))),
        }
    }
}

/// The id of the model that a run makes.
fn model_id(job_id: &str) -> String {
    job_id.replacen("train", "model", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_made_with_its_parts() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(&temp.path().join("a/b")).unwrap();
        for folder in [home.models(), home.runs(), home.datasets()] {
            assert!(folder.is_dir(), "{} is made on first use", folder.display());
        }
        assert_eq!(Home::at(home.path()).unwrap(), home, "a folder that exists is taken as it is");
    }

    #[test]
    fn a_file_in_the_way_is_told_apart() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("home");
        types::files::write(&path, b"x").unwrap();
        let error = Home::at(&path).unwrap_err();
        assert!(matches!(error, StoreError::HomeIsFile { .. }), "{error:?}");
        assert!(error.to_string().contains("is a file"), "the message says what is wrong: {error}");
        assert!(Home::at(&path.join("deeper")).is_err(), "nor can a file hold the folder");
    }

    #[test]
    fn ids_never_leave_the_folder() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        for bad in ["../x", "model_../..", "", "model_1/2", "train_20240101_000000"] {
            assert!(home.model(bad).is_err(), "{bad:?} is no model id");
        }
        assert!(home.run("train_20240101_000000").is_ok() && home.run("model_1").is_err());
    }

    #[test]
    fn runs_reserved_at_once_are_different() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let ids: Vec<(String, String)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| home.reserve_run().unwrap())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut jobs: Vec<&str> = ids.iter().map(|(job, _)| job.as_str()).collect();
        jobs.sort_unstable();
        jobs.dedup();
        assert_eq!(jobs.len(), 8, "no two runs share a folder");
        for (job, model) in &ids {
            assert_eq!(
                job.strip_prefix("train"),
                model.strip_prefix("model"),
                "a run and its model go together"
            );
        }
    }
}
