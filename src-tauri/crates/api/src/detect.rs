//! What this machine has and which models fit it, in the documented shape.

use hardware::{Recommendation, Situation};
use schemars::JsonSchema;
use serde::Serialize;
use types::{ApiError, Profile, Task};

use crate::Api;

/// The machine and the recommendation for one task.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Detected {
    /// Always 200.
    pub status_code: u16,
    /// The class of machine.
    pub profile: Profile,
    /// The task that the recommendation is for.
    pub task: Task,
    /// The GPU's name.
    pub gpu_name: String,
    /// Its memory in GB; 0 without one.
    pub gpu_total_memory_gb: f64,
    /// Memory in GB.
    pub ram_total_gb: f64,
    /// Free space in GB where the app's data lies.
    pub available_diskspace_gb: f64,
    /// Processor cores.
    pub cpu_cores: usize,
    /// The model to start with.
    pub model_recommendation: String,
    /// All models that fit.
    pub possible_options: Vec<String>,
}

impl Api {
    /// Looks at the machine.
    pub async fn detect(&self, task: Task) -> Result<Detected, ApiError> {
        let found = self.hardware().await?;
        let models = self.recommend(task).await?;
        Ok(Detected {
            status_code: 200,
            profile: found.profile,
            task,
            gpu_name: found.gpu_name,
            gpu_total_memory_gb: found.gpu_memory_gb,
            ram_total_gb: found.ram_gb,
            available_diskspace_gb: found.disk_space_gb,
            cpu_cores: found.cpu_cores,
            model_recommendation: models.recommended,
            possible_options: models.possible.into_iter().map(|possible| possible.model.name).collect(),
        })
    }

    /// Models for a task that this version trains and this machine holds.
    pub async fn recommend(&self, task: Task) -> Result<Recommendation, ApiError> {
        let hardware = self.hardware().await?;
        let offline = self.hub()?.offline();
        let cached = crate::blocking(store::cached_repositories).await??;
        let cached: Vec<String> =
            cached.into_iter().filter(|found| found.base_model.is_some()).map(|found| found.name).collect();
        let situation = Situation { free: hardware.free(), offline, cached: &cached };
        Ok(hardware::recommend(task, &hardware, situation))
    }
}
