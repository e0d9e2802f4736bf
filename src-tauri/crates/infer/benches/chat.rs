//! Chat on a random model of 100 million parameters: a prompt of 128 tokens, and a token after it, on the fused kernels and
//! on the reference.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use candle_core::Device;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use infer::{Decoder, Sampler};
use models::{CausalLm, LoadOptions, LoraConfig, Pass};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use types::{GenerateParams, Provider};

const HIDDEN: usize = 768;
const LAYERS: usize = 12;
const KEYS: usize = 256;
const MIDDLE: usize = 2048;
const VOCAB: usize = 32_000;
const PROMPT: u32 = 128;

fn write_model(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": MIDDLE, "num_hidden_layers": LAYERS,
        "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "attention_bias": false, "mlp_bias": false, "torch_dtype": "bfloat16",
    });
    types::files::write_json(&folder.join("config.json"), &config).unwrap();
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN])];
    for i in 0..LAYERS {
        for (name, out, inputs) in [
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", KEYS, HIDDEN),
            ("self_attn.v_proj", KEYS, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", MIDDLE, HIDDEN),
            ("mlp.up_proj", MIDDLE, HIDDEN),
            ("mlp.down_proj", HIDDEN, MIDDLE),
        ] {
            shapes.push((format!("model.layers.{i}.{name}.weight"), vec![out, inputs]));
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            shapes.push((format!("model.layers.{i}.{name}.weight"), vec![HIDDEN]));
        }
    }
    shapes.push(("model.norm.weight".to_owned(), vec![HIDDEN]));
    let largest = VOCAB * HIDDEN;
    let mut state = 1u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A bf16 between ±1/64 and ±1/16: any sign and fraction, one of two exponents.
        let bits = 0x3c80 + (state >> 24) as u16 + if state & (1 << 20) == 0 { 0 } else { 0x8000 };
        bits.to_le_bytes()
    })
    .take(largest)
    .flatten()
    .collect();
    let views = shapes.iter().map(|(name, shape)| {
        let len = 2 * shape.iter().product::<usize>();
        (name, TensorView::new(Dtype::BF16, shape.clone(), &bytes[..len]).unwrap())
    });
    types::files::write(&folder.join("model.safetensors"), &safetensors::serialize(views, None).unwrap())
        .unwrap();
}

fn load(folder: &Path, bf16: bool, provider: Provider) -> Box<dyn CausalLm> {
    let mut model =
        models::load(folder, &LoadOptions { bf16, provider, device: Device::Cpu }).unwrap().causal().unwrap();
    let lora = LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, target_modules: None };
    model.attach_lora(&lora, 1).unwrap();
    model
}

fn chat(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let prompt: Vec<u32> = (0..PROMPT).map(|i| (i * 7919 + 13) % 30_000).collect();
    for (name, bf16, provider) in [
        ("fused bf16", true, Provider::Unsloth),
        ("fused f32", false, Provider::Unsloth),
        ("reference f32", false, Provider::Huggingface),
    ] {
        let model = load(folder.path(), bf16, provider);
        for (pass, adapter) in [(Pass::EVAL, "adapter"), (Pass::BASE, "base")] {
            let mut group = criterion.benchmark_group(format!("{name}, {adapter}"));
            group.sample_size(10).throughput(Throughput::Elements(u64::from(PROMPT)));
            group.bench_function("prefill", |bencher| {
                bencher.iter_batched(
                    || Decoder::new(model.as_ref()),
                    |mut decoder| decoder.start(&prompt, pass, &|| true).unwrap(),
                    BatchSize::LargeInput,
                );
            });
            group.throughput(Throughput::Elements(1)).bench_function("decode", |bencher| {
                let mut decoder = Decoder::new(model.as_ref());
                decoder.start(&prompt, pass, &|| true).unwrap();
                bencher.iter(|| decoder.extend(&[7], &|| true).unwrap());
            });
            group.finish();
        }
    }
}

fn sampler(criterion: &mut Criterion) {
    let mut state = 1u32;
    let logits: Vec<f32> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Exponentially distributed, as the upper logits of a model roughly are.
        -1.5 * ((state >> 8) as f32 / (1 << 24) as f32 + 1e-9).ln()
    })
    .take(VOCAB)
    .collect();
    let mut group = criterion.benchmark_group("sampler");
    for (name, temperature, top_k, top_p) in [
        ("greedy", 0.0, 0, 1.0),
        ("temperature", 1.0, 0, 1.0),
        ("top-p", 0.7, 0, 0.9),
        ("top-p, flat", 3.0, 0, 0.95),
        ("top-k and top-p", 0.7, 50, 0.9),
    ] {
        let params = GenerateParams { temperature, top_k, top_p, ..GenerateParams::default() };
        let mut sampler = Sampler::new(&params);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || logits.clone(),
                |logits| sampler.choose(logits, &[1, 2, 3]).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, chat, sampler);
criterion_main!(benches);
