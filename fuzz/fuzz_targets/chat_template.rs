//! libFuzzer's face of `fuzzing::chat_template`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::chat_template(bytes));
