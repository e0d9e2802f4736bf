//! The fused operations against the composition of the reference ones: the output and every gradient, at odd shapes, in f32
//! and bf16, at every level of instructions that this machine has.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

mod support;

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, Var};
use kernels::{
    Codes, DecoderLayer, FrozenWeight, Heads, IGNORED, LayerInput, LayerLinear, Quantised, RopeTable, seed,
};
use support::{CPU, distance, norm, numbers, values};

/// A layer's sizes and what is special about it.
#[derive(Clone)]
struct Case {
    lengths: Vec<usize>,
    hidden: usize,
    heads: Heads,
    middle: usize,
    rank: usize,
    /// Which of the seven linear layers have an adapter.
    adapted: [bool; 7],
    bias: bool,
    dropout: f32,
    /// Whether heads have norms of their own.
    head_norms: bool,
    /// Whether it knows positions.
    rotary: bool,
    /// How the weights are kept, and whether their scales are quantised too.
    quantised: Option<(Codes, bool)>,
}

impl Case {
    fn plain(lengths: &[usize]) -> Self {
        Case {
            lengths: lengths.to_vec(),
            hidden: 24,
            heads: Heads { queries: 4, keys: 2, dim: 6, window: None },
            middle: 40,
            rank: 3,
            adapted: [true; 7],
            bias: false,
            dropout: 0.0,
            head_norms: false,
            rotary: true,
            quantised: None,
        }
    }

    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn shapes(&self) -> [(usize, usize); 7] {
        let (h, m) = (self.hidden, self.middle);
        let (q, k) = (self.heads.queries * self.heads.dim, self.heads.keys * self.heads.dim);
        [(q, h), (k, h), (k, h), (h, q), (m, h), (m, h), (h, m)]
    }

    /// A weight as the layer is given it.
    fn frozen(&self, i: usize, bf16: bool) -> FrozenWeight {
        let (out, inputs) = self.shapes()[i];
        let spread = (3.0 / inputs as f32).sqrt();
        let plain = numbers(&[out, inputs], 10 + i as u64, spread);
        let Some((codes, nested)) = self.quantised else {
            return plain.to_dtype(dtype(bf16)).unwrap().into();
        };
        let weight = Quantised::new(codes, nested, (out, inputs), &values(&plain)).unwrap();
        FrozenWeight::Quantised { weight: Arc::new(weight), dtype: dtype(bf16) }
    }

    /// The same as the reference computes with it.
    fn weight(&self, i: usize, bf16: bool) -> Tensor {
        match self.frozen(i, bf16) {
            FrozenWeight::Tensor(tensor) => tensor,
            FrozenWeight::Quantised { weight, .. } => {
                Tensor::from_vec(weight.to_vec(), weight.shape(), &CPU).unwrap()
            }
        }
    }

    fn bias(&self, i: usize, bf16: bool) -> Option<Tensor> {
        self.bias.then(|| numbers(&[self.shapes()[i].0], 30 + i as u64, 0.3).to_dtype(dtype(bf16)).unwrap())
    }

    fn norm(&self, i: usize) -> Tensor {
        (numbers(&[self.hidden], 40 + i as u64, 0.2) + 1.0).unwrap()
    }

    fn head_norms(&self) -> Option<[Tensor; 2]> {
        let norm = |salt| (numbers(&[self.heads.dim], salt, 0.3) + 1.0).unwrap();
        self.head_norms.then(|| [norm(44), norm(45)])
    }

    /// The residual stream and the adapters, as variables.
    fn variables(&self) -> Vec<Var> {
        let mut all = vec![Var::from_tensor(&numbers(&[self.tokens(), self.hidden], 1, 1.0)).unwrap()];
        for (i, (out, inputs)) in self.shapes().into_iter().enumerate().filter(|(i, _)| self.adapted[*i]) {
            for (shape, salt) in [([self.rank, inputs], 50), ([out, self.rank], 60)] {
                all.push(Var::from_tensor(&numbers(&shape, salt + i as u64, 0.15)).unwrap());
            }
        }
        all
    }

    fn seed(&self, i: usize) -> u64 {
        77 + i as u64
    }

    fn input(&self) -> LayerInput {
        let frequencies: Vec<f32> = (0..self.heads.dim / 2).map(|i| 0.5f32.powi(i as i32)).collect();
        let positions = self.lengths.iter().flat_map(|&l| 0..l as u32).collect();
        let table = self.rotary.then(|| Arc::new(RopeTable::new(&frequencies, 400)));
        LayerInput { lengths: self.lengths.clone(), table, positions: Arc::new(positions) }
    }

    fn fused(&self, bf16: bool, x: &Tensor, adapters: &[Var]) -> Result<Tensor> {
        self.layer(bf16, adapters).forward(x, self.input())
    }

    fn layer(&self, bf16: bool, adapters: &[Var]) -> DecoderLayer {
        let mut adapters = adapters.chunks(2);
        let linears = std::array::from_fn(|i| LayerLinear {
            weight: self.frozen(i, bf16),
            bias: self.bias(i, bf16),
            adapter: if self.adapted[i] {
                adapters.next().map(|a| (a[0].as_tensor().clone(), a[1].as_tensor().clone()))
            } else {
                None
            },
            dropout: (self.dropout > 0.0).then(|| (self.dropout, self.seed(i))),
        });
        DecoderLayer {
            input_norm: self.norm(0),
            post_attention_norm: self.norm(1),
            query_key_norms: self.head_norms(),
            eps: 1e-5,
            linears,
            scale: 1.5,
            heads: self.heads,
        }
    }

    fn reference(&self, bf16: bool, x: &Tensor, adapters: &[Var]) -> Result<Tensor> {
        let linear = |i: usize, x: &Tensor| -> Result<Tensor> {
            let y = kernels::frozen_linear(x, &self.weight(i, bf16).to_dtype(DType::F32)?)?;
            let y = match self.bias(i, bf16) {
                Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?,
                None => y,
            };
            if !self.adapted[i] {
                return Ok(y);
            }
            let at = 2 * self.adapted[..i].iter().filter(|&&a| a).count();
            let x = kernels::dropout(x, self.dropout, self.seed(i))?;
            y + (x.matmul(&adapters[at].t()?)? * 1.5)?.matmul(&adapters[at + 1].t()?)?
        };
        let LayerInput { lengths, table, positions } = self.input();
        let normed = kernels::rms_norm(x, &self.norm(0), 1e-5)?;
        let ready = |i: usize, x: Tensor| {
            let x = match self.head_norms() {
                Some(norms) => {
                    let (tokens, width) = x.dims2()?;
                    let heads = x.reshape((tokens, width / self.heads.dim, self.heads.dim))?;
                    kernels::rms_norm(&heads, &norms[i], 1e-5)?.reshape((tokens, width))?
                }
                None => x,
            };
            match &table {
                Some(table) => kernels::rope(&x, table, &positions),
                None => Ok(x),
            }
        };
        let (q, k) = (ready(0, linear(0, &normed)?)?, ready(1, linear(1, &normed)?)?);
        let mixed = kernels::attention(&q, &k, &linear(2, &normed)?, &lengths, self.heads)?;
        let x = (x + linear(3, &mixed)?)?;
        let normed = kernels::rms_norm(&x, &self.norm(1), 1e-5)?;
        let gated = kernels::gated(&linear(4, &normed)?, &linear(5, &normed)?, kernels::Gate::Silu)?;
        &x + linear(6, &gated)?
    }

    /// The output, and the gradient of every variable.
    fn run(&self, bf16: bool, fused: bool) -> (Tensor, Vec<Tensor>) {
        let variables = self.variables();
        let x = variables[0].affine(1.0, 0.0).unwrap();
        let adapters = &variables[1..];
        let y =
            if fused { self.fused(bf16, &x, adapters) } else { self.reference(bf16, &x, adapters) }.unwrap();
        let upstream = numbers(y.dims(), 99, 1.0);
        let found = seed(&y, &upstream).unwrap().backward().unwrap();
        let gradients =
            variables.iter().map(|v| found.get(v).expect("every variable gets a gradient").clone());
        (y, gradients.collect())
    }
}

fn dtype(bf16: bool) -> DType {
    if bf16 { DType::BF16 } else { DType::F32 }
}

fn cases() -> Vec<Case> {
    let wide = Heads { queries: 3, keys: 3, dim: 32, window: None };
    vec![
        Case::plain(&[1]),
        Case::plain(&[5, 0, 1, 9]),
        Case { dropout: 0.25, bias: true, ..Case::plain(&[17, 3]) },
        Case { adapted: [true, false, true, false, false, true, false], ..Case::plain(&[33]) },
        Case { adapted: [false; 7], bias: true, ..Case::plain(&[7, 2]) },
        Case { head_norms: true, bias: true, ..Case::plain(&[12, 1, 30]) },
        Case { head_norms: true, rotary: false, heads: wide, ..Case::plain(&[140]) },
        Case { rotary: false, ..Case::plain(&[9, 70]) },
        Case { hidden: 96, heads: wide, middle: 130, rank: 17, ..Case::plain(&[150, 1, 70]) },
        Case { quantised: Some((Codes::Nf4, false)), dropout: 0.25, ..Case::plain(&[17, 3]) },
        Case { quantised: Some((Codes::Fp4, true)), hidden: 96, heads: wide, ..Case::plain(&[70, 70]) },
        Case { quantised: Some((Codes::Nf4, true)), hidden: 128, middle: 192, ..Case::plain(&[90]) },
        Case { quantised: Some((Codes::Int8, false)), hidden: 128, middle: 96, ..Case::plain(&[80]) },
        Case { quantised: Some((Codes::Int8, false)), hidden: 33, middle: 70, ..Case::plain(&[50, 2]) },
        Case { heads: Heads { window: Some(5), ..Case::plain(&[]).heads }, ..Case::plain(&[100, 4]) },
        Case { heads: Heads { window: Some(70), ..wide }, hidden: 33, dropout: 0.5, ..Case::plain(&[200]) },
    ]
}

#[test]
fn a_fused_layer_is_the_composition_of_its_operations() {
    for (number, case) in cases().into_iter().enumerate() {
        for (bf16, tolerance) in [(false, 3e-5), (true, 5e-2)] {
            let (got, got_gradients) = case.run(bf16, true);
            let (want, want_gradients) = case.run(bf16, false);
            let apart = distance(&got, &want, 0.0);
            assert!(
                apart < tolerance,
                "case {number}, bf16 {bf16}: the output is {apart} from the reference"
            );
            // Some gradients are zero by nature, such as those of the scores of a single token.
            let least = 0.1 * want_gradients.iter().map(|g| norm(&values(g))).fold(0.0, f32::max);
            for (i, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
                let apart = distance(got, want, least);
                assert!(
                    apart < tolerance,
                    "case {number}, bf16 {bf16}: gradient {i} is {apart} from the reference"
                );
            }
        }
    }
}

#[test]
fn a_layer_computed_twice_gives_the_same_bits() {
    let case = Case { dropout: 0.1, ..Case::plain(&[150, 20]) };
    for bf16 in [false, true] {
        let (first, second) = (case.run(bf16, true), case.run(bf16, true));
        assert_eq!(values(&first.0), values(&second.0));
        for (a, b) in first.1.iter().zip(&second.1) {
            assert_eq!(values(a), values(b), "gradients must be reproducible");
        }
    }
}

#[test]
fn a_sequence_changes_no_bit_of_another() {
    let case = Case::plain(&[70, 33, 40]);
    for bf16 in [false, true] {
        let variables = case.variables();
        let x = values(variables[0].as_tensor());
        let output = |x: Vec<f32>| {
            let x = Tensor::from_vec(x, (case.tokens(), case.hidden), &CPU).unwrap();
            case.fused(bf16, &x, &variables[1..]).unwrap().to_vec2::<f32>().unwrap()
        };
        let mut changed = x.clone();
        changed[70 * case.hidden..103 * case.hidden].iter_mut().for_each(|v| *v = *v * 3.0 + 1.0);
        let (before, after) = (output(x), output(changed));
        assert_eq!(before[..70], after[..70], "the sequence before");
        assert_ne!(before[70..103], after[70..103], "the changed one");
        assert_eq!(before[103..], after[103..], "the sequence after");
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let case = Case::plain(&[5]);
    let variables = case.variables();
    let wrong = |change: &dyn Fn(&mut Case)| {
        let mut other = case.clone();
        change(&mut other);
        other.fused(false, variables[0].as_tensor(), &variables[1..]).unwrap_err().to_string()
    };
    assert!(wrong(&|c| c.lengths = vec![4]).contains("[4]"), "lengths that do not sum to the tokens");
    assert!(wrong(&|c| c.middle = 41).contains("41"), "an adapter that does not fit");
    assert!(wrong(&|c| c.heads.window = Some(0)).contains("window"), "a window that sees nothing");
    let layer = case.layer(false, &variables[1..]);
    let norms = Some([numbers(&[5], 1, 1.0), numbers(&[6], 1, 1.0)]);
    let other = DecoderLayer { query_key_norms: norms, ..layer };
    let error = other.forward(variables[0].as_tensor(), case.input()).unwrap_err().to_string();
    assert!(error.contains("width 6"), "a norm of another width than a head's: {error}");
    let half = variables[0].to_dtype(DType::BF16).unwrap();
    assert!(case.fused(true, &half, &variables[1..]).unwrap_err().to_string().contains("f32"));
}

#[test]
fn the_fused_loss_is_the_reference_loss() {
    for (tokens, hidden, vocab) in [(1, 3, 5), (9, 16, 33), (40, 24, 5003), (200, 2, 100_003)] {
        for (bf16, tolerance) in [(false, 2e-5), (true, 2e-2)] {
            let head = numbers(&[vocab, hidden], 5, 1.0).to_dtype(dtype(bf16)).unwrap();
            let wide = head.to_dtype(DType::F32).unwrap();
            let targets: Vec<u32> =
                (0..tokens).map(|i| if i % 4 == 3 { IGNORED } else { (i * 7919 % vocab) as u32 }).collect();
            let run = |fused: bool| {
                let x = Var::from_tensor(&numbers(&[tokens, hidden], 8, 1.0)).unwrap();
                let loss = if fused {
                    kernels::fused_cross_entropy(&x, &head, &targets)
                } else {
                    kernels::cross_entropy(&x, &wide, &targets)
                };
                let loss = (loss.unwrap() * 0.5).unwrap();
                let found = loss.backward().unwrap();
                (loss, found.get(&x).unwrap().clone())
            };
            let ((got, got_gradient), (want, want_gradient)) = (run(true), run(false));
            for apart in [distance(&got, &want, 0.0), distance(&got_gradient, &want_gradient, 0.0)] {
                assert!(apart < tolerance, "{tokens} of {vocab}, bf16 {bf16}: {apart} from the reference");
            }
        }
    }
}

#[test]
fn fused_log_probs_are_the_references_with_gradients_of_their_own() {
    for (tokens, hidden, vocab) in [(1, 3, 5), (40, 24, 5003), (200, 2, 100_003)] {
        for (bf16, tolerance) in [(false, 2e-5), (true, 2e-2)] {
            let head = numbers(&[vocab, hidden], 5, 1.0).to_dtype(dtype(bf16)).unwrap();
            let wide = head.to_dtype(DType::F32).unwrap();
            let targets: Vec<u32> =
                (0..tokens).map(|i| if i % 4 == 3 { IGNORED } else { (i * 7919 % vocab) as u32 }).collect();
            let run = |fused: bool| {
                let x = Var::from_tensor(&numbers(&[tokens, hidden], 8, 1.0)).unwrap();
                let log_probs = if fused {
                    kernels::fused_token_log_probs(&x, &head, &targets)
                } else {
                    kernels::token_log_probs(&x, &wide, &targets)
                };
                let log_probs = log_probs.unwrap();
                let found = log_probs.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                (log_probs, found.get(&x).unwrap().clone())
            };
            let ((got, got_gradient), (want, want_gradient)) = (run(true), run(false));
            for apart in [distance(&got, &want, 0.0), distance(&got_gradient, &want_gradient, 0.0)] {
                assert!(apart < tolerance, "{tokens} of {vocab}, bf16 {bf16}: {apart} from the reference");
            }
        }
    }
}

#[test]
fn a_fused_loss_over_nothing_is_zero_and_bad_targets_are_errors() {
    let (x, head) = (Var::from_tensor(&numbers(&[2, 3], 0, 1.0)).unwrap(), numbers(&[5, 3], 1, 1.0));
    let loss = kernels::fused_cross_entropy(&x, &head, &[IGNORED; 2]).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0, "no row counts");
    let found = loss.backward().unwrap();
    assert_eq!(values(found.get(&x).unwrap()), [0.0; 6], "no row counts, so the gradient is zero");
    let error = kernels::fused_cross_entropy(&x, &head, &[1, 5]).unwrap_err();
    assert!(error.to_string().contains("target 5"), "a target out of the vocabulary must be named: {error}");
}

#[test]
fn a_fused_product_is_a_matrix_product() {
    for (tokens, inputs, out) in [(1, 1, 1), (1, 200, 131), (3, 33, 17), (70, 64, 103)] {
        for (bf16, tolerance) in [(false, 1e-5), (true, 1e-2)] {
            let (x, w) = (numbers(&[tokens, inputs], 1, 1.0), numbers(&[out, inputs], 2, 1.0));
            let w = w.to_dtype(dtype(bf16)).unwrap();
            let want = x.matmul(&w.to_dtype(DType::F32).unwrap().t().unwrap()).unwrap();
            let apart = distance(&kernels::fused_product(&x, &w).unwrap(), &want, 0.0);
            assert!(apart < tolerance, "{tokens} rows, bf16 {bf16}: {apart} from the reference");
        }
    }
    let x = Var::from_tensor(&numbers(&[2, 3], 0, 1.0)).unwrap();
    let y = kernels::fused_product(&x, &numbers(&[4, 3], 1, 1.0)).unwrap();
    assert!(y.sum_all().unwrap().backward().is_err(), "nothing trains through it, and none must think so");
}

#[test]
fn every_level_of_this_machine_gives_the_same() {
    support::at_every_level();
}
