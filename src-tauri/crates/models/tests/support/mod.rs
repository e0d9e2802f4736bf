//! Tiny random models on disk.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{collections::BTreeMap, fs, path::Path};

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

/// A model's `config.json`: 2 layers, 4 query heads on 2 key heads, untied.
pub fn config(architecture: &str) -> Value {
    json!({
        "architectures": [architecture],
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 50,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": false,
    })
}

/// Names and shapes of the tensors that [`config`] describes.
pub fn tensors() -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    all.insert("model.embed_tokens.weight".into(), vec![50, 24]);
    all.insert("lm_head.weight".into(), vec![50, 24]);
    all.insert("model.norm.weight".into(), vec![24]);
    for layer in 0..2 {
        let shapes: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[24]),
            ("post_attention_layernorm", &[24]),
            ("self_attn.q_proj", &[24, 24]),
            ("self_attn.k_proj", &[12, 24]),
            ("self_attn.v_proj", &[12, 24]),
            ("self_attn.o_proj", &[24, 24]),
            ("mlp.gate_proj", &[40, 24]),
            ("mlp.up_proj", &[40, 24]),
            ("mlp.down_proj", &[24, 40]),
        ];
        for (name, shape) in shapes {
            all.insert(format!("model.layers.{layer}.{name}.weight"), shape.to_vec());
        }
    }
    all
}

/// Writes seeded numbers as a safetensors file.
pub fn write_weights(path: &Path, tensors: &BTreeMap<String, Vec<usize>>, dtype: Dtype) {
    let data: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, shape)| {
            let mut random = ChaCha8Rng::seed_from_u64(name.bytes().map(u64::from).sum());
            let count = shape.iter().product::<usize>();
            let numbers = (0..count).map(|_| (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0);
            let bytes: Vec<u8> = match dtype {
                Dtype::F16 => numbers.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
                Dtype::BF16 => numbers.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
                // Rounded, so that all three types hold the same numbers.
                _ => numbers.flat_map(|v| bf16::from_f32(v).to_f32().to_le_bytes()).collect(),
            };
            (name, shape, bytes)
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A folder with the config and its weights in one f32 file.
pub fn model_folder(config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    write_weights(&folder.path().join("model.safetensors"), &tensors(), Dtype::F32);
    folder
}
