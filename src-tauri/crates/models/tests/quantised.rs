//! Models whose linear layers are quantised: as bitsandbytes has stored them, or while they are read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where its own setup fails"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;
mod support;

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::{Device, Tensor};
use kernels::FrozenWeight;
use models::{
    AnyModel, Codes, LoadOptions, LoraConfig, ModelError, Pass, Quantise, Sequences, export::Merged, forward,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use types::Provider;

const BASE: &str = "llama-tied-gqa";
const WAYS: [(&str, Codes, bool); 4] = [
    ("nf4", Codes::Nf4, false),
    ("nf4-nested", Codes::Nf4, true),
    ("fp4", Codes::Fp4, false),
    ("int8", Codes::Int8, false),
];

fn stored(way: &str) -> std::path::PathBuf {
    golden::path("quant").join(way)
}

fn load(folder: &Path, provider: Provider, how: Option<Quantise>) -> Result<AnyModel, ModelError> {
    models::load_quantised(folder, &LoadOptions { bf16: false, provider, device: place::device() }, how)
}

/// Logits of the last eight of `ids`.
fn logits(model: AnyModel, ids: &Tensor) -> Vec<f32> {
    let model = model.causal().unwrap();
    let sequences = Sequences::new(vec![ids.dims()[0]]);
    let hidden = forward(&*model, ids, &sequences, Pass::EVAL).unwrap();
    let last = hidden.narrow(0, ids.dims()[0] - 8, 8).unwrap();
    model.logits(&last).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// How far apart two are, of the largest of them.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn a_checkpoint_of_bitsandbytes_computes_what_its_weights_stand_for() {
    for (way, ..) in WAYS {
        let golden =
            candle_core::safetensors::load(stored(way).join("golden.safetensors"), &Device::Cpu).unwrap();
        let ids = golden["ids"].to_dtype(candle_core::DType::U32).unwrap();
        let want: Vec<f32> = golden["logits"].flatten_all().unwrap().to_vec1().unwrap();
        for provider in [Provider::Huggingface, Provider::Unsloth] {
            let got = logits(load(&stored(way), provider, None).unwrap(), &ids);
            let apart = apart(&got, &want);
            assert!(apart < 1e-5, "{way}, {provider}: {apart} from what transformers computes");
        }
    }
}

#[test]
fn quantising_while_loading_gives_the_checkpoint_of_bitsandbytes() {
    for (way, codes, nested) in WAYS {
        let how = Quantise { codes, nested, bf16: false };
        let mut theirs = load(&stored(way), Provider::Unsloth, None).unwrap();
        let mut ours = load(&golden::path(BASE), Provider::Unsloth, Some(how)).unwrap();
        for ((path, ours), (_, theirs)) in ours.linears().into_iter().zip(theirs.linears()) {
            let (
                FrozenWeight::Quantised { weight: ours, .. },
                FrozenWeight::Quantised { weight: theirs, .. },
            ) = (ours.weight(), theirs.weight())
            else {
                panic!("{path} is quantised")
            };
            if codes == Codes::Int8 {
                // transformers rounds weights to float16 before it makes integers of them.
                assert!(apart(&ours.to_vec(), &theirs.to_vec()) < 1.1 / 127.0, "{way}, {path}");
                continue;
            }
            assert_eq!(ours.packed(), theirs.packed(), "{way}, {path}");
            if nested {
                // bitsandbytes' library for CPUs finds other codes for scales near the mean, and loses the last bits of them.
                assert!(apart(&ours.to_vec(), &theirs.to_vec()) < 1e-2, "{way}, {path}");
            } else {
                assert_eq!(ours, theirs, "{way}, {path}");
            }
        }
    }
}

#[test]
fn every_kind_of_model_is_quantised_and_still_computes() {
    let names = [
        "mistral3-text-part",
        "gpt-oss-bf16",
        "phi3-longrope",
        "t5-relu-tied-sharded",
        "bart-gelu",
        "bert-span",
    ];
    for name in names.into_iter().chain(["deberta-span", "roberta-span-sharded-bf16"]) {
        let how = Quantise { codes: Codes::Nf4, nested: true, bf16: false };
        let mut model = load(&golden::path(name), Provider::Unsloth, Some(how)).unwrap();
        for (path, linear) in model.linears() {
            assert!(matches!(linear.weight(), FrozenWeight::Quantised { .. }), "{name}: {path}");
        }
        let config = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0, target_modules: None };
        model.attach_lora(&config, 1).unwrap();
        assert!(!model.trainable().is_empty(), "{name} has an adapter");
    }
}

#[test]
fn an_adapter_is_not_merged_into_codes() {
    for way in ["nf4", "int8"] {
        let error = Merged::open(&stored(way), &golden::path(BASE).join("adapter")).err().unwrap();
        assert!(error.to_string().contains("bitsandbytes"), "{way}: {error}");
    }
}

type Parts = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn parts(folder: &Path) -> Parts {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    read.tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

/// The checkpoint `way` with its parts changed, which must be refused with a message that holds `part`.
fn refused(way: &str, part: &str, change: impl FnOnce(&mut Parts)) {
    let mut all = parts(&stored(way));
    change(&mut all);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(stored(way).join("config.json"), folder.path().join("config.json")).unwrap();
    let views: Vec<(&String, TensorView)> = all
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()))
        .collect();
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let error = load(folder.path(), Provider::Unsloth, None).err().expect("must be refused").to_string();
    assert!(error.contains(part) && error.contains("down_proj"), "the message must hold {part:?}: {error}");
}

const WEIGHT: &str = "model.layers.0.mlp.down_proj.weight";

#[test]
fn a_damaged_checkpoint_of_bitsandbytes_is_refused() {
    let state = format!("{WEIGHT}.quant_state.bitsandbytes__nf4");
    let name = |part: &str| format!("{WEIGHT}.{part}");
    let floats = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (Dtype::F32, vec![values.len()], bytes)
    };
    let with_state = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&parts(&stored("nf4-nested"))[&state].2).unwrap();
        change(&mut value);
        let bytes = value.to_string().into_bytes();
        (Dtype::U8, vec![bytes.len()], bytes)
    };
    let bytes = |count: usize| (Dtype::U8, vec![count], vec![b'{'; count]);
    refused("nf4", "missing", |all| drop(all.remove(&state)));
    refused("nf4", "column 2", |all| drop(all.insert(state.clone(), bytes(10))));
    refused("nf4", "at most", |all| drop(all.insert(state.clone(), bytes(1 << 15))));
    refused("nf4", "expected", |all| drop(all.insert(name("absmax"), floats(&[1.0; 59]))));
    refused("nf4", "finite", |all| drop(all.insert(name("absmax"), floats(&[f32::NAN; 60]))));
    refused("nf4", "other codes", |all| drop(all.insert(name("quant_map"), floats(&[0.5; 16]))));
    refused("nf4", "bytes of codes", |all| drop(all.insert(WEIGHT.into(), bytes(7))));
    refused("nf4", "at most", |all| drop(all.insert(WEIGHT.into(), bytes(1 << 20))));
    for (change, part) in [
        (json!({"shape": [80, 48]}), "[80, 48]"),
        (json!({"blocksize": 0}), "expected"),
        (json!({"blocksize": 63}), "expected"),
        (json!({"nested_blocksize": 64}), "256"),
        (json!({"nested_offset": "x"}), "invalid type"),
        (json!({"blocksize": -1}), "invalid value"),
    ] {
        let changed = with_state(&|value| {
            value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        });
        refused("nf4-nested", part, |all| drop(all.insert(state.clone(), changed)));
    }
    refused("nf4-nested", "missing", |all| drop(all.remove(&name("nested_absmax"))));
    refused("nf4-nested", "nested_quant_map", |all| {
        drop(all.insert(name("nested_quant_map"), floats(&[0.0; 256])))
    });
    let scales = "model.layers.0.mlp.down_proj.SCB";
    refused("int8", "expected", |all| drop(all.insert(scales.into(), floats(&[1.0; 47]))));
    refused("int8", "finite", |all| drop(all.insert(scales.into(), floats(&[f32::INFINITY; 48]))));
    refused("int8", "layout", |all| {
        drop(all.insert(name("_format").replace("._", "_"), (Dtype::U8, vec![1], vec![1])))
    });
    refused("int8", "I8", |all| {
        let (_, shape, bytes) = all[WEIGHT].clone();
        all.insert(WEIGHT.into(), (Dtype::U8, shape, bytes));
    });
}
