//! Training steps and decoding on a card, of models of the shapes of Llama 3 with random weights: time and memory of each.
//! Arguments: a folder for the models, then shapes such as `1b`, `8b` or `8b-nf4`, each perhaps with `:checkpointing` or
//! `:offload`, and with `:fp16`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark may fail loudly, and shows what it found"
)]

use std::{fs::File, io::Write, path::Path, time::Instant};

use candle_core::{Device, Tensor};
use data::Batch;
use models::{Codes, LayerCache, LoadOptions, LoraConfig, Pass, Quantise, Sequences};
use serde_json::{Value, json};
use train::{BatchRun, GivenBatches, run_batches};
use types::{JobFolder, Provider, TrainEvent, TrainingConfig};

/// Sizes of a model.
struct Shape {
    hidden: usize,
    middle: usize,
    layers: usize,
    heads: usize,
    head_dim: usize,
    tied: bool,
}

const KEY_HEADS: usize = 8;
const VOCAB: usize = 128_256;
const TOKENS: usize = 2048;
const STEPS: usize = 13;
const DECODED: usize = 64;

fn shape(name: &str) -> Shape {
    match name {
        "1b" => Shape { hidden: 2048, middle: 8192, layers: 16, heads: 32, head_dim: 64, tied: true },
        _ => Shape { hidden: 4096, middle: 14336, layers: 32, heads: 32, head_dim: 128, tied: false },
    }
}

/// Writes the model, all tensors from one piece of random numbers.
fn write(folder: &Path, shape: &Shape) {
    let Shape { hidden, middle, layers, heads, head_dim, tied } = *shape;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": VOCAB,
        "hidden_size": hidden, "intermediate_size": middle, "num_hidden_layers": layers, "head_dim": head_dim,
        "num_attention_heads": heads, "num_key_value_heads": KEY_HEADS, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "max_position_embeddings": 8192, "tie_word_embeddings": tied, "attention_bias": false, "mlp_bias": false,
    });
    std::fs::create_dir_all(folder).unwrap();
    types::files::write_json(&folder.join("config.json"), &config).unwrap();
    let (q, k) = (heads * head_dim, KEY_HEADS * head_dim);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, hidden])];
    if !tied {
        tensors.push(("lm_head.weight".into(), vec![VOCAB, hidden]));
    }
    for i in 0..layers {
        for (name, dims) in [
            ("self_attn.q_proj", vec![q, hidden]),
            ("self_attn.k_proj", vec![k, hidden]),
            ("self_attn.v_proj", vec![k, hidden]),
            ("self_attn.o_proj", vec![hidden, q]),
            ("mlp.gate_proj", vec![middle, hidden]),
            ("mlp.up_proj", vec![middle, hidden]),
            ("mlp.down_proj", vec![hidden, middle]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            tensors.push((format!("model.layers.{i}.{name}.weight"), dims));
        }
    }
    tensors.push(("model.norm.weight".into(), vec![hidden]));
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dims) in &tensors {
        let bytes = 2 * dims.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "BF16", "shape": dims, "data_offsets": [end, end + bytes]}),
        );
        end += bytes;
    }
    let header = serde_json::to_vec(&Value::Object(header)).unwrap();
    let mut file = File::create(folder.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let mut state = 1u64;
    let random: Vec<u8> = (0..(16usize << 20))
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // From -0.03 to 0.03.
            let value = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.03;
            ((value.to_bits() >> 16) as u16).to_le_bytes()
        })
        .collect();
    let ones: Vec<u8> = (0..hidden).flat_map(|_| 0x3f80u16.to_le_bytes()).collect();
    for (_, dims) in &tensors {
        let mut left = 2 * dims.iter().product::<usize>();
        let source = if dims.len() == 1 { &ones } else { &random };
        while left > 0 {
            let piece = left.min(source.len());
            file.write_all(&source[..piece]).unwrap();
            left -= piece;
        }
    }
}

fn batch(seed: usize) -> Batch {
    let ids: Vec<u32> = (0..TOKENS).map(|i| ((i * 7919 + seed * 104_729) % VOCAB) as u32).collect();
    let mut batch = Batch::default();
    batch.push(&ids, &vec![true; TOKENS]);
    batch
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(card: &Device, folder: &Path, name: &str) {
    let mut parts = name.split(':');
    let name = parts.next().unwrap_or_default();
    let ways: Vec<&str> = parts.collect();
    let [offload, fp16] = ["offload", "fp16"].map(|way| ways.contains(&way));
    let checkpointing = offload || ways.contains(&"checkpointing");
    let (size, codes) = name.split_once('-').map_or((name, None), |(size, codes)| (size, Some(codes)));
    let folder = folder.join(size);
    if !folder.exists() {
        write(&folder, &shape(size));
    }
    let options = LoadOptions { bf16: true, provider: Provider::Unsloth, device: card.clone() };
    let quantise = codes.map(|_| Quantise { codes: Codes::Nf4, nested: true, bf16: true });
    let started = Instant::now();
    let dtype = kernels::computed_in(card, true, fp16).unwrap();
    let mut model = models::load_as(&folder, &options, quantise, dtype).unwrap().causal().unwrap();
    let lora = LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, target_modules: None };
    model.attach_lora(&lora, 42).unwrap();
    println!("{name}: loaded as {dtype:?} in {:.1} s", started.elapsed().as_secs_f64());

    let mut request = json!({
        "task": "text-generation", "model_name": "random", "dataset": "rows.jsonl", "lora_dropout": 0.0,
        "warmup_ratio": 0.0, "learning_rate": 1e-4, "gradient_checkpointing": checkpointing, "activation_offloading": offload, "save_steps": 1000,
    });
    let config = TrainingConfig::from_json(request.as_object_mut().unwrap()).unwrap();
    let job = tempfile::tempdir().unwrap();
    let job = JobFolder::new(job.path());
    let mut batches = GivenBatches { steps: (0..STEPS).map(|i| vec![batch(i)]).collect(), eval: Vec::new() };
    let mut steps = Vec::new();
    let mut peak = 0;
    let run = BatchRun {
        model: model.as_ref(),
        batches: &mut batches,
        config: &config,
        job: &job,
        resume: None,
        answers: None,
    };
    let outcome = run_batches(
        run,
        &mut |event| {
            if let TrainEvent::Step(stats) = event {
                peak = kernels::memory(card).unwrap().map_or(0, |memory| memory.peak);
                println!(
                    "  step {} {:.1} ms, loss {:.4}, norm {:.4}",
                    stats.step, stats.step_ms, stats.loss, stats.grad_norm
                );
                steps.push(stats.step_ms);
            }
        },
        &|| None,
    );
    if let Err(error) = outcome {
        println!("{name}: {error}");
    }
    if steps.len() > 3 {
        let ms = median(steps.split_off(3));
        println!(
            "{name} {ways:?}: {ms:.1} ms a step, {:.0} tokens/s, peak {:.2} GB",
            TOKENS as f64 / ms * 1e3,
            peak as f64 / 1e9
        );
    }

    let layers = model.info().layers;
    let mut caches: Vec<LayerCache> = (0..layers).map(|_| LayerCache::default()).collect();
    let mut next = |ids: &[u32]| -> u32 {
        let sequences = Sequences::continued(ids.len(), caches[0].len());
        let mut hidden = model.embed(&Tensor::new(ids, card).unwrap()).unwrap();
        for (index, cache) in caches.iter_mut().enumerate() {
            hidden = model.layer(index, &hidden, &sequences, Pass::EVAL, Some(cache)).unwrap();
        }
        let last = hidden.narrow(0, ids.len() - 1, 1).unwrap();
        let logits = model.logits(&model.final_norm(&last).unwrap()).unwrap();
        let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        best.0 as u32
    };
    let prompt: Vec<u32> = (0..128).map(|i| i * 977 % VOCAB as u32).collect();
    let started = Instant::now();
    let mut id = next(&prompt);
    println!(
        "{name}: {} tokens of a prompt in {:.1} ms",
        prompt.len(),
        started.elapsed().as_secs_f64() * 1e3
    );
    id = next(&[id]);
    let started = Instant::now();
    for _ in 0..DECODED {
        id = next(&[id]);
    }
    println!("{name}: decodes {:.1} tokens/s", DECODED as f64 / started.elapsed().as_secs_f64());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let card = match kernels::card(0) {
        Ok(card) => card,
        Err(error) => {
            println!("SKIPPED: there is no card: {error}");
            return;
        }
    };
    let Some((folder, shapes)) = arguments.split_first() else { return };
    for name in shapes {
        measure(&card, Path::new(folder), name);
    }
}
