//! The estimates of memory and time against what the engine really takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may fail loudly, writes files of its own, and shows what it measured"
)]
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hardware::{
    MARGIN_PERCENT, MemoryPlan, ModelShape, Workload, estimate_chat_memory, estimate_memory, estimate_time,
};
use serde_json::{Value, json};
use types::{
    EventLine, GenerateParams, JobFolder, Message, RunSpec, TrainEvent, TrainingConfig,
    engine::{Calibration, EngineCommand, EngineReply, EngineReplyLine, EngineRequest, PromptInput},
    files,
};

const BIN: &str = env!("CARGO_BIN_EXE_modelforge");

/// Words of a row: enough for any setting to cut it, and a few for packing.
const LONG: usize = 1500;
const SHORT: usize = 40;

/// One run to measure.
struct Setting {
    model: &'static str,
    words: usize,
    changes: Value,
}

impl Setting {
    fn new(model: &'static str, changes: Value) -> Self {
        Self { model, words: LONG, changes }
    }
}

/// What a run was expected to take and took.
struct Measured {
    name: String,
    estimated_bytes: u64,
    measured_bytes: u64,
    estimated_seconds: f64,
    measured_seconds: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        self.estimated_bytes as f64 / self.measured_bytes as f64
    }

    fn check(&self) {
        let off = (self.ratio() - 1.0).abs() * 100.0;
        assert!(
            off <= MARGIN_PERCENT as f64,
            "{}: estimated {} bytes, the peak was {}: {off:.0} % off, {MARGIN_PERCENT} % are promised",
            self.name,
            self.estimated_bytes,
            self.measured_bytes
        );
    }
}

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src-tauri/resources/starter")
}

/// A Llama-shaped model of seeded random weights in bf16, with the starter model's tokenizer.
fn random_model(folder: &Path, hidden: u64, layers: u64, heads: u64, kv_heads: u64, middle: u64) {
    fs::create_dir(folder).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
    {
        fs::copy(starter().join(name), folder.join(name)).unwrap();
    }
    let (vocab, keys) = (49152, hidden / heads * kv_heads);
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": middle, "vocab_size": vocab, "tie_word_embeddings": true,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "hidden_act": "silu",
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("model.embed_tokens.weight".into(), vec![vocab, hidden]),
        ("model.norm.weight".into(), vec![hidden]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![middle, hidden]),
            ("mlp.up_proj", vec![middle, hidden]),
            ("mlp.down_proj", vec![hidden, middle]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    let mut state = 1u64;
    for (name, shape) in &tensors {
        for _ in 0..shape.iter().product::<u64>() {
            // Knuth's MMIX generator; values between −0.03 and 0.03, norms of 1.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.06;
            let value = if name.ends_with("norm.weight") { 1.0 } else { random };
            file.write_all(&((value.to_bits() >> 16) as u16).to_le_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}

/// The model a setting names, made where it does not exist yet.
fn model(home: &Path, name: &str) -> PathBuf {
    let folder = home.join(name);
    match name {
        "starter" => return starter(),
        _ if folder.exists() => {}
        "135M" => random_model(&folder, 576, 30, 9, 3, 1536),
        "360M" => random_model(&folder, 960, 32, 15, 5, 2560),
        other => panic!("no model {other}"),
    }
    folder
}

/// A dataset of rows of `words` words, and the tokens of a row.
fn dataset(path: &Path, words: usize) -> u64 {
    let (question, answer) =
        ("Count to the end.", ["one", "two", "three", "four", "five"].repeat(words / 5).join(" "));
    let row = json!({"input": question, "output": answer}).to_string();
    fs::write(path, [row.as_str()].repeat(40_000 / words).join("\n")).unwrap();
    let tokenizer = data::Tokenizer::load(&starter()).unwrap();
    let prompt = tokenizer.encode_prompt(&[Message::user(question)]).unwrap();
    (prompt.len() + tokenizer.encode(&answer).unwrap().len()) as u64
}

/// The mean of two calibrations: another program may have begun or ended between them.
fn mean(a: Calibration, b: Calibration) -> Calibration {
    Calibration {
        matmul_f32_flops: (a.matmul_f32_flops + b.matmul_f32_flops) / 2.0,
        matmul_bf16_flops: (a.matmul_bf16_flops + b.matmul_bf16_flops) / 2.0,
        memory_bytes_per_second: (a.memory_bytes_per_second + b.memory_bytes_per_second) / 2.0,
        ..a
    }
}

fn calibrate() -> Calibration {
    let told = Command::new(BIN).args(["engine", "calibrate"]).output().unwrap();
    serde_json::from_slice(&told.stdout).unwrap()
}

/// Trains one step of two micro-batches and compares.
fn measure(home: &Path, setting: &Setting) -> Measured {
    let work = tempfile::tempdir_in(home).unwrap();
    let rows = work.path().join("rows.jsonl");
    let row = dataset(&rows, setting.words);
    let mut request = json!({
        "task": "text-generation", "model_name": setting.model, "dataset": rows, "max_steps": 1, "lora_r": 8,
        "gradient_accumulation_steps": 2, "eval_split": 0.1, "name": "estimate",
    });
    request.as_object_mut().unwrap().extend(setting.changes.as_object().unwrap().clone());
    let config = TrainingConfig::from_json(request.as_object().unwrap()).unwrap();
    let base_dir = model(home, setting.model);
    let json: Value = serde_json::from_slice(&fs::read(base_dir.join("config.json")).unwrap()).unwrap();
    let shape = ModelShape::from_config(&json).unwrap();
    let plan = MemoryPlan::new(&config, &shape, Some(row));

    let job = JobFolder::new(work.path().join("job"));
    fs::create_dir(job.path()).unwrap();
    let spec = RunSpec {
        version: RunSpec::VERSION,
        expected: None,
        finish_after: None,
        job_id: "train_20260101_000000".into(),
        model_id: "model_20260101_000000".into(),
        config,
        base_dir,
        dataset_path: rows,
        eval_dataset_path: None,
        model_dir: work.path().join("model"),
        created_at: types::id::now_rfc3339(),
    };
    files::write_json(&job.run_json(), &spec).unwrap();
    let before = calibrate();
    let mut engine = Command::new(BIN)
        .args(["engine", "train"])
        .arg(job.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", engine.id());
    let mut measured_bytes = 0;
    let mut trained = Workload::default();
    let mut measured_seconds = 0.0;
    // The peak so far, with every line of the engine: the last of them come after the step and after the checkpoint.
    for line in BufReader::new(engine.stdout.take().unwrap()).lines() {
        measured_bytes = measured_bytes.max(peak(&status).unwrap_or(0));
        if let TrainEvent::Step(step) = serde_json::from_str::<EventLine>(&line.unwrap()).unwrap().event {
            trained.steps += 1;
            trained.tokens += step.tokens;
            trained.trained_tokens += step.trained_tokens;
            measured_seconds += step.step_ms / 1e3;
        }
    }
    assert!(engine.wait().unwrap().success(), "{}: the run finishes", setting.changes);
    let calibration = mean(before, calibrate());
    Measured {
        name: format!("{} {}", setting.model, setting.changes),
        estimated_bytes: estimate_memory(&shape, &plan).total,
        measured_bytes,
        estimated_seconds: estimate_time(&shape, &plan, &trained, &calibration).seconds,
        measured_seconds,
    }
}

/// Answers one prompt of `words` words with a base model and compares.
fn measure_chat(home: &Path, name: &str, words: usize) -> Measured {
    let base_dir = model(home, name);
    let json: Value = serde_json::from_slice(&fs::read(base_dir.join("config.json")).unwrap()).unwrap();
    let shape = ModelShape::from_config(&json).unwrap();
    let text = ["one", "two", "three", "four", "five"].repeat(words / 5).join(" ");
    let tokens = data::Tokenizer::load(&base_dir).unwrap().encode(&text).unwrap().len() as u64;
    let params = GenerateParams { max_new_tokens: 4, ..GenerateParams::default() };
    let input = PromptInput::Text(text);
    let commands = [
        EngineCommand::Load { base_dir, adapter_dir: None },
        EngineCommand::Generate { input, params, without_adapter: false },
    ];
    let mut engine = Command::new(BIN)
        .args(["engine", "chat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", engine.id());
    let mut requests = engine.stdin.take().unwrap();
    for (id, command) in (1..).zip(commands) {
        let line = serde_json::to_string(&EngineRequest { id, command }).unwrap();
        writeln!(requests, "{line}").unwrap();
    }
    let mut measured_bytes = 0;
    for line in BufReader::new(engine.stdout.take().unwrap()).lines() {
        measured_bytes = peak(&status).unwrap_or(measured_bytes);
        let reply = serde_json::from_str::<EngineReplyLine>(&line.unwrap()).unwrap().reply;
        assert!(!matches!(reply, EngineReply::Error { .. }), "the engine answers: {reply:?}");
        if matches!(reply, EngineReply::Done { .. }) {
            break;
        }
    }
    drop(requests);
    assert!(engine.wait().unwrap().success(), "the engine ends with its input");
    Measured {
        name: format!("chat, {name}, {tokens} tokens"),
        estimated_bytes: estimate_chat_memory(&shape, false, None, None, tokens + 4).total,
        measured_bytes,
        estimated_seconds: 0.0,
        measured_seconds: 0.0,
    }
}

/// The most memory a process has had so far, in bytes; nothing of one that has ended.
fn peak(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[test]
fn the_starter_model_takes_the_memory_that_was_estimated() {
    let home = tempfile::tempdir().unwrap();
    let short =
        json!({"max_seq_length": 256, "per_device_train_batch_size": 2, "gradient_checkpointing": false});
    measure(home.path(), &Setting::new("starter", short)).check();
}

#[test]
#[ignore = "loads a model of 135 million parameters"]
fn a_chat_takes_the_memory_that_was_estimated() {
    let home = tempfile::tempdir().unwrap();
    for (name, words) in [("starter", 350), ("135M", 300), ("135M", 1500)] {
        let m = measure_chat(home.path(), name, words);
        println!(
            "{}: estimated {} bytes, measured {}, ratio {:.2}",
            m.name,
            m.estimated_bytes,
            m.measured_bytes,
            m.ratio()
        );
        m.check();
    }
}

/// The table behind the promise of the estimator: `cargo test --workspace --test estimates -- --ignored --nocapture`.
#[test]
#[ignore = "trains models of up to 360 million parameters, which takes minutes and 4 GB"]
fn measured_peaks() {
    let home = tempfile::tempdir().unwrap();
    let settings = [
        Setting::new("starter", json!({"max_seq_length": 512})),
        Setting::new("starter", json!({"max_seq_length": 64, "lora_r": 64})),
        Setting::new(
            "starter",
            json!({"max_seq_length": 512, "per_device_train_batch_size": 4, "gradient_checkpointing": false}),
        ),
        Setting::new(
            "starter",
            json!({"max_seq_length": 512, "per_device_train_batch_size": 4, "gradient_checkpointing": false,
                   "bf16": true, "lora_r": 64}),
        ),
        Setting::new("135M", json!({"max_seq_length": 64})),
        Setting::new("135M", json!({"max_seq_length": 256, "gradient_checkpointing": false})),
        Setting::new("135M", json!({"max_seq_length": 1024})),
        Setting::new("135M", json!({"max_seq_length": 1024, "bf16": true})),
        Setting::new("135M", json!({"max_seq_length": 512, "bf16": true, "gradient_checkpointing": false})),
        Setting::new("135M", json!({"max_seq_length": 256, "per_device_train_batch_size": 4, "lora_r": 64})),
        Setting {
            words: SHORT,
            ..Setting::new(
                "135M",
                json!({"max_seq_length": 512, "per_device_train_batch_size": 2, "packing": true}),
            )
        },
        Setting::new(
            "135M",
            json!({"max_seq_length": 256, "target_modules": ["q_proj", "v_proj"], "optim": "adamw_8bit"}),
        ),
        Setting::new("360M", json!({"max_seq_length": 256, "lora_r": 64})),
        Setting::new("360M", json!({"max_seq_length": 512, "bf16": true})),
        Setting::new("360M", json!({"max_seq_length": 128, "gradient_checkpointing": false})),
        Setting::new("135M", json!({"max_seq_length": 256, "strategy": "qlora", "use_nested_quant": true})),
        Setting::new("360M", json!({"max_seq_length": 512, "strategy": "qlora", "bf16": true})),
        Setting::new(
            "360M",
            json!({"max_seq_length": 128, "use_8bit": true, "gradient_checkpointing": false}),
        ),
    ];
    println!("| setting | estimated MB | measured MB | ratio | estimated s | measured s | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let measured: Vec<Measured> = settings
        .iter()
        .map(|setting| {
            let m = measure(home.path(), setting);
            println!(
                "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} |",
                m.name,
                m.estimated_bytes as f64 / 1e6,
                m.measured_bytes as f64 / 1e6,
                m.ratio(),
                m.estimated_seconds,
                m.measured_seconds,
                m.estimated_seconds / m.measured_seconds
            );
            m
        })
        .collect();
    measured.iter().for_each(Measured::check);
}
