//! The files that ship with the app: the starter model and the sample datasets.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use types::{Strategy, Task};

use crate::StoreError;

/// The environment variable that names the folder of bundled files.
pub const RESOURCES_VARIABLE: &str = "MODELFORGE_RESOURCES";

const SAMPLE_PREFIX: &str = "sample:";

/// The folder of bundled files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources(PathBuf);

/// A dataset that ships with the app, in two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What follows `sample:`.
    pub name: String,
    /// The first heading of its `README.md`.
    pub title: String,
    /// What it teaches, from the `Task:` line of its `README.md`.
    pub task: Task,
    /// How models learn from it, from the same line; sft where that does not say.
    pub strategy: Strategy,
    /// The rows to train on.
    pub train: PathBuf,
    /// The rows to measure on.
    pub heldout: PathBuf,
}

impl Resources {
    /// The folder that [`RESOURCES_VARIABLE`] names, or else the one installed beside the program, or else the one of
    /// the source tree that the program was built in.
    pub fn find() -> Result<Self, StoreError> {
        if let Some(path) = std::env::var_os(RESOURCES_VARIABLE).filter(|value| !value.is_empty()) {
            let path = PathBuf::from(path);
            return if path.is_dir() { Ok(Self(path)) } else { Err(StoreError::NoResources) };
        }
        let program =
            std::env::current_exe().and_then(fs::canonicalize).map_err(|_| StoreError::NoResources)?;
        Self::beside(&program).ok_or(StoreError::NoResources)
    }

    /// The folder at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn beside(program: &Path) -> Option<Self> {
        let folder = program.parent()?;
        let installed = ["resources", "../lib/ModelForge/resources", "../Resources/resources"];
        let in_tree = folder.ancestors().map(|above| above.join("src-tauri/resources"));
        installed.iter().map(|path| folder.join(path)).chain(in_tree).find(|path| path.is_dir()).map(Self)
    }

    /// The starter model's folder.
    pub fn starter(&self) -> PathBuf {
        self.0.join("starter")
    }

    /// All samples, by name.
    pub fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        let folder = self.0.join("samples");
        let mut samples = Vec::new();
        for entry in fs::read_dir(&folder).map_err(StoreError::io("read", &folder))? {
            let path = entry.map_err(StoreError::io("read", &folder))?.path();
            samples.extend(read_sample(&path));
        }
        samples.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(samples)
    }

    /// The sample that a dataset's name asks for; `None` where it is a path and no `sample:<name>`.
    pub fn sample(&self, dataset: &str) -> Result<Option<Sample>, StoreError> {
        let Some(name) = dataset.strip_prefix(SAMPLE_PREFIX) else { return Ok(None) };
        let samples = self.samples()?;
        let known = || samples.iter().map(|s| s.name.clone()).collect();
        match samples.iter().find(|s| s.name == name) {
            Some(sample) => Ok(Some(sample.clone())),
            None => Err(StoreError::UnknownSample { name: name.to_owned(), known: known() }),
        }
    }
}

fn read_sample(folder: &Path) -> Option<Sample> {
    let name = folder.file_name()?.to_str()?.to_owned();
    let readme = fs::read_to_string(folder.join("README.md")).ok()?;
    let title = readme.lines().find_map(|line| line.strip_prefix("# "))?.trim().to_owned();
    let mut facts = readme.lines().find_map(|line| line.strip_prefix("Task: "))?.split('.').map(str::trim);
    let task = Task::from_str(facts.next()?).ok()?;
    let strategy = match facts.next().and_then(|fact| fact.strip_prefix("Strategy: ")) {
        Some(name) => Strategy::from_str(name).ok()?,
        None => Strategy::Sft,
    };
    Some(Sample {
        name,
        title,
        task,
        strategy,
        train: folder.join("train.jsonl"),
        heldout: folder.join("heldout.jsonl"),
    })
}

#[cfg(test)]
mod tests {
    use types::files;

    use super::*;

    fn resources(folder: &Path) -> Resources {
        for (name, task) in [("zebra", "summarization"), ("apple", "text-generation. Strategy: dpo")] {
            let sample = folder.join("samples").join(name);
            fs::create_dir_all(&sample).unwrap();
            let readme = format!("# The {name}\n\nTask: {task}. 3 rows.\n");
            files::write(&sample.join("README.md"), readme.as_bytes()).unwrap();
        }
        Resources::at(folder)
    }

    #[test]
    fn samples_are_found_by_name_and_unknown_ones_get_the_list() {
        let temp = tempfile::tempdir().unwrap();
        let resources = resources(temp.path());
        let sample = resources.sample("sample:zebra").unwrap().unwrap();
        assert_eq!((sample.title.as_str(), sample.task), ("The zebra", Task::Summarization));
        assert!(sample.train.ends_with("samples/zebra/train.jsonl") && sample.strategy == Strategy::Sft);
        let pairs = resources.sample("sample:apple").unwrap().unwrap();
        assert_eq!((pairs.task, pairs.strategy), (Task::TextGeneration, Strategy::Dpo));
        assert_eq!(resources.sample("rows.jsonl").unwrap(), None, "a path is no sample");
        for unknown in ["sample:pear", "sample:../samples/zebra", "sample:"] {
            let error = resources.sample(unknown).unwrap_err().to_string();
            assert!(error.ends_with("The samples are: apple, zebra"), "{error}");
        }
    }

    #[test]
    fn every_place_beside_the_program_is_found() {
        for (program, place) in [
            ("bin/modelforge", "bin/resources"),
            ("bin/modelforge", "lib/ModelForge/resources"),
            ("Contents/MacOS/modelforge", "Contents/Resources/resources"),
            ("target/debug/deps/modelforge", "src-tauri/resources"),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let program = temp.path().join(program);
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            assert_eq!(Resources::beside(&program), None, "nothing is there yet");
            let place = temp.path().join(place);
            fs::create_dir_all(&place).unwrap();
            let found = Resources::beside(&program).unwrap().0;
            assert_eq!(
                fs::canonicalize(found).unwrap(),
                fs::canonicalize(&place).unwrap(),
                "{}",
                place.display()
            );
        }
    }
}
