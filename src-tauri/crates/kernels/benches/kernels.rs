//! The fused kernels one by one, at sizes of small language models. Every benchmark states the floating-point operations of
//! its matrix products; the names of those whose weights are bf16 say so.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc};

use candle_core::{DType, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    DecoderLayer, Heads, LayerInput, LayerLinear, RopeTable, fused_cross_entropy, fused_product, seed,
};
use support::numbers;

const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

fn weight(out: usize, inputs: usize, salt: u64, dtype: DType) -> Tensor {
    numbers(&[out, inputs], salt, (3.0 / inputs as f32).sqrt()).to_dtype(dtype).unwrap()
}

/// `[tokens, in]` by `[out, in]`.
fn products(criterion: &mut Criterion) {
    kernels::keep_freed_memory();
    kernels::stop_busy_waiting();
    let mut group = criterion.benchmark_group("product");
    group.sample_size(20);
    for (tokens, inputs, out) in
        [(1024, 768, 2048), (1024, 2048, 768), (1024, 8192, 2048), (1024, 768, 32000), (1, 2048, 8192)]
    {
        let x = numbers(&[tokens, inputs], 1, 1.0);
        for dtype in DTYPES {
            let w = weight(out, inputs, 2, dtype);
            group.throughput(Throughput::Elements((2 * tokens * inputs * out) as u64));
            group.bench_function(format!("{tokens}x{inputs}x{out} {}", dtype.as_str()), |bencher| {
                bencher.iter(|| black_box(fused_product(&x, &w).unwrap()));
            });
        }
    }
    group.finish();
}

/// A decoder layer of hidden size 768 with adapters of rank 16: operations of the products with weights, forward and
/// backward, and of causal attention.
fn layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decoder layer");
    group.sample_size(20);
    let (hidden, middle, rank) = (768, 2048, 16);
    let heads = Heads { queries: 12, keys: 4, dim: 64, window: None };
    let (q, k) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let shapes = [
        (q, hidden),
        (k, hidden),
        (k, hidden),
        (hidden, q),
        (middle, hidden),
        (middle, hidden),
        (hidden, middle),
    ];
    let frequencies: Vec<f32> = (0..heads.dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
    let table = Arc::new(RopeTable::new(&frequencies, 2048));
    for (rows, length) in [(4, 256), (1, 2048)] {
        let tokens = rows * length;
        let x = Var::from_tensor(&numbers(&[tokens, hidden], 1, 1.0)).unwrap();
        let upstream = numbers(&[tokens, hidden], 2, 1e-3);
        let input = LayerInput {
            lengths: vec![length; rows],
            table: Some(table.clone()),
            positions: Arc::new((0..rows).flat_map(|_| 0..length as u32).collect()),
        };
        let weights: usize = shapes.iter().map(|(out, inputs)| out * inputs).sum();
        let pairs = rows * length * length / 2;
        let forward = 2 * tokens * weights + 4 * pairs * q;
        for dtype in DTYPES {
            let adapters: Vec<(Var, Var)> = shapes
                .iter()
                .map(|(out, inputs)| {
                    let var = |shape: &[usize], salt| Var::from_tensor(&numbers(shape, salt, 0.05)).unwrap();
                    (var(&[rank, *inputs], 3), var(&[*out, rank], 4))
                })
                .collect();
            let layer = DecoderLayer {
                input_norm: numbers(&[hidden], 5, 1.0),
                post_attention_norm: numbers(&[hidden], 6, 1.0),
                query_key_norms: None,
                eps: 1e-5,
                linears: std::array::from_fn(|i| LayerLinear {
                    weight: weight(shapes[i].0, shapes[i].1, 7, dtype).into(),
                    bias: None,
                    adapter: Some((adapters[i].0.as_tensor().clone(), adapters[i].1.as_tensor().clone())),
                    dropout: None,
                }),
                scale: 2.0,
                heads,
            };
            let name = |what: &str| format!("{what}, {rows}x{length} {}", dtype.as_str());
            group.throughput(Throughput::Elements(forward as u64));
            group.bench_function(name("forward"), |bencher| {
                bencher.iter(|| black_box(layer.clone().forward(&x.detach(), input.clone()).unwrap()));
            });
            group.throughput(Throughput::Elements((2 * forward + 6 * pairs * q) as u64));
            group.bench_function(name("forward and backward"), |bencher| {
                bencher.iter(|| {
                    let y = layer.clone().forward(&x, input.clone()).unwrap();
                    black_box(seed(&y, &upstream).unwrap().backward().unwrap())
                });
            });
        }
    }
    group.finish();
}

/// Output projection and cross entropy with the gradient of the hidden states.
fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cross entropy");
    group.sample_size(20);
    let (tokens, hidden, vocabulary) = (1024, 768, 32000);
    let x = Var::from_tensor(&numbers(&[tokens, hidden], 1, 1.0)).unwrap();
    let targets: Vec<u32> = (0..tokens as u32).map(|i| i * 31 % vocabulary as u32).collect();
    for dtype in DTYPES {
        let head = weight(vocabulary, hidden, 2, dtype);
        group.throughput(Throughput::Elements((4 * tokens * hidden * vocabulary) as u64));
        group.bench_function(format!("{tokens}x{hidden}x{vocabulary} {}", dtype.as_str()), |bencher| {
            bencher.iter(|| black_box(fused_cross_entropy(&x, &head, &targets).unwrap()));
        });
    }
    group.finish();
}

criterion_group!(benches, products, layers, heads);
criterion_main!(benches);
