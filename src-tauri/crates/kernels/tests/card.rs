//! The fused operations on a card against those on the CPU: outputs, every gradient, caches and updates. Without a card they are
//! skipped, and say so.
#![cfg(feature = "cuda")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failure here is a failed test, and what is skipped is told"
)]

mod support;

use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Result, Tensor, Var};
use kernels::{
    AdamWStep, Beside, CardGradients, Codes, DecoderLayer, FrozenWeight, Heads, IGNORED, KeyValueCache,
    LayerInput, LayerLinear, Moments, Offload, Quantised, RopeTable, adamw_on_card, seed,
};
use support::{CPU, distance, numbers, values};

/// The card, where there is one.
fn card(test: &str) -> Option<Device> {
    static CARD: OnceLock<Option<Device>> = OnceLock::new();
    let card = CARD.get_or_init(|| kernels::card(0).map_err(|error| println!("no card: {error}")).ok());
    if card.is_none() {
        println!("SKIPPED {test}: there is no card");
    }
    card.clone()
}

/// What is apart by more than is allowed, of all that is compared; told at the end.
#[derive(Default)]
struct Apart(Vec<String>);

impl Apart {
    fn see(&mut self, what: &str, got: &Tensor, want: &Tensor, allowed: f32) {
        let apart = distance(&got.to_device(&CPU).unwrap(), want, 0.0);
        let line = format!("{what}: {apart:.1e} of {allowed:.0e}");
        println!("{line}");
        if !matches!(apart.partial_cmp(&allowed), Some(std::cmp::Ordering::Less)) {
            self.0.push(line);
        }
    }

    fn end(self) {
        assert!(self.0.is_empty(), "on the card as on the CPU:\n{}", self.0.join("\n"));
    }
}

/// A layer's sizes and what is special about it.
#[derive(Clone)]
struct Case {
    name: &'static str,
    lengths: Vec<usize>,
    hidden: usize,
    heads: Heads,
    middle: usize,
    adapted: bool,
    bias: bool,
    dropout: f32,
    head_norms: bool,
    rotary: bool,
    /// Of weights and products.
    dtype: DType,
    quantised: Option<(Codes, bool)>,
}

const RANK: usize = 4;

/// Values of a precision on a device; the processor has those of f16 in f32.
fn rounded(values: &Tensor, dtype: DType, device: &Device) -> Tensor {
    let rounded = values.to_dtype(dtype).unwrap();
    match dtype {
        DType::F16 if device.is_cpu() => rounded.to_dtype(DType::F32).unwrap(),
        _ => rounded.to_device(device).unwrap(),
    }
}

impl Case {
    fn plain(name: &'static str, dim: usize, dtype: DType) -> Self {
        Case {
            name,
            lengths: vec![70, 1, 130],
            hidden: 64,
            heads: Heads { queries: 4, keys: 2, dim, window: None },
            middle: 96,
            adapted: true,
            bias: false,
            dropout: 0.0,
            head_norms: false,
            rotary: true,
            dtype,
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

    /// How far results may be from those of the processor, which computes with values of f16 in f32.
    fn allowed(&self) -> f32 {
        match self.dtype {
            DType::BF16 => 1.5e-2,
            DType::F16 => 3e-3,
            _ => 1e-4,
        }
    }

    fn weight(&self, i: usize, device: &Device) -> FrozenWeight {
        let (out, inputs) = self.shapes()[i];
        let plain = numbers(&[out, inputs], 10 + i as u64, (3.0 / inputs as f32).sqrt());
        match self.quantised {
            None => rounded(&plain, self.dtype, device).into(),
            Some((codes, nested)) => {
                let weight = Quantised::new(codes, nested, (out, inputs), &values(&plain)).unwrap();
                let dtype = if device.is_cpu() && self.dtype == DType::F16 { DType::F32 } else { self.dtype };
                FrozenWeight::Quantised { weight: Arc::new(weight), dtype }
            }
        }
    }

    fn layer(&self, device: &Device, adapters: &[Var]) -> DecoderLayer {
        let vector = |len: usize, salt: u64, spread: f32, middle: f64| {
            let made = (numbers(&[len], salt, spread) + middle).unwrap();
            rounded(&made, self.dtype, device)
        };
        let linears = std::array::from_fn(|i| LayerLinear {
            weight: self.weight(i, device),
            bias: self.bias.then(|| vector(self.shapes()[i].0, 30 + i as u64, 0.3, 0.0)),
            adapter: self
                .adapted
                .then(|| (adapters[2 * i].as_tensor().clone(), adapters[2 * i + 1].as_tensor().clone())),
            dropout: (self.dropout > 0.0).then_some((self.dropout, 77 + i as u64)),
        });
        DecoderLayer {
            input_norm: vector(self.hidden, 40, 0.2, 1.0),
            post_attention_norm: vector(self.hidden, 41, 0.2, 1.0),
            query_key_norms: self
                .head_norms
                .then(|| [vector(self.heads.dim, 44, 0.3, 1.0), vector(self.heads.dim, 45, 0.3, 1.0)]),
            eps: 1e-5,
            linears,
            scale: 1.5,
            heads: self.heads,
        }
    }

    fn table(&self) -> Option<Arc<RopeTable>> {
        let frequencies: Vec<f32> = (0..self.heads.dim / 2).map(|i| 0.8f32.powi(i as i32)).collect();
        self.rotary.then(|| Arc::new(RopeTable::new(&frequencies, 400)))
    }

    fn adapters(&self, device: &Device) -> Vec<Var> {
        let mut all = Vec::new();
        for (i, (out, inputs)) in self.shapes().into_iter().enumerate().filter(|_| self.adapted) {
            for (shape, salt) in [([RANK, inputs], 50), ([out, RANK], 60)] {
                let values = numbers(&shape, salt + i as u64, 0.15).to_device(device).unwrap();
                all.push(Var::from_tensor(&values).unwrap());
            }
        }
        all
    }

    fn forward(&self, device: &Device, x: &Var, adapters: &[Var]) -> Result<Tensor> {
        let positions = self.lengths.iter().flat_map(|&l| 0..l as u32).collect();
        let positions = Arc::new(positions);
        let input = LayerInput { lengths: self.lengths.clone(), table: self.table(), positions };
        self.layer(device, adapters).forward(&x.affine(1.0, 0.0)?, input)
    }

    fn x(&self, device: &Device) -> Result<Var> {
        Var::from_tensor(&numbers(&[self.tokens(), self.hidden], 1, 1.0).to_device(device)?)
    }

    /// The output, and the gradients of the residual stream and of every adapter.
    fn run(&self, device: &Device) -> Result<Vec<Tensor>> {
        let (x, adapters) = (self.x(device)?, self.adapters(device));
        let y = self.forward(device, &x, &adapters)?;
        let upstream = numbers(y.dims(), 99, 1.0).to_device(device)?;
        let found = seed(&y, &upstream)?.backward()?;
        let mut all = vec![y];
        for var in std::iter::once(&x).chain(&adapters) {
            all.push(found.get(var).expect("every variable gets a gradient").clone());
        }
        Ok(all)
    }

    /// The same with the gradients of the adapters beside the tape.
    fn run_beside(&self, card: &Device) -> Result<Vec<Vec<f32>>> {
        let (x, adapters) = (self.x(card)?, self.adapters(card));
        let mut gradients = CardGradients::zeros(card, adapters.iter().map(|var| var.elem_count()))?;
        let beside = Beside::open();
        let y = self.forward(card, &x, &adapters)?;
        let upstream = numbers(y.dims(), 99, 1.0).to_device(card)?;
        let found = seed(&y, &upstream)?.backward()?;
        for part in beside.take() {
            gradients.add_part(&part, |id| adapters.iter().position(|var| var.id() == id))?;
        }
        let mut all = vec![values(&y), values(found.get(&x).expect("x gets a gradient"))];
        all.extend(gradients.to_vecs()?);
        Ok(all)
    }
}

#[test]
fn a_layer_and_its_gradients() {
    let Some(card) = card("a layer and its gradients") else { return };
    let window = |case: Case| Case { heads: Heads { window: Some(40), ..case.heads }, ..case };
    let wide = Case {
        heads: Heads { queries: 8, keys: 1, dim: 64, window: None },
        ..Case::plain("8 on 1", 64, DType::BF16)
    };
    let cases = [
        Case::plain("f32, heads of 6", 6, DType::F32),
        Case { bias: true, head_norms: true, ..window(Case::plain("f32, all", 32, DType::F32)) },
        Case { adapted: false, rotary: false, ..Case::plain("f32, no adapters", 10, DType::F32) },
        Case { dropout: 0.3, ..Case::plain("f32, dropout", 16, DType::F32) },
        Case { quantised: Some((Codes::Nf4, true)), ..Case::plain("f32, nf4 nested", 16, DType::F32) },
        Case { quantised: Some((Codes::Fp4, false)), ..Case::plain("f32, fp4", 16, DType::F32) },
        Case { quantised: Some((Codes::Int8, false)), ..Case::plain("f32, int8", 16, DType::F32) },
        Case::plain("bf16, heads of 32", 32, DType::BF16),
        Case::plain("bf16, heads of 64", 64, DType::BF16),
        Case::plain("bf16, heads of 80", 80, DType::BF16),
        Case::plain("bf16, heads of 96", 96, DType::BF16),
        Case::plain("bf16, heads of 128", 128, DType::BF16),
        window(Case::plain("bf16, heads of 64, window", 64, DType::BF16)),
        Case {
            bias: true,
            head_norms: true,
            dropout: 0.1,
            ..window(Case::plain("bf16, all", 128, DType::BF16))
        },
        Case { quantised: Some((Codes::Nf4, true)), ..Case::plain("bf16, nf4 nested", 64, DType::BF16) },
        wide,
        Case::plain("f16, heads of 32", 32, DType::F16),
        Case::plain("f16, heads of 64", 64, DType::F16),
        Case::plain("f16, heads of 80", 80, DType::F16),
        Case::plain("f16, heads of 96", 96, DType::F16),
        window(Case::plain("f16, heads of 128, window", 128, DType::F16)),
        Case {
            bias: true,
            head_norms: true,
            dropout: 0.1,
            ..window(Case::plain("f16, all", 64, DType::F16))
        },
        Case { quantised: Some((Codes::Nf4, true)), ..Case::plain("f16, nf4 nested", 64, DType::F16) },
        Case { quantised: Some((Codes::Int8, false)), ..Case::plain("f16, int8", 64, DType::F16) },
    ];
    let mut apart = Apart::default();
    for case in cases {
        let allowed = case.allowed();
        let want = case.run(&CPU).unwrap();
        let got = match case.run(&card) {
            Ok(got) => got,
            Err(error) => {
                println!("{}: {error}", case.name);
                apart.0.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let of = ["the output", "the gradient of x"]
                .get(i)
                .map_or(format!("gradient {i}"), ToString::to_string);
            apart.see(&format!("{}, {of}", case.name), got, want, allowed);
        }
        // The same again: no sum depends on what came first.
        let again = case.run(&card).unwrap();
        let beside = case.run_beside(&card).unwrap();
        for (i, ((got, again), beside)) in got.iter().zip(&again).zip(&beside).enumerate() {
            if values(got) != values(again) {
                apart.0.push(format!("{}: result {i} differs from run to run", case.name));
            }
            if values(got) != *beside {
                apart.0.push(format!("{}: result {i} differs beside the tape", case.name));
            }
        }
    }
    apart.end();
}

#[test]
fn the_loss_and_its_gradient() {
    let Some(card) = card("the loss and its gradient") else { return };
    let mut apart = Apart::default();
    for (dtype, allowed) in [(DType::F32, 1e-4), (DType::BF16, 1e-2), (DType::F16, 2e-3)] {
        let (tokens, width, vocab) = (150, 48, 1001);
        let targets: Vec<u32> =
            (0..tokens as u32).map(|i| if i % 4 == 0 { IGNORED } else { i * 37 % vocab as u32 }).collect();
        for each in [false, true] {
            let run = |device: &Device| -> Result<Vec<Tensor>> {
                let x = Var::from_tensor(&numbers(&[tokens, width], 3, 1.0).to_device(device)?)?;
                let head = rounded(&numbers(&[vocab, width], 4, 0.4), dtype, device);
                let hidden = x.affine(1.0, 0.0)?;
                let y = match each {
                    false => kernels::fused_cross_entropy(&hidden, &head, &targets)?,
                    true => kernels::fused_token_log_probs(&hidden, &head, &targets)?,
                };
                let upstream = numbers(y.dims(), 5, 1.0).to_device(device)?;
                let found = (&y * upstream)?.sum_all()?.backward()?;
                Ok(vec![y, found.get(&x).expect("x gets a gradient").clone()])
            };
            let (want, got) = (run(&CPU).unwrap(), run(&card).unwrap());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                apart.see(&format!("{dtype:?}, each: {each}, {i}"), got, want, allowed);
            }
        }
    }
    apart.end();
}

#[test]
fn cached_tokens() {
    let Some(card) = card("cached tokens") else { return };
    let mut apart = Apart::default();
    for case in [
        Case { bias: true, ..Case::plain("f32", 16, DType::F32) },
        Case { head_norms: true, ..Case::plain("bf16", 64, DType::BF16) },
        Case { quantised: Some((Codes::Nf4, false)), ..Case::plain("nf4", 128, DType::BF16) },
        Case { bias: true, head_norms: true, ..Case::plain("f16", 64, DType::F16) },
        Case {
            heads: Heads { queries: 4, keys: 2, dim: 32, window: Some(50) },
            adapted: false,
            ..Case::plain("window", 32, DType::BF16)
        },
    ] {
        let run = |device: &Device| -> Result<Tensor> {
            let layer = case.layer(device, &case.adapters(device));
            let table = case.table();
            let mut cache = KeyValueCache::default();
            let mut parts = Vec::new();
            // Some tokens, more after them, then one by one.
            for (salt, tokens) in [(1u64, 90), (2, 33), (3, 1), (4, 1), (5, 200), (6, 1)] {
                let x = numbers(&[tokens, case.hidden], salt, 1.0).to_device(device)?;
                parts.push(layer.forward_cached(&x, table.as_ref(), &mut cache)?.to_device(&CPU)?);
            }
            let mut others = [cache.clone(), KeyValueCache::default(), cache];
            let x = numbers(&[4, case.hidden], 9, 1.0).to_device(device)?;
            let caches = others.iter_mut().collect();
            parts.push(layer.forward_cached_many(&x, table.as_ref(), &[1, 2, 1], caches)?.to_device(&CPU)?);
            Tensor::cat(&parts, 0)
        };
        apart.see(case.name, &run(&card).unwrap(), &run(&CPU).unwrap(), case.allowed());
    }
    apart.end();
}

#[test]
fn products_norms_and_embeddings() {
    let Some(card) = card("products, norms and embeddings") else { return };
    let mut apart = Apart::default();
    for (dtype, allowed) in [(DType::F32, 1e-5), (DType::BF16, 1e-2), (DType::F16, 2e-3)] {
        for rows in [1, 5] {
            let run = |device: &Device| {
                let weight = rounded(&numbers(&[301, 72], 4, 0.4), dtype, device);
                kernels::fused_product(&numbers(&[rows, 72], 3, 1.0).to_device(device)?, &weight)
            };
            apart.see(
                &format!("a product of {rows}, {dtype:?}"),
                &run(&card).unwrap(),
                &run(&CPU).unwrap(),
                allowed,
            );
        }
        let run = |device: &Device| -> Result<(Tensor, Tensor)> {
            let x = Var::from_tensor(&numbers(&[7, 300], 3, 1.0).to_device(device)?)?;
            let weight = rounded(&numbers(&[300], 4, 0.4), dtype, device);
            let y = kernels::rms_norm(&x.affine(1.0, 0.0)?, &weight, 1e-5)?;
            let found = seed(&y, &numbers(&[7, 300], 5, 1.0).to_device(device)?)?.backward()?;
            Ok((y, found.get(&x).expect("x gets a gradient").clone()))
        };
        let (got, want) = (run(&card).unwrap(), run(&CPU).unwrap());
        apart.see(&format!("a norm, {dtype:?}"), &got.0, &want.0, 1e-5);
        apart.see(&format!("its gradient, {dtype:?}"), &got.1, &want.1, 1e-5);
        let run = |device: &Device| {
            let table = rounded(&numbers(&[50, 24], 4, 0.4), dtype, device);
            kernels::embedding(&Tensor::new(&[3u32, 49, 0, 3], device)?, &table)
        };
        apart.see(&format!("embeddings, {dtype:?}"), &run(&card).unwrap(), &run(&CPU).unwrap(), 1e-7);
    }
    apart.end();
}

#[test]
fn gradients_and_updates() {
    let Some(card) = card("gradients and updates") else { return };
    let sizes = [70_000, 33];
    let mut gradients = CardGradients::zeros(&card, sizes).unwrap();
    let parts = [0, 1].map(|i| numbers(&[sizes[i]], 3 + i as u64, 1.0));
    let vars =
        [0, 1].map(|i| Var::from_tensor(&numbers(&[sizes[i]], 8, 1.0).to_device(&card).unwrap()).unwrap());
    let mut want = [0, 1].map(|i| values(&numbers(&[sizes[i]], 8, 1.0)));
    // One of them in managed memory.
    let means = [0, 1].map(|i| {
        let zeros = vec![0.0; sizes[i]];
        Moments::new(&card, (&zeros, &zeros), i == 0).unwrap()
    });
    let mut host_means = sizes.map(|size| [vec![0f32; size], vec![0f32; size]]);
    let norm = parts.iter().flat_map(values).map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    for t in 1..4 {
        gradients.reset().unwrap();
        for (i, part) in parts.iter().enumerate() {
            let half = (part.to_device(&card).unwrap() * 0.5).unwrap();
            gradients.add(i, &half).unwrap();
            gradients.add(i, &half).unwrap();
        }
        assert!((gradients.norm().unwrap() / norm - 1.0).abs() < 1e-6, "the norm of all together");
        gradients.scale(0.25).unwrap();
        let step = AdamWStep::new(t, 1e-2, 0.1);
        for i in 0..2 {
            adamw_on_card(step, &vars[i], &gradients, i, &means[i]).unwrap();
            let gradient: Vec<f32> = values(&parts[i]).iter().map(|g| g * 0.25).collect();
            let [m, v] = &mut host_means[i];
            step.apply(&mut want[i], &gradient, m, v);
        }
        assert!(gradients.all_finite().unwrap(), "all weights are finite");
    }
    let mut apart = Apart::default();
    for i in 0..2 {
        let want = Tensor::from_slice(&want[i], sizes[i], &CPU).unwrap();
        apart.see(&format!("weights {i}"), vars[i].as_tensor(), &want, 1e-5);
        let [mut m, mut v] = [vec![0.0; sizes[i]], vec![0.0; sizes[i]]];
        means[i].read((&mut m, &mut v)).unwrap();
        for (got, want) in [m, v].iter().zip(&host_means[i]) {
            let [got, want] = [got, want].map(|mean| Tensor::from_slice(mean, sizes[i], &CPU).unwrap());
            apart.see(&format!("means {i}"), &got, &want, 1e-5);
        }
    }
    apart.end();
    assert!(gradients.add(1, &parts[0].to_device(&card).unwrap()).is_err(), "a gradient fits its tensor");
    vars[1].set(&Tensor::full(f32::INFINITY, sizes[1], &card).unwrap()).unwrap();
    adamw_on_card(AdamWStep::new(4, 1e-2, 0.1), &vars[1], &gradients, 1, &means[1]).unwrap();
    assert!(adamw_on_card(AdamWStep::new(4, 1e-2, 0.1), &vars[1], &gradients, 1, &means[0]).is_err());
    assert!(!gradients.all_finite().unwrap(), "a weight that is not finite is told");
}

#[test]
fn what_waits_in_the_machines_memory_comes_back_as_it_was() {
    let Some(card) = card("tensors that wait in the machine's memory") else { return };
    for round in 0..3 {
        let mut offload = Offload::default();
        let (mut waiting, mut want) = (Vec::new(), Vec::new());
        for i in 0..6 {
            let shape = [40 + 100 * i, 1000];
            let tensor = numbers(&shape, (10 * round + i) as u64, 1.0);
            let on_card = tensor.to_device(&card).unwrap();
            // Work before and after, so that copies are under way while memory is taken and given back.
            let doubled = (on_card + &tensor.to_device(&card).unwrap()).unwrap();
            waiting.push(offload.send(&doubled).unwrap());
            drop(doubled);
            let _work = (tensor.to_device(&card).unwrap() * 3.0).unwrap();
            want.push((tensor * 2.0).unwrap());
        }
        if round == 1 {
            // Some never come back, one of them while it is on its way.
            waiting[5].call_back().unwrap();
            waiting.truncate(3);
        }
        while let Some(tensor) = waiting.pop() {
            let index = waiting.len();
            if let Some(next) = waiting.last_mut() {
                next.call_back().unwrap();
            }
            let got = tensor.take().unwrap();
            let _work = (&got * 3.0).unwrap();
            assert_eq!(values(&got), values(&want[index]), "round {round}, {index}");
        }
    }
}
