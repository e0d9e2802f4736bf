//! Encoders that point at answers against transformers and PEFT: states, span logits, loss, every gradient; and what their files
//! may look like. `--nocapture` shows the measured differences.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken golden ends the test; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;
#[path = "support/reference.rs"]
mod reference;

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor};
use golden::{SPAN_SHAPES, SpanGolden, largest_difference, path, relative_distance, span_golden};
use models::{LoadOptions, LoraConfig, ModelError, Pass, Sequences, SpanModel};
use reference::{Nearness, check_gradients, values};
use serde_json::{Value, json};
use types::{Provider, files};

/// Largest difference of a state or logit, relative difference of a loss, distance of a gradient relative to its norm.
const TOLERANCE: f64 = 1e-4;
/// bf16 keeps 8 bits of each number while the reference is f32.
const TOLERANCE_BF16: f64 = 4e-2;
/// A number added to all logits of a softmax changes nothing: its gradient is rounding and nothing else.
const NOISE: &str = "base_model.model.qa_outputs.bias";

fn load(folder: &Path, bf16: bool) -> Result<Box<dyn SpanModel>, ModelError> {
    models::load(folder, &LoadOptions { bf16, provider: Provider::Unsloth, device: place::device() })?.span()
}

struct Case {
    model: Box<dyn SpanModel>,
    golden: SpanGolden,
    tensors: HashMap<String, Tensor>,
    ids: Tensor,
    types: Tensor,
    sequences: Sequences,
}

impl Case {
    fn new(shape: &str, bf16: bool) -> Self {
        let mut model = load(&path(shape), bf16).unwrap();
        model.load_adapter(&path(shape).join("adapter")).unwrap();
        let golden = span_golden(shape);
        let all = |of: fn(&golden::SpanWindow) -> &Vec<u32>| {
            let values: Vec<u32> = golden.windows.iter().flat_map(|window| of(window).clone()).collect();
            Tensor::new(values, &place::device()).unwrap()
        };
        let (ids, types) = (all(|window| &window.ids), all(|window| &window.token_types));
        let tensors =
            candle_core::safetensors::load(path(shape).join("golden.safetensors"), &Device::Cpu).unwrap();
        let sequences = Sequences::new(golden.windows.iter().map(|window| window.ids.len()).collect());
        Case { model, golden, tensors, ids, types, sequences }
    }

    fn hidden(&self, pass: Pass) -> Tensor {
        let mut hidden = self.model.embed(&self.ids, &self.types, &self.sequences).unwrap();
        for index in 0..self.model.info().layers {
            hidden = self.model.layer(index, &hidden, &self.sequences, pass).unwrap();
        }
        hidden
    }

    fn loss(&self, logits: &Tensor) -> Tensor {
        let spans: Vec<(u32, u32)> = self.golden.windows.iter().map(|window| window.span).collect();
        let sum = kernels::span_cross_entropy(logits, &self.sequences.lengths, &spans).unwrap();
        (sum / spans.len() as f64).unwrap()
    }
}

fn check_forward(bf16: bool, near: Nearness) {
    for shape in SPAN_SHAPES {
        let case = Case::new(shape, bf16);
        assert_eq!(case.model.info().dtype == "bf16", bf16, "{shape}: the base is kept as it was asked for");
        near.check(&format!("{shape}: states"), &case.hidden(Pass::BASE), &case.tensors["hidden"]);
        for (pass, logits, loss) in
            [(Pass::BASE, "logits", case.golden.loss), (Pass::EVAL, "lora_logits", case.golden.lora_loss)]
        {
            let got = case.model.span_logits(&case.hidden(pass), pass).unwrap();
            let wanted = (&case.tensors[logits], loss);
            near.check_loss(&format!("{shape}: {logits}"), (&got, &case.loss(&got)), wanted);
        }
    }
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn states_logits_and_losses_are_those_of_transformers_and_peft() {
    check_forward(false, Nearness { tolerance: TOLERANCE, distance: largest_difference });
}

#[test]
fn bf16_stays_near_the_f32_of_transformers() {
    check_forward(true, Nearness { tolerance: TOLERANCE_BF16, distance: relative_distance });
}

#[test]
fn every_trained_tensor_gets_the_gradient_of_peft() {
    for shape in SPAN_SHAPES {
        let case = Case::new(shape, false);
        let logits = case.model.span_logits(&case.hidden(Pass::EVAL), Pass::EVAL).unwrap();
        let gradients = case.loss(&logits).backward().unwrap();
        check_gradients(shape, case.model.trainable(), &gradients, &case.tensors, (TOLERANCE, Some(NOISE)));
    }
}

#[test]
fn an_adapter_and_its_head_come_back_from_the_files_that_peft_reads() {
    for shape in SPAN_SHAPES {
        let (mut case, folder) = (Case::new(shape, false), tempfile::tempdir().unwrap());
        let config = case.model.load_adapter(&path(shape).join("adapter")).unwrap();
        let before = values(&case.model.span_logits(&case.hidden(Pass::EVAL), Pass::EVAL).unwrap());
        case.model.save_adapter(folder.path(), &config, shape).unwrap();
        let read = |folder: &Path| -> Value {
            serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
        };
        let (ours, theirs) = (read(folder.path()), read(&path(shape).join("adapter")));
        assert_eq!(ours["task_type"], "QUESTION_ANS");
        assert_eq!(ours["modules_to_save"], json!(["qa_outputs"]), "{shape}: the head is saved as a whole");
        let sorted = |modules: &Value| {
            let mut names: Vec<String> = serde_json::from_value(modules.clone()).unwrap();
            names.sort();
            names
        };
        assert_eq!(
            sorted(&ours["target_modules"]),
            sorted(&theirs["target_modules"]),
            "{shape}: as PEFT names them"
        );
        let file = |folder: &Path| {
            candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu).unwrap()
        };
        let (ours, theirs) = (file(folder.path()), file(&path(shape).join("adapter")));
        let names = |file: &HashMap<String, Tensor>| {
            let mut names: Vec<String> =
                file.keys().filter(|n| !n.contains("modules_to_save")).cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&ours), names(&theirs), "{shape}: the tensors of PEFT's file, under its names");
        let mut fresh = load(&path(shape), false).unwrap();
        fresh.load_adapter(folder.path()).unwrap();
        case.model = fresh;
        let after = values(&case.model.span_logits(&case.hidden(Pass::EVAL), Pass::EVAL).unwrap());
        assert_eq!(before, after, "{shape}: to the bit");
        case.model.detach_lora();
        let base = values(&case.model.span_logits(&case.hidden(Pass::EVAL), Pass::EVAL).unwrap());
        assert!(
            largest_difference(&base, &values(&case.tensors["logits"])) < TOLERANCE,
            "{shape}: base and its head"
        );
    }
}

#[test]
fn the_oldest_checkpoints_load_and_get_a_fresh_head() {
    let folder = path("bert-masked");
    let golden: Value = serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let list = |name: &str| -> Vec<u32> { serde_json::from_value(golden[name].clone()).unwrap() };
    let mut model = load(&folder, false).unwrap();
    let (ids, sequences) = (list("ids"), Sequences::new(vec![list("ids").len()]));
    let row = |values: Vec<u32>| Tensor::new(values, &place::device()).unwrap();
    let mut hidden = model.embed(&row(ids), &row(list("token_types")), &sequences).unwrap();
    hidden = model.layer(0, &hidden, &sequences, Pass::BASE).unwrap();
    let want: Vec<f32> = serde_json::from_value(golden["hidden"].clone()).unwrap();
    assert!(largest_difference(&values(&hidden), &want) < TOLERANCE, "gamma is the weight and beta the bias");

    let logits = |model: &dyn SpanModel| values(&model.span_logits(&hidden, Pass::EVAL).unwrap());
    let first = logits(model.as_ref());
    assert!(first.iter().any(|&v| v != 0.0), "a fresh head is random");
    assert_eq!(first, logits(load(&folder, false).unwrap().as_ref()), "and the same each time");
    let config = LoraConfig { rank: 2, alpha: 4.0, dropout: 0.0, target_modules: None };
    model.attach_lora(&config, 1).unwrap();
    let names: Vec<String> = model.trainable().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 6 * 2 + 2, "six linear layers and the head");
    assert_eq!(
        names.first().unwrap(),
        "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
    );
    assert_eq!(names.last().unwrap(), "base_model.model.qa_outputs.bias");
    assert_eq!(first, logits(model.as_ref()), "what has learned nothing changes nothing");
}

/// A copy of a model's folder with another config.
fn with_config(shape: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(path(shape)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let file = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    files::write(&file, config.to_string().as_bytes()).unwrap();
    folder
}

#[test]
fn a_config_that_is_not_computed_here_is_refused_by_name() {
    let cases: [(&str, &str, Value, &str); 13] = [
        ("bert-span", "position_embedding_type", json!("relative_key"), "only \"absolute\""),
        ("bert-span", "is_decoder", json!(true), "must be false"),
        ("bert-span", "hidden_act", json!("swish"), "\"gelu\""),
        ("bert-span", "num_attention_heads", json!(5), "does not divide"),
        ("bert-span", "vocab_size", json!(421), "[420, 32]; [421, 32] is expected"),
        ("bert-span", "layer_norm_eps", json!(2), "below 1"),
        ("roberta-span-sharded-bf16", "pad_token_id", json!(99), "too few"),
        ("distilbert-span-f16", "dim", json!(33), "does not divide"),
        ("deberta-span", "pos_att_type", json!(["c2p", "p2p"]), "p2p"),
        ("deberta-span", "conv_kernel_size", json!(3), "not supported"),
        ("deberta-span", "share_att_key", json!(false), "only true"),
        ("deberta-span", "position_buckets", json!(2), "cannot be shared"),
        ("deberta-span", "embedding_size", json!(16), "only 32"),
    ];
    for (shape, field, value, want) in cases {
        let folder = with_config(shape, |config| config[field] = value.clone());
        let error = load(folder.path(), false).err().unwrap().to_string();
        assert!(error.contains(want), "{field} = {value}: {error}");
        // Places are told by their number, which is too small for where they begin.
        let named = if field == "pad_token_id" { "max_position_embeddings" } else { field };
        assert!(error.contains(named), "{field} = {value} must be named: {error}");
    }
}

#[test]
fn a_text_longer_than_the_places_is_refused() {
    for shape in SPAN_SHAPES {
        let model = load(&path(shape), false).unwrap();
        let length = model.info().context_length + 1;
        assert_eq!(length, 65, "{shape}: places after that of the padding token");
        let zeros = Tensor::zeros(length, candle_core::DType::U32, &place::device()).unwrap();
        let error = model.embed(&zeros, &zeros, &Sequences::new(vec![length])).unwrap_err().to_string();
        assert!(error.contains("65 tokens do not fit the 64 places"), "{shape}: {error}");
    }
}
