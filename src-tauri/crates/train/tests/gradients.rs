//! The gradient of every tensor that is trained, against finite differences and against itself computed otherwise.
#![allow(clippy::unwrap_used)]

mod support;

use candle_core::{Device, Tensor, Var};
use data::Batch;
use models::{CausalLm, Model, Pass};
use support::{GROUPED, Noise, PLAIN, Shape, Watched, batch, model, shake_adapter};
use train::{TrainError, backward::Backward, gradients::Gradients, strategies::Sft};

const TRAIN: Pass = Pass { adapter: true, second: false, dropout_seed: Some(5) };

fn gradients(model: &dyn CausalLm, batches: &[Batch], scale: f64, checkpointing: bool) -> (f64, Gradients) {
    let trainable = model.trainable();
    let backward = Backward { model, strategy: &Sft, trainable: &trainable, checkpointing, offload: false };
    let mut gradients = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
    let loss = batches.iter().map(|b| backward.run(b, TRAIN, scale, &mut gradients).unwrap().sum).sum();
    (loss, gradients)
}

fn close(a: &Gradients, b: &Gradients, tolerance: f64, rule: &str) {
    let apart: f64 =
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let norm = a.norm().unwrap();
    assert!(apart <= tolerance * norm, "{rule}: {apart} apart, norm {norm}");
}

/// The slope of the loss along a direction, from the losses a little to both sides of the current weights.
fn slope(model: &dyn CausalLm, batch: &Batch, var: &Var, direction: &Tensor) -> f64 {
    const STEP: f64 = 2e-3;
    let start = var.as_tensor().copy().unwrap();
    let loss = |way: f64| {
        var.set(&(&start + (direction * way).unwrap()).unwrap()).unwrap();
        gradients(model, std::slice::from_ref(batch), 1.0, false).0
    };
    let slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
    var.set(&start).unwrap();
    slope
}

fn check_against_differences(shape: &Shape, dropout: f64, checkpointing: bool) {
    let model = model(shape, 3, dropout);
    shake_adapter(model.as_ref(), 0.2);
    let batch = batch(shape.vocab, &[9, 5, 12], 3);
    let (_, gradients) = gradients(model.as_ref(), std::slice::from_ref(&batch), 1.0, checkpointing);
    let mut noise = Noise::new(23);
    for ((name, var), gradient) in model.trainable().iter().zip(gradients.iter()) {
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-3, "{name}: every trained tensor gets a gradient");
        // Along the gradient itself every element counts by its size; a random direction sees the small ones too.
        let along: Vec<f32> = gradient.iter().map(|g| (f64::from(*g) / norm) as f32).collect();
        let random: Vec<f32> = gradient.iter().map(|_| if noise.unit() > 0.0 { 1.0 } else { -1.0 }).collect();
        for direction in [along, random] {
            let want: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let direction = Tensor::from_vec(direction, var.dims(), &Device::Cpu).unwrap();
            let got = slope(model.as_ref(), &batch, var, &direction);
            assert!(
                (got - want).abs() <= 0.01 * want.abs() + 0.02,
                "{name} (dropout {dropout}, checkpointing {checkpointing}): the loss has slope {got}, its gradient says {want}"
            );
        }
    }
}

#[test]
fn every_gradient_is_the_slope_of_the_loss() {
    check_against_differences(&GROUPED, 0.0, false);
    check_against_differences(&GROUPED, 0.3, true);
    check_against_differences(&PLAIN, 0.3, false);
    check_against_differences(&PLAIN, 0.0, true);
}

#[test]
fn checkpointing_changes_no_gradient() {
    for shape in [GROUPED, PLAIN] {
        let model = model(&shape, 4, 0.25);
        shake_adapter(model.as_ref(), 0.2);
        let batches = [batch(shape.vocab, &[7, 11], 1), batch(shape.vocab, &[4], 2)];
        let (loss, whole) = gradients(model.as_ref(), &batches, 0.1, false);
        let (again, layered) = gradients(model.as_ref(), &batches, 0.1, true);
        assert_eq!(loss.to_bits(), again.to_bits(), "the loss is the same number");
        assert_eq!(whole, layered, "layer by layer or at once, to the bit");
    }
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let shape = GROUPED;
    let model = model(&shape, 4, 0.0);
    shake_adapter(model.as_ref(), 0.2);
    let parts =
        [batch(shape.vocab, &[7, 11], 1), batch(shape.vocab, &[4], 2), batch(shape.vocab, &[13, 5], 3)];
    let mut large = Batch::default();
    for part in &parts {
        large.ids.extend(&part.ids);
        large.targets.extend(&part.targets);
        large.lengths.extend(&part.lengths);
    }
    let scale = 1.0 / large.trained_tokens() as f64;
    let (sum, accumulated) = gradients(model.as_ref(), &parts, scale, false);
    let (loss, at_once) = gradients(model.as_ref(), &[large], scale, false);
    assert!((sum - loss).abs() <= 1e-6 * loss, "summed losses: {sum}, of one batch: {loss}");
    close(&at_once, &accumulated, 3e-6, "accumulated or at once, but for rounding");
}

#[test]
fn packed_rows_do_not_see_each_other() {
    let shape = PLAIN;
    let model = model(&shape, 4, 0.0);
    shake_adapter(model.as_ref(), 0.2);
    let mut packed = Batch::default();
    let mut alone = Vec::new();
    for (seed, length) in [(1, 6), (2, 9), (3, 3)] {
        let row = batch(shape.vocab, &[length], seed);
        packed.ids.extend(&row.ids);
        packed.targets.extend(&row.targets);
        packed.lengths.extend(&row.lengths);
        alone.push(row);
    }
    let (sum, separate) = gradients(model.as_ref(), &alone, 1.0, false);
    let (loss, together) = gradients(model.as_ref(), &[packed], 1.0, true);
    assert!((sum - loss).abs() <= 1e-6 * loss, "rows alone: {sum}, packed: {loss}");
    close(&separate, &together, 1e-5, "packed or alone");
}

#[test]
fn a_tensor_without_a_gradient_is_an_error() {
    let model = model(&PLAIN, 2, 0.0);
    let mut watched = Watched::new(model.as_ref());
    watched
        .idle
        .push(("idle.lora_A.weight".into(), Var::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap()));
    let trainable = watched.trainable();
    for checkpointing in [false, true] {
        let backward = Backward {
            model: &watched,
            strategy: &Sft,
            trainable: &trainable,
            checkpointing,
            offload: false,
        };
        let mut gradients = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
        let result = backward.run(&batch(PLAIN.vocab, &[5], 1), TRAIN, 1.0, &mut gradients);
        let Err(TrainError::NoGradient(name)) = result else { panic!("must be refused, got {result:?}") };
        assert_eq!(name, "idle.lora_A.weight", "the error names the tensor");
    }
}

#[test]
fn evaluation_uses_no_dropout_and_the_same_loss() {
    let model = model(&GROUPED, 4, 0.5);
    shake_adapter(model.as_ref(), 0.2);
    let batch = batch(GROUPED.vocab, &[9, 8], 4);
    let trainable = model.trainable();
    let backward = Backward {
        model: model.as_ref(),
        strategy: &Sft,
        trainable: &trainable,
        checkpointing: false,
        offload: false,
    };
    let mut unused = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
    let plain = backward.run(&batch, Pass::EVAL, 1.0, &mut unused).unwrap();
    let dropped = backward.run(&batch, TRAIN, 1.0, &mut unused).unwrap();
    assert_eq!(
        backward.loss(&batch).unwrap(),
        plain,
        "the evaluation loss is the training loss without dropout"
    );
    assert_ne!(plain, dropped, "lora_dropout changes the training loss");
}
