//! What the pages may ask of the window itself. They are no operations: there is nothing like them without a window.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use tauri::{
    AppHandle, Manager, State,
    ipc::Invoke,
    window::{ProgressBarState, ProgressBarStatus},
};
use tauri_plugin_opener::OpenerExt;
use types::ApiError;

use super::{Shell, local_server::ServerStatus, menu, menu::Texts, tray, window};

/// The longest report of a page that is logged, in characters.
const MAX_REPORT: usize = 4000;

pub fn handler() -> impl Fn(Invoke) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        shell_ready,
        shell_texts,
        shell_progress,
        shell_close,
        shell_report,
        shell_open_log,
        shell_open_folder,
        server_status,
        server_start,
        server_stop,
    ]
}

/// The pages can be used: shows the window. Gives the datasets that the program was started with.
#[tauri::command]
fn shell_ready(app: AppHandle, shell: State<Shell>) -> Vec<PathBuf> {
    let first = !shell.usable.swap(true, Ordering::Relaxed);
    window::show(&app);
    if first { window::given_files() } else { Vec::new() }
}

/// The texts of the menus, in the language of the pages. Says whether there is a tray that a hidden window can come back
/// from.
#[tauri::command]
fn shell_texts(app: AppHandle, texts: Texts) -> Result<bool, ApiError> {
    menu::set(&app, &texts).map_err(internal)?;
    Ok(tray::set(&app, &texts))
}

/// How far the run is, from 0 to 1; null without one. The line is what the tray says.
#[tauri::command]
fn shell_progress(app: AppHandle, fraction: Option<f64>, line: Option<String>) -> Result<(), ApiError> {
    let state = match fraction {
        Some(fraction) => ProgressBarState {
            status: Some(ProgressBarStatus::Normal),
            // At most 100 by the clamp.
            progress: Some((fraction.clamp(0.0, 1.0) * 100.0) as u64),
        },
        None => ProgressBarState { status: Some(ProgressBarStatus::None), progress: None },
    };
    if let Some(window) = app.get_webview_window(window::MAIN) {
        window.set_progress_bar(state).map_err(internal)?;
    }
    tray::tell(&app, line.as_deref());
    Ok(())
}

/// What the person answered when closing the window during a run: `background`, `leave` the run to itself, or `pause` it.
#[tauri::command]
async fn shell_close(app: AppHandle, how: String) -> Result<(), ApiError> {
    match how.as_str() {
        "background" if tray::is_there(&app) => match app.get_webview_window(window::MAIN) {
            Some(window) => window.hide().map_err(internal),
            None => Ok(()),
        },
        "background" | "leave" => window::leave(&app, false).await,
        "pause" => window::leave(&app, true).await,
        _ => Err(ApiError::bad_request("how must be background, leave or pause")),
    }
}

/// Keeps what went wrong in the pages.
#[tauri::command]
fn shell_report(shell: State<Shell>, message: String) {
    let message: String = message.chars().filter(|c| !c.is_control()).take(MAX_REPORT).collect();
    shell.log.write(format_args!("pages: {message}"));
}

#[tauri::command]
fn shell_open_log(app: AppHandle, shell: State<Shell>) -> Result<(), ApiError> {
    let path = shell.log.path().ok_or_else(|| ApiError::not_found("There is no log."))?;
    open(&app, path)
}

/// Shows a folder, or the folder of a file, in the system's file manager.
#[tauri::command]
async fn shell_open_folder(app: AppHandle, path: PathBuf) -> Result<(), ApiError> {
    if !path.is_absolute() || !path.exists() {
        return Err(ApiError::not_found(format!("{} is not there any more.", path.display())));
    }
    if path.is_dir() {
        return open(&app, &path);
    }
    // A file that is opened is taken by whatever program claims its kind; not every desktop can point at one.
    let folder = path.parent().unwrap_or(&path).to_owned();
    app.opener().reveal_item_in_dir(&path).or_else(|_| open(&app, &folder))
}

#[tauri::command]
async fn server_status(shell: State<'_, Shell>) -> Result<ServerStatus, ApiError> {
    Ok(shell.server.status().await)
}

#[tauri::command]
async fn server_start(shell: State<'_, Shell>, port: u16) -> Result<ServerStatus, ApiError> {
    shell.server.start(Arc::clone(&shell.api), port).await?;
    Ok(shell.server.status().await)
}

#[tauri::command]
async fn server_stop(shell: State<'_, Shell>) -> Result<ServerStatus, ApiError> {
    shell.server.stop().await;
    Ok(shell.server.status().await)
}

fn open(app: &AppHandle, path: &Path) -> Result<(), ApiError> {
    app.opener().open_path(path.to_string_lossy(), None::<&str>).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(error.to_string())
}
