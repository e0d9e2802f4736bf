//! The one window: how it is made, shown, closed, and what is opened in it.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use tauri::{
    AppHandle, Emitter, Manager, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder, WindowEvent, Wry,
    plugin::TauriPlugin, utils::config::Color,
};
use tauri_plugin_window_state::StateFlags;

use super::Shell;

/// Its label, which the capability names too.
pub const MAIN: &str = "main";

/// Told to the pages when the person closes the window while a run is under way.
pub const CLOSE_ASKED: &str = "shell://close-asked";

/// Told to the pages with the datasets to open, as absolute paths.
pub const OPEN_DATASETS: &str = "shell://open-datasets";

/// The canvas of `tokens.css`, shown until the pages have painted.
const CANVAS: [(Theme, Color); 2] =
    [(Theme::Light, Color(0xf5, 0xf7, 0xf9, 0xff)), (Theme::Dark, Color(0x10, 0x14, 0x18, 0xff))];

/// Keeps size and place between starts. Not whether it is visible: the window shows itself when its pages can be used.
pub fn kept_state() -> TauriPlugin<Wry> {
    tauri_plugin_window_state::Builder::new()
        .with_state_flags(StateFlags::all() & !StateFlags::VISIBLE & !StateFlags::DECORATIONS)
        .build()
}

/// Makes the window, hidden.
pub fn create(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let window = WebviewWindowBuilder::new(app, MAIN, WebviewUrl::default())
        .title("ModelForge")
        .inner_size(1280.0, 800.0)
        .min_inner_size(960.0, 640.0)
        .visible(false)
        // The pages never leave: what is on the web opens in the browser.
        .on_navigation(|url| matches!(url.scheme(), "tauri" | "http" | "https") && is_ours(url))
        .build()?;
    let theme = window.theme().unwrap_or(Theme::Light);
    if let Some((_, color)) = CANVAS.iter().find(|(of, _)| *of == theme) {
        window.set_background_color(Some(*color))?;
    }
    let handle = app.clone();
    window.on_window_event(move |event| {
        if let WindowEvent::CloseRequested { api, .. } = event
            && asks_first(&handle)
        {
            api.prevent_close();
            let _ = handle.emit_to(MAIN, CLOSE_ASKED, ());
        }
    });
    Ok(window)
}

/// Whether an address is one of the pages in this program.
fn is_ours(url: &tauri::Url) -> bool {
    url.scheme() == "tauri" || url.host_str() == Some("tauri.localhost")
}

/// Brings the window to the front.
pub fn show(app: &AppHandle) {
    if let Some(window) = app.get_webview_window(MAIN) {
        let _ = window.unminimize().and_then(|()| window.show()).and_then(|()| window.set_focus());
    }
}

/// Closes the window as its own button does.
pub fn close(app: &AppHandle) {
    match app.get_webview_window(MAIN) {
        Some(window) => drop(window.close()),
        None => app.exit(0),
    }
}

/// A run is under way, and there are pages that can ask what is to become of it.
fn asks_first(app: &AppHandle) -> bool {
    let shell = app.state::<Shell>();
    shell.usable.load(Ordering::Relaxed)
        && !shell.leaving.load(Ordering::Relaxed)
        && shell.api.store().active_run().is_ok_and(|run| run.is_some())
}

/// Ends the program; before that, pauses the run that is under way where asked to.
pub async fn leave(app: &AppHandle, pause: bool) -> Result<(), types::ApiError> {
    let shell = app.state::<Shell>();
    if pause {
        shell.api.pause_active(|_| ()).await?;
    }
    shell.leaving.store(true, Ordering::Relaxed);
    app.exit(0);
    Ok(())
}

/// Has the pages open the datasets among these arguments, which are relative to `folder`.
pub fn open_files(app: &AppHandle, arguments: impl Iterator<Item = String>, folder: &Path) {
    let files = datasets(arguments, folder);
    if !files.is_empty() {
        let _ = app.emit_to(MAIN, OPEN_DATASETS, files);
    }
}

/// The datasets that the program was started with.
pub fn given_files() -> Vec<PathBuf> {
    let folder = std::env::current_dir().unwrap_or_default();
    let arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
    datasets(arguments, &folder)
}

fn datasets(arguments: impl Iterator<Item = String>, folder: &Path) -> Vec<PathBuf> {
    arguments.map(|argument| folder.join(argument)).filter(|path| path.is_file()).collect()
}
