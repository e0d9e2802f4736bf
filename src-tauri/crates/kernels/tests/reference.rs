//! Every operation against the plain composition of candle's operations: the output and every gradient, at odd shapes,
//! in f32 and bf16.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Arc;

use candle_core::{D, DType, Result, Tensor, Var};
use kernels::{
    Attention, Codes, FrozenWeight, Gate, Gelu, Head, Heads, IGNORED, Mask, Quantised, RopeForm, RopeTable,
    Scoring,
};
use support::{check, place::device, values};

/// Numbers between −1 and 1.
fn numbers(shape: &[usize], salt: u64) -> Tensor {
    support::numbers(shape, salt, 1.0)
}

fn distance(got: &Tensor, want: &Tensor) -> f32 {
    support::distance(got, want, 0.0)
}

/// What bf16 makes of a frozen weight, for the reference.
fn rounded(weight: &Tensor, dtype: DType) -> Tensor {
    weight.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    support::place::everywhere();
}

#[test]
fn a_frozen_linear_layer_is_a_matrix_product() {
    for (tokens, inputs, out) in [(1, 1, 1), (1, 7, 5), (3, 33, 17), (70, 300, 1030)] {
        for dtype in [DType::F32, DType::BF16] {
            let weight = numbers(&[out, inputs], 1).to_dtype(dtype).unwrap();
            let wide = rounded(&weight, dtype);
            check("frozen_linear", &[&[tokens, inputs]], &|x| kernels::frozen_linear(&x[0], &weight), &|x| {
                x[0].matmul(&wide.t()?)
            });
        }
    }
    let error = kernels::frozen_linear(&numbers(&[2, 3], 0), numbers(&[4, 5], 0)).unwrap_err();
    assert!(error.to_string().contains('3'), "a width that does not fit must be named: {error}");
}

#[test]
fn a_quantised_linear_layer_is_a_product_with_the_values_it_stands_for() {
    for (tokens, inputs, out) in [(1, 7, 5), (3, 64, 17), (70, 301, 1030)] {
        for codes in [Codes::Nf4, Codes::Fp4, Codes::Int8] {
            let plain = values(&numbers(&[out, inputs], 1));
            let weight = Arc::new(Quantised::new(codes, true, (out, inputs), &plain).unwrap());
            let wide = Tensor::from_vec(weight.to_vec(), (out, inputs), &device()).unwrap();
            let frozen = FrozenWeight::Quantised { weight, dtype: DType::F32 };
            check("quantised", &[&[tokens, inputs]], &|x| kernels::frozen_linear(&x[0], &frozen), &|x| {
                x[0].matmul(&wide.t()?)
            });
        }
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let (x, w) =
        (Var::from_tensor(&numbers(&[2, 3], 0)).unwrap(), Var::from_tensor(&numbers(&[4, 3], 1)).unwrap());
    let gradients = kernels::frozen_linear(&x, w.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_some(), "the activations must get a gradient");
    assert!(gradients.get(&w).is_none(), "a frozen weight must get none");
}

#[test]
fn rms_norm_divides_by_the_root_mean_square() {
    for shape in [[1, 2], [1, 5], [7, 33], [130, 301]] {
        let weight = numbers(&shape[1..], 3);
        check("rms_norm", &[&shape], &|x| kernels::rms_norm(&x[0], &weight, 1e-5), &|x| {
            let scale = (x[0].sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
            x[0].broadcast_div(&scale)?.broadcast_mul(&weight)
        });
    }
}

#[test]
fn layer_norm_takes_the_mean_and_divides_by_the_deviation() {
    for shape in [[1, 2], [1, 5], [7, 33], [130, 301]] {
        let (weight, bias) = (numbers(&shape[1..], 3), numbers(&shape[1..], 4));
        check("layer_norm", &[&shape], &|x| kernels::layer_norm(&x[0], &weight, &bias, 1e-3), &|x| {
            let centred = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
            let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-3)?.sqrt()?;
            centred.broadcast_div(&scale)?.broadcast_mul(&weight)?.broadcast_add(&bias)
        });
    }
    let error = kernels::layer_norm(&numbers(&[2, 3], 0), &numbers(&[3], 0), &numbers(&[4], 0), 1e-5);
    assert!(error.is_err(), "a bias of another width must be refused");
}

/// The tanh form of GELU in candle's operations.
fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.powf(3.0)? * 0.044715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.0)?
}

#[test]
fn gelu_is_the_input_times_the_normal_distribution() {
    for shape in [[1, 1], [3, 7], [70, 1001]] {
        check("gelu", &[&shape], &|x| kernels::gelu(&(&x[0] * 4.0)?, Gelu::Exact), &|x| {
            (&x[0] * 4.0)?.gelu_erf()
        });
        check("gelu, tanh", &[&shape], &|x| kernels::gelu(&(&x[0] * 4.0)?, Gelu::Tanh), &|x| {
            gelu_tanh(&(&x[0] * 4.0)?)
        });
    }
}

#[test]
fn rope_turns_a_part_of_a_head_neighbour_by_neighbour_and_stretched() {
    let (tokens, heads, head, half) = (9, 3, 10, 3);
    let frequencies = [1.0f32, 0.4, 0.2];
    let positions = Arc::new((0..tokens as u32).map(|t| t * 5).collect::<Vec<_>>());
    for (interleaved, factor) in [(false, 1.0f32), (true, 1.0), (false, 1.3)] {
        let mut table = RopeTable::empty(&frequencies, RopeForm { head, interleaved, factor });
        table.extend(&frequencies, 0..50);
        let table = Arc::new(table);
        let angles = positions.iter().flat_map(|&p| frequencies.map(|f| p as f32 * f)).collect::<Vec<_>>();
        let angle = Tensor::from_vec(angles, (tokens, 1, half), &device()).unwrap();
        check("rope", &[&[tokens, heads * head]], &|x| kernels::rope(&x[0], &table, &positions), &|x| {
            let x = x[0].reshape((tokens, heads, head))?;
            // The matrix of the frequency `i` mixes these two dimensions.
            let pair = |i: usize| if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let mut columns: Vec<Tensor> =
                (0..head).map(|i| x.narrow(2, i, 1)).collect::<Result<Vec<_>>>()?;
            for i in 0..half {
                let (a, b) = pair(i);
                let angle = angle.narrow(2, i, 1)?;
                let (cos, sin) = ((angle.cos()? * f64::from(factor))?, (angle.sin()? * f64::from(factor))?);
                let first = (columns[a].broadcast_mul(&cos)? - columns[b].broadcast_mul(&sin)?)?;
                let second = (columns[b].broadcast_mul(&cos)? + columns[a].broadcast_mul(&sin)?)?;
                (columns[a], columns[b]) = (first, second);
            }
            Tensor::cat(&columns, 2)?.reshape((tokens, heads * head))
        });
    }
    // A table that goes on with other frequencies: the positions after the first ten start again at 0.
    let mut table = RopeTable::empty(&frequencies, RopeForm { head: 6, interleaved: false, factor: 1.0 });
    table.extend(&frequencies, 0..10);
    table.extend(&[0.5, 0.2, 0.1], 0..10);
    let (x, all) = (numbers(&[2, 6], 1), Arc::new(RopeTable::new(&[0.5, 0.2, 0.1], 10)));
    let got = kernels::rope(&x, &Arc::new(table), &Arc::new(vec![10, 17])).unwrap();
    let want = kernels::rope(&x, &all, &Arc::new(vec![0, 7])).unwrap();
    assert_eq!(values(&got), values(&want), "the second part of a table has its own frequencies");
}

#[test]
fn rope_rotates_each_pair_by_its_angle() {
    for (tokens, heads, dim) in [(1, 1, 2), (5, 3, 6), (70, 4, 32)] {
        let frequencies: Vec<f32> = (0..dim / 2).map(|i| 0.5f32.powi(i as i32)).collect();
        let table = Arc::new(RopeTable::new(&frequencies, 200));
        let positions = Arc::new((0..tokens).map(|t| (t * 3 % 200) as u32).collect::<Vec<_>>());
        let angle = Tensor::from_vec(
            positions
                .iter()
                .flat_map(|&p| frequencies.iter().map(move |f| p as f32 * f))
                .collect::<Vec<f32>>(),
            (tokens, 1, dim / 2),
            &device(),
        )
        .unwrap();
        check("rope", &[&[tokens, heads * dim]], &|x| kernels::rope(&x[0], &table, &positions), &|x| {
            let x = x[0].reshape((tokens, heads, dim))?;
            let (a, b) = (x.narrow(2, 0, dim / 2)?, x.narrow(2, dim / 2, dim / 2)?);
            let (cos, sin) = (angle.cos()?, angle.sin()?);
            let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
            let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
            Tensor::cat(&[first, second], 2)?.reshape((tokens, heads * dim))
        });
        let beyond = Arc::new(vec![200; tokens]);
        let error = kernels::rope(&numbers(&[tokens, heads * dim], 0), &table, &beyond).unwrap_err();
        assert!(error.to_string().contains("200"), "a position beyond the table must be named: {error}");
    }
}

/// 0 where a query sees a key, a very negative number elsewhere: `[queries, keys]`.
fn bias(queries: usize, keys: usize, mask: Mask) -> Tensor {
    let seen = |i: usize, j: usize| {
        let position = mask.offset + i;
        j <= position && mask.window.is_none_or(|w| position - j < w)
    };
    let bias = (0..queries).flat_map(|i| (0..keys).map(move |j| if seen(i, j) { 0.0 } else { -1e30 }));
    Tensor::from_vec(bias.collect::<Vec<f32>>(), (queries, keys), &device()).unwrap()
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

#[test]
fn the_masked_softmax_sees_only_what_the_mask_leaves() {
    for (queries, keys, offset, window) in
        [(1, 1, 0, None), (5, 5, 0, None), (3, 10, 7, Some(4)), (40, 40, 0, Some(1))]
    {
        let mask = Mask { offset, window };
        let plain = Scoring::scaled(0.7);
        check("softmax", &[&[3, queries, keys]], &|x| kernels::masked_softmax(&x[0], &plain, mask), &|x| {
            softmax(&(&x[0] * 0.7)?.broadcast_add(&bias(queries, keys, mask))?)
        });
        let capped = Scoring { cap: Some(0.4), ..Scoring::scaled(1.5) };
        check("capped", &[&[3, queries, keys]], &|x| kernels::masked_softmax(&x[0], &capped, mask), &|x| {
            let scores = ((&x[0] * (1.5 / 0.4))?.tanh()? * 0.4)?;
            softmax(&scores.broadcast_add(&bias(queries, keys, mask))?)
        });
        let sinks = numbers(&[3], 5);
        let sunk = Scoring { sinks: Some(sinks.clone()), ..Scoring::scaled(0.7) };
        check("sinks", &[&[3, queries, keys]], &|x| kernels::masked_softmax(&x[0], &sunk, mask), &|x| {
            let scores = (&x[0] * 0.7)?.broadcast_add(&bias(queries, keys, mask))?;
            let sinks = sinks.reshape((3, 1, 1))?.broadcast_as((3, queries, 1))?.contiguous()?;
            softmax(&Tensor::cat(&[scores, sinks], 2)?)?.narrow(2, 0, keys)
        });
    }
    let wrong = Scoring { sinks: Some(numbers(&[2], 5)), ..Scoring::scaled(0.7) };
    let mask = Mask { offset: 0, window: None };
    let refused = kernels::masked_softmax(&numbers(&[3, 2, 2], 1), &wrong, mask);
    assert!(refused.is_err(), "three heads have no two sinks");
}

/// Attention of one sequence with every key and value head repeated.
fn plain_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    let t = q.dim(0)?;
    let group = heads.queries / heads.keys;
    let split = |x: &Tensor, n: usize| x.reshape((t, n, heads.dim))?.transpose(0, 1)?.contiguous();
    let repeated = |x: &Tensor| {
        let x = split(x, heads.keys)?.unsqueeze(1)?;
        x.broadcast_as((heads.keys, group, t, heads.dim))?.contiguous()?.reshape((
            heads.queries,
            t,
            heads.dim,
        ))
    };
    let scores = (split(q, heads.queries)?.matmul(&repeated(k)?.t()?)? / (heads.dim as f64).sqrt())?;
    let mask = Mask { offset: 0, window: heads.window };
    let p = softmax(&scores.broadcast_add(&bias(t, t, mask))?)?;
    p.matmul(&repeated(v)?)?.transpose(0, 1)?.contiguous()?.reshape((t, heads.queries * heads.dim))
}

#[test]
fn attention_keeps_sequences_apart() {
    for (lengths, queries, keys, dim, window) in [
        (vec![1], 1, 1, 2, None),
        (vec![5, 1, 9], 4, 2, 6, None),
        (vec![3, 3, 3], 6, 1, 4, None),
        (vec![7, 30], 3, 3, 8, Some(4)),
    ] {
        let heads = Heads { queries, keys, dim, window };
        let tokens = lengths.iter().sum();
        let shapes: [&[usize]; 3] = [&[tokens, queries * dim], &[tokens, keys * dim], &[tokens, keys * dim]];
        check("attention", &shapes, &|x| kernels::attention(&x[0], &x[1], &x[2], &lengths, heads), &|x| {
            let mut outputs = Vec::new();
            let mut start = 0;
            for &length in &lengths {
                let part = |i: usize| x[i].narrow(0, start, length);
                outputs.push(plain_attention(&part(0)?, &part(1)?, &part(2)?, heads)?);
                start += length;
            }
            Tensor::cat(&outputs, 0)
        });
    }
    let x = numbers(&[4, 4], 0);
    let heads = Heads { queries: 2, keys: 2, dim: 2, window: None };
    assert!(kernels::attention(&x, &x, &x, &[3], heads).is_err(), "lengths must sum to the tokens");
}

#[test]
fn attention_scales_and_caps_as_it_is_told() {
    let heads = Heads { queries: 4, keys: 2, dim: 6, window: None };
    let layer = Attention { heads, scoring: Scoring { cap: Some(0.5), ..Scoring::scaled(2.0) } };
    let (q, k, v) = (numbers(&[7, 24], 1), numbers(&[7, 12], 2), numbers(&[7, 12], 3));
    let got = kernels::attention(&q, &k, &v, &[7], layer.clone()).unwrap();
    let plain = kernels::attention(&q, &k, &v, &[7], heads).unwrap();
    assert!(distance(&got, &plain) > 0.01, "scale and cap change the result");
    let split = |x: &Tensor| x.reshape((7, 2, 6)).unwrap().transpose(0, 1).unwrap().contiguous().unwrap();
    let last = q.narrow(0, 4, 3).unwrap();
    let cached = kernels::attention_cached(&last, &split(&k), &split(&v), layer).unwrap();
    assert!(distance(&cached, &got.narrow(0, 4, 3).unwrap()) < 1e-6, "a cache gives the same");
}

#[test]
fn a_gate_is_multiplied_after_its_activation() {
    for shape in [[1, 1], [3, 7], [70, 1001]] {
        let shapes: [&[usize]; 2] = [&shape, &shape];
        check("silu", &shapes, &|x| kernels::gated(&x[0], &x[1], Gate::Silu), &|x| x[0].silu()? * &x[1]);
        check("gelu", &shapes, &|x| kernels::gated(&x[0], &x[1], Gate::Gelu(Gelu::Tanh)), &|x| {
            gelu_tanh(&x[0])? * &x[1]
        });
        let clamped = Gate::Clamped { alpha: 1.7, limit: 0.6 };
        check("clamped", &shapes, &|x| kernels::gated(&x[0], &x[1], clamped), &|x| {
            let gate = x[0].minimum(0.6)?;
            let sigmoid = ((&gate * -1.7)?.exp()? + 1.0)?.recip()?;
            (gate * sigmoid)? * (x[1].clamp(-0.6, 0.6)? + 1.0)?
        });
    }
}

#[test]
fn cross_entropy_sums_over_the_rows_that_count() {
    // The last case needs several pieces: 4 M logits at a time are 41 rows of this vocabulary.
    for (tokens, hidden, vocab) in [(1, 3, 5), (9, 16, 33), (60, 2, 100_003)] {
        let head = numbers(&[vocab, hidden], 5);
        let targets: Vec<u32> =
            (0..tokens).map(|i| if i % 4 == 3 { IGNORED } else { (i * 7919 % vocab) as u32 }).collect();
        let rows: Vec<u32> = (0..tokens as u32).filter(|&i| targets[i as usize] != IGNORED).collect();
        let kept: Vec<u32> = rows.iter().map(|&i| targets[i as usize]).collect();
        let reference = |x: &[Tensor]| {
            let logits =
                x[0].index_select(&Tensor::new(rows.as_slice(), &device())?, 0)?.matmul(&head.t()?)?;
            let chosen =
                logits.gather(&Tensor::new(kept.as_slice(), &device())?.unsqueeze(1)?, 1)?.squeeze(1)?;
            let max = logits.max_keepdim(1)?.detach();
            let sums = logits.broadcast_sub(&max)?.exp()?.sum(1)?.log()?;
            ((sums + max.squeeze(1)?)? - chosen)?.sum_all()
        };
        check(
            "cross_entropy",
            &[&[tokens, hidden]],
            &|x| kernels::cross_entropy(&x[0], &head, &targets)? * 0.5,
            &|x| reference(x)? * 0.5,
        );
    }
}

#[test]
fn log_probs_of_tokens_have_gradients_of_their_own() {
    for (tokens, hidden, vocab) in [(1, 3, 5), (9, 16, 33)] {
        let head =
            Head { weight: numbers(&[vocab, hidden], 5), bias: Some(numbers(&[vocab], 6)), cap: Some(1.5) };
        let counts = |i: usize| i % 4 != 3;
        let targets: Vec<u32> = (0..tokens).map(|i| (i * 7 % vocab) as u32).collect();
        let given: Vec<u32> = (0..tokens).map(|i| if counts(i) { targets[i] } else { IGNORED }).collect();
        let counted: Vec<f32> = (0..tokens).map(|i| f32::from(u8::from(counts(i)))).collect();
        let reference = |x: &Tensor| {
            let y = x.matmul(&head.weight.t()?)?.broadcast_add(head.bias.as_ref().unwrap())?;
            let y = ((y / 1.5)?.tanh()? * 1.5)?;
            let chosen =
                y.gather(&Tensor::new(targets.as_slice(), &device())?.unsqueeze(1)?, 1)?.squeeze(1)?;
            (chosen - y.exp()?.sum(1)?.log()?)? * Tensor::new(counted.as_slice(), &device())?
        };
        // The gradient of each value depends on the value.
        let used = |log_probs: Tensor| log_probs.sqr()?.sum_all();
        check(
            "token_log_probs",
            &[&[tokens, hidden]],
            &|x| used(kernels::token_log_probs(&x[0], head.clone(), &given)?),
            &|x| used(reference(&x[0])?),
        );
    }
}

#[test]
fn a_biased_and_capped_head_makes_logits_and_their_loss() {
    let (tokens, hidden, vocab) = (9, 16, 33);
    let head =
        Head { weight: numbers(&[vocab, hidden], 5), bias: Some(numbers(&[vocab], 6)), cap: Some(1.5) };
    let targets: Vec<u32> = (0..tokens as u32).map(|i| i * 7 % vocab as u32).collect();
    let logits = |x: &Tensor| -> Result<Tensor> {
        let y = x.matmul(&head.weight.t()?)?.broadcast_add(head.bias.as_ref().unwrap())?;
        (y / 1.5)?.tanh()? * 1.5
    };
    let x = numbers(&[tokens, hidden], 7);
    assert!(distance(&head.logits(&x).unwrap(), &logits(&x).unwrap()) < 1e-5, "logits");
    check(
        "cross_entropy",
        &[&[tokens, hidden]],
        &|x| kernels::cross_entropy(&x[0], head.clone(), &targets),
        &|x| {
            let logits = logits(&x[0])?;
            let chosen = logits.gather(&Tensor::new(targets.as_slice(), &device())?.unsqueeze(1)?, 1)?;
            (logits.exp()?.sum_keepdim(1)?.log()? - chosen)?.sum_all()
        },
    );
    let wrong = Head { bias: Some(numbers(&[vocab + 1], 6)), ..head };
    assert!(kernels::cross_entropy(&x, wrong, &targets).is_err(), "a bias of another width must be refused");
}

#[test]
fn a_loss_over_nothing_is_zero_and_bad_ids_are_errors() {
    let (x, head) = (Var::from_tensor(&numbers(&[2, 3], 0)).unwrap(), numbers(&[5, 3], 1));
    let loss = kernels::cross_entropy(&x, &head, &[IGNORED; 2]).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0, "no row counts");
    let gradients = loss.backward().unwrap();
    assert_eq!(values(gradients.get(&x).unwrap()), [0.0; 6], "no row counts, so the gradient is zero");
    let error = kernels::cross_entropy(&x, &head, &[1, 5]).unwrap_err();
    assert!(error.to_string().contains("target 5"), "a target out of the vocabulary must be named: {error}");
    let error = kernels::embedding(&Tensor::new(&[1u32, 5], &device()).unwrap(), &head).unwrap_err();
    assert!(error.to_string().contains("id 5"), "an id out of the vocabulary must be named: {error}");
}

#[test]
fn dropout_keeps_the_mean_and_depends_on_the_seed_alone() {
    let ones = Tensor::ones((300, 333), DType::F32, &device()).unwrap();
    let dropped = |p: f32, seed: u64| values(&kernels::dropout(&ones, p, seed).unwrap());
    let first = dropped(0.25, 1);
    assert_eq!(first, dropped(0.25, 1), "the same seed must give the same mask");
    assert_ne!(first, dropped(0.25, 2), "another seed must give another mask");
    let kept = first.iter().filter(|&&v| v != 0.0).count() as f64 / first.len() as f64;
    assert!((kept - 0.75).abs() < 0.01, "a quarter must be dropped, {kept} is kept");
    assert!(
        first.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6),
        "what is kept must be divided by 0.75"
    );
    assert_eq!(dropped(0.0, 1), values(&ones), "probability 0 drops nothing");
    assert!(kernels::dropout(&ones, 1.0, 1).is_err(), "everything cannot be dropped");

    let x = Var::from_tensor(&ones).unwrap();
    let gradients = kernels::dropout(&x, 0.25, 1).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(gradients.get(&x).unwrap()), first, "the gradient must go through the same mask");
}

#[test]
fn an_operation_computed_twice_gives_the_same_bits() {
    let (x, w) = (numbers(&[130, 256], 1), numbers(&[512, 256], 2));
    let first = values(&kernels::frozen_linear(&x, &w).unwrap());
    assert_eq!(first, values(&kernels::frozen_linear(&x, &w).unwrap()), "a product must be reproducible");
}

#[test]
fn a_head_can_be_divided_by_a_temperature() {
    let head = Head { weight: numbers(&[33, 16], 5), bias: Some(numbers(&[33], 6)), cap: Some(1.5) };
    let (hidden, temperature) = (numbers(&[4, 16], 7), 0.7);
    let want = (head.logits(&hidden).unwrap() / temperature).unwrap();
    let got = head.divided(temperature).unwrap().logits(&(hidden / temperature).unwrap()).unwrap();
    let apart = (got - want).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    assert!(apart.to_scalar::<f32>().unwrap() < 1e-5, "off by {apart}");
    assert!([0.0, -1.0, f64::NAN].iter().all(|temperature| head.divided(*temperature).is_err()));
}
