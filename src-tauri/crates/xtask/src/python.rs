//! `starter`, `golden`, `hub` and `schemathesis`: the development scripts in Python, each in an environment of its own in the user's
//! cache. Nothing that ships needs Python.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use types::files;

use crate::process::{cache, cargo, in_root, output, root, run, say, succeeds, target_folder};

/// `starter`: trains the bundled model and writes the sample datasets.
pub fn starter(arguments: &[String]) -> Result<()> {
    let folder = root().join("src-tauri/crates/xtask/starter");
    let python = environment(&cache()?, &folder.join("requirements.txt"))?;
    let resources = root().join("src-tauri/resources");
    run(in_root(python)
        .arg(folder.join("train.py"))
        .arg("--out")
        .arg(resources.join("starter"))
        .arg("--samples")
        .arg(resources.join("samples"))
        .args(arguments))
}

/// `golden`: makes the files that parity tests compare with; with `--check`, exchanges adapters with PEFT instead.
pub fn golden(arguments: &[String]) -> Result<()> {
    let folder = root().join("tests/golden");
    let script = match arguments {
        [] => "make.py",
        [flag] if flag == "--check" => "roundtrip.py",
        _ => bail!("golden takes nothing but --check"),
    };
    let python = environment(&cache()?, &folder.join("requirements.txt"))?;
    run(in_root(python).arg(folder.join(script)).env("CARGO", cargo().get_program()))
}

/// `hub`: lets the Hub's official client work with the server of our tests, and both clients with each other's files.
pub fn hub(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("hub takes no arguments");
    }
    let python = environment(&cache()?, &root().join("tests/hub/requirements.txt"))?;
    let test = ["test", "--package", "hub", "--test", "it", "official_client", "--", "--ignored"];
    run(cargo().args(test).env("MODELFORGE_PYTHON", python))
}

/// `schemathesis`: sends the server requests made from its OpenAPI document, 10,000 unless told.
pub fn schemathesis(arguments: &[String]) -> Result<()> {
    let examples = match arguments {
        [] => 250,
        [flag, number] if flag == "--max-examples" => {
            number.parse::<u32>().context("--max-examples takes a number")?
        }
        _ => bail!("schemathesis takes nothing but --max-examples <requests an operation>"),
    };
    let python = environment(&cache()?, &root().join("tests/schemathesis/requirements.txt"))?;
    // Tests build the programs with the same features, so that dependencies are built once.
    crate::test::build()?;
    let program = target_folder()?.join("debug").join(format!("modelforge{}", std::env::consts::EXE_SUFFIX));
    let home = tempfile::tempdir()?;
    let mut server = Command::new(program)
        .args(["serve", "--port", "0"])
        .env("MODELFORGE_HOME", home.path().join("home"))
        .env("HF_HUB_CACHE", home.path().join("cache"))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_TOKEN")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    if let Some(output) = server.stdout.take() {
        BufReader::new(output).read_line(&mut address)?;
    }
    let outcome = run(in_root(&python)
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{}/api/openapi.json", address.trim()))
        .args(["--max-examples", &examples.to_string(), "--seed", "1", "--continue-on-failure"])
        .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "120", "--workers", "2"])
        // It does not end by itself.
        .args(["--exclude-operation-id", "app_changes"])
        // A request can be well-formed and still be refused: no such dataset, settings at odds with each other.
        .args(["--generation-database", "none", "--exclude-checks", "positive_data_acceptance"]));
    let ended = server.try_wait()?;
    server.kill().ok();
    server.wait()?;
    outcome?;
    match ended {
        Some(status) => bail!("the server ended: {status}"),
        None => Ok(()),
    }
}

/// The Python of the environment under `caches` that has exactly these requirements.
pub fn environment(caches: &Path, requirements: &Path) -> Result<PathBuf> {
    if let Some(python) = existing(caches, requirements)? {
        return Ok(python);
    }
    let (hash, folder, python) = place(caches, requirements)?;
    say(&format!("Installing {} into {}.", requirements.display(), folder.display()));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut system = system_python()?;
    output(system.args(["-m", "venv"]).arg(&folder))
        .context("Python cannot make an environment; on Debian and Ubuntu install python3-venv")?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
    files::write(&folder.join(COMPLETE), hash.as_bytes())?;
    Ok(python)
}

/// The same if it is there already.
pub fn existing(caches: &Path, requirements: &Path) -> Result<Option<PathBuf>> {
    let (_, folder, python) = place(caches, requirements)?;
    let usable = folder.join(COMPLETE).is_file() && succeeds(Command::new(&python).arg("--version"));
    Ok(usable.then_some(python))
}

/// Lies in an environment that has all it should.
const COMPLETE: &str = "complete";

/// The hash of the requirements, the folder of their environment and its Python.
fn place(caches: &Path, requirements: &Path) -> Result<(String, PathBuf, PathBuf)> {
    let hash =
        files::sha256(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = caches.join("python").join(&hash[..16]);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    Ok((hash, folder, python))
}

/// The first Python on the path that is new enough for the scripts.
fn system_python() -> Result<Command> {
    const WANTED: &str = "import sys; sys.exit(sys.version_info < (3, 10))";
    let candidates: &[&[&str]] = &[&["python3"], &["python"], &["py", "-3"]];
    let command = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    };
    candidates
        .iter()
        .find(|words| succeeds(command(words).args(["-c", WANTED])))
        .map(|words| command(words))
        .context("this chore needs Python 3.10 or newer on the path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs Python"]
    fn an_environment_is_made_once_for_the_same_requirements() {
        let caches = tempfile::tempdir().unwrap();
        let requirements = caches.path().join("requirements.txt");
        files::write(&requirements, b"# nothing\n").unwrap();
        let python = environment(caches.path(), &requirements).unwrap();
        assert!(python.starts_with(caches.path()), "the environment must not touch the system's Python");
        let prefix =
            output(Command::new(&python).args(["-c", "import sys; print(sys.prefix != sys.base_prefix)"]));
        assert_eq!(prefix.unwrap().trim(), "True", "it must be an environment of its own");

        let complete = python.ancestors().nth(2).unwrap().join("complete");
        let made = fs::metadata(&complete).unwrap().modified().unwrap();
        assert_eq!(environment(caches.path(), &requirements).unwrap(), python, "the same again");
        assert_eq!(fs::metadata(&complete).unwrap().modified().unwrap(), made, "it must not be made twice");

        files::write(&requirements, b"# other\n").unwrap();
        assert_ne!(
            environment(caches.path(), &requirements).unwrap(),
            python,
            "other requirements, other environment"
        );
    }
}
