//! Logits, loss, every gradient of the adapter and greedy decoding against transformers and PEFT, as `tests/golden` holds
//! them. `--nocapture` shows the measured differences.
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

use candle_core::{D, Device, IndexOp, Result, Tensor};
use golden::{Answer, Golden, SHAPES, golden, largest_difference, path, relative_distance};
use models::{CausalLm, LayerCache, LoadOptions, Pass, Sequences, forward};
use reference::{Nearness, check_gradients};
use types::Provider;

/// Largest difference of a logit, relative difference of a loss, distance of a gradient relative to its norm.
const TOLERANCE: f64 = 1e-4;
/// bf16 keeps 8 bits of each number while the reference is f32: relative difference of a loss, distance of all logits
/// relative to their norm.
const TOLERANCE_BF16: f64 = 3e-2;

/// A tiny model with its reference adapter, its numbers, and all sequences of them end to end.
struct Case {
    model: Box<dyn CausalLm>,
    golden: Golden,
    tensors: HashMap<String, Tensor>,
    ids: Tensor,
    sequences: Sequences,
    targets: Vec<u32>,
}

impl Case {
    fn new(shape: &str, bf16: bool, provider: Provider) -> Self {
        let device = place::device();
        let mut model = models::load(&path(shape), &LoadOptions { bf16, provider, device: device.clone() })
            .unwrap()
            .causal()
            .unwrap();
        model.load_adapter(&path(shape).join("adapter")).unwrap();
        let golden = golden(shape);
        let ids: Vec<u32> = golden.sequences.iter().flat_map(|s| s.ids.clone()).collect();
        let targets = golden.sequences.iter().flat_map(|s| {
            let next = s.ids.iter().zip(&s.trained).skip(1);
            next.map(|(&id, &counts)| if counts { id } else { kernels::IGNORED }).chain([kernels::IGNORED])
        });
        Case {
            targets: targets.collect(),
            sequences: Sequences::new(golden.sequences.iter().map(|s| s.ids.len()).collect()),
            ids: Tensor::new(ids, &device).unwrap(),
            tensors: candle_core::safetensors::load(path(shape).join("golden.safetensors"), &Device::Cpu)
                .unwrap(),
            model,
            golden,
        }
    }

    fn hidden(&self, pass: Pass) -> Tensor {
        forward(self.model.as_ref(), &self.ids, &self.sequences, pass).unwrap()
    }

    /// Mean over the trained tokens.
    fn loss(&self, hidden: &Tensor) -> Tensor {
        let sum = self.model.cross_entropy(hidden, &self.targets).unwrap();
        (sum / self.golden.trained_tokens as f64).unwrap()
    }
}

/// Every shape with every provider.
fn cases() -> impl Iterator<Item = (&'static str, Provider)> {
    SHAPES.into_iter().flat_map(|shape| Provider::ALL.iter().map(move |&provider| (shape, provider)))
}

/// Logits and losses without and with the adapter.
fn check_forward(bf16: bool, near: Nearness) {
    for (shape, provider) in cases() {
        let case = Case::new(shape, bf16, provider);
        let what = format!("{shape}, {provider}, {}", case.model.info().dtype);
        assert_eq!(case.model.info().dtype == "bf16", bf16, "{what}: kept in the dtype that was asked for");
        for (pass, logits, loss) in
            [(Pass::BASE, "logits", case.golden.loss), (Pass::EVAL, "lora_logits", case.golden.lora_loss)]
        {
            let hidden = case.hidden(pass);
            let got = (&case.model.logits(&hidden).unwrap(), &case.loss(&hidden));
            near.check_loss(&format!("{what}: {logits}"), got, (&case.tensors[logits], loss));
        }
    }
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn logits_and_losses_are_those_of_transformers_and_peft() {
    check_forward(false, Nearness { tolerance: TOLERANCE, distance: largest_difference });
}

#[test]
fn bf16_stays_near_the_f32_of_transformers() {
    check_forward(true, Nearness { tolerance: TOLERANCE_BF16, distance: relative_distance });
}

#[test]
fn every_adapter_tensor_gets_the_gradient_of_peft() {
    for (shape, provider) in cases() {
        let case = Case::new(shape, false, provider);
        let gradients = case.loss(&case.hidden(Pass::EVAL)).backward().unwrap();
        let what = format!("{shape}, {provider}");
        check_gradients(&what, case.model.trainable(), &gradients, &case.tensors, (TOLERANCE, None));
    }
}

/// The likeliest tokens, the prompt at once and then one by one on the cache.
fn greedy(model: &dyn CausalLm, prompt: &[u32], count: usize, pass: Pass) -> Result<Vec<u32>> {
    let mut caches = vec![LayerCache::default(); model.info().layers];
    let (mut input, mut seen, mut new) = (prompt.to_vec(), 0, Vec::new());
    while new.len() < count {
        if !model.keeps_cache(seen, seen + input.len()) {
            caches.iter_mut().for_each(|cache| cache.truncate(0));
            (input, seen) = ([prompt, new.as_slice()].concat(), 0);
        }
        let mut hidden = model.embed(&Tensor::new(input.as_slice(), model.device())?)?;
        let sequences = Sequences::continued(input.len(), seen);
        for (index, cache) in caches.iter_mut().enumerate() {
            hidden = model.layer(index, &hidden, &sequences, pass, Some(cache))?;
        }
        let last = model.final_norm(&hidden.i(input.len() - 1..)?)?;
        let token = model.logits(&last)?.i(0)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
        seen += input.len();
        input = vec![token];
        new.push(token);
    }
    Ok(new)
}

#[test]
fn greedy_tokens_on_the_cache_are_those_of_transformers() {
    for (shape, provider) in cases() {
        let Case { model, golden, .. } = Case::new(shape, false, provider);
        for (pass, answers) in [(Pass::BASE, golden.greedy.base), (Pass::EVAL, golden.greedy.lora)] {
            for Answer { prompt, ids, new, .. } in answers {
                let got = greedy(model.as_ref(), &ids, new.len(), pass).unwrap();
                assert_eq!(got, new, "{shape}, {provider}, {pass:?}: greedy tokens after {prompt:?}");
            }
        }
    }
}
