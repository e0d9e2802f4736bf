//! What every family must do: gradients everywhere, sequences kept apart, the same numbers again, the same numbers from
//! every kind of file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where its own setup fails"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
mod support;

use std::{collections::BTreeMap, fs};

use candle_core::{DType, Device, Tensor};
use golden::{SHAPES, path};
use models::{ARCHITECTURES, CausalLm, LayerCache, LoadOptions, LoraConfig, Pass, Sequences, forward, load};
use safetensors::Dtype;
use serde_json::json;
use support::{config, model_folder, tensors, write_weights};
use types::{Provider, architecture::ModelKind};

const LORA: LoraConfig = LoraConfig { rank: 3, alpha: 6.0, dropout: 0.2, target_modules: None };

/// A tiny model of the family with an adapter whose B is not zero.
fn adapted(shape: &str, bf16: bool, provider: Provider) -> Box<dyn CausalLm> {
    let options = LoadOptions { bf16, provider, device: Device::Cpu };
    let mut model = load(&path(shape), &options).unwrap().causal().unwrap();
    model.attach_lora(&LORA, 5).unwrap();
    for (name, var) in model.trainable() {
        if name.contains("lora_B") {
            let (rows, columns) = var.dims2().unwrap();
            let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * 0.7).sin() * 0.1).collect();
            var.set(&Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()).unwrap();
        }
    }
    model
}

fn hidden(model: &dyn CausalLm, sequences: &[&[u32]], pass: Pass) -> Vec<Vec<f32>> {
    let ids = Tensor::new(sequences.concat(), model.device()).unwrap();
    let lengths = sequences.iter().map(|s| s.len()).collect();
    let out = forward(model, &ids, &Sequences::new(lengths), pass).unwrap();
    out.to_dtype(DType::F32).unwrap().to_vec2().unwrap()
}

#[test]
fn every_architecture_has_a_tiny_model() {
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let mut seen: Vec<String> = SHAPES
        .iter()
        .map(|shape| load(&path(shape), &options).unwrap().info().architecture.clone())
        .collect();
    seen.sort();
    seen.dedup();
    let decoders = ARCHITECTURES.iter().filter(|family| family.kind() == ModelKind::Causal);
    let mut all: Vec<&str> = decoders.map(|family| family.name).collect();
    all.sort();
    assert_eq!(seen, all, "what the tests below hold for every tiny model, they hold for every decoder");
}

#[test]
fn every_trainable_tensor_gets_a_gradient_in_every_architecture() {
    for shape in SHAPES {
        for (bf16, provider) in
            [false, true].into_iter().flat_map(|b| Provider::ALL.iter().map(move |p| (b, *p)))
        {
            let mut model = adapted(shape, bf16, provider);
            assert_eq!(model.trainable().len(), 2 * model.linears().len(), "A and B of every linear layer");
            let trainable = model.trainable();
            let ids = Tensor::new(&[1u32, 2, 3, 4, 5, 6], &Device::Cpu).unwrap();
            let pass = Pass { dropout_seed: Some(3), ..Pass::EVAL };
            let out = forward(model.as_ref(), &ids, &Sequences::new(vec![4, 2]), pass).unwrap();
            let loss = model.cross_entropy(&out, &[2, 3, 4, kernels::IGNORED, 6, 7]).unwrap();
            let gradients = loss.backward().unwrap();
            for (name, var) in trainable {
                let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} must get a gradient"));
                let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(norm.is_finite() && norm > 0.0, "{shape}: {name} must get a gradient");
                assert_eq!(gradient.dtype(), DType::F32, "{name}: adapters are f32 also on a bf16 model");
            }
        }
    }
}

#[test]
fn sequences_side_by_side_do_not_see_each_other() {
    for shape in SHAPES {
        let model = adapted(shape, false, Provider::Unsloth);
        let (a, b, c): (&[u32], &[u32], &[u32]) = (&[1, 2, 3, 4, 5, 6, 7], &[9], &[10, 11, 12]);
        let together = hidden(model.as_ref(), &[a, b, c], Pass::EVAL);
        let apart = [a, b, c].map(|s| hidden(model.as_ref(), &[s], Pass::EVAL)).concat();
        for (i, (x, y)) in together.iter().flatten().zip(apart.iter().flatten()).enumerate() {
            assert!((x - y).abs() < 1e-5, "packed and separate must agree; value {i}: {x} and {y}");
        }
        let other = hidden(model.as_ref(), &[a, &[20], c], Pass::EVAL);
        assert_eq!(
            together[..7],
            other[..7],
            "the sequence before a changed one must stay the same to the bit"
        );
        assert_eq!(
            together[8..],
            other[8..],
            "the sequence after a changed one must stay the same to the bit"
        );
        assert_ne!(together[7], other[7], "the changed sequence must change");
    }
}

#[test]
fn a_layer_computed_again_with_the_same_seed_is_the_same() {
    let model = adapted("llama-tied-gqa", false, Provider::Unsloth);
    let pass = |seed| Pass { dropout_seed: Some(seed), ..Pass::EVAL };
    let run = |pass| hidden(model.as_ref(), &[&[1, 2, 3, 4, 5]], pass);
    assert_eq!(run(pass(1)), run(pass(1)), "the same seed must give the same numbers");
    assert_ne!(run(pass(1)), run(pass(2)), "another seed must drop other values");
    assert_ne!(run(pass(1)), run(Pass::EVAL), "evaluation must not drop anything");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_can_be_turned_off() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let mut model = load(folder.path(), &options).unwrap().causal().unwrap();
    let ids: &[&[u32]] = &[&[1, 2, 3]];
    let base = hidden(model.as_ref(), ids, Pass::EVAL);
    model.attach_lora(&LORA, 1).unwrap();
    assert_eq!(
        hidden(model.as_ref(), ids, Pass::EVAL),
        base,
        "B is zero, so a fresh adapter changes nothing"
    );
    let values = |model: &dyn CausalLm| -> Vec<Vec<f32>> {
        model.trainable().iter().map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap()).collect()
    };
    let first = values(model.as_ref());
    assert!(first[0].iter().all(|v| v.abs() <= 1.0 / 24f32.sqrt()), "A lies within 1 / sqrt(in)");
    model.attach_lora(&LoraConfig { target_modules: Some(vec!["v_proj".into()]), ..LORA }, 1).unwrap();
    assert_eq!(values(model.as_ref())[0], first[4], "a module's values must not depend on the other modules");
    assert_eq!(
        model.trainable()[0].0,
        "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight",
        "PEFT's name"
    );

    let model = adapted("llama-tied-gqa", false, Provider::Unsloth);
    let base_again = hidden(model.as_ref(), ids, Pass::BASE);
    assert_ne!(hidden(model.as_ref(), ids, Pass::EVAL), base_again, "an adapter with B changes the answer");
}

#[test]
fn a_saved_adapter_gives_the_same_numbers() {
    let model = adapted("llama-tied-gqa", false, Provider::Unsloth);
    let folder = tempfile::tempdir().unwrap();
    model.save_adapter(folder.path(), &LORA, "some/base").unwrap();
    let mut again = adapted("llama-tied-gqa", false, Provider::Unsloth);
    again.attach_lora(&LORA, 77).unwrap();
    let config = again.load_adapter(folder.path()).unwrap();
    assert_eq!((config.rank, config.alpha, config.dropout), (3, 6.0, 0.2), "the settings must come back");
    let ids: &[&[u32]] = &[&[1, 2, 3]];
    assert_eq!(
        hidden(again.as_ref(), ids, Pass::EVAL),
        hidden(model.as_ref(), ids, Pass::EVAL),
        "a loaded adapter must compute what the saved one did"
    );
}

#[test]
fn one_file_shards_and_every_type_hold_the_same_model() {
    let folder = model_folder(&config("LlamaForCausalLM"));
    let options = LoadOptions { bf16: false, provider: Provider::Huggingface, device: Device::Cpu };
    let ids: &[&[u32]] = &[&[1, 2, 3, 4]];
    let model = load(folder.path(), &options).unwrap().causal().unwrap();
    let want = hidden(model.as_ref(), ids, Pass::EVAL);
    let parameters: usize = tensors().values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!(model.info().parameters, parameters as u64, "the parameters of all tensors");
    assert_eq!(
        &models::read_info(folder.path()).unwrap(),
        model.info(),
        "the config alone must tell the same"
    );

    write_weights(&folder.path().join("model.safetensors"), &tensors(), Dtype::BF16);
    assert_eq!(
        hidden(load(folder.path(), &options).unwrap().causal().unwrap().as_ref(), ids, Pass::EVAL),
        want,
        "bf16 file"
    );

    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let (mut first, mut second, mut map) = (BTreeMap::new(), BTreeMap::new(), serde_json::Map::new());
    for (i, (name, shape)) in tensors().into_iter().enumerate() {
        let (shard, file) =
            if i % 2 == 0 { (&mut first, "a.safetensors") } else { (&mut second, "b.safetensors") };
        map.insert(name.clone(), json!(file));
        shard.insert(name, shape);
    }
    write_weights(&folder.path().join("a.safetensors"), &first, Dtype::F32);
    write_weights(&folder.path().join("b.safetensors"), &second, Dtype::BF16);
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(
        hidden(load(folder.path(), &options).unwrap().causal().unwrap().as_ref(), ids, Pass::EVAL),
        want,
        "two shards"
    );

    let narrow = load(folder.path(), &LoadOptions { bf16: true, ..options }).unwrap().causal().unwrap();
    assert_eq!(narrow.info().dtype, "bf16");
    for (x, y) in hidden(narrow.as_ref(), ids, Pass::EVAL).iter().flatten().zip(want.iter().flatten()) {
        assert!((x - y).abs() < 0.15, "bf16 must be near f32: {x} and {y}");
    }
}

#[test]
fn a_cache_gives_the_numbers_of_the_whole_sequence() {
    for shape in SHAPES {
        let model = adapted(shape, false, Provider::Unsloth);
        let ids: Vec<u32> = (0..30).map(|i| i * 7 % 50).collect();
        let whole = hidden(model.as_ref(), &[&ids], Pass::EVAL);
        let mut caches = vec![LayerCache::default(); model.info().layers];
        let mut step = |from: usize, to: usize| -> Vec<Vec<f32>> {
            let sequences = Sequences::continued(to - from, from).reaching(ids.len());
            let mut x = model.embed(&Tensor::new(&ids[from..to], &Device::Cpu).unwrap()).unwrap();
            for (index, cache) in caches.iter_mut().enumerate() {
                cache.truncate(from);
                x = model.layer(index, &x, &sequences, Pass::EVAL, Some(cache)).unwrap();
            }
            model.final_norm(&x).unwrap().to_vec2().unwrap()
        };
        let pieces = [step(0, 12), step(12, 13), step(13, 30)].concat();
        for (x, y) in pieces.iter().flatten().zip(whole.iter().flatten()) {
            assert!((x - y).abs() < 1e-4, "cached and whole must agree: {x} and {y}");
        }
        let again = step(20, 30);
        for (x, y) in again.iter().flatten().zip(whole[20..].iter().flatten()) {
            assert!((x - y).abs() < 1e-4, "a truncated cache must go on from where it was cut: {x} and {y}");
        }
    }
}

#[test]
fn sequences_beyond_the_context_are_errors() {
    let model = adapted("llama-tied-gqa", false, Provider::Unsloth);
    let ids = Tensor::new(vec![1u32; 513], &Device::Cpu).unwrap();
    let error =
        forward(model.as_ref(), &ids, &Sequences::new(vec![513]), Pass::EVAL).unwrap_err().to_string();
    assert!(error.contains("513") && error.contains("512"), "both numbers must be named: {error}");
    forward(model.as_ref(), &ids, &Sequences::new(vec![257, 256]), Pass::EVAL)
        .expect("together they may be longer");
}
