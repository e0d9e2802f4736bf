//! AdamW with 8-bit state against bitsandbytes': every code, every scale, and the weights.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use train::{
    OPTIMIZERS,
    optimizers::{Parameter, StateValues},
};
use types::Optim;

#[test]
fn codes_scales_and_weights_are_those_of_bitsandbytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/quant/adamw.safetensors");
    let golden: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let floats = |name: &str| golden[name].to_vec1::<f32>().unwrap();
    let bytes = |name: &str| golden[name].to_vec1::<u8>().unwrap();
    let mut weights = floats("weights");
    let entry = OPTIMIZERS.iter().find(|entry| entry.name == Optim::Adamw8bit).unwrap();
    let mut optimizer = (entry.build)(Parameter { len: weights.len(), weight_decay: 0.01 });
    let mut compared = 0;
    for step in 1..=6 {
        optimizer.update(&mut weights, &floats(&format!("gradient.{step}")), step, 1e-3);
        if !golden.contains_key(&format!("weights.{step}")) {
            continue;
        }
        for (entry, name) in optimizer.state().iter().zip(["mean", "mean_scale", "square", "square_scale"]) {
            let name = format!("{name}.{step}");
            match &entry.values {
                StateValues::U8(codes) => assert_eq!(**codes, bytes(&name), "{name}"),
                StateValues::F32(scales) => {
                    for (got, want) in scales.iter().zip(floats(&name)) {
                        assert!((got - want).abs() <= 1e-6 * want.abs(), "{name}: {got}, not {want}");
                    }
                }
            }
        }
        for (got, want) in weights.iter().zip(floats(&format!("weights.{step}"))) {
            assert!((got - want).abs() <= 1e-6, "step {step}: {got}, not {want}");
        }
        compared += 1;
    }
    assert_eq!(compared, 3);
}
