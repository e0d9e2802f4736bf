//! The menu bar. Its texts and what its own entries do are the pages': an entry that was chosen is told to them by its id.

use std::collections::HashMap;

use tauri::{
    AppHandle, Emitter, Wry,
    menu::{Menu, MenuItem, PredefinedMenuItem, Submenu},
};

use super::{tray, window};

/// Told to the pages with the id of the entry that was chosen.
const MENU: &str = "shell://menu";

/// Texts by id, as the pages give them.
pub type Texts = HashMap<String, String>;

/// One line of a menu.
enum Entry {
    /// Told to the pages: its id, and its accelerator.
    Own(&'static str, Option<&'static str>),
    /// The system's.
    System(&'static str, fn(&AppHandle, Option<&str>) -> tauri::Result<PredefinedMenuItem<Wry>>),
    Line,
}

use Entry::{Line, Own, System};

const QUIT: &str = "quit";

const MENUS: &[(&str, &[Entry])] = &[
    (
        "file",
        &[
            Own("new", Some("CmdOrCtrl+N")),
            Own("open", Some("CmdOrCtrl+O")),
            Line,
            Own("settings", Some("CmdOrCtrl+,")),
            Line,
            Own(QUIT, Some("CmdOrCtrl+Q")),
        ],
    ),
    (
        "edit",
        &[
            System("undo", PredefinedMenuItem::undo),
            System("redo", PredefinedMenuItem::redo),
            Line,
            System("cut", PredefinedMenuItem::cut),
            System("copy", PredefinedMenuItem::copy),
            System("paste", PredefinedMenuItem::paste),
            System("select_all", PredefinedMenuItem::select_all),
        ],
    ),
    (
        "view",
        &[
            Own("start", Some("CmdOrCtrl+1")),
            Own("tune", Some("CmdOrCtrl+2")),
            Own("runs", Some("CmdOrCtrl+3")),
            Own("models", Some("CmdOrCtrl+4")),
            Own("chat", Some("CmdOrCtrl+5")),
            Line,
            Own("zoom_in", Some("CmdOrCtrl+=")),
            Own("zoom_out", Some("CmdOrCtrl+-")),
            Own("zoom_reset", Some("CmdOrCtrl+0")),
        ],
    ),
    ("help", &[Own("keys", None), Own("log", None), Own("about", None)]),
];

/// Puts the menu into place, in the language of `texts`. What these leave out shows its id.
pub fn set(app: &AppHandle, texts: &Texts) -> tauri::Result<()> {
    let text = |id: &'static str| texts.get(id).map_or(id, String::as_str);
    let menu = Menu::new(app)?;
    // On macOS the first menu is the program's own.
    #[cfg(target_os = "macos")]
    menu.append(&Submenu::with_items(
        app,
        "ModelForge",
        true,
        &[
            &PredefinedMenuItem::about(app, None, None)?,
            &PredefinedMenuItem::hide(app, None)?,
            &PredefinedMenuItem::hide_others(app, None)?,
            &PredefinedMenuItem::show_all(app, None)?,
        ],
    )?)?;
    for (id, entries) in MENUS {
        let submenu = Submenu::with_id(app, *id, text(id), true)?;
        for entry in *entries {
            match entry {
                Own(id, keys) => submenu.append(&MenuItem::with_id(app, *id, text(id), true, *keys)?)?,
                System(id, item) => submenu.append(&item(app, Some(text(id)))?)?,
                Line => submenu.append(&PredefinedMenuItem::separator(app)?)?,
            }
        }
        menu.append(&submenu)?;
    }
    app.set_menu(menu)?;
    Ok(())
}

/// Does what was chosen in the menu bar or in the tray's menu.
pub fn chosen(app: &AppHandle, id: &str) {
    match id {
        QUIT | tray::QUIT => {
            window::show(app);
            window::close(app);
        }
        tray::SHOW => window::show(app),
        id => drop(app.emit_to(window::MAIN, MENU, id)),
    }
}
