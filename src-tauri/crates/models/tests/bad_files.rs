//! Configs, weights and adapters that are damaged, hostile or of another kind: each is an error that says what is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where its own setup fails"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
mod support;

use std::{fs, path::Path};

use candle_core::{DType, Device};
use models::{LoadOptions, LoraConfig, load, load_as};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use support::{config, model_folder, tensors, write_weights};
use types::Provider;

/// Loads the folder, which must fail with a message that holds all of `parts`.
fn fails(folder: &Path, parts: &[&str]) {
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let error =
        load(folder, &options).err().unwrap_or_else(|| panic!("must be refused with {parts:?}")).to_string();
    for part in parts {
        assert!(error.contains(part), "the message must hold {part:?}: {error}");
    }
}

#[test]
fn a_config_that_cannot_be_used_is_refused_by_file_and_field() {
    let changes: &[(&str, Value, &[&str])] = &[
        (
            "architectures",
            json!(["GPTNeoForCausalLM"]),
            &["GPTNeoForCausalLM", "nearest that is: GPTJForCausalLM"],
        ),
        ("architectures", json!([]), &["architectures"]),
        ("architectures", json!(7), &["architectures"]),
        ("hidden_size", Value::Null, &["hidden_size", "missing"]),
        ("hidden_size", json!(0), &["hidden_size", "0"]),
        ("hidden_size", json!(-24), &["hidden_size", "-24"]),
        ("hidden_size", json!("24"), &["hidden_size", "whole number"]),
        ("hidden_size", json!(1u64 << 60), &["hidden_size"]),
        ("hidden_size", json!(26), &["num_attention_heads", "26"]),
        (
            "hidden_size",
            json!(1 << 20),
            &["model.embed_tokens.weight", "[50, 24]", "[50, 1048576]", "vocab_size and hidden_size"],
        ),
        ("intermediate_size", json!(41), &["gate_proj.weight", "[40, 24]", "[41, 24]", "intermediate_size"]),
        ("num_key_value_heads", json!(3), &["num_key_value_heads", "3"]),
        ("num_attention_heads", json!(1 << 20), &["num_"]),
        ("head_dim", json!(7), &["head_dim", "7"]),
        ("head_dim", json!(1 << 20), &["too wide"]),
        ("num_hidden_layers", json!(1001), &["num_hidden_layers", "1001"]),
        ("num_hidden_layers", json!(3), &["model.layers.2.", "missing"]),
        ("num_hidden_layers", json!(1), &["model.layers.1.", "does not belong"]),
        ("vocab_size", json!(51), &["model.embed_tokens.weight", "[50, 24]", "[51, 24]"]),
        ("max_position_embeddings", Value::Null, &["max_position_embeddings", "missing"]),
        ("hidden_act", json!("relu2"), &["hidden_act", "relu2", "gelu_pytorch_tanh"]),
        ("rms_norm_eps", json!("small"), &["rms_norm_eps"]),
        ("rope_theta", json!(0), &["rope_theta"]),
        ("rope_scaling", json!({"rope_type": "ntk", "factor": 4.0}), &["rope_scaling", "ntk", "llama3"]),
        ("rope_scaling", json!({"type": "longrope", "short_factor": [1.0]}), &["short_factor", "3 numbers"]),
        ("partial_rotary_factor", json!(0.9), &["partial_rotary_factor", "0.9"]),
        ("rope_scaling", json!({"type": "linear"}), &["factor", "missing"]),
        ("rope_scaling", json!([1]), &["rope_scaling", "object"]),
        ("attention_bias", json!("yes"), &["attention_bias"]),
        ("attention_bias", json!(true), &["q_proj.bias", "missing"]),
        ("quantization_config", json!({"bits": 4}), &["quantization_config"]),
    ];
    for (field, value, parts) in changes {
        let mut changed = config("LlamaForCausalLM");
        changed[*field] = value.clone();
        fails(model_folder(&changed).path(), parts);
    }
}

/// The tiny model `shape`, with changes to its `config.json`, which are told by its field.
fn shape_fails(shape: &str, changes: &[(&str, Value, &[&str])]) {
    for (field, value, parts) in changes {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(golden::path(shape)).unwrap().map(Result::unwrap) {
            if file.path().is_file() {
                fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
            }
        }
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[*field] = value.clone();
        fs::write(&path, config.to_string()).unwrap();
        fails(folder.path(), &[&[*field], *parts].concat());
    }
}

#[test]
fn what_only_some_families_have_is_refused_by_field_too() {
    shape_fails("mistral-window-f16", &[("sliding_window", json!(0), &["0"])]);
    shape_fails(
        "qwen2-window",
        &[
            ("layer_types", json!(["full_attention"]), &["1 entries", "num_hidden_layers 2"]),
            ("layer_types", json!(["full_attention", "chunked_attention"]), &["chunked_attention"]),
            ("use_sliding_window", json!(1), &["true or false"]),
        ],
    );
    shape_fails(
        "smollm3-f16",
        &[
            ("no_rope_layers", json!([1, 0]), &["2 entries", "num_hidden_layers 3"]),
            ("no_rope_layers", json!([1, 0, 2]), &["0 and 1"]),
        ],
    );
    shape_fails(
        "gemma2",
        &[
            ("hidden_activation", json!("relu"), &["relu"]),
            ("attn_logit_softcapping", json!(-1), &["-1"]),
            ("use_bidirectional_attention", json!(true), &["false"]),
        ],
    );
    shape_fails("mistral3-text-part", &[("text_config", Value::Null, &["missing"])]);
    shape_fails("mistral3-text-part", &[("text_config", json!({"model_type": "mamba"}), &["mamba"])]);
    shape_fails("phi3-longrope", &[("attention_bias", json!(true), &["false"])]);
    shape_fails(
        "gptj-f16",
        &[
            ("n_head", json!(3), &["3", "32"]),
            ("rotary_dim", json!(7), &["7"]),
            ("activation_function", json!("swish"), &["swish"]),
        ],
    );
    shape_fails(
        "gpt-oss-bf16",
        &[
            ("num_experts_per_tok", json!(5), &["between 1 and 4"]),
            ("quantization_config", json!({"quant_method": "gptq"}), &["gptq", "mxfp4"]),
        ],
    );
}

#[test]
fn sizes_that_contradict_the_tensors_of_any_family_are_told_with_both() {
    for (shape, field, value, tensor) in [
        ("gptj-f16", "n_inner", json!(100), "fc_in.weight"),
        ("gpt-oss-bf16", "num_local_experts", json!(5), "router.weight"),
        ("phi3-longrope", "num_key_value_heads", json!(4), "qkv_proj.weight"),
        ("qwen3-sharded-bf16", "head_dim", json!(10), "q_norm.weight"),
    ] {
        shape_fails(shape, &[(field, value, &[tensor, "has shape", "is expected by"])]);
    }
}

#[test]
fn a_config_that_is_no_json_object_is_refused() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let path = folder.path().join("config.json");
    for text in ["", "[]", "{\"a\": ", "{\"a\": 1}x", "\u{0}"] {
        fs::write(&path, text).unwrap();
        fails(folder.path(), &["config.json"]);
    }
    fs::write(&path, "[".repeat(100_000)).unwrap();
    fails(folder.path(), &["config.json", "JSON"]);
    fs::remove_file(&path).unwrap();
    fails(folder.path(), &["config.json"]);
}

#[test]
fn a_folder_without_safetensors_says_what_it_has() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    fails(folder.path(), &["neither model.safetensors"]);
    fs::write(folder.path().join("pytorch_model.bin"), b"\x80").unwrap();
    fails(folder.path(), &["pytorch_model.bin", "pickle"]);
}

/// A safetensors file with this header and this many bytes of data.
fn lying(header: &str, length: u64, data: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn a_lying_header_is_refused_before_anything_is_read() {
    let one = |fields: &str| format!("{{\"w\":{{{fields}}}}}");
    let good = one("\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]");
    let two = |second: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}},\
             \"b\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":{second}}}}}"
        )
    };
    let length = |header: &str| header.len() as u64;
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (vec![1, 2, 3], &["3 bytes"]),
        (lying(&good, u64::MAX, 16), &["header"]),
        (lying(&good, length(&good) + 100, 16), &["header", "truncated"]),
        (lying(&good, length(&good) - 1, 16), &["JSON"]),
        (lying(&good, length(&good), 15), &["\"w\"", "truncated"]),
        (lying(&good, length(&good), 17), &["end at byte"]),
        (lying("[]", 2, 0), &["JSON"]),
        (case(&one("\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,16]")), &["\"w\"", "[2, 3]", "24"]),
        (case(&one("\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,0]")), &["\"w\"", "16..0"]),
        (case(&one("\"dtype\":\"Q9\",\"shape\":[2,2],\"data_offsets\":[0,16]")), &["\"w\"", "Q9"]),
        (case(&one("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,16]")), &["\"w\""]),
        (case(&one("\"dtype\":\"F32\",\"data_offsets\":[0,16]")), &["\"w\"", "shape"]),
        (
            case(&one("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,16]")),
            &["\"w\"", "too large"],
        ),
        (lying(&two("[8,24]"), length(&two("[8,24]")), 32), &["\"b\"", "overlap"]),
        (lying(&two("[24,40]"), length(&two("[24,40]")), 40), &["\"b\"", "gap"]),
    ];
    fn case(header: &str) -> Vec<u8> {
        lying(header, header.len() as u64, 16)
    }
    let folder = model_folder(&config("LlamaForCausalLM"));
    let path = folder.path().join("model.safetensors");
    for (bytes, parts) in cases {
        fs::write(&path, bytes).unwrap();
        fails(folder.path(), &[&["model.safetensors"], parts].concat());
    }
}

#[test]
fn tensors_must_be_those_of_the_config() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let path = folder.path().join("model.safetensors");
    let mut changed = tensors();
    changed.remove("lm_head.weight");
    write_weights(&path, &changed, Dtype::F32);
    fails(folder.path(), &["lm_head.weight", "missing", "[50, 24]"]);

    changed = tensors();
    changed.insert("model.layers.0.self_attn.q_norm.weight".into(), vec![6]);
    write_weights(&path, &changed, Dtype::F32);
    fails(folder.path(), &["q_norm", "does not belong"]);

    let header =
        "{\"model.embed_tokens.weight\":{\"dtype\":\"I8\",\"shape\":[50,24],\"data_offsets\":[0,1200]}}";
    fs::write(&path, lying(header, header.len() as u64, 1200)).unwrap();
    fails(folder.path(), &["model.embed_tokens.weight", "I8"]);
}

#[test]
fn values_that_fp16_does_not_have_are_refused_by_tensor() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let in_fp16 = || load_as(folder.path(), &options, None, DType::F16);
    let model = in_fp16().unwrap();
    assert!(model.info().dtype == "f16" && model.multiplies_f16(), "{}", model.info().dtype);
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    for (value, fits) in [(65504f32, true), (70000.0, false), (f32::NAN, false)] {
        bytes[last..].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let end = bytes.as_ptr_range().end;
        let (name, _) = tensors.iter().find(|(_, view)| view.data().as_ptr_range().end == end).unwrap();
        match in_fp16() {
            Ok(_) => assert!(fits, "{value} is no value of fp16"),
            Err(error) => {
                let error = error.to_string();
                assert!(!fits && error.contains(name) && error.contains("65504"), "{value}: {error}");
            }
        }
        assert!(!load(folder.path(), &options).unwrap().multiplies_f16(), "f32 holds it");
    }
}

#[test]
fn an_index_may_only_name_files_of_its_folder() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    fs::rename(folder.path().join("model.safetensors"), folder.path().join("a.safetensors")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &["weight_map"]),
        (json!({"weight_map": {"x": "../a.safetensors"}}), &["\"x\"", "../a.safetensors"]),
        (json!({"weight_map": {"x": "/etc/a.safetensors"}}), &["\"x\""]),
        (json!({"weight_map": {"x": "..\\a.safetensors"}}), &["\"x\""]),
        (json!({"weight_map": {"x": 7}}), &["\"x\"", "7"]),
        (json!({"weight_map": {"x": "b.safetensors"}}), &["b.safetensors"]),
        (json!({"weight_map": {"x": "a.safetensors"}}), &["\"x\"", "not in a.safetensors"]),
        (json!({"weight_map": {"lm_head.weight": "a.safetensors"}}), &["embed_tokens", "missing"]),
    ];
    for (value, parts) in cases {
        fs::write(&index, value.to_string()).unwrap();
        fails(folder.path(), parts);
    }
}

#[test]
fn an_adapter_that_cannot_be_computed_is_refused_by_field() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let mut model = load(folder.path(), &options).unwrap();
    let lora = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.1, target_modules: Some(vec!["q_proj".into()]) };
    model.attach_lora(&lora, 1).unwrap();
    let adapter = tempfile::tempdir().unwrap();
    model.save_adapter(adapter.path(), &lora, "base").unwrap();
    let path = adapter.path().join("adapter_config.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let changes: &[(&str, Value, &[&str])] = &[
        ("peft_type", json!("IA3"), &["peft_type", "IA3"]),
        ("bias", json!("all"), &["bias", "all"]),
        ("use_dora", json!(true), &["use_dora"]),
        ("rank_pattern", json!({"q_proj": 3}), &["rank_pattern"]),
        ("modules_to_save", json!(["lm_head"]), &["modules_to_save"]),
        ("layers_to_transform", json!([0]), &["layers_to_transform"]),
        ("init_lora_weights", json!("pissa"), &["init_lora_weights", "pissa"]),
        ("r", json!(0), &["\"r\"", "0"]),
        ("r", json!(3), &["lora_A", "[2, 24]", "[3, 24]"]),
        ("lora_alpha", Value::Null, &["lora_alpha", "missing"]),
        ("lora_dropout", json!(1.0), &["lora_dropout"]),
        ("target_modules", json!(["c_attn"]), &["c_attn", "q_proj", "down_proj"]),
        ("target_modules", json!(["q_proj", "v_proj"]), &["v_proj.lora_A", "missing"]),
        ("target_modules", json!([]), &["target_modules"]),
    ];
    for (field, value, parts) in changes {
        let mut changed = good.clone();
        changed[*field] = value.clone();
        fs::write(&path, changed.to_string()).unwrap();
        let error = model.load_adapter(adapter.path()).expect_err("must be refused").to_string();
        for part in *parts {
            assert!(error.contains(part), "{field}: the message must hold {part:?}: {error}");
        }
    }
    fs::write(&path, good.to_string()).unwrap();
    assert_eq!(model.load_adapter(adapter.path()).unwrap(), lora, "the untouched adapter must load");
    let bytes = fs::read(adapter.path().join("adapter_model.safetensors")).unwrap();
    fs::write(adapter.path().join("adapter_model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    assert!(model.load_adapter(adapter.path()).is_err(), "a truncated adapter must be refused");
}

#[test]
fn lora_settings_that_make_no_sense_are_refused() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let mut model = load(
        folder.path(),
        &LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu },
    )
    .unwrap();
    let good = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.1, target_modules: None };
    for (bad, part) in [
        (LoraConfig { rank: 0, ..good.clone() }, "rank"),
        (LoraConfig { alpha: f64::NAN, ..good.clone() }, "alpha"),
        (LoraConfig { dropout: 1.0, ..good.clone() }, "dropout"),
        (LoraConfig { target_modules: Some(vec![]), ..good.clone() }, "target_modules"),
        (LoraConfig { target_modules: Some(vec!["qproj".into()]), ..good.clone() }, "qproj"),
    ] {
        let error = model.attach_lora(&bad, 1).expect_err("must be refused").to_string();
        assert!(error.contains(part), "the message must name {part}: {error}");
    }
    assert!(model.trainable().is_empty(), "a refused adapter must leave the model as it was");
}
