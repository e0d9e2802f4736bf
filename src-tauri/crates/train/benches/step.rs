//! Optimizer steps on a random model of the starter model's size: tokens a second, with and without gradient
//! checkpointing, and the evaluation pass.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use models::Pass;
use support::{Shape, batch, model};
use train::{backward::Backward, gradients::Gradients, strategies::Sft};

const STARTER: Shape =
    Shape { vocab: 6144, hidden: 256, layers: 6, heads: 4, kv_heads: 2, mlp: 704, tied: true };

fn step(criterion: &mut Criterion) {
    let model = model(&STARTER, 16, 0.1);
    let batch = batch(STARTER.vocab, &[50; 8], 1);
    let trainable = model.trainable();
    let mut group = criterion.benchmark_group("starter model, 8 rows of 50 tokens");
    group.throughput(Throughput::Elements(batch.ids.len() as u64)).sample_size(10);
    for checkpointing in [false, true] {
        let backward = Backward {
            model: model.as_ref(),
            strategy: &Sft,
            trainable: &trainable,
            checkpointing,
            offload: false,
        };
        let name = if checkpointing { "forward and backward, checkpointed" } else { "forward and backward" };
        group.bench_function(name, |bencher| {
            let mut gradients = Gradients::zeros(trainable.iter().map(|(_, var)| var.elem_count()));
            let pass = Pass { dropout_seed: Some(1), ..Pass::EVAL };
            bencher.iter(|| backward.run(&batch, pass, 1e-3, &mut gradients).unwrap());
        });
    }
    let backward = Backward {
        model: model.as_ref(),
        strategy: &Sft,
        trainable: &trainable,
        checkpointing: false,
        offload: false,
    };
    group.bench_function("evaluation", |bencher| bencher.iter(|| backward.loss(&batch).unwrap()));
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
