//! Attention of sequences over sequences, and the loss of pointing at an answer, against compositions of candle's own
//! operations, gradients included.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use kernels::{PairAttention, Sight, span_cross_entropy};
use support::{distance, numbers};

const HEADS: usize = 3;
const DIM: usize = 4;

/// The bias of every test: by head and distance.
fn bias(t: usize, n: usize) -> Result<Tensor> {
    let at = |i: usize| {
        let (head, query, key) = (i / (t * n), i / n % t, i % n);
        ((head + 1) as f32 * (key as f32 - query as f32) * 0.37).sin()
    };
    Tensor::from_vec((0..HEADS * t * n).map(at).collect::<Vec<f32>>(), (HEADS, t, n), &Device::Cpu)
}

/// The same by candle's operations, one pair of sequences at a time.
fn plain(
    attention: &PairAttention,
    tensors: [&Tensor; 3],
    lengths: (&[usize], &[usize]),
    biased: bool,
) -> Result<Tensor> {
    let (mut at, mut key_at, mut parts) = (0, 0, Vec::new());
    for (&t, &n) in lengths.0.iter().zip(lengths.1) {
        let split = |x: &Tensor, from, count| -> Result<Tensor> {
            x.narrow(0, from, count)?.reshape((count, HEADS, DIM))?.transpose(0, 1)?.contiguous()
        };
        let (q, k, v) =
            (split(tensors[0], at, t)?, split(tensors[1], key_at, n)?, split(tensors[2], key_at, n)?);
        let mut scores = (q.matmul(&k.t()?)? * f64::from(attention.scale))?;
        if biased {
            scores = (scores + bias(t, n)?)?;
        }
        if let Sight::Past { offset } = attention.sight {
            let hidden = |i: usize| if i % n > offset + i / n { f32::NEG_INFINITY } else { 0.0 };
            let mask = Tensor::from_vec((0..t * n).map(hidden).collect::<Vec<f32>>(), (t, n), &Device::Cpu)?;
            scores = scores.broadcast_add(&mask)?;
        }
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        parts.push(p.matmul(&v)?.transpose(0, 1)?.contiguous()?.reshape((t, HEADS * DIM))?);
        (at, key_at) = (at + t, key_at + n);
    }
    Tensor::cat(&parts, 0)
}

#[test]
fn the_same_wherever_it_is_computed() {
    support::place::everywhere();
}

#[test]
fn attention_over_other_sequences_is_the_composition_of_its_parts() {
    for (sight, scale, biased, lengths, others) in [
        (Sight::All, 0.5, false, vec![3, 1, 4], vec![5, 2, 1]),
        (Sight::All, 1.0, true, vec![4, 2], vec![4, 2]),
        (Sight::Past { offset: 0 }, 1.0, true, vec![5, 1, 2], vec![5, 1, 2]),
        (Sight::Past { offset: 3 }, 0.7, false, vec![2], vec![5]),
    ] {
        let attention = PairAttention { heads: HEADS, scale, sight };
        let total = |lengths: &[usize]| lengths.iter().sum::<usize>();
        let var = |rows, salt| Var::from_tensor(&numbers(&[rows, HEADS * DIM], salt, 1.5)).unwrap();
        let (q, k, v) = (var(total(&lengths), 1), var(total(&others), 2), var(total(&others), 3));
        let weights = numbers(&[total(&lengths), HEADS * DIM], 4, 1.0);
        let bias: Option<&dyn Fn(usize, usize) -> Result<Tensor>> = if biased { Some(&bias) } else { None };
        let got = attention.forward(&q, &k, &v, &lengths, &others, bias).unwrap();
        let want = plain(&attention, [&q, &k, &v], (&lengths, &others), biased).unwrap();
        assert!(distance(&got, &want, 0.0) < 1e-5, "{attention:?}");
        let back = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let (got, want) = (back(&got), back(&want));
        for (name, x) in [("queries", &q), ("keys", &k), ("values", &v)] {
            let apart = distance(got.get(x).unwrap(), want.get(x).unwrap(), 0.0);
            assert!(apart < 1e-5, "{attention:?}: the gradient of the {name} is {apart:e} apart");
        }
        let narrow = |x: &Var| x.as_tensor().to_dtype(DType::BF16).unwrap();
        let rounded =
            attention.forward(&narrow(&q), &narrow(&k), &narrow(&v), &lengths, &others, bias).unwrap();
        assert_eq!(rounded.dtype(), DType::BF16);
    }
}

#[test]
fn sequences_that_do_not_fit_are_errors() {
    let attention = PairAttention { heads: HEADS, scale: 1.0, sight: Sight::Past { offset: 0 } };
    let x = numbers(&[4, HEADS * DIM], 1, 1.0);
    assert!(attention.forward(&x, &x, &x, &[4], &[3], None).is_err(), "keys are left over");
    assert!(attention.forward(&x, &x, &x, &[2, 2], &[4], None).is_err(), "a sequence without another");
    assert!(attention.forward(&x, &x, &x, &[4], &[4], Some(&|_, _| bias(2, 2))).is_err(), "another bias");
    let late = PairAttention { sight: Sight::Past { offset: 1 }, ..attention.clone() };
    assert!(late.forward(&x, &x, &x, &[4], &[4], None).is_err(), "a query that stands after all keys");
    let odd = PairAttention { heads: 5, ..attention };
    assert!(odd.forward(&x, &x, &x, &[4], &[4], None).is_err(), "heads that do not divide the width");
}

#[test]
fn the_loss_of_an_answer_is_the_mean_of_its_ends() {
    let logits = Var::from_tensor(&numbers(&[7, 2], 5, 2.0)).unwrap();
    let (lengths, spans) = ([4, 3], [(1, 3), (0, 0)]);
    let got = span_cross_entropy(&logits, &lengths, &spans).unwrap();
    let plain = |logits: &Tensor| -> Result<Tensor> {
        let mut sum = Tensor::new(0f32, &Device::Cpu)?;
        for (from, length, column, row) in [(0, 4, 0, 1), (0, 4, 1, 3), (4, 3, 0, 0), (4, 3, 1, 0)] {
            let x = logits.narrow(0, from, length)?.narrow(1, column, 1)?.flatten_all()?;
            let log = (x.exp()?.sum_all()?.log()? - x.get(row)?)?;
            sum = (sum + (log * 0.5)?)?;
        }
        Ok(sum)
    };
    let want = plain(&logits).unwrap();
    assert!(distance(&got, &want, 0.0) < 1e-6);
    let gradient = |y: Tensor| y.backward().unwrap().get(&logits).unwrap().clone();
    assert!(distance(&gradient(got), &gradient(want), 0.0) < 1e-6);
    assert!(
        span_cross_entropy(&logits, &[4, 3], &[(1, 4), (0, 0)]).is_err(),
        "an answer beyond its sequence"
    );
    assert!(span_cross_entropy(&logits, &[4, 2], &spans).is_err(), "tokens without a sequence");
}
