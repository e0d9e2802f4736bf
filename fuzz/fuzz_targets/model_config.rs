//! libFuzzer's face of `fuzzing::model_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::model_config(bytes));
