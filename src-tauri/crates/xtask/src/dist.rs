//! `dist`: the packages that people install, with checksums and a list of all that is inside. `--check` installs the Debian
//! package on this machine, uses it and removes it again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use types::files;

use crate::{
    cuda::Cuda,
    process::{in_root, output, root, run as execute, say, succeeds, target_folder},
    tools::{CARGO_CYCLONEDX, WINDOW, WINDOW_DRIVER},
    ui,
};

/// What this system's packages are called by Tauri's bundler, and whether it needs tools from the internet for them.
const BUNDLES: &[(&str, bool)] = if cfg!(target_os = "macos") {
    &[("app", false), ("dmg", false)]
} else if cfg!(windows) {
    &[("nsis", true), ("msi", true)]
} else {
    &[("deb", false), ("rpm", false), ("appimage", true)]
};

pub fn run(arguments: &[String]) -> Result<()> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        [flag] if flag == "--cuda" => {
            return Cuda::find()?.pack();
        }
        _ => bail!("dist takes nothing but --check or --cuda"),
    };
    ensure!(WINDOW.is_there_or_installed(), "the packages need what the window is linked to");
    ui::install()?;
    let folder = target_folder()?.join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let (offline, online): (Vec<_>, Vec<_>) = BUNDLES.iter().partition(|(_, needs_internet)| !needs_internet);
    let names =
        |bundles: &[(&str, bool)]| bundles.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    execute(ui::tauri().args(["build", "--bundles", &names(&offline)]))?;
    let mut left_out = Vec::new();
    for (name, _) in online {
        if !succeeds(ui::tauri().args(["build", "--bundles", name])) {
            left_out.push(name);
        }
    }
    collect(&target_folder()?.join("release/bundle"), &folder)?;
    for deb in sorted(&folder)?.iter().filter(|path| path.extension().is_some_and(|e| e == "deb")) {
        pack_tighter(deb)?;
    }
    bills_of_materials(&folder)?;
    checksums(&folder)?;
    for entry in sorted(&folder)? {
        let size = fs::metadata(&entry).map_or(0, |file| file.len());
        say(&format!("{:>9.2} MB  {}", size as f64 / 1e6, entry.display()));
    }
    for name in left_out {
        say(&format!("LEFT OUT: {name}, whose tools could not be fetched or run here."));
    }
    if check { try_deb(&folder) } else { Ok(()) }
}

/// Every package of the bundler's folders.
fn collect(bundles: &Path, folder: &Path) -> Result<()> {
    const KINDS: [&str; 6] = ["deb", "rpm", "AppImage", "dmg", "msi", "exe"];
    for kind in sorted(bundles)? {
        for file in sorted(&kind)? {
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if file.is_file() && KINDS.contains(&extension) {
                let name = file.file_name().context("a file has a name")?;
                fs::copy(&file, folder.join(name))
                    .with_context(|| format!("cannot copy {}", file.display()))?;
            }
        }
    }
    Ok(())
}

/// The bundler knows gzip only. Debian's own tool packs by a third smaller with xz, which is Debian's default.
fn pack_tighter(deb: &Path) -> Result<()> {
    let unpacked = tempfile::tempdir().context("no folder to unpack the package in")?;
    execute(Command::new("dpkg-deb").arg("--raw-extract").arg(deb).arg(unpacked.path()))?;
    execute(
        Command::new("dpkg-deb")
            .args(["-Zxz", "--root-owner-group", "--build"])
            .arg(unpacked.path())
            .arg(deb),
    )
}

/// What is inside, by CycloneDX: the crates of the program and the packages of its pages.
fn bills_of_materials(folder: &Path) -> Result<()> {
    let mut crates = CARGO_CYCLONEDX.command()?;
    crates.args(["cyclonedx", "--format", "json", "--override-filename", "modelforge-crates.cdx", "--quiet"]);
    crates.args(["--manifest-path", "Cargo.toml"]);
    execute(&mut crates)?;
    // It is written beside the manifest of each member; the program's own is at the root.
    let written = root().join("modelforge-crates.cdx.json");
    let sbom = fs::read(&written).with_context(|| format!("no list of crates at {}", written.display()))?;
    files::write(&folder.join("modelforge-crates.cdx.json"), &sbom)?;
    for member in fs::read_dir(root().join("src-tauri/crates"))? {
        // Only the program's is published.
        fs::remove_file(member?.path().join("modelforge-crates.cdx.json")).ok();
    }
    fs::remove_file(&written).with_context(|| format!("cannot remove {}", written.display()))?;
    let pages = output(ui::npm().args(["sbom", "--omit", "dev", "--sbom-format", "cyclonedx"]))?;
    Ok(files::write(&folder.join("modelforge-pages.cdx.json"), pages.as_bytes())?)
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn checksums(folder: &Path) -> Result<()> {
    let mut lines = String::new();
    for file in sorted(folder)? {
        let sum = files::sha256(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().context("a file has a name")?;
        lines += &format!("{sum}  {}\n", name.display());
    }
    Ok(files::write(&folder.join("SHA256SUMS"), lines.as_bytes())?)
}

/// Installs the Debian package, starts what it brought, and removes it.
fn try_deb(folder: &Path) -> Result<()> {
    let packages = sorted(folder)?;
    let deb = packages.iter().find(|path| path.extension().is_some_and(|e| e == "deb"));
    let deb = deb.context("there is no Debian package to check")?;
    ensure!(WINDOW_DRIVER.is_there_or_installed(), "checking the package needs a driver of its window");
    say(&format!("Installing {}.", deb.display()));
    // apt-get also installs what the package depends on.
    execute(
        Command::new("apt-get").args(["install", "-y", "-qq", "--reinstall", "--allow-downgrades"]).arg(deb),
    )?;
    let used = use_installed();
    say("Removing it.");
    execute(Command::new("apt-get").args(["remove", "-y", "-qq", "model-forge"]))?;
    used?;
    for left in ["/usr/bin/modelforge", "/usr/bin/modelforge-desktop", "/usr/lib/ModelForge"] {
        ensure!(!Path::new(left).exists(), "{left} is still there after the package was removed");
    }
    say("The package installs, works and is gone after its removal.");
    Ok(())
}

fn use_installed() -> Result<()> {
    let clean = |program: &str| {
        let mut command = in_root(program);
        command.env_remove("MODELFORGE_RESOURCES").current_dir("/");
        command
    };
    let home = tempfile::tempdir().context("no folder for a first start")?;
    let version = output(clean("/usr/bin/modelforge").arg("--version"))?;
    say(version.trim());
    let samples = output(
        clean("/usr/bin/modelforge").args(["call", "datasets_samples"]).env("MODELFORGE_HOME", home.path()),
    )?;
    ensure!(samples.contains("lib/ModelForge/resources"), "the installed samples must be found: {samples}");
    ui::window_journey(Path::new("/usr/bin/modelforge-desktop"), Path::new("/usr/bin/modelforge"), None)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    Ok(paths)
}
