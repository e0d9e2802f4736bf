//! What can go wrong before a page is there, so that a start never ends in an empty window or in nothing.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tauri::{AppHandle, Manager};
use tauri_plugin_dialog::{DialogExt, MessageDialogButtons, MessageDialogKind};
use tauri_plugin_opener::OpenerExt;

use super::{Shell, log::Log, window};

/// A machine that is this slow still shows the dialog rather than nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// WebKitGTK's DMA-BUF renderer shows an empty window with NVIDIA's driver under Wayland. The variable is set as long as
/// the person did not, by starting this program once more in place of itself, before it has threads.
pub fn settle_environment() {
    #[cfg(target_os = "linux")]
    {
        use std::{env, os::unix::process::CommandExt, path::Path, process::Command};

        const RENDERER: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
        let concerned = env::var_os("WAYLAND_DISPLAY").is_some()
            && Path::new("/proc/driver/nvidia").exists()
            && env::var_os(RENDERER).is_none();
        if let (true, Ok(program)) = (concerned, env::current_exe()) {
            // It comes back only where it failed; then the window is tried as it is.
            let _ = Command::new(program).args(env::args_os().skip(1)).env(RENDERER, "1").exec();
        }
    }
}

/// Says so where the pages have not come up in time, and offers the log.
pub fn watch(app: AppHandle) {
    let started = Instant::now();
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(PATIENCE).await;
        let shell = app.state::<Shell>();
        if shell.usable.load(Ordering::Relaxed) || shell.leaving.load(Ordering::Relaxed) {
            return;
        }
        shell.log.write(format_args!("the pages did not load within {} s", started.elapsed().as_secs()));
        window::show(&app);
        offer_log(&app);
    });
}

/// The dialog of a window that shows nothing. These texts cannot come from the pages.
pub fn offer_log(app: &AppHandle) {
    let log = app.state::<Shell>().log.path().map(ToOwned::to_owned);
    let dialog = app
        .dialog()
        .message("ModelForge could not show its pages. Runs that are under way go on. The log says more.")
        .title("ModelForge")
        .kind(MessageDialogKind::Error)
        .buttons(MessageDialogButtons::OkCancelCustom("Open log".into(), "Close".into()));
    let app = app.clone();
    dialog.show(move |open| {
        if let (true, Some(log)) = (open, log) {
            let _ = app.opener().open_path(log.to_string_lossy(), None::<&str>);
        }
    });
}

/// Tells why there is no window: on standard error and, where a display is, in a dialog.
#[allow(clippy::print_stderr, reason = "the only place left to tell it")]
pub fn tell_failure(log: &Log, error: &anyhow::Error) {
    eprintln!("ModelForge cannot start: {error:#}");
    let message = match log.path() {
        Some(path) => format!("{error:#}\n\nThe log is {}.", path.display()),
        None => format!("{error:#}"),
    };
    // Tauri itself may be what failed, so this app has nothing but the dialog.
    let told = tauri::Builder::default()
        .plugin(tauri_plugin_dialog::init())
        .setup(move |app| {
            let handle = app.handle().clone();
            app.dialog()
                .message(message)
                .title("ModelForge cannot start")
                .kind(MessageDialogKind::Error)
                .show(move |_| handle.exit(1));
            Ok(())
        })
        .build(tauri::generate_context!());
    if let Ok(app) = told {
        app.run(|_, _| {});
    }
}
