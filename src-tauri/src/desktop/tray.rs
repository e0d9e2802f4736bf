//! The icon in the system's tray: how far the run is, and the way back to the window.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tauri::{
    AppHandle,
    menu::{Menu, MenuItem},
    tray::{TrayIcon, TrayIconBuilder},
};

use super::menu::Texts;

pub const SHOW: &str = "tray_show";
pub const QUIT: &str = "tray_quit";

const TRAY: &str = "main";

/// Puts the icon into the tray, or changes the texts of its menu. `false` where nobody can see it.
pub fn set(app: &AppHandle, texts: &Texts) -> bool {
    let text = |id: &'static str| texts.get(id).map_or(id, String::as_str);
    let menu = || {
        Menu::with_items(
            app,
            &[
                &MenuItem::with_id(app, SHOW, text(SHOW), true, None::<&str>)?,
                &MenuItem::with_id(app, QUIT, text(QUIT), true, None::<&str>)?,
            ],
        )
    };
    let _ = match (app.tray_by_id(TRAY), menu()) {
        (Some(tray), Ok(menu)) => tray.set_menu(Some(menu)).is_ok(),
        (None, Ok(menu)) => add(app, &menu).is_some(),
        (_, Err(_)) => false,
    };
    is_there(app)
}

/// Whether there is an icon that leads back to a hidden window.
pub fn is_there(app: &AppHandle) -> bool {
    app.tray_by_id(TRAY).is_some() && is_shown()
}

/// Whether the desktop shows such icons. On Linux that is told on the session bus: GNOME, as it comes, does not.
#[cfg(target_os = "linux")]
fn is_shown() -> bool {
    use zbus::{
        blocking::{Connection, fdo::DBusProxy},
        names::WellKnownName,
    };

    let ask = || -> zbus::Result<bool> {
        let watcher = WellKnownName::from_static_str("org.kde.StatusNotifierWatcher")?;
        Ok(DBusProxy::new(&Connection::session()?)?.name_has_owner(watcher.into())?)
    };
    ask().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn is_shown() -> bool {
    true
}

/// Says how far the run is when the pointer rests on the icon, and beside it where the system shows a title.
pub fn tell(app: &AppHandle, line: Option<&str>) {
    if let Some(tray) = app.tray_by_id(TRAY) {
        let _ = tray.set_tooltip(Some(line.unwrap_or("ModelForge")));
        let _ = tray.set_title(line);
    }
}

fn add(app: &AppHandle, menu: &Menu<tauri::Wry>) -> Option<TrayIcon> {
    let icon = app.default_window_icon()?.clone();
    let build = || TrayIconBuilder::with_id(TRAY).icon(icon).tooltip("ModelForge").menu(menu).build(app);
    // On Linux it panics where the library for such icons is not installed; a window needs none.
    catch_unwind(AssertUnwindSafe(build)).ok()?.ok()
}
