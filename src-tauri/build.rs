//! Prepares what Tauri puts into the program: its settings, permissions and the built user interface.

fn main() {
    #[cfg(feature = "desktop")]
    desktop();
}

#[cfg(feature = "desktop")]
fn desktop() {
    // Tauri wants the folder of the pages to exist; `cargo xtask` fills it before.
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/ui/dist");
    if let Err(error) = std::fs::create_dir_all(pages) {
        panic!("cannot make {pages}: {error}");
    }
    let attributes =
        tauri_build::Attributes::new().capabilities_path_pattern("./src-tauri/capabilities/**/*");
    if let Err(error) = tauri_build::try_build(attributes) {
        panic!("{error:#}");
    }
}
