//! A decoder whose first layers are elsewhere computes what it computes in one place. Here both places are the processor, so that
//! nothing but where layers are told to be differs.
#![allow(clippy::unwrap_used, reason = "a test ends where its own setup fails")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use candle_core::{DType, Device, Tensor};
use golden::{SHAPES, path};
use models::{
    AnyModel, CausalLm, Codes, LayerCache, LoadOptions, Pass, Quantise, Sequences, forward, load_quantised,
    load_split, sizes,
};
use types::Provider;

const IDS: [u32; 7] = [1, 5, 2, 9, 3, 8, 4];

fn options(provider: Provider) -> LoadOptions {
    LoadOptions { bf16: false, provider, device: Device::Cpu }
}

fn adapted(model: AnyModel, shape: &str) -> Box<dyn CausalLm> {
    let mut model = model.causal().unwrap();
    model.load_adapter(&path(shape).join("adapter")).unwrap();
    model
}

/// Logits of all tokens at once, and of the last one after a cache of the others, alone and beside another sequence.
fn computed(model: &dyn CausalLm, pass: Pass) -> Vec<Vec<f32>> {
    let ids = Tensor::new(&IDS, model.device()).unwrap();
    let hidden = forward(model, &ids, &Sequences::new(vec![4, 3]), pass).unwrap();
    let mut all: Vec<Vec<f32>> = model.logits(&hidden).unwrap().to_vec2().unwrap();
    let mut caches = vec![vec![LayerCache::default(); 2]; model.info().layers];
    for (ids, lengths) in [(&IDS[..], [4, 3]), (&IDS[..2], [1, 1])] {
        let mut hidden = model.embed(&Tensor::new(ids, model.device()).unwrap()).unwrap();
        for (index, caches) in caches.iter_mut().enumerate() {
            hidden = model.layer_of_many(index, &hidden, &lengths, pass, caches).unwrap();
        }
        all.extend(model.logits(&model.final_norm(&hidden).unwrap()).unwrap().to_vec2::<f32>().unwrap());
    }
    all
}

#[test]
fn layers_may_be_anywhere() {
    for (shape, provider) in SHAPES.iter().flat_map(|shape| Provider::ALL.iter().map(move |p| (shape, *p))) {
        let options = options(provider);
        let whole = adapted(load_quantised(&path(shape), &options, None).unwrap(), shape);
        let layers = whole.info().layers;
        assert_eq!(whole.split(), None, "{shape} is in one place");
        for pass in [Pass::EVAL, Pass::BASE] {
            let want = computed(whole.as_ref(), pass);
            for left in 1..layers {
                let parted =
                    adapted(load_split(&path(shape), &options, None, DType::F32, left).unwrap(), shape);
                assert_eq!(parted.split(), Some((layers - left, layers)), "{shape}");
                assert_eq!(
                    computed(parted.as_ref(), pass),
                    want,
                    "{shape}, {provider:?}, {left} layers apart"
                );
            }
        }
    }
}

#[test]
fn sizes_are_those_of_what_is_loaded() {
    for shape in SHAPES {
        for quantise in [None, Some(Quantise { codes: Codes::Nf4, nested: true, bf16: false })] {
            let options = options(Provider::Unsloth);
            let told = sizes(&path(shape), &options, quantise, DType::F32).unwrap().unwrap();
            let mut model = load_quantised(&path(shape), &options, quantise).unwrap().causal().unwrap();
            assert_eq!(told.layers.len(), model.info().layers, "{shape}");
            let linears: usize = model.linears().iter().map(|(_, linear)| linear.weight().bytes()).sum();
            let layers: u64 = told.layers.iter().sum();
            // Norms, biases and experts are in the layers beside the linear ones; sums of rounded sizes differ by little.
            assert!(layers + 1000 > linears as u64, "{shape}, {quantise:?}: {layers} told, {linears} loaded");
            let all = layers + told.head + told.embeddings;
            if quantise.is_none() {
                let want = 4 * model.info().parameters;
                assert!(all.abs_diff(want) <= want / 50, "{shape}: {all} told of {want} bytes");
            }
            assert!(told.cache > 0 && told.work > told.cache, "{shape}: {told:?}");
        }
    }
}
