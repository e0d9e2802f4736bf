//! Encoder-decoders equal transformers and PEFT: memory, logits, losses, gradients, greedy tokens, with and without caches.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken golden ends the test; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;
#[path = "support/reference.rs"]
mod reference;

use std::collections::HashMap;

use candle_core::{D, Device, Tensor};
use golden::{PAIRS, Pairs, Written, largest_difference, path, relative_distance};
use models::{DecoderCache, LoadOptions, LoraConfig, Memory, Pass, Seq2SeqLm, Sequences, decode, encode};
use reference::{Nearness, check_gradients, values};
use types::Provider;

const TOLERANCE: f64 = 1e-4;
/// Weights and activations are rounded to 8 bits of precision there.
const TOLERANCE_BF16: f64 = 6e-2;

struct Case {
    model: Box<dyn Seq2SeqLm>,
    golden: Pairs,
    tensors: HashMap<String, Tensor>,
    source: (Tensor, Sequences),
    target: (Tensor, Sequences),
    labels: Vec<u32>,
}

impl Case {
    fn new(name: &str, bf16: bool) -> Self {
        let options = LoadOptions { bf16, provider: Provider::Huggingface, device: place::device() };
        let mut model = models::load(&path(name), &options).unwrap().seq2seq().unwrap();
        model.load_adapter(&path(name).join("adapter")).unwrap();
        let golden = golden::pairs(name);
        let packed = |parts: Vec<&[u32]>| {
            let lengths = parts.iter().map(|part| part.len()).collect();
            (Tensor::new(parts.concat(), &place::device()).unwrap(), Sequences::new(lengths))
        };
        Case {
            source: packed(golden.pairs.iter().map(|pair| pair.source.as_slice()).collect()),
            target: packed(golden.pairs.iter().map(|pair| &pair.target[..pair.target.len() - 1]).collect()),
            labels: golden.pairs.iter().flat_map(|pair| pair.target[1..].to_vec()).collect(),
            tensors: candle_core::safetensors::load(path(name).join("golden.safetensors"), &Device::Cpu)
                .unwrap(),
            model,
            golden,
        }
    }

    fn memory(&self, pass: Pass) -> Tensor {
        encode(self.model.as_ref(), &self.source.0, &self.source.1, pass).unwrap()
    }

    fn hidden(&self, pass: Pass) -> Tensor {
        let memory = self.memory(pass);
        let memory = Memory { hidden: &memory, source: &self.source.1 };
        decode(self.model.as_ref(), &self.target.0, &self.target.1, &memory, pass).unwrap()
    }

    fn loss(&self, hidden: &Tensor) -> Tensor {
        let sum = self.model.cross_entropy(hidden, &self.labels).unwrap();
        (sum / self.golden.trained_tokens as f64).unwrap()
    }
}

fn check_forward(bf16: bool, near: Nearness) {
    for name in PAIRS {
        let case = Case::new(name, bf16);
        assert_eq!(case.model.info().dtype == "bf16", bf16, "{name}: kept in the dtype that was asked for");
        near.check(&format!("{name}: the memory"), &case.memory(Pass::BASE), &case.tensors["memory"]);
        for (pass, logits, loss) in
            [(Pass::BASE, "logits", case.golden.loss), (Pass::EVAL, "lora_logits", case.golden.lora_loss)]
        {
            let hidden = case.hidden(pass);
            let got = (&case.model.logits(&hidden).unwrap(), &case.loss(&hidden));
            near.check_loss(&format!("{name}: {logits}"), got, (&case.tensors[logits], loss));
        }
    }
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn memory_logits_and_losses_are_those_of_transformers_and_peft() {
    check_forward(false, Nearness { tolerance: TOLERANCE, distance: largest_difference });
}

#[test]
fn bf16_stays_near_the_f32_of_transformers() {
    check_forward(true, Nearness { tolerance: TOLERANCE_BF16, distance: relative_distance });
}

#[test]
fn every_adapter_tensor_gets_the_gradient_of_peft() {
    for name in PAIRS {
        let case = Case::new(name, false);
        let gradients = case.loss(&case.hidden(Pass::EVAL)).backward().unwrap();
        check_gradients(name, case.model.trainable(), &gradients, &case.tensors, (TOLERANCE, None));
    }
}

/// The likeliest tokens for several sources' worth of the same target, one by one on the caches.
fn greedy(
    model: &dyn Seq2SeqLm,
    written: &Written,
    (start, forced): (u32, Option<u32>),
    pass: Pass,
    copies: usize,
) -> Vec<u32> {
    let source = Sequences::new(vec![written.source.len()]);
    let ids = Tensor::new(written.source.as_slice(), &place::device()).unwrap();
    let memory = encode(model, &ids, &source, pass).unwrap();
    let memory = Memory { hidden: &memory, source: &source };
    let mut caches = vec![DecoderCache::new(copies); model.info().layers];
    let (mut last, mut new) = (start, Vec::new());
    while new.len() < written.new.len() {
        let target = Sequences { offset: new.len(), ..Sequences::new(vec![1; copies]) };
        let mut hidden =
            model.embed_target(&Tensor::new(vec![last; copies], &place::device()).unwrap(), &target).unwrap();
        for (index, cache) in caches.iter_mut().enumerate() {
            hidden = model.decoder_layer(index, &hidden, &memory, &target, pass, Some(cache)).unwrap();
        }
        let logits = model.logits(&model.decoder_end(&hidden).unwrap()).unwrap();
        let likeliest: Vec<u32> = logits.argmax(D::Minus1).unwrap().to_vec1().unwrap();
        assert!(likeliest.iter().all(|id| *id == likeliest[0]), "equal targets go on equally");
        last = match forced.filter(|_| new.is_empty()) {
            Some(forced) => forced,
            None => likeliest[0],
        };
        new.push(last);
        // As beams that change places do.
        let parents: Vec<usize> = (0..copies).map(|i| (i * 2 + new.len()) % copies).collect();
        caches.iter_mut().for_each(|cache| cache.select(&parents).unwrap());
    }
    new
}

#[test]
fn greedy_tokens_on_the_caches_are_those_of_transformers() {
    for name in PAIRS {
        let Case { model, golden, .. } = Case::new(name, false);
        let config: serde_json::Value = golden::json(&format!("{name}/config.json"));
        let start = golden.pairs[0].target[0];
        let forced = config["forced_bos_token_id"].as_u64().map(|id| id as u32);
        for (pass, answers) in [(Pass::BASE, golden.greedy.base), (Pass::EVAL, golden.greedy.lora)] {
            for (copies, written) in [1, 3, 2].into_iter().zip(answers) {
                // The last token may have been forced by the length.
                let got = greedy(model.as_ref(), &written, (start, forced), pass, copies);
                let sure = got.len() - 1;
                assert_eq!(got[..sure], written.new[..sure], "{name}, {pass:?}: greedy tokens");
            }
        }
    }
}

#[test]
fn the_cache_refuses_what_it_is_not_for() {
    let Case { model, .. } = Case::new(PAIRS[0], false);
    let source = Sequences::new(vec![2]);
    let memory =
        encode(model.as_ref(), &Tensor::new(&[5u32, 6], &place::device()).unwrap(), &source, Pass::BASE)
            .unwrap();
    let step = |target: Sequences, cache: &mut DecoderCache, source: &Sequences| {
        let ids = Tensor::new(vec![3u32; target.tokens()], &place::device()).unwrap();
        let hidden = model.embed_target(&ids, &target).unwrap();
        let memory = Memory { hidden: &memory, source };
        model.decoder_layer(0, &hidden, &memory, &target, Pass::BASE, Some(cache)).is_ok()
    };
    let mut cache = DecoderCache::new(2);
    assert!(
        !step(Sequences { offset: 0, ..Sequences::new(vec![1, 2]) }, &mut cache, &source),
        "one length for all"
    );
    assert!(
        !step(Sequences { offset: 0, ..Sequences::new(vec![1]) }, &mut cache, &source),
        "as many targets as caches"
    );
    assert!(
        !step(Sequences { offset: 3, ..Sequences::new(vec![1, 1]) }, &mut cache, &source),
        "where the cache ends"
    );
    assert!(
        !step(Sequences { offset: 0, ..Sequences::new(vec![1, 1]) }, &mut cache, &Sequences::new(vec![1, 1])),
        "one source"
    );
    assert!(step(Sequences { offset: 0, ..Sequences::new(vec![1, 1]) }, &mut cache, &source));
    assert!(cache.select(&[2, 0]).is_err(), "there is no third target");
}

#[test]
fn an_adapter_is_saved_as_one_of_a_sequence_to_sequence_model() {
    for name in PAIRS {
        let Case { mut model, .. } = Case::new(name, false);
        let lora = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.0, target_modules: None };
        let folder = tempfile::tempdir().unwrap();
        model.save_adapter(folder.path(), &lora, name).unwrap();
        let (ours, theirs) = (folder.path().to_owned(), path(name).join("adapter"));
        let read = |folder: &std::path::Path| -> HashMap<String, Tensor> {
            candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu).unwrap()
        };
        let (saved, published) = (read(&ours), read(&theirs));
        assert_eq!(saved.len(), published.len(), "{name}: PEFT's tensors and no others");
        for (tensor, want) in published {
            assert_eq!(values(&saved[&tensor]), values(&want), "{name}: {tensor}");
        }
        let config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(ours.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!(config["task_type"], "SEQ_2_SEQ_LM");
        model.load_adapter(&ours).unwrap();
    }
}

#[test]
fn the_config_alone_tells_how_many_parameters_there_are() {
    for name in PAIRS {
        let info = models::read_info(&path(name)).unwrap();
        let mut stored = 0;
        for entry in std::fs::read_dir(path(name)).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|e| e == "safetensors") && !file.ends_with("golden.safetensors") {
                let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
                let own = |name: &str| name != "final_logits_bias" && !name.ends_with("embed_tokens.weight");
                stored += tensors
                    .iter()
                    .filter(|(name, _)| own(name))
                    .map(|(_, t)| t.elem_count() as u64)
                    .sum::<u64>();
            }
        }
        assert_eq!(info.parameters, stored, "{name}");
    }
}
