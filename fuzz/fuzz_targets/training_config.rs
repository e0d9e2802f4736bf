//! libFuzzer's face of `fuzzing::training_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::training_config(bytes));
