//! The crate through its public face: files in, examples, ids, masks and plans out.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends where its own setup fails")]

mod bad_input;
mod formats;
mod mask;
mod preference;
mod prepare;
mod question;
mod readers;
mod support;
mod template;
mod tokenizer;
mod vocabulary;
