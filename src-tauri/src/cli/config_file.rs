//! A file of settings, JSON or YAML, and the line on which each stands.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// More than any list of settings takes.
const MAX_BYTES: u64 = 1 << 20;

/// The settings of a file, still unchecked.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    lines: HashMap<String, u64>,
    /// The values by the settings' names.
    pub values: Map<String, Value>,
}

impl ConfigFile {
    /// Reads a `.json`, `.yaml` or `.yml` file that holds one object.
    ///
    /// # Errors
    /// Names the file, and the line where the format is broken.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        let length = std::fs::metadata(path).with_context(|| format!("{shown}"))?.len();
        if length > MAX_BYTES {
            bail!("{shown}: {length} bytes are more than any file of settings has");
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown}"))?;
        let value: Value = match extension.as_deref() {
            Some("json") => serde_json::from_str(&text).map_err(|e| broken(path, e.line() as u64, &e))?,
            Some("yaml" | "yml") => serde_saphyr::from_str(&text).map_err(|e| {
                let line = e.location().map_or(0, |location| location.line());
                broken(path, line, e.without_snippet())
            })?,
            _ => bail!("{shown}: settings are read from .json, .yaml and .yml files"),
        };
        let Value::Object(values) = value else {
            bail!("{shown}: line 1: the settings must be an object, such as `lora_r: 8`");
        };
        // JSON is YAML too, and only this parser tells where a value stands. Without a line the name must do.
        let lines: HashMap<String, Spanned<Value>> = serde_saphyr::from_str(&text).unwrap_or_default();
        let lines = lines.into_iter().map(|(key, value)| (key, value.referenced.line())).collect();
        Ok(Self { path: path.to_owned(), lines, values })
    }

    /// `file: line N` of a setting, for errors about it.
    pub fn place(&self, setting: &str) -> String {
        match self.lines.get(setting) {
            Some(line) => format!("{}: line {line}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }
}

/// The error of a file whose format is broken.
fn broken(path: &Path, line: u64, message: impl fmt::Display) -> anyhow::Error {
    anyhow!("{}: line {line}: {message}", path.display())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(name: &str, text: &str) -> anyhow::Result<ConfigFile> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(name);
        types::files::write(&path, text.as_bytes()).unwrap();
        ConfigFile::read(&path)
    }

    #[test]
    fn json_and_yaml_give_the_same_settings_with_their_lines() {
        let want = json!({"task": "summarization", "lora_r": 8, "learning_rate": 1e-3, "packing": true,
            "target_modules": ["q_proj", "v_proj"], "max_seq_length": null});
        let yaml = "# a comment\ntask: summarization\nlora_r: 8\nlearning_rate: 1e-3\npacking: true\n\
                    target_modules:\n  - q_proj\n  - v_proj\nmax_seq_length: null\n";
        let json = "{\n\t\"task\": \"summarization\",\n\t\"lora_r\": 8, \"learning_rate\": 1e-3,\n\t\"packing\": true,\n\
                    \t\"target_modules\": [\n\t\t\"q_proj\", \"v_proj\"],\n\"max_seq_length\": null}";
        for (name, text, line) in
            [("a.yaml", yaml, 3), ("a.yml", yaml, 3), ("a.json", json, 3), ("A.JSON", json, 3)]
        {
            let file = read(name, text).unwrap();
            assert_eq!(Value::Object(file.values.clone()), want, "{name}");
            assert!(
                file.place("lora_r").ends_with(&format!("{name}: line {line}")),
                "{}",
                file.place("lora_r")
            );
            assert!(file.place("seed").ends_with(name), "a setting that is not in the file has no line");
        }
    }

    #[test]
    fn what_is_broken_is_told_with_file_and_line() {
        for (name, text, want) in [
            ("a.json", "{\n \"lora_r\": 8,\n \"lora_alpha\" 16\n}", "a.json: line 3: "),
            ("a.yaml", "lora_r: 8\nlora_alpha: [1, 2\nx: }\n", "a.yaml: line "),
            ("a.yaml", "lora_r: 8\nlora_r: 9\n", "a.yaml: line 2: "),
            ("a.json", "[1, 2]", "a.json: line 1: "),
            ("a.yaml", "", "a.yaml: line 1: "),
            ("a.toml", "lora_r = 8", ".json, .yaml and .yml"),
        ] {
            let error = format!("{:#}", read(name, text).unwrap_err());
            assert!(error.contains(want), "{name}: {error:?} should contain {want:?}");
        }
        let error = format!("{:#}", ConfigFile::read(Path::new("/no/such/file.yaml")).unwrap_err());
        assert!(error.contains("/no/such/file.yaml"), "{error}");
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(read("a.yaml", &text).is_err(), "a small file must not unfold into gigabytes");
    }
}
