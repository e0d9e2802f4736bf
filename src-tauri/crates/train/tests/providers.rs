//! The fused kernels train as the reference does, and keep what the reference promises.
#![allow(clippy::unwrap_used)]

mod support;

use data::Batch;
use models::CausalLm;
use serde_json::json;
use support::{GROUPED, Shape, batch, config, job, model_of, shake_adapter};
use train::{BatchRun, GivenBatches, Outcome, backward::Backward, run_batches, strategies::Sft};
use types::{Provider, TrainEvent};

/// Losses of 20 steps with dropout on rows of many lengths.
fn losses(shape: &Shape, bf16: bool, provider: Provider, checkpointing: bool) -> Vec<f64> {
    let model = model_of(shape, 4, 0.1, bf16, provider);
    shake_adapter(model.as_ref(), 0.1);
    let steps = (0..20).map(|i| {
        vec![batch(shape.vocab, &[3 + i, 40, 1, 70 - i], i as u64), batch(shape.vocab, &[33], 100 + i as u64)]
    });
    let mut batches = GivenBatches { steps: steps.collect(), eval: Vec::new() };
    let settings =
        config(&json!({"gradient_checkpointing": checkpointing, "lora_dropout": 0.1, "bf16": bf16}));
    let (_folder, job) = job();
    let mut losses = Vec::new();
    let run = BatchRun {
        model: model.as_ref(),
        batches: &mut batches,
        config: &settings,
        job: &job,
        resume: None,
        answers: None,
    };
    let outcome = run_batches(
        run,
        &mut |event| {
            if let TrainEvent::Step(stats) = event {
                losses.push(stats.loss);
            }
        },
        &|| None,
    );
    assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
    losses
}

#[test]
fn twenty_steps_have_the_losses_of_the_reference() {
    for (bf16, tolerance) in [(false, 1e-4), (true, 2e-2)] {
        let fused = losses(&GROUPED, bf16, Provider::Unsloth, false);
        let reference = losses(&GROUPED, bf16, Provider::Huggingface, false);
        for (step, (got, want)) in fused.iter().zip(&reference).enumerate() {
            let apart = (got / want - 1.0).abs();
            assert!(apart <= tolerance, "bf16 {bf16}, step {}: {got}, the reference has {want}", step + 1);
        }
        assert!(fused[19] < fused[0], "bf16 {bf16}: it learns");
    }
}

#[test]
fn the_same_seed_and_either_way_of_checkpointing_give_the_same_bits() {
    for bf16 in [false, true] {
        let first = losses(&GROUPED, bf16, Provider::Unsloth, false);
        assert_eq!(
            first,
            losses(&GROUPED, bf16, Provider::Unsloth, false),
            "bf16 {bf16}: the same run again"
        );
        assert_eq!(first, losses(&GROUPED, bf16, Provider::Unsloth, true), "bf16 {bf16}: with checkpointing");
    }
}

/// The loss of the rows of a packed batch that count.
fn loss(model: &dyn CausalLm, batch: &Batch) -> f64 {
    let trainable = model.trainable();
    let backward =
        Backward { model, strategy: &Sft, trainable: &trainable, checkpointing: false, offload: false };
    backward.loss(batch).unwrap().sum
}

#[test]
fn a_packed_row_changes_no_bit_of_another_rows_loss() {
    for bf16 in [false, true] {
        let model = model_of(&GROUPED, 4, 0.0, bf16, Provider::Unsloth);
        shake_adapter(model.as_ref(), 0.2);
        let (first, middle, other, last) = (
            batch(GROUPED.vocab, &[70], 1),
            batch(GROUPED.vocab, &[35], 2),
            batch(GROUPED.vocab, &[35], 3),
            batch(GROUPED.vocab, &[20], 4),
        );
        let packed = |middle: &Batch| {
            let mut all = Batch::default();
            for part in [&first, middle, &last] {
                all.ids.extend(&part.ids);
                all.lengths.extend(&part.lengths);
                let counts = !std::ptr::eq(part, middle);
                all.targets.extend(part.targets.iter().map(|&t| if counts { t } else { data::IGNORED }));
            }
            loss(model.as_ref(), &all)
        };
        assert_eq!(
            packed(&middle),
            packed(&other),
            "bf16 {bf16}: the others' loss must not see the row between"
        );
        let alone = loss(model.as_ref(), &first) + loss(model.as_ref(), &last);
        assert!((packed(&middle) / alone - 1.0).abs() < 1e-5, "bf16 {bf16}: packed or alone");
    }
}
