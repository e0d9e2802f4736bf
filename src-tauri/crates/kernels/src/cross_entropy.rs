//! Output projection and cross entropy together, a few rows at a time.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::{
    composed,
    frozen_linear::frozen_linear,
    fused::{fused_cross_entropy, fused_token_log_probs},
    gemm::{times, times_transposed, with_matrix},
    slices::{floats, for_each_row, tensor_like, with_floats},
};

/// The target of a row that is not counted.
pub const IGNORED: u32 = u32::MAX;

/// Logits held at a time: 16 MB.
const LOGITS: usize = 1 << 22;

/// The frozen output projection.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocab, hidden]`.
    pub weight: Tensor,
    /// `[vocab]`.
    pub bias: Option<Tensor>,
    /// A logit `y` becomes `cap · tanh(y / cap)`: Gemma 2.
    pub cap: Option<f32>,
}

impl From<&Tensor> for Head {
    fn from(weight: &Tensor) -> Self {
        Head { weight: weight.clone(), bias: None, cap: None }
    }
}

impl Head {
    /// Whether logits are products with the weight and nothing else.
    pub fn is_plain(&self) -> bool {
        self.bias.is_none() && self.cap.is_none()
    }

    /// The head that gives logits divided by `temperature` of hidden states that are divided by it: so they are where the head
    /// is plain, and bias and cap are divided with them.
    ///
    /// # Errors
    /// The temperature is not above 0.
    pub fn divided(&self, temperature: f64) -> Result<Self> {
        if !(temperature.is_finite() && temperature > 0.0) {
            bail!("a temperature must be above 0, not {temperature}");
        }
        let divided = |bias: &Tensor| composed::converted(bias, DType::F32)? / temperature;
        let bias = self.bias.as_ref().map(divided).transpose()?;
        let cap = self.cap.map(|cap| (f64::from(cap) / temperature) as f32);
        Ok(Head { weight: self.weight.clone(), bias, cap })
    }

    /// Logits of f32 `[rows, hidden]` → `[rows, vocab]`, without a gradient.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        if composed::wanted(hidden, false) {
            return composed::logits(self, hidden);
        }
        let logits = frozen_linear(&hidden.detach(), &self.weight)?;
        let (rows, vocab) = logits.dims2()?;
        let mut values = with_floats(&logits, <[f32]>::to_vec)?;
        self.finish(&mut values, vocab)?;
        Tensor::from_vec(values, (rows, vocab), hidden.device())
    }

    /// Bias and cap, on products of rows with the weight.
    fn finish(&self, logits: &mut [f32], vocab: usize) -> Result<()> {
        if let Some(bias) = &self.bias {
            with_floats(bias, |bias| {
                for_each_row(logits, vocab, |_, row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
            })?;
        }
        if let Some(cap) = self.cap {
            for_each_row(logits, vocab, |_, row| row.iter_mut().for_each(|y| *y = cap * (*y / cap).tanh()));
        }
        Ok(())
    }
}

/// The sum of `−log softmax(logits)[target]` over the rows whose target is not [`IGNORED`]: hidden `[tokens, hidden]`
/// and the frozen head that makes logits of them → f32 scalar, 0 when no row counts.
///
/// Only rows that count are projected, and never more than 16 MB of logits exist at a time. The gradient of `hidden`,
/// `(softmax − onehot) head`, each logit's part multiplied by the slope of the cap where there is one, is computed along with the loss where `hidden` is tracked, and kept for the backward
/// pass; none is computed for the head.
pub fn cross_entropy(hidden: &Tensor, head: impl Into<Head>, targets: &[u32]) -> Result<Tensor> {
    operation(hidden, head.into(), targets, Gives::Sum)
}

fn operation(hidden: &Tensor, head: Head, targets: &[u32], gives: Gives) -> Result<Tensor> {
    let rows = counted_rows(hidden, &head.weight, targets)?;
    if let Some(bias) = head.bias.as_ref().filter(|bias| bias.dims1().ok() != head.weight.dim(0).ok()) {
        bail!("a bias {:?} does not fit a head {:?}", bias.dims(), head.weight.dims());
    }
    if composed::wanted(hidden, false) {
        // On a card the fused operation computes what it can.
        let fused = hidden.device().is_cuda() && head.is_plain();
        return match gives {
            Gives::Sum if fused => fused_cross_entropy(&hidden.to_dtype(DType::F32)?, &head.weight, targets),
            Gives::LogProbs if fused => {
                fused_token_log_probs(&hidden.to_dtype(DType::F32)?, &head.weight, targets)
            }
            Gives::Sum => composed::loss(hidden, &head, &rows),
            Gives::LogProbs => composed::log_probs(hidden, &head, &rows),
        };
    }
    hidden.contiguous()?.apply_op1(CrossEntropy {
        head,
        rows,
        gives,
        gradient: hidden.track_op().then(|| Mutex::new(Vec::new())),
    })
}

/// `log softmax(logits)[target]` of each row, 0 where the target is [`IGNORED`]: as [`cross_entropy`] otherwise, → f32 `[tokens]`.
/// The backward pass multiplies each row's gradient by that of its value, so that it may depend on the values themselves.
pub fn token_log_probs(hidden: &Tensor, head: impl Into<Head>, targets: &[u32]) -> Result<Tensor> {
    operation(hidden, head.into(), targets, Gives::LogProbs)
}

/// What an operation on logits and targets gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gives {
    /// The summed loss.
    Sum,
    /// The logarithm of each row's probability, the loss with the other sign.
    LogProbs,
}

impl Gives {
    /// Of the losses of the rows that count.
    pub fn output(self, losses: &[f64], rows: &[(usize, usize)], tokens: usize) -> (CpuStorage, Shape) {
        match self {
            Gives::Sum => (CpuStorage::F32(vec![losses.iter().sum::<f64>() as f32]), Shape::from(())),
            Gives::LogProbs => {
                let mut all = vec![0f32; tokens];
                for ((row, _), loss) in rows.iter().zip(losses) {
                    all[*row] = -loss as f32;
                }
                (CpuStorage::F32(all), Shape::from(tokens))
            }
        }
    }

    /// What the gradient of each row's loss is multiplied with, of `tokens` rows.
    pub fn upstream(self, grad: &Tensor, tokens: usize) -> Result<Vec<f32>> {
        let grad = grad.to_dtype(DType::F32)?;
        match self {
            Gives::Sum => Ok(vec![grad.to_scalar::<f32>()?; tokens]),
            Gives::LogProbs => Ok(grad.to_vec1::<f32>()?.into_iter().map(|g| -g).collect()),
        }
    }
}

/// Row and target of each row that counts, once all sizes and targets are known to fit.
pub(crate) fn counted_rows(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Vec<(usize, usize)>> {
    let (tokens, width) = hidden.dims2()?;
    let (vocab, inputs) = head.dims2()?;
    if tokens != targets.len() || width != inputs {
        bail!(
            "{} targets and a head {:?} do not fit hidden states {:?}",
            targets.len(),
            head.dims(),
            hidden.dims()
        );
    }
    if let Some(target) = targets.iter().find(|&&t| t != IGNORED && t as usize >= vocab) {
        bail!("target {target} is not in the vocabulary of {vocab}");
    }
    let all = targets.iter().enumerate();
    Ok(all.filter(|(_, t)| **t != IGNORED).map(|(row, &t)| (row, t as usize)).collect())
}

struct CrossEntropy {
    head: Head,
    /// Row and target of each row that counts.
    rows: Vec<(usize, usize)>,
    gives: Gives,
    /// The gradient of the rows that count, one after the other, where one is wanted.
    gradient: Option<Mutex<Vec<f32>>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let hidden = floats(storage, layout)?;
        let (vocab, width) = self.head.weight.dims2()?;
        let mut losses = Vec::with_capacity(self.rows.len());
        let mut gradient = Vec::new();
        for rows in self.rows.chunks((LOGITS / vocab).clamp(1, 1024)) {
            let chosen: Vec<f32> =
                rows.iter().flat_map(|(row, _)| &hidden[row * width..(row + 1) * width]).copied().collect();
            let mut logits =
                with_matrix(&(&self.head.weight).into(), |w, n, k| times_transposed(&chosen, w, n, k))?;
            self.head.finish(&mut logits, vocab)?;
            let each = logits.par_chunks_exact_mut(vocab).zip(rows);
            losses.par_extend(each.map(|(logits, &(_, target))| to_gradient(logits, target, &self.head)));
            if self.gradient.is_some() {
                gradient.extend(with_matrix(&(&self.head.weight).into(), |w, n, k| times(&logits, w, n, k))?);
            }
        }
        if let Some(place) = &self.gradient {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        }
        Ok(self.gives.output(&losses, &self.rows, layout.dims()[0]))
    }

    fn bwd(&self, arg: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(place) = &self.gradient else { return Ok(None) };
        let counted = std::mem::take(&mut *place.lock().unwrap_or_else(PoisonError::into_inner));
        let (tokens, width) = arg.dims2()?;
        if counted.len() != self.rows.len() * width {
            bail!("the gradient of a cross entropy can be taken once");
        }
        let upstream = self.gives.upstream(grad, tokens)?;
        let mut dx = vec![0f32; tokens * width];
        for ((row, _), values) in self.rows.iter().zip(counted.chunks_exact(width)) {
            let place = &mut dx[row * width..(row + 1) * width];
            let upstream = upstream[*row];
            place.iter_mut().zip(values).for_each(|(to, from)| *to = upstream * from);
        }
        tensor_like(dx, arg).map(Some)
    }
}

/// Turns the logits of a row into the loss's gradient by the products they were made of, and gives the loss.
fn to_gradient(logits: &mut [f32], target: usize, head: &Head) -> f64 {
    let slopes: Option<Vec<f32>> = head.cap.map(|cap| logits.iter().map(|y| slope(*y, cap)).collect());
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let chosen = logits[target];
    let mut total = 0f32;
    for v in logits.iter_mut() {
        *v = (*v - max).exp();
        total += *v;
    }
    let inverse = 1.0 / total;
    logits.iter_mut().for_each(|v| *v *= inverse);
    logits[target] -= 1.0;
    for (v, slope) in logits.iter_mut().zip(slopes.iter().flatten()) {
        *v *= slope;
    }
    f64::from(max - chosen) + f64::from(total.ln())
}

/// The derivative of the cap, where it gives `y`.
fn slope(y: f32, cap: f32) -> f32 {
    1.0 - (y / cap) * (y / cap)
}
