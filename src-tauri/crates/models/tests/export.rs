//! Merged models: what transformers and PEFT compute with base and adapter, the exported files compute alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a broken golden ends the test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::{fs, io::Write, path::Path};

use candle_core::{Device, Tensor};
use golden::{SHAPES, golden, largest_difference, path, relative_distance};
use models::{
    LoadOptions, ModelError, Pass, Sequences,
    export::{
        Merged,
        gguf::{Plan as GgufPlan, Value},
        safetensors::{Plan, SHARD_BYTES},
    },
    forward,
    weights::header::{Stored, read_header},
};
use types::{ExportDtype, Provider};

fn merged(shape: &str) -> Merged {
    Merged::open(&path(shape), &path(shape).join("adapter")).unwrap()
}

/// Writes a shape's merged model and gives how much was told to be written.
fn export(shape: &str, dtype: Option<ExportDtype>, most: u64, folder: &Path) -> Vec<u64> {
    let merged = merged(shape);
    let plan = Plan::new(&merged, dtype, most).unwrap();
    let mut told = Vec::new();
    plan.write(&merged, folder, &mut |done| {
        told.push(done);
        Ok(())
    })
    .unwrap();
    assert_eq!(told.last(), Some(&plan.bytes()), "{shape}: all that was planned is written");
    fs::copy(path(shape).join("config.json"), folder.join("config.json")).unwrap();
    told
}

/// Logits of the golden sequences.
fn logits(shape: &str, folder: &Path) -> Vec<f32> {
    let model = models::load(
        folder,
        &LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu },
    )
    .unwrap()
    .causal()
    .unwrap();
    let golden = golden(shape);
    let ids: Vec<u32> = golden.sequences.iter().flat_map(|s| s.ids.clone()).collect();
    let sequences = Sequences::new(golden.sequences.iter().map(|s| s.ids.len()).collect());
    let ids = Tensor::new(ids, &Device::Cpu).unwrap();
    let hidden = forward(model.as_ref(), &ids, &sequences, Pass::BASE).unwrap();
    model.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn wanted(shape: &str) -> Vec<f32> {
    let tensors =
        candle_core::safetensors::load(path(shape).join("golden.safetensors"), &Device::Cpu).unwrap();
    tensors["lora_logits"].flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn an_exported_model_computes_what_peft_computes() {
    for shape in SHAPES {
        for most in [SHARD_BYTES, 30_000] {
            let folder = tempfile::tempdir().unwrap();
            export(shape, Some(ExportDtype::F32), most, folder.path());
            let sharded = folder.path().join("model.safetensors.index.json").exists();
            assert_eq!(sharded, most < SHARD_BYTES, "{shape}: an index comes with shards alone");
            let apart = largest_difference(&logits(shape, folder.path()), &wanted(shape));
            assert!(apart <= 1e-4, "{shape}: logits are {apart:e} apart");
        }
    }
}

#[test]
fn weights_keep_their_dtype_unless_another_is_asked_for() {
    for (shape, own) in [("mistral-window-f16", Stored::F16), ("llama-linear-sharded-bf16", Stored::Bf16)] {
        for (asked, want) in
            [(None, own), (Some(ExportDtype::Bf16), Stored::Bf16), (Some(ExportDtype::F16), Stored::F16)]
        {
            let folder = tempfile::tempdir().unwrap();
            export(shape, asked, SHARD_BYTES, folder.path());
            let header = read_header(&folder.path().join("model.safetensors")).unwrap();
            assert!(header.values().all(|entry| entry.stored == Some(want)), "{shape}: {asked:?}");
            let apart = relative_distance(&logits(shape, folder.path()), &wanted(shape));
            assert!(apart <= 3e-2, "{shape}, {want:?}: logits are {apart:e} of their norm apart");
        }
    }
}

#[test]
fn what_cannot_be_exported_is_told() {
    let shape = "llama-tied-gqa";
    let other = Merged::open(&path("mistral-window-f16"), &path(shape).join("adapter"));
    assert!(matches!(other, Err(ModelError::Tensor { .. })), "an adapter of another model fits no tensor");
    let merged = merged(shape);
    let refused = Plan::new(&merged, Some(ExportDtype::Q8_0), SHARD_BYTES);
    assert!(matches!(refused, Err(ModelError::Export(_))), "safetensors has no such type: {refused:?}");

    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::new(&merged, None, SHARD_BYTES).unwrap();
    let ended = plan.write(&merged, folder.path(), &mut |_| Err(ModelError::Export("enough".into())));
    assert!(matches!(ended, Err(ModelError::Export(_))), "whoever is told can end it");
}

#[test]
fn a_value_that_a_dtype_cannot_hold_ends_the_export() {
    let base = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(path("llama-tied-gqa").join(name), base.path().join(name)).unwrap();
    }
    let file = base.path().join("model.safetensors");
    let entry = read_header(&file).unwrap()["model.norm.weight"].clone();
    let mut bytes = fs::read(&file).unwrap();
    bytes[entry.start as usize..entry.start as usize + 4].copy_from_slice(&1e6f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let merged = Merged::open(base.path(), &path("llama-tied-gqa").join("adapter")).unwrap();
    for (dtype, fits) in [(ExportDtype::F16, false), (ExportDtype::Bf16, true)] {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::new(&merged, Some(dtype), SHARD_BYTES).unwrap();
        let written = plan.write(&merged, folder.path(), &mut |_| Ok(()));
        assert_eq!(
            written.is_ok(),
            fits,
            "{dtype}: 10^6 must not become infinite without a word: {written:?}"
        );
    }
}

#[test]
fn gguf_holds_every_tensor_and_a_damaged_one_is_found() {
    let tokenizer = || {
        vec![
            ("tokenizer.ggml.tokens".to_owned(), Value::Texts(vec!["a".into(), "é\n".into()])),
            ("tokenizer.ggml.token_type".to_owned(), Value::I32s(vec![1, 3])),
            ("tokenizer.ggml.scores".to_owned(), Value::F32s(vec![0.0, -1.5])),
            ("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true)),
        ]
    };
    for shape in SHAPES {
        let merged = merged(shape);
        let planned = GgufPlan::new(&path(shape), &merged, None, "a name", tokenizer());
        let prefixes = ["llama", "mistral-", "qwen"];
        if !prefixes.iter().any(|prefix| shape.starts_with(prefix)) {
            assert!(matches!(planned, Err(ModelError::Export(_))), "{shape} has no form in GGUF here");
            continue;
        }
        for dtype in [None].into_iter().chain(ExportDtype::ALL.iter().copied().map(Some)) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("model.gguf");
            let plan = GgufPlan::new(&path(shape), &merged, dtype, "a name", tokenizer()).unwrap();
            plan.write(&merged, &file, &mut |_| Ok(())).unwrap();
            assert!(plan.holds(&merged, &file).unwrap(), "{shape} in {dtype:?} is what was planned");

            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() - 64;
            bytes[at] ^= 0x40;
            bytes[at + 1] ^= 0x40;
            fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
            assert!(!plan.holds(&merged, &file).unwrap(), "{shape} in {dtype:?}: a changed value is found");
        }
    }
}
