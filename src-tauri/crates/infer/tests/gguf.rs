//! An exported GGUF file computes what transformers and PEFT compute, run by an implementation of llama.cpp's layout that
//! is not ours: candle's quantized models.
#![allow(clippy::unwrap_used, reason = "a broken golden ends the test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::{fs::File, path::Path};

use candle_core::{Device, IndexOp, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use golden::{golden, path, relative_distance};
use models::export::{Merged, gguf::Plan};
use types::ExportDtype;

/// The window of the one with a window, which the layout has not.
const LONGEST: usize = 8;

/// Shapes of the features that the other implementation has: no biases, no stretched positions.
const RUN: [&str; 4] = ["llama-tied-gqa", "mistral-window-f16", "qwen2-window", "qwen3-sharded-bf16"];

/// Logits of the token after `ids`, as the other implementation has them.
fn other(shape: &str, file: &Path, ids: Vec<u32>) -> Vec<f32> {
    let mut file = File::open(file).unwrap();
    let content = Content::read(&mut file).unwrap();
    let ids = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let logits = if shape.starts_with("qwen2") {
        let model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
        model.unwrap().forward(&ids, 0)
    } else if shape.starts_with("qwen3") {
        let model = quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
        model.unwrap().forward(&ids, 0)
    } else {
        let model = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
        model.unwrap().forward(&ids, 0)
    };
    logits.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn another_implementation_computes_the_same_logits() {
    for shape in RUN {
        let merged = Merged::open(&path(shape), &path(shape).join("adapter")).unwrap();
        let tensors =
            candle_core::safetensors::load(path(shape).join("golden.safetensors"), &Device::Cpu).unwrap();
        let wanted = &tensors["lora_logits"];
        // With Q8_0 the other implementation rounds activations to 8 bits too.
        for (dtype, tolerance) in
            [(ExportDtype::F32, 3e-4), (ExportDtype::F16, 1e-2), (ExportDtype::Q8_0, 0.15)]
        {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("model.gguf");
            let plan = Plan::new(&path(shape), &merged, Some(dtype), shape, Vec::new()).unwrap();
            plan.write(&merged, &file, &mut |_| Ok(())).unwrap();
            let mut at = 0;
            let mut compared = 0;
            for sequence in golden(shape).sequences {
                let length = sequence.ids.len();
                if length <= LONGEST {
                    let got = other(shape, &file, sequence.ids);
                    let want: Vec<f32> = wanted.i(at + length - 1).unwrap().to_vec1().unwrap();
                    let apart = relative_distance(&got, &want);
                    assert!(
                        apart <= tolerance,
                        "{shape}, {dtype}, {length} tokens: {apart:e} of the norm apart"
                    );
                    compared += 1;
                }
                at += length;
            }
            assert!(compared > 1, "{shape}: there are sequences to compare");
        }
    }
}
