//! From a base model's name to where it is: on this machine, or on the Hub with its folder-to-be.

use std::path::{Path, PathBuf};

use hub::{Hub, HubError, HubOptions, Inaccessible, ModelInfo, Tokens};
use store::{BaseModel, STARTER, StoreError, hub_cache};
use types::ApiError;

use crate::Api;

/// A base model that can be had.
#[derive(Debug, Clone)]
pub(crate) enum Reached {
    /// It is on this machine.
    Here(BaseModel),
    /// It can be downloaded into this folder.
    OnHub {
        /// The repository, as it was asked for.
        repo: String,
        /// The commit.
        sha: String,
        /// Where the download puts it.
        dir: PathBuf,
        /// Bytes that are still to come.
        missing: u64,
    },
}

impl Reached {
    /// As it was asked for.
    pub fn name(&self) -> &str {
        match self {
            Self::Here(base) => &base.name,
            Self::OnHub { repo, .. } => repo,
        }
    }

    /// Its folder, which a download makes where it is not here yet.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Here(base) => &base.dir,
            Self::OnHub { dir, .. } => dir,
        }
    }
}

/// The sentence for a custom repository that cannot be read.
fn custom_inaccessible(repo: &str, why: &dyn std::fmt::Display) -> ApiError {
    ApiError::forbidden(format!(
        "Model {repo} is not accessible. Please check if it exists and you have permissions. ({why})"
    ))
}

impl Api {
    /// A client of the Hub as the settings and the environment say.
    pub fn hub(&self) -> Result<Hub, ApiError> {
        let settings = self.store.settings()?;
        let environment = hub::Environment::read();
        let mut options = HubOptions::from_environment(&environment, self.tokens.clone());
        self.offline.set(environment.offline || settings.offline);
        options.offline = self.offline.clone();
        if let Some(endpoint) = settings.hub_endpoint {
            options.endpoint = endpoint;
        }
        Ok(Hub::new(options)?)
    }

    /// Switches offline mode as a setting says, for what is under way too. The environment's word stands.
    pub(crate) fn set_offline(&self, setting: bool) {
        self.offline.set(setting || hub::Environment::read().offline);
    }

    /// The access token of the Hub and where it is kept.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Finds a base model on this machine, else on the Hub.
    ///
    /// # Errors
    /// 403 for one that cannot be reached, 400 for a folder that lacks a file, 500 for a Hub that fails.
    pub(crate) async fn reach(&self, name: &str) -> Result<Reached, ApiError> {
        let missing = match BaseModel::find(name, &self.resources) {
            Ok(base) => return Ok(Reached::Here(base)),
            // Other tools leave single files of a repository in the cache.
            Err(error @ (StoreError::Inaccessible { .. } | StoreError::IncompleteModel { .. })) => error,
            Err(error) => return Err(error.into()),
        };
        let is_repository =
            name != STARTER && !Path::new(name).is_dir() && hub::check_repo_name(name).is_ok();
        let Some(cache) = hub_cache().filter(|_| is_repository) else {
            return Err(missing.into());
        };
        let refused = |why: &dyn std::fmt::Display| {
            ApiError::forbidden(format!("{} ({why})", store::inaccessible(name)))
        };
        match self.hub()?.model_info(name).await {
            Ok(info) => {
                // What cannot be loaded is told before anything is downloaded.
                let missing = info.missing_bytes(&cache, name)?;
                let sha = info.sha;
                let folder = format!("models--{}", name.replace('/', "--"));
                let dir = cache.join(folder).join("snapshots").join(&sha);
                Ok(Reached::OnHub { repo: name.to_owned(), sha, dir, missing })
            }
            Err(HubError::Inaccessible { why, .. }) => Err(refused(&why)),
            Err(error @ (HubError::Offline | HubError::TokenRefused)) => Err(refused(&error)),
            Err(error) => Err(error.into()),
        }
    }

    /// What the Hub tells of a repository that the person named.
    ///
    /// # Errors
    /// 400 for what is no repository's name, 403 with the documented sentence for one that cannot be read, 500 for a Hub
    /// that fails.
    pub(crate) async fn custom_model(&self, repo: &str) -> Result<ModelInfo, ApiError> {
        hub::check_repo_name(repo)
            .map_err(|e| ApiError::invalid(vec![types::FieldError::value("repo_name", e.to_string())]))?;
        let info = self.hub()?.model_info(repo).await.map_err(|error| match error {
            HubError::Inaccessible { why, .. } => custom_inaccessible(repo, &why),
            HubError::Offline => custom_inaccessible(repo, &error),
            HubError::TokenRefused => custom_inaccessible(repo, &Inaccessible::TokenRefused),
            other => ApiError::from(other),
        })?;
        info.download_bytes()?;
        Ok(info)
    }

    /// Keeps the choice of a model.
    pub(crate) fn choose_model(&self, name: &str, custom: bool) -> Result<(), ApiError> {
        let mut session = self.store.session()?;
        session.selected_model = Some(name.to_owned());
        session.is_custom_model = custom;
        Ok(self.store.set_session(&session)?)
    }
}
