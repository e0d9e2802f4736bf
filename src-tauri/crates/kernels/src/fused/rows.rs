//! Row by row work of the fused operations: norm, gate, softmax, rotation. All of it f32.

use half::bf16;

use crate::{level::vectorised, values::bf16_bits};

/// Partial sums of a dot product: as many as a vector has lanes, so that the compiler may keep them in one.
const LANES: usize = 16;

#[inline(always)]
fn sum_of(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a, rest_a) = a.as_chunks::<LANES>();
    let (b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (most, v) in most.iter_mut().zip(chunk) {
            *most = if *v > *most { *v } else { *most };
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &v| if v > most { v } else { most })
}

/// e to the `x`, within 2 units in the last place: `2ⁿ · e^r` with `n` the nearest integer to `x / ln 2` and a polynomial
/// for `e^r`, `|r| ≤ ln 2 / 2` (Cephes, `expf`). Below −87 and above 88 it is that of the bound; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ leaves no bits for a fraction: the sum's low bits are the rounded integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, so that r is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + c;
    }
    (p * r * r + r + 1.0) * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// Raises every value to `e^(scale · (v − max))` and gives their sum.
#[inline(always)]
fn exponentials(row: &mut [f32], max: f32, scale: f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *v = exp((*v - max) * scale);
            *sum += *v;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for v in rest {
        *v = exp((*v - max) * scale);
        sum += *v;
    }
    sum
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of exponentials of numbers that come bit by bit: `e^largest · sum`.
#[derive(Clone, Copy)]
pub(crate) struct LogSum {
    largest: f32,
    sum: f32,
}

impl Default for LogSum {
    fn default() -> Self {
        LogSum { largest: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    pub(crate) fn log(self) -> f32 {
        self.largest + self.sum.ln()
    }

    /// How far its logarithm is above a number.
    pub(crate) fn above(self, number: f32) -> f64 {
        f64::from(self.largest - number) + f64::from(self.sum.ln())
    }
}

vectorised! {
    /// Takes further numbers into a sum.
    pub(crate) fn add_exponentials(row: &[f32], total: &mut LogSum) {
        let most = largest(row);
        let most = if most > total.largest { most } else { total.largest };
        let mut sums = [0f32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for (sum, v) in sums.iter_mut().zip(chunk) {
                *sum += exp(v - most);
            }
        }
        let own = sums.iter().sum::<f32>() + rest.iter().map(|v| exp(v - most)).sum::<f32>();
        // An empty sum is zero whatever its factor is.
        let before = if total.sum > 0.0 { total.sum * exp(total.largest - most) } else { total.sum };
        *total = LogSum { largest: most, sum: before + own };
    }

    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum_of(a, b)
    }

    /// `to += from`.
    pub(crate) fn add(from: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }

    /// `w · x / sqrt(mean(x²) + eps)`.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, to: &mut [f32]) {
        let r = 1.0 / (sum_of(x, x) / x.len() as f32 + eps).sqrt();
        for ((to, x), w) in to.iter_mut().zip(x).zip(weight) {
            *to = x * r * w;
        }
    }

    /// The same, in place.
    pub(crate) fn rms_norm_itself(x: &mut [f32], weight: &[f32], eps: f32) {
        let r = 1.0 / (sum_of(x, x) / x.len() as f32 + eps).sqrt();
        x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * r * w);
    }

    /// Adds the gradient of `x` to `dx`: with `r = 1 / sqrt(mean(x²) + eps)` and `d = w · g` it is
    /// `r · d − x · r³ / n · Σ d·x`. Leaves `d` in `g`.
    pub(crate) fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, g: &mut [f32], dx: &mut [f32]) {
        let n = x.len() as f32;
        let r = 1.0 / (sum_of(x, x) / n + eps).sqrt();
        g.iter_mut().zip(weight).for_each(|(g, w)| *g *= w);
        let pull = r * r * r * sum_of(g, x) / n;
        for ((dx, d), x) in dx.iter_mut().zip(&*g).zip(x) {
            *dx += r * d - pull * x;
        }
    }

    /// `silu(gate) · up`.
    pub(crate) fn swiglu(gate: &[f32], up: &[f32], to: &mut [f32]) {
        for ((to, x), up) in to.iter_mut().zip(gate).zip(up) {
            *to = x * sigmoid(*x) * up;
        }
    }

    /// The same, from bf16.
    pub(crate) fn swiglu_bf16(gate: &[bf16], up: &[bf16], to: &mut [f32]) {
        for ((to, x), up) in to.iter_mut().zip(gate).zip(up) {
            let x = f32::from_bits(u32::from(x.to_bits()) << 16);
            *to = x * sigmoid(x) * f32::from_bits(u32::from(up.to_bits()) << 16);
        }
    }

    /// Turns `gate` and `up` into their gradients, `g · up · σ(x) · (1 + x · (1 − σ(x)))` and `g · silu(x)`.
    pub(crate) fn swiglu_backward(gate: &mut [f32], up: &mut [f32], g: &[f32]) {
        for ((x, up), g) in gate.iter_mut().zip(up).zip(g) {
            let s = sigmoid(*x);
            let silu = *x * s;
            *x = g * *up * s * (1.0 + *x * (1.0 - s));
            *up = g * silu;
        }
    }

    /// The same, in bf16.
    pub(crate) fn swiglu_backward_bf16(gate: &mut [bf16], up: &mut [bf16], g: &[bf16]) {
        let wide = |x: &bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
        for ((to_gate, to_up), g) in gate.iter_mut().zip(up).zip(g) {
            let (x, up, g) = (wide(to_gate), wide(to_up), wide(g));
            let s = sigmoid(x);
            *to_gate = bf16::from_bits(bf16_bits(g * up * s * (1.0 + x * (1.0 - s))) as u16);
            *to_up = bf16::from_bits(bf16_bits(g * x * s) as u16);
        }
    }

    /// Turns scores into probabilities, `softmax(scale · scores)`, and gives the logarithm of the sum of exponentials.
    pub(crate) fn softmax(row: &mut [f32], scale: f32) -> f32 {
        let max = largest(row);
        let sum = exponentials(row, max, scale);
        let inverse = 1.0 / sum;
        row.iter_mut().for_each(|v| *v *= inverse);
        max * scale + sum.ln()
    }

    /// Turns scores into the probabilities that [`softmax`] gave, from the logarithm it gave.
    pub(crate) fn probabilities(row: &mut [f32], scale: f32, log_sum: f32) {
        row.iter_mut().for_each(|v| *v = exp(*v * scale - log_sum));
    }

    /// Turns the gradients of probabilities into those of scores: `scale · p · (g − Σ g·p)`, where the sum is known.
    pub(crate) fn softmax_backward(p: &[f32], sum: f32, scale: f32, g: &mut [f32]) {
        g.iter_mut().zip(p).for_each(|(g, p)| *g = p * (*g - sum) * scale);
    }

    /// Turns logits into `softmax − onehot(target)` and gives `−log softmax[target]`.
    pub(crate) fn cross_entropy(logits: &mut [f32], target: usize) -> f64 {
        let max = largest(logits);
        let chosen = logits[target];
        let sum = exponentials(logits, max, 1.0);
        let inverse = 1.0 / sum;
        logits.iter_mut().for_each(|v| *v *= inverse);
        logits[target] -= 1.0;
        f64::from(max - chosen) + f64::from(sum.ln())
    }

    /// Rotates the pairs `(i, i + half)` of each head by their angles, or back where `direction` is −1.
    pub(crate) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        for head in heads.chunks_exact_mut(2 * cos.len()) {
            let (first, second) = head.split_at_mut(cos.len());
            for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let s = s * direction;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_standard_library() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / want - 1.0).abs() < 3e-7, "exp({x}) is {want}, not {got}");
        }
        assert!(exp(f32::NAN).is_nan(), "a NaN must not vanish");
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn a_softmax_of_nan_is_nan() {
        let mut row = [1.0, f32::NAN, 2.0];
        assert!(softmax(&mut row, 1.0).is_nan() && row.iter().all(|v| v.is_nan()));
    }
}
