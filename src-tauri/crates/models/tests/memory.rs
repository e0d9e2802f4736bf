//! A model that is quantised while it is loaded is never in memory in full: counted byte by byte.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "an allocator that counts is unsafe to declare; a test ends where its own setup fails"
)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use candle_core::Device;
use models::{Codes, LoadOptions, Quantise};
use safetensors::Dtype;
use serde_json::json;
use support::write_weights;
use types::Provider;

#[global_allocator]
static COUNTING: Counting = Counting { now: AtomicUsize::new(0), most: AtomicUsize::new(0) };

/// The system's allocator; counts the bytes that are taken.
struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = self.now.fetch_add(layout.size(), Relaxed) + layout.size();
        self.most.fetch_max(now, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

const HIDDEN: usize = 512;
const MIDDLE: usize = 1536;
const KEYS: usize = 256;
const VOCAB: usize = 1000;
const LAYERS: usize = 4;

#[test]
fn loading_takes_little_more_than_the_quantised_model_and_one_tensor() {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": MIDDLE,
        "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": VOCAB,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    let mut tensors = BTreeMap::new();
    tensors.insert("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]);
    tensors.insert("model.norm.weight".to_owned(), vec![HIDDEN]);
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![KEYS, HIDDEN]),
            ("self_attn.v_proj", vec![KEYS, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![MIDDLE, HIDDEN]),
            ("mlp.up_proj", vec![MIDDLE, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, MIDDLE]),
        ] {
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    write_weights(&folder.path().join("model.safetensors"), &tensors, Dtype::BF16);

    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: Device::Cpu };
    for (codes, nested) in [(Codes::Nf4, false), (Codes::Nf4, true), (Codes::Int8, false)] {
        let before = COUNTING.now.load(Relaxed);
        COUNTING.most.store(before, Relaxed);
        let how = Quantise { codes, nested, bf16: false };
        let mut model = models::load_quantised(folder.path(), &options, Some(how)).unwrap();
        let most = COUNTING.most.load(Relaxed) - before;
        let quantised: usize = model.linears().iter().map(|(_, linear)| linear.weight().bytes()).sum();
        let rest = 4 * (VOCAB * HIDDEN + (2 * LAYERS + 1) * HIDDEN);
        let (size, tensor) = (quantised + rest, 4 * MIDDLE * HIDDEN);
        let allowed = size * 115 / 100 + tensor;
        assert!(most <= allowed, "{codes:?}: {most} bytes at most, for {size} of the model and {tensor}");
        let in_full = 4 * LAYERS * (2 * HIDDEN * HIDDEN + 2 * KEYS * HIDDEN + 3 * MIDDLE * HIDDEN);
        assert!(most < in_full / 2, "{codes:?}: {most} bytes are nearly all of {in_full}");
    }
}
