//! ModelForge's faces: the command `modelforge`, and the window behind the feature `desktop`.

mod cli;
#[cfg(feature = "desktop")]
pub mod desktop;

use std::{ffi::OsString, process::ExitCode};

use api::{Api, Local};
use store::{Home, Resources, Store};

/// Runs the program. As `modelforge engine …` it is the worker that the app starts, else the command line.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if_eq(&OsString::from("engine")).is_some() {
        return engine::run(args).into();
    }
    cli::main()
}

/// Opens the data folder, and tells when its database had to be made anew.
fn open_app(tell: impl Fn(&str)) -> anyhow::Result<Api> {
    let store = Store::open(Home::open()?)?;
    if let Some(kept) = store.moved_aside() {
        tell(&format!(
            "The database was damaged and has been made anew from the models and runs on disk. The damaged file is \
             kept as {}.",
            kept.display()
        ));
        if !store.lost().is_empty() {
            tell(&format!("Not all of these could be saved: {}.", store.lost().join(", ")));
        }
    }
    let engines = Local::from_env(store.home().path())?;
    Ok(Api::new(store, Resources::find()?, Box::new(engines)))
}
