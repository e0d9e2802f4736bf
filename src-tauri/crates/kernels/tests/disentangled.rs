//! Disentangled attention against a plain composition of candle's operations: the output and every gradient, at odd shapes, in
//! f32 and bf16.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Arc;

use candle_core::{D, Result, Tensor};
use kernels::{Disentangled, Distances};
use support::{check, place::device};

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

/// `[tokens, heads · dim]` → `[heads, tokens, dim]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (t, width) = x.dims2()?;
    x.reshape((t, heads, width / heads))?.transpose(0, 1)?.contiguous()
}

fn join(x: &Tensor) -> Result<Tensor> {
    let (heads, t, dim) = x.dims3()?;
    x.transpose(0, 1)?.contiguous()?.reshape((t, heads * dim))
}

/// The row of the table for each pair of tokens, from the formula of the paper's code.
fn rows(t: usize, buckets: Option<usize>, longest: usize) -> Tensor {
    let row = |i: usize, j: usize| {
        let apart = i as f32 - j as f32;
        let (span, distance) = match buckets {
            None => (longest as f32, apart),
            Some(buckets) => {
                let middle = (buckets / 2) as f32;
                let log = (apart.abs() / middle).ln() / ((longest as f32 - 1.0) / middle).ln();
                let far = (log * (middle - 1.0)).ceil() + middle;
                (buckets as f32, if apart.abs() <= middle { apart } else { far * apart.signum() })
            }
        };
        (distance + span).clamp(0.0, 2.0 * span - 1.0) as u32
    };
    let all: Vec<u32> = (0..t * t).map(|at| row(at / t, at % t)).collect();
    Tensor::from_vec(all, (1, t, t), &device()).unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    support::place::everywhere();
}

#[test]
fn disentangled_attention_adds_what_contents_want_of_distances() {
    for (lengths, buckets, longest, both) in [
        (vec![1], None, 4, true),
        (vec![3, 9], None, 12, true),
        (vec![30, 7], Some(8), 40, true),
        (vec![12], Some(4), 16, false),
    ] {
        let tokens = lengths.iter().sum::<usize>();
        let distances = Arc::new(Distances::new(buckets, longest));
        let rows_of_table = distances.table_rows();
        let (token, row): (&[usize], &[usize]) = (&[tokens, 6], &[rows_of_table, 6]);
        let mut shapes = vec![token, token, token, row];
        if both {
            shapes.push(row);
        }
        check(
            "disentangled attention",
            &shapes,
            &|x| {
                let (keys, queries) = (Some(x[3].clone()), x.get(4).cloned());
                let layer = Disentangled { heads: 2, distances: distances.clone(), keys, queries };
                layer.forward(&x[0], &x[1], &x[2], &lengths)
            },
            &|x| {
                let (mut outputs, mut at) = (Vec::new(), 0);
                for &t in &lengths {
                    let part = |i: usize| split(&x[i].narrow(0, at, t)?, 2);
                    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
                    let index = rows(t, buckets, longest).broadcast_as((2, t, t))?.contiguous()?;
                    let mut scores =
                        (q.matmul(&k.t()?)? + q.matmul(&split(&x[3], 2)?.t()?)?.gather(&index, 2)?)?;
                    if both {
                        // Row of query i and key j, looked up for key j: the index is that of the transposed pair.
                        let by_key = k.matmul(&split(&x[4], 2)?.t()?)?;
                        scores = (scores + by_key.gather(&index.t()?.contiguous()?, 2)?.t()?)?;
                    }
                    let terms = if both { 3.0 } else { 2.0 };
                    outputs.push(join(&softmax(&(scores / (terms * 3f64).sqrt())?)?.matmul(&v)?)?);
                    at += t;
                }
                Tensor::cat(&outputs, 0)
            },
        );
    }
}
