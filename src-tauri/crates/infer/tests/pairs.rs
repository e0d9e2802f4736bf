//! What an encoder-decoder writes equals transformers' `generate`, as `tests/golden` holds it: greedy and by beams.
#![allow(clippy::unwrap_used, reason = "a broken golden ends the test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use std::fs;

use data::Tokenizer;
use golden::{Beam, PAIRS, path};
use infer::{ChatSession, InferError, Listener};
use models::{AnyModel, LoadOptions, Pass};
use serde_json::{Value, json};
use types::{GenerateParams, Message, Provider, engine::PromptInput, generate::FinishReason};

/// Hears everything, for as long as it has patience.
struct Audience {
    pieces: Vec<String>,
    patience: std::cell::Cell<usize>,
}

impl Listener for Audience {
    fn text(&mut self, piece: &str) {
        self.pieces.push(piece.to_owned());
    }

    fn listens(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.saturating_sub(1));
        left > 0
    }
}

fn audience() -> Audience {
    Audience { pieces: Vec::new(), patience: std::cell::Cell::new(usize::MAX) }
}

fn load(name: &str) -> AnyModel {
    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: place::device() };
    let mut model = models::load(&path(name), &options).unwrap();
    model.load_adapter(&path(name).join("adapter")).unwrap();
    model
}

/// The tokenizer of a model whose files say what `settings` says about writing.
fn tokenizer(name: &str, settings: &Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(path(name).join(file), folder.path().join(file)).unwrap();
    }
    let mut config: Value = golden::json(&format!("{name}/config.json"));
    config.as_object_mut().unwrap().remove("task_specific_params");
    types::files::write_json(&folder.path().join("config.json"), &config).unwrap();
    let mut generation: Value = golden::json(&format!("{name}/generation_config.json"));
    generation.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    types::files::write_json(&folder.path().join("generation_config.json"), &generation).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn greedy_text_is_that_of_transformers() {
    let plain = json!({"num_beams": 1, "no_repeat_ngram_size": 0, "min_length": 0, "max_length": 65});
    for name in PAIRS {
        let (model, tokenizer) = (load(name), tokenizer(name, &plain));
        let greedy = golden::pairs(name).greedy;
        let mut session = ChatSession::new(&*model, &tokenizer);
        for (pass, answers) in [(Pass::BASE, greedy.base), (Pass::EVAL, greedy.lora)] {
            for written in answers {
                let mut heard = audience();
                let params = GenerateParams::greedy(64);
                let (text, stats) = session.go_on(written.source, &params, pass, &mut heard).unwrap();
                assert_eq!(text, written.text, "{name}, {pass:?}");
                assert_eq!(heard.pieces.concat(), text, "{name}: what is streamed is the text");
                let ended = written.new.last().is_some_and(|id| tokenizer.eos_ids().contains(id));
                assert_eq!(stats.finish == FinishReason::Eos, ended, "{name}: {stats:?}");
                assert_eq!(stats.tokens_generated, written.new.len() - usize::from(ended), "{name}");
            }
        }
    }
}

#[test]
fn beams_find_the_text_of_transformers() {
    for name in PAIRS {
        let model = load(name);
        for beam in golden::pairs(name).beams {
            let Beam { num_beams, length_penalty, no_repeat_ngram_size, min_length, max_length, .. } = beam;
            let settings = json!({
                "num_beams": num_beams, "length_penalty": length_penalty, "min_length": min_length,
                "max_length": max_length, "no_repeat_ngram_size": no_repeat_ngram_size,
                "early_stopping": beam.early_stopping,
            });
            let tokenizer = tokenizer(name, &settings);
            let mut session = ChatSession::new(&*model, &tokenizer);
            let pass = if beam.adapter { Pass::EVAL } else { Pass::BASE };
            let mut heard = audience();
            let params = GenerateParams { max_new_tokens: 100, ..GenerateParams::default() };
            let (text, stats) = session.go_on(beam.written.source, &params, pass, &mut heard).unwrap();
            assert_eq!(text, beam.written.text, "{name}, {pass:?}, {settings}");
            let ended = beam.written.new.last().is_some_and(|id| tokenizer.eos_ids().contains(id));
            assert_eq!(
                (stats.tokens_generated, stats.finish == FinishReason::Eos),
                (beam.written.new.len() - usize::from(ended), ended),
                "{name}, {settings}"
            );
        }
    }
}

#[test]
fn a_prompt_to_summarize_is_written_as_the_files_of_the_model_say() {
    let name = PAIRS[0];
    let (model, tokenizer) = (load(name), Tokenizer::load(&path(name)).unwrap());
    let parts = data::PromptParts { text: "The ferry left.", question: None };
    let prompt = data::prompt_for(types::Task::Summarization, parts);
    let ask = |text: String, params: &GenerateParams| {
        let mut session = ChatSession::new(&*model, &tokenizer);
        let input = PromptInput::Messages(vec![Message::user(text)]);
        session.generate(&input, params, Pass::EVAL, &mut audience()).unwrap()
    };
    let params = GenerateParams::greedy(100);
    let (text, stats) = ask(prompt, &params);
    let source = tokenizer.encode_framed("summarize: The ferry left.", 100).unwrap().0;
    assert_eq!(
        stats.prompt_tokens,
        source.len(),
        "the prefix of the model's config, not the words of others"
    );
    assert!(
        stats.tokens_generated < 40 && !text.is_empty(),
        "max_length of its task_specific_params: {stats:?}"
    );
    let (plain, more) = ask("summarize: The ferry left.".into(), &params);
    assert_eq!(more.prompt_tokens, source.len());
    assert_eq!(
        plain,
        ChatSession::new(&*model, &tokenizer).go_on(source, &params, Pass::EVAL, &mut audience()).unwrap().0,
        "any other text is taken as it is"
    );
}

#[test]
fn what_cannot_be_written_is_told() {
    let name = "bart-gelu";
    let (model, tokenizer) = (load(name), Tokenizer::load(&path(name)).unwrap());
    let mut session = ChatSession::new(&*model, &tokenizer);
    let params = GenerateParams::greedy(8);
    let mut ask = |ids: Vec<u32>| session.go_on(ids, &params, Pass::EVAL, &mut audience());
    assert!(matches!(ask(vec![]), Err(InferError::EmptyPrompt)));
    assert!(ask(vec![5; 128]).is_ok(), "as long as the positions reach");
    assert!(matches!(ask(vec![5; 129]), Err(InferError::PromptTooLong { prompt: 129, .. })));
    let bad = GenerateParams { num_beams: 65, ..GenerateParams::greedy(8) };
    let mut session = ChatSession::new(&*model, &tokenizer);
    assert!(matches!(
        session.go_on(vec![5], &bad, Pass::EVAL, &mut audience()),
        Err(InferError::Params { field: "num_beams", .. })
    ));
    for num_beams in [1, 4] {
        for patience in [0, 1, 5, 9] {
            let params = GenerateParams { num_beams, ..GenerateParams::greedy(8) };
            let mut heard = Audience { pieces: Vec::new(), patience: std::cell::Cell::new(patience) };
            let (_, stats) = session.go_on(vec![5, 6], &params, Pass::EVAL, &mut heard).unwrap();
            assert_eq!(stats.finish, FinishReason::Cancelled, "{num_beams} beams, {patience} layers");
        }
    }
}
