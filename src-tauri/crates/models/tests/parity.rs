//! Logits, losses and gradients against transformers and PEFT, as `tests/golden` holds them.

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use golden::{Golden, SHAPES, golden, largest_difference, path, relative_distance};
use models::{CausalLm, LoadOptions, Pass, Sequences, forward};

/// A tiny model with its reference adapter, its numbers, and all sequences of them end to end.
struct Case {
    model: Box<dyn CausalLm>,
    golden: Golden,
    tensors: HashMap<String, Tensor>,
    ids: Tensor,
    sequences: Sequences,
    targets: Vec<u32>,
}

fn case(shape: &str) -> Case {
    let device = Device::Cpu;
    let mut model = models::load(&path(shape), &LoadOptions { bf16: false, device: device.clone() }).unwrap();
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
        tensors: candle_core::safetensors::load(path(shape).join("golden.safetensors"), &device).unwrap(),
        model,
        golden,
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn logits_and_losses_are_those_of_transformers_and_peft() {
    for shape in SHAPES {
        let case = case(shape);
        for (pass, logits, loss) in
            [(Pass::BASE, "logits", case.golden.loss), (Pass::EVAL, "lora_logits", case.golden.lora_loss)]
        {
            let hidden = forward(case.model.as_ref(), &case.ids, &case.sequences, pass).unwrap();
            let got = values(&case.model.logits(&hidden).unwrap());
            let apart = largest_difference(&got, &values(&case.tensors[logits]));
            assert!(
                apart < 1e-4,
                "{shape}: {logits} must be within 1e-4 of the reference, are {apart} apart"
            );
            let sum = kernels::cross_entropy(&hidden, case.model.head(), &case.targets).unwrap();
            let got = f64::from(sum.to_scalar::<f32>().unwrap()) / case.golden.trained_tokens as f64;
            assert!((got - loss).abs() < 1e-4 * loss, "{shape}: the loss must be {loss}, is {got}");
        }
    }
}

#[test]
fn every_adapter_tensor_gets_the_gradient_of_peft() {
    for shape in SHAPES {
        let case = case(shape);
        let hidden = forward(case.model.as_ref(), &case.ids, &case.sequences, Pass::EVAL).unwrap();
        let sum = kernels::cross_entropy(&hidden, case.model.head(), &case.targets).unwrap();
        let gradients = (sum / case.golden.trained_tokens as f64).unwrap().backward().unwrap();
        let trainable = case.model.trainable();
        let expected = case.tensors.keys().filter(|name| name.starts_with("grad.")).count();
        assert_eq!(trainable.len(), expected, "{shape}: the same tensors must be trainable as in PEFT");
        for (name, var) in trainable {
            let got = gradients.get(&var).unwrap_or_else(|| panic!("{shape}: {name} must get a gradient"));
            let apart = relative_distance(&values(got), &values(&case.tensors[&format!("grad.{name}")]));
            assert!(
                apart < 1e-4,
                "{shape}: {name}: the gradient is {apart} of its norm away from the reference"
            );
        }
    }
}
