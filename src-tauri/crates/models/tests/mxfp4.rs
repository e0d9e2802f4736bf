//! gpt-oss with its experts in MXFP4, as it is published, computes what it does with the numbers they stand for.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends where its own setup fails")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use golden::path;
use models::{LoadOptions, Pass, Sequences, forward};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use types::Provider;

const SHAPE: &str = "gpt-oss-bf16";
/// What four bits stand for.
const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn plain(tensor: &Tensor) -> (Dtype, Vec<usize>, Vec<u8>) {
    let values: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (Dtype::F32, tensor.dims().to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// `[experts, in, out]` as blocks and scales `[experts, out, in / 32, …]`, and the numbers that these stand for.
fn quantised(tensor: &Tensor) -> (Vec<u8>, Vec<u8>, Vec<usize>, Tensor) {
    let rows = tensor.transpose(1, 2).unwrap().contiguous().unwrap().to_dtype(DType::F32).unwrap();
    let (experts, out, inputs) = rows.dims3().unwrap();
    let values: Vec<f32> = rows.flatten_all().unwrap().to_vec1().unwrap();
    let (mut blocks, mut scales, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for block in values.chunks_exact(32) {
        let largest = block.iter().fold(0f32, |largest, v| largest.max(v.abs()));
        let exponent = (largest / 6.0).log2().ceil().clamp(-127.0, 127.0) as i32;
        scales.push((exponent + 127) as u8);
        let scale = (exponent as f32).exp2();
        let codes: Vec<u8> = block
            .iter()
            .map(|v| {
                let apart = |code: &usize| (VALUES[*code] - v.abs() / scale).abs();
                let code = (0..8).min_by(|a, b| apart(a).total_cmp(&apart(b))).unwrap();
                numbers.push(VALUES[code] * scale * v.signum());
                code as u8 | if *v < 0.0 { 8 } else { 0 }
            })
            .collect();
        blocks.extend(codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
    }
    let numbers = Tensor::from_vec(numbers, (experts, out, inputs), &Device::Cpu).unwrap();
    (blocks, scales, vec![experts, out, inputs / 32], numbers.transpose(1, 2).unwrap())
}

fn write(folder: &Path, tensors: &Stored, config: &Value) {
    let views: Vec<(&String, TensorView)> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()))
        .collect();
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn logits(folder: &Path, bf16: bool) -> Vec<f32> {
    let options = LoadOptions { bf16, provider: Provider::Huggingface, device: Device::Cpu };
    let model = models::load(folder, &options).unwrap().causal().unwrap();
    let ids = Tensor::new(&[5u32, 80, 12, 9, 200], &Device::Cpu).unwrap();
    let hidden = forward(model.as_ref(), &ids, &Sequences::new(vec![5]), Pass::BASE).unwrap();
    model.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn mxfp4_experts_are_the_numbers_they_stand_for() {
    let tensors =
        candle_core::safetensors::load(path(SHAPE).join("model.safetensors"), &Device::Cpu).unwrap();
    let config = fs::read(path(SHAPE).join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let (mut packed, mut stand_in) = (Stored::new(), Stored::new());
    for (name, tensor) in &tensors {
        if name.ends_with("experts.gate_up_proj") || name.ends_with("experts.down_proj") {
            let (blocks, scales, shape, numbers) = quantised(tensor);
            let block_shape = [shape.as_slice(), &[16]].concat();
            packed.insert(format!("{name}_blocks"), (Dtype::U8, block_shape, blocks));
            packed.insert(format!("{name}_scales"), (Dtype::U8, shape, scales));
            stand_in.insert(name.clone(), plain(&numbers.contiguous().unwrap()));
        } else {
            packed.insert(name.clone(), plain(tensor));
            stand_in.insert(name.clone(), plain(tensor));
        }
    }
    let mut marked = config.clone();
    marked["quantization_config"] = json!({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]});
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(one.path(), &packed, &marked);
    write(other.path(), &stand_in, &config);
    for bf16 in [false, true] {
        assert_eq!(logits(one.path(), bf16), logits(other.path(), bf16), "bf16: {bf16}");
    }

    write(one.path(), &packed, &config);
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let error = models::load(one.path(), &options).err().unwrap().to_string();
    assert!(error.contains("gate_up_proj"), "packed experts without quantization_config: {error}");
}
