//! What this machine has and which models fit it, in the documented shape.

use hardware::Hardware;
use serde::Serialize;
use store::STARTER;
use types::{ApiError, Profile, Task};

use crate::Api;

/// The machine and the recommendation for one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
        let home = self.store.home().path().to_owned();
        let found = crate::blocking(move || Hardware::detect(&home)).await?;
        Ok(Detected {
            status_code: 200,
            profile: found.profile,
            task,
            gpu_name: found.gpu_name,
            gpu_total_memory_gb: found.gpu_memory_gb,
            ram_total_gb: found.ram_gb,
            available_diskspace_gb: found.disk_space_gb,
            cpu_cores: found.cpu_cores,
            model_recommendation: STARTER.to_owned(),
            possible_options: vec![STARTER.to_owned()],
        })
    }
}
