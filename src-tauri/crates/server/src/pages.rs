//! Static pages, all in the program itself: the user interface where it was built in, and the page that documents the
//! API. A path is looked up in a table, so that none leads to a file on disk.

use axum::{
    http::{
        HeaderValue, Method, StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Redirect, Response},
};

use crate::answer;

type Page = (&'static str, &'static [u8]);

const DOCS: &[Page] = &[
    ("/api/docs", include_bytes!("docs/index.html")),
    ("/api/docs/docs.css", include_bytes!("docs/docs.css")),
    ("/api/docs/docs.js", include_bytes!("docs/docs.js")),
    ("/api/docs/schema.js", include_bytes!("docs/schema.js")),
    ("/api/docs/stream.js", include_bytes!("docs/stream.js")),
];

const UI: &[Page] = include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// The page at this path; `None` where there is none.
pub fn answer(method: &Method, path: &str) -> Option<Response> {
    let page = match path {
        "/" => find(UI, "/index.html"),
        "/api/docs/" => find(DOCS, "/api/docs"),
        _ => find(DOCS, path).or_else(|| find(UI, path)),
    };
    if page.is_none() && path != "/" {
        return None;
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let refusal = answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        return Some(([(ALLOW, "GET,HEAD")], answer::error(refusal)).into_response());
    }
    let Some((name, bytes)) = page else { return Some(Redirect::temporary("/api/docs").into_response()) };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type(name))),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Some((headers, bytes).into_response())
}

fn find(pages: &'static [Page], path: &str) -> Option<Page> {
    pages.iter().find(|(name, _)| *name == path).copied()
}

/// Browsers are told not to guess, so that a type not listed here is only ever downloaded.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        None | Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        Some(_) => "application/octet-stream",
    }
}
