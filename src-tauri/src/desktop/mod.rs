//! The window, `modelforge-desktop`: Tauri around the pages of `ui/`. What the app can do are the operations
//! (`operations.rs`); what only a window can are the shell's commands (`commands.rs`). Texts are the pages' own: menus and
//! the tray get theirs from them, so that there is one catalogue of translations.

mod commands;
mod local_server;
mod log;
mod menu;
pub mod operations;
mod startup;
mod tray;
mod window;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api::Api;
use tauri::{AppHandle, Manager, RunEvent, Wry, ipc::Invoke};

use local_server::LocalServer;
use log::Log;

/// What the shell keeps while the program runs.
struct Shell {
    api: Arc<Api>,
    log: Log,
    server: LocalServer,
    /// Whether the pages have told that people can use them.
    usable: AtomicBool,
    /// Whether the window may close without asking.
    leaving: AtomicBool,
}

/// Opens the window and stays until it is closed.
pub fn main() -> ExitCode {
    startup::settle_environment();
    let log = Log::open();
    log.keep_panics();
    match run(log.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.write(format_args!("cannot start: {error:#}"));
            startup::tell_failure(&log, &error);
            ExitCode::FAILURE
        }
    }
}

fn run(log: Log) -> anyhow::Result<()> {
    let api = Arc::new(crate::open_app(|notice| log.write(format_args!("{notice}")))?);
    let shell = Shell {
        api: Arc::clone(&api),
        log,
        server: LocalServer::default(),
        usable: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
    };
    tauri::Builder::default()
        // First, since it ends a second instance before that does anything.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, folder| {
            window::show(app);
            window::open_files(app, arguments.into_iter().skip(1), folder.as_ref());
        }))
        .plugin(window::kept_state())
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(tauri_plugin_opener::init())
        .manage(shell)
        .invoke_handler(invoke_handler(api))
        .on_menu_event(|app, event| menu::chosen(app, event.id().as_ref()))
        .setup(|app| {
            stay_open(app.handle())?;
            window::create(app.handle())?;
            startup::watch(app.handle().clone());
            Ok(())
        })
        .build(tauri::generate_context!())?
        .run(|app, event| {
            if let RunEvent::Exit = event {
                end(app);
            }
        });
    Ok(())
}

/// Begins runs that wait. Another window cannot be open, but a server may be; its pages tell of each other.
fn stay_open(app: &AppHandle) -> anyhow::Result<()> {
    let shell = app.state::<Shell>();
    if let Some(other) = tauri::async_runtime::block_on(async { shell.api.open(None) })? {
        shell.log.write(format_args!("process {} has the data folder open too", other.pid));
    }
    Ok(())
}

/// Operations by their names, and the shell's own commands.
fn invoke_handler(api: Arc<Api>) -> impl Fn(Invoke<Wry>) -> bool + Send + Sync + 'static {
    let operations = operations::invoke_handler(api);
    let shell = commands::handler();
    move |invoke| {
        if operations::is_command(invoke.message.command()) { operations(invoke) } else { shell(invoke) }
    }
}

/// What must not be left half done when the program ends. A run goes on by itself.
fn end(app: &AppHandle) {
    let shell = app.state::<Shell>();
    shell.leaving.store(true, Ordering::Relaxed);
    tauri::async_runtime::block_on(shell.server.stop());
}
