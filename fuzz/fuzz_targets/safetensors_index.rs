//! libFuzzer's face of `fuzzing::safetensors_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| fuzzing::safetensors_index(bytes));
