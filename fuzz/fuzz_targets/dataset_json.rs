//! libFuzzer's face of `fuzzing::dataset_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::dataset_json(bytes));
