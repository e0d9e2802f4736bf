//! libFuzzer's face of `fuzzing::tokenizer`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::tokenizer(bytes));
