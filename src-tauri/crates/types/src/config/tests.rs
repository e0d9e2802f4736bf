//! The table's rules, each from both sides.

use serde_json::{Map, Value, json};

use super::*;
use crate::FieldError;

fn request(changes: Value) -> Map<String, Value> {
    let mut all =
        json!({"task": "text-generation", "model_name": "modelforge/starter", "dataset": "rows.jsonl"});
    let all = all.as_object_mut().unwrap();
    all.extend(changes.as_object().unwrap().clone());
    all.clone()
}

#[test]
fn the_table_and_the_struct_are_the_same_list() {
    let config = TrainingConfig::from_json(&request(json!({}))).unwrap();
    let value = serde_json::to_value(&config).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let names: Vec<&str> = FIELDS.iter().map(|f| f.name).collect();
    assert_eq!(keys, names, "every setting is in the table, in the same order");
    let again = TrainingConfig::from_json(value.as_object().unwrap()).unwrap();
    assert_eq!(again, config, "a checked config passes the check unchanged");
}

#[test]
fn every_rule_refuses_and_names_its_field() {
    let cases = [
        ("task", json!("translation"), "value_error"),
        ("task", json!(3), "type_error"),
        ("model_name", json!("  "), "value_error"),
        ("dataset", json!(""), "value_error"),
        ("provider", json!("vllm"), "value_error"),
        ("strategy", json!("full"), "value_error"),
        ("compute_specs", json!("huge"), "value_error"),
        ("lora_r", json!(0), "value_error"),
        ("lora_r", json!(257), "value_error"),
        ("lora_r", json!(1.5), "type_error"),
        ("lora_alpha", json!(0), "value_error"),
        ("lora_dropout", json!(1.0), "value_error"),
        ("lora_dropout", json!(-0.1), "value_error"),
        ("lora_dropout", json!("0.1"), "type_error"),
        ("num_train_epochs", json!(0), "value_error"),
        ("per_device_train_batch_size", json!(0), "value_error"),
        ("per_device_eval_batch_size", json!(0), "value_error"),
        ("gradient_accumulation_steps", json!(0), "value_error"),
        ("gradient_checkpointing", json!("yes"), "type_error"),
        ("max_grad_norm", json!(-1), "value_error"),
        ("learning_rate", json!(0), "value_error"),
        ("learning_rate", json!(1.1), "value_error"),
        ("weight_decay", json!(-0.1), "value_error"),
        ("optim", json!("lion"), "value_error"),
        ("lr_scheduler_type", json!("step"), "value_error"),
        ("max_steps", json!(0), "value_error"),
        ("max_steps", json!(-2), "value_error"),
        ("warmup_ratio", json!(1.01), "value_error"),
        ("max_seq_length", json!(7), "value_error"),
        ("eval_split", json!(1), "value_error"),
        ("eval_steps", json!(0), "value_error"),
        ("eval_answers", json!(-1), "value_error"),
        ("metric_for_best_model", json!("accuracy"), "value_error"),
        ("load_best_model_at_end", json!(1), "type_error"),
        ("early_stopping_patience", json!(0.5), "type_error"),
        ("target_modules", json!([]), "value_error"),
        ("target_modules", json!("q_proj"), "type_error"),
        ("seed", json!(-1), "value_error"),
        ("beta", json!(0), "value_error"),
        ("label_smoothing", json!(0.5), "value_error"),
        ("loss_type", json!("hinge"), "value_error"),
        ("num_generations", json!(1), "value_error"),
        ("gamma", json!(1.1), "value_error"),
        ("batch_size", json!(4), "extra_forbidden"),
    ];
    for (field, value, kind) in cases {
        let errors = TrainingConfig::from_json(&request(json!({field: value}))).unwrap_err();
        assert_eq!(errors.len(), 1, "{field} = {value}: {errors:?}");
        assert_eq!((errors[0].field(), errors[0].kind.as_str()), (field, kind), "{field} = {value}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let errors =
        TrainingConfig::from_json(json!({"lora_r": 0, "lora_rank": 4}).as_object().unwrap()).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(FieldError::field).collect();
    assert_eq!(fields, ["lora_rank", "task", "model_name", "dataset", "lora_r"]);
    let text = TrainingConfig::from_json(&request(json!({"learning_rat": 0.1}))).unwrap_err()[0].to_string();
    assert!(text.contains("Did you mean `learning_rate`"), "a misspelt name gets a hint: {text}");
}

#[test]
fn fields_that_contradict_each_other() {
    for (changes, field) in [
        (json!({"use_4bit": true, "use_8bit": true}), "use_8bit"),
        (json!({"fp16": true, "bf16": true}), "fp16"),
        (json!({"strategy": "qlora", "use_4bit": false}), "use_4bit"),
        (json!({"provider": "unsloth"}), "max_seq_length"),
        (json!({"bnb_4bit_compute_dtype": "bfloat16"}), "bnb_4bit_compute_dtype"),
        (json!({"bnb_4bit_quant_type": "fp4"}), "bnb_4bit_quant_type"),
        (json!({"use_nested_quant": true}), "use_nested_quant"),
        (json!({"beta": 0.2}), "beta"),
        (json!({"strategy": "rlhf", "loss_type": "ipo"}), "loss_type"),
        (json!({"strategy": "dpo", "kl_coef": 0}), "kl_coef"),
        (json!({"strategy": "dpo", "loss_type": "ipo", "label_smoothing": 0.1}), "label_smoothing"),
        (json!({"strategy": "rlhf", "reward": "regex"}), "reward_pattern"),
        (json!({"strategy": "rlhf", "reward": "regex", "reward_pattern": "("}), "reward_pattern"),
        (
            json!({"strategy": "rlhf", "reward": "regex", "reward_pattern": "(a{1000}){1000}"}),
            "reward_pattern",
        ),
        (json!({"strategy": "rlhf", "reward_pattern": "a+"}), "reward_pattern"),
        (
            json!({"strategy": "rlhf", "reward": "regex", "reward_pattern": "a", "reward_model": "x"}),
            "reward_model",
        ),
    ] {
        let errors = TrainingConfig::from_json(&request(changes.clone())).unwrap_err();
        assert_eq!(errors[0].field(), field, "{changes}");
    }
}

#[test]
fn the_best_is_told_by_what_is_measured() {
    let qa = "extractive-question-answering";
    for (changes, field) in [
        (json!({"load_best_model_at_end": true, "eval_split": 0.0}), "load_best_model_at_end"),
        (json!({"early_stopping_patience": 2, "eval_split": 0.0}), "early_stopping_patience"),
        (json!({"metric_for_best_model": "perplexity"}), "metric_for_best_model"),
        (json!({"metric_for_best_model": "f1", "load_best_model_at_end": true}), "metric_for_best_model"),
        (
            json!({"metric_for_best_model": "rewards/margins", "load_best_model_at_end": true}),
            "metric_for_best_model",
        ),
        (
            json!({"task": qa, "metric_for_best_model": "rougeL", "early_stopping_patience": 1}),
            "metric_for_best_model",
        ),
        (
            json!({"task": qa, "metric_for_best_model": "f1", "early_stopping_patience": 1, "eval_answers": 0}),
            "metric_for_best_model",
        ),
    ] {
        let errors = TrainingConfig::from_json(&request(changes.clone())).unwrap_err();
        assert_eq!(errors.len(), 1, "{changes}: {errors:?}");
        assert_eq!(errors[0].field(), field, "{changes}");
    }
    for (changes, metric, answers) in [
        (json!({"load_best_model_at_end": true}), EvalMetric::EvalLoss, 0),
        (
            json!({"task": qa, "metric_for_best_model": "f1", "early_stopping_patience": 1}),
            EvalMetric::F1,
            50,
        ),
        (
            json!({"task": "summarization", "eval_answers": 7, "eval_split": 0.0, "eval_dataset": "held.jsonl",
                "metric_for_best_model": "rouge2", "load_best_model_at_end": true}),
            EvalMetric::Rouge2,
            7,
        ),
        (
            json!({"strategy": "dpo", "metric_for_best_model": "rewards/accuracies", "early_stopping_patience": 2}),
            EvalMetric::RewardAccuracies,
            0,
        ),
    ] {
        let config = TrainingConfig::from_json(&request(changes.clone())).unwrap();
        assert_eq!((config.best_metric(), config.scored_answers()), (metric, answers), "{changes}");
    }
}

#[test]
fn the_settings_of_a_run_of_before_are_still_read() {
    let config = TrainingConfig::from_json(&request(json!({}))).unwrap();
    let mut older = serde_json::to_value(&config).unwrap();
    let fields = older.as_object_mut().unwrap();
    let later =
        ["eval_answers", "metric_for_best_model", "load_best_model_at_end", "early_stopping_patience"];
    let of_strategies = FIELDS.iter().filter(|field| !field.only.is_empty()).map(|field| field.name);
    for later in later.into_iter().chain(of_strategies) {
        fields.remove(later).unwrap();
    }
    let read: TrainingConfig = serde_json::from_value(older).unwrap();
    assert_eq!(read, TrainingConfig { eval_answers: 0, ..config }, "and mean what they meant");
}

#[test]
fn defaults_follow_the_strategy() {
    let lr = |strategy: &str| {
        TrainingConfig::from_json(&request(json!({"strategy": strategy}))).unwrap().learning_rate
    };
    assert_eq!([lr("sft"), lr("qlora"), lr("dpo"), lr("rlhf")], [2e-4, 2e-4, 5e-6, 1.41e-5]);
    let qlora = TrainingConfig::from_json(&request(json!({"strategy": "qlora"}))).unwrap();
    assert!(qlora.use_4bit && !qlora.use_8bit, "qlora quantises to 4 bits unless told otherwise");
    let qlora8 = TrainingConfig::from_json(&request(json!({"strategy": "qlora", "use_8bit": true}))).unwrap();
    assert!(!qlora8.use_4bit && qlora8.use_8bit, "use_8bit replaces use_4bit in qlora");
    let null = TrainingConfig::from_json(&request(json!({"max_seq_length": null, "name": null}))).unwrap();
    assert_eq!((null.max_seq_length, null.name), (None, None), "null asks for the value that is found");
}

#[test]
fn a_base_is_quantised_as_the_settings_say() {
    let of = |changes| TrainingConfig::from_json(&request(changes)).unwrap().quantisation();
    let (codes, nested, bf16) = (QuantCodes::Nf4, false, false);
    assert_eq!(of(json!({})), None);
    assert_eq!(of(json!({"strategy": "qlora"})), Some(Quantisation { codes, nested, bf16 }));
    let narrow = json!({"use_4bit": true, "bf16": true, "use_nested_quant": true});
    assert_eq!(of(narrow), Some(Quantisation { codes, nested: true, bf16: true }));
    let wide = json!({"use_4bit": true, "bf16": true, "bnb_4bit_compute_dtype": "float32"});
    assert_eq!(of(wide), Some(Quantisation { codes, nested, bf16 }));
    let fp4 = json!({"use_4bit": true, "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_type": "fp4"});
    assert_eq!(of(fp4), Some(Quantisation { codes: QuantCodes::Fp4, nested, bf16: true }));
    let int8 = json!({"strategy": "qlora", "use_8bit": true, "bf16": true});
    assert_eq!(of(int8), Some(Quantisation { codes: QuantCodes::Int8, nested, bf16: true }));
    let plain = Quantisation { codes, nested, bf16 };
    assert_eq!(plain.bytes(6400), 3200 + 400, "half a byte each, and four for each 64");
}

#[test]
fn what_no_engine_carries_out_is_refused_with_a_reason() {
    let config = TrainingConfig::from_json(&request(json!({"fp16": true}))).unwrap();
    assert_eq!(config.unsupported()[0].field(), "fp16");
    assert!(config.unsupported_on(true).is_empty(), "a card computes in fp16");
    for changes in
        [json!({}), json!({"strategy": "qlora"}), json!({"strategy": "dpo"}), json!({"use_8bit": true})]
    {
        let config = TrainingConfig::from_json(&request(changes)).unwrap();
        assert!(config.unsupported().is_empty(), "{config:?} is carried out");
    }
}
