//! Layers that go on after cached tokens against the same layers over the whole sequence, however the tokens are dealt out,
//! in f32 and bf16, at every level of instructions that this machine has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Arc;

use candle_core::{DType, Tensor, Var};
use kernels::{
    Codes, DecoderLayer, FrozenWeight, Heads, KeyValueCache, LayerInput, LayerLinear, Quantised, RopeTable,
};
use support::{distance, numbers, values};

const HIDDEN: usize = 40;
const MIDDLE: usize = 72;

/// A layer; where all heads have keys of their own, heads have norms too.
fn layer(heads: Heads, bf16: bool, bias: bool, adapted: [bool; 7], rank: usize) -> DecoderLayer {
    let dtype = if bf16 { DType::BF16 } else { DType::F32 };
    let (q, k) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let shapes = [
        (q, HIDDEN),
        (k, HIDDEN),
        (k, HIDDEN),
        (HIDDEN, q),
        (MIDDLE, HIDDEN),
        (MIDDLE, HIDDEN),
        (HIDDEN, MIDDLE),
    ];
    let linear = |i: usize| {
        let ((out, inputs), salt) = (shapes[i], i as u64);
        let spread = (3.0 / inputs as f32).sqrt();
        LayerLinear {
            weight: numbers(&[out, inputs], 10 + salt, spread).to_dtype(dtype).unwrap().into(),
            bias: bias.then(|| numbers(&[out], 20 + salt, 0.3).to_dtype(dtype).unwrap()),
            adapter: adapted[i]
                .then(|| (numbers(&[rank, inputs], 30 + salt, 0.3), numbers(&[out, rank], 40 + salt, 0.3))),
            dropout: None,
        }
    };
    let norm = |salt: u64| (numbers(&[HIDDEN], salt, 0.2) + 1.0).unwrap();
    DecoderLayer {
        input_norm: norm(50),
        post_attention_norm: norm(51),
        query_key_norms: (heads.queries == heads.keys).then(|| head_norms(heads.dim)),
        eps: 1e-5,
        linears: std::array::from_fn(linear),
        scale: 1.5,
        heads,
    }
}

fn head_norms(dim: usize) -> [Tensor; 2] {
    [52, 53].map(|salt| (numbers(&[dim], salt, 0.3) + 1.0).unwrap())
}

/// Layers of three query heads know no positions.
fn table(heads: Heads) -> Option<Arc<RopeTable>> {
    let frequencies: Vec<f32> = (0..heads.dim / 2).map(|i| 0.5f32.powi(i as i32)).collect();
    (heads.queries != 3).then(|| Arc::new(RopeTable::new(&frequencies, 700)))
}

fn whole(layer: &DecoderLayer, x: &Tensor) -> Tensor {
    let tokens = x.dim(0).unwrap();
    let positions = Arc::new((0..tokens as u32).collect());
    layer
        .clone()
        .forward(x, LayerInput { lengths: vec![tokens], table: table(layer.heads), positions })
        .unwrap()
}

/// The layer over the tokens from `from` on, dealt out as `pieces` say.
fn pieces(
    layer: &DecoderLayer,
    x: &Tensor,
    from: usize,
    pieces: &[usize],
    cache: &mut KeyValueCache,
) -> Tensor {
    let mut at = from;
    let mut rows = Vec::new();
    for &piece in pieces {
        let x = x.narrow(0, at, piece).unwrap();
        rows.push(layer.forward_cached(&x, table(layer.heads).as_ref(), cache).unwrap());
        at += piece;
        assert_eq!(cache.len(), at, "a cache holds the tokens that have been computed");
    }
    Tensor::cat(&rows, 0).unwrap()
}

fn layers(bf16: bool) -> Vec<DecoderLayer> {
    let grouped = Heads { queries: 4, keys: 2, dim: 10, window: None };
    let wide = Heads { queries: 3, keys: 1, dim: 48, window: None };
    let each = Heads { queries: 2, keys: 2, dim: 64, window: None };
    let windowed = |window, heads| Heads { window: Some(window), ..heads };
    let some = [true, false, true, true, false, true, false];
    vec![
        layer(grouped, bf16, false, [true; 7], 3),
        layer(wide, bf16, true, [false; 7], 0),
        layer(each, bf16, true, some, 40),
        layer(windowed(1, grouped), bf16, false, some, 16),
        layer(windowed(70, wide), bf16, true, [true; 7], 32),
        layer(windowed(5, each), bf16, false, [false; 7], 0),
    ]
}

#[test]
fn cached_layers_are_layers_over_the_whole_sequence() {
    for (bf16, tolerance) in [(false, 1e-5), (true, 3e-2)] {
        for (number, layer) in layers(bf16).iter().enumerate() {
            let x = numbers(&[150, HIDDEN], 1, 1.0);
            let want = whole(layer, &x);
            let dealt: [&[usize]; 6] = [
                &[150],
                &[1; 150],
                &[63, 1, 1, 85],
                &[64, 64, 1, 21],
                &[1, 130, 1, 1, 15, 2],
                &[5, 2, 57, 1, 50, 35],
            ];
            for deal in dealt {
                let got = pieces(layer, &x, 0, deal, &mut KeyValueCache::default());
                let apart = distance(&got, &want, 0.0);
                assert!(apart < tolerance, "layer {number}, bf16 {bf16}, {deal:?}: {apart} apart");
            }
        }
    }
}

#[test]
fn cached_layers_of_quantised_weights_are_those_of_the_values_they_stand_for() {
    let kept = [(Codes::Nf4, false), (Codes::Nf4, true), (Codes::Fp4, true), (Codes::Int8, false)];
    for ((number, plain), (codes, nested)) in layers(false).into_iter().enumerate().zip(kept) {
        let (mut quantised, mut widened) = (plain.clone(), plain);
        for (i, linear) in quantised.linears.iter_mut().enumerate() {
            let FrozenWeight::Tensor(tensor) = &linear.weight else { panic!("a layer of tensors") };
            let shape = tensor.dims2().unwrap();
            let weight = Quantised::new(codes, nested, shape, &values(tensor)).unwrap();
            widened.linears[i].weight =
                Tensor::from_vec(weight.to_vec(), shape, tensor.device()).unwrap().into();
            linear.weight = FrozenWeight::Quantised { weight: Arc::new(weight), dtype: DType::F32 };
        }
        let x = numbers(&[150, HIDDEN], 1, 1.0);
        let want = whole(&widened, &x);
        let deals: [&[usize]; 3] = [&[150], &[1; 150], &[64, 64, 1, 21]];
        for deal in deals {
            let got = pieces(&quantised, &x, 0, deal, &mut KeyValueCache::default());
            let apart = distance(&got, &want, 0.0);
            assert!(apart < 1e-5, "layer {number}, {codes:?}, {deal:?}: {apart} apart");
        }
    }
}

#[test]
fn a_long_cache_is_shared_out_between_the_threads() {
    // More threads than key heads, so that the keys of one head are shared out.
    let threads = std::thread::available_parallelism().unwrap().get();
    for window in [None, Some(300)] {
        let layer = layer(Heads { queries: 2, keys: 1, dim: 20, window }, false, false, [true; 7], 2);
        let x = numbers(&[640, HIDDEN], 1, 1.0);
        let got = pieces(&layer, &x, 0, &[637, 1, 1, 1], &mut KeyValueCache::default());
        let apart = distance(&got, &whole(&layer, &x), 0.0);
        assert!(apart < 1e-5, "{threads} threads, window {window:?}: {apart} apart");
    }
}

#[test]
fn a_truncated_cache_goes_on_from_where_it_was_cut() {
    for bf16 in [false, true] {
        for (number, layer) in layers(bf16).iter().enumerate() {
            let x = numbers(&[150, HIDDEN], 1, 1.0);
            let mut cache = KeyValueCache::default();
            let first = pieces(layer, &x, 0, &[100, 1, 49], &mut cache);
            cache.truncate(400);
            assert_eq!(cache.len(), 150, "truncating to more than there is keeps all");
            // Other tokens lie where the cache is cut, and must not be seen again.
            cache.truncate(70);
            let other = (&x * -3.0).unwrap();
            pieces(layer, &other, 70, &[60], &mut cache);
            cache.truncate(100);
            cache.truncate(70);
            let again = pieces(layer, &x, 70, &[30, 1, 49], &mut cache);
            let apart = distance(&again, &first.narrow(0, 70, 80).unwrap(), 0.0);
            let tolerance = if bf16 { 3e-2 } else { 1e-5 };
            assert!(apart < tolerance, "layer {number}, bf16 {bf16}: what was cut off left a trace, {apart}");
            cache.truncate(0);
            assert!(cache.is_empty());
            let afresh = pieces(layer, &x, 0, &[100, 1, 49], &mut cache);
            assert_eq!(support::values(&afresh), support::values(&first), "an emptied cache is a new one");
        }
    }
}

#[test]
fn what_does_not_fit_a_cache_is_an_error() {
    let heads = Heads { queries: 4, keys: 2, dim: 10, window: None };
    let one = layer(heads, false, false, [false; 7], 0);
    let x = numbers(&[3, HIDDEN], 1, 1.0);
    let mut cache = KeyValueCache::default();
    one.forward_cached(&x, table(heads).as_ref(), &mut cache).unwrap();
    let mut fails = |layer: &DecoderLayer, x: &Tensor| {
        let error = layer.forward_cached(x, table(layer.heads).as_ref(), &mut cache).unwrap_err().to_string();
        assert_eq!(cache.len(), 3, "a failure leaves the cache as it was");
        error
    };
    let other = layer(Heads { keys: 4, ..heads }, false, false, [false; 7], 0);
    assert!(fails(&other, &x).contains("another layer"), "other heads");
    assert!(fails(&layer(heads, true, false, [false; 7], 0), &x).contains("another layer"), "another dtype");
    assert!(fails(&one, &numbers(&[698, HIDDEN], 1, 1.0)).contains("700"), "more tokens than positions");
    assert!(fails(&one, &x.to_dtype(DType::BF16).unwrap()).contains("f32"), "a residual stream in bf16");
    let tracked = Var::from_tensor(&x).unwrap();
    assert!(fails(&one, tracked.as_tensor()).contains("trains"), "a gradient that will never come");
}

#[test]
fn every_level_of_this_machine_gives_the_same() {
    support::at_every_level();
}
