//! What a chat session promises beside its text: the cache changes nothing, generation ends where it should.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use std::cell::Cell;

use candle_core::Tensor;
use data::Tokenizer;
use golden::{SHAPES, path};
use infer::{ChatSession, Decoder, InferError, Listener};
use models::{CausalLm, LoadOptions, Pass, Sequences, forward};
use types::{GenerateParams, GenerateStats, Message, Provider, engine::PromptInput, generate::FinishReason};

fn load(shape: &str) -> (Box<dyn CausalLm>, Tokenizer) {
    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: place::device() };
    let mut model = models::load(&path(shape), &options).unwrap().causal().unwrap();
    model.load_adapter(&path(shape).join("adapter")).unwrap();
    (model, Tokenizer::load(&path(shape)).unwrap())
}

/// Keeps what it hears, and hears so many pieces and is asked so often at most.
struct Audience {
    pieces: Vec<String>,
    most_pieces: usize,
    patience: Cell<usize>,
}

impl Audience {
    fn patient() -> Self {
        Self { pieces: Vec::new(), most_pieces: usize::MAX, patience: Cell::new(usize::MAX) }
    }
}

impl Listener for Audience {
    fn text(&mut self, piece: &str) {
        self.pieces.push(piece.to_owned());
    }

    fn listens(&self) -> bool {
        let left = self.patience.get();
        self.patience.set(left.saturating_sub(1));
        left > 0 && self.pieces.len() < self.most_pieces
    }
}

/// Generates from `prompt`, and all pieces that were streamed.
fn generate(
    session: &mut ChatSession,
    prompt: &str,
    params: &GenerateParams,
    pass: Pass,
) -> Result<(String, Vec<String>, GenerateStats), InferError> {
    let mut audience = Audience::patient();
    let (text, stats) = session.generate(&PromptInput::Text(prompt.into()), params, pass, &mut audience)?;
    let pieces = audience.pieces;
    assert_eq!(pieces.concat(), text, "the pieces must be the whole text");
    Ok((text, pieces, stats))
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn cached_logits_are_those_of_the_whole_sequence() {
    for shape in SHAPES {
        let (model, _) = load(shape);
        let ids: Vec<u32> = (0..40).map(|i| i * 13 % 300).collect();
        for pass in [Pass::EVAL, Pass::BASE] {
            let mut decoder = Decoder::new(model.as_ref());
            for end in [5, 6, 7, 39, 40] {
                let seen = decoder.ids().len();
                let got = if seen == 0 {
                    decoder.start(&ids[..end], pass, &|| true)
                } else {
                    decoder.extend(&ids[seen..end], &|| true)
                };
                let all = Tensor::new(&ids[..end], &place::device()).unwrap();
                let hidden = forward(model.as_ref(), &all, &Sequences::new(vec![end]), pass).unwrap();
                let want = model.logits(&hidden.narrow(0, end - 1, 1).unwrap()).unwrap();
                let want: Vec<f32> = want.squeeze(0).unwrap().to_vec1().unwrap();
                let got: Vec<f32> = got.unwrap().unwrap().to_vec1().unwrap();
                for (x, y) in got.iter().zip(&want) {
                    assert!(
                        (x - y).abs() < 1e-4,
                        "{shape}: cached and whole must agree after {end} tokens: {x}, {y}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_session_that_goes_on_answers_like_a_new_one() {
    let (model, tokenizer) = load(SHAPES[0]);
    let params = GenerateParams::greedy(20);
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    let turns = [
        ("The ferry", Pass::EVAL),
        ("The ferry leaves", Pass::EVAL),
        ("The ferry", Pass::BASE),
        ("The", Pass::EVAL),
    ];
    for (prompt, pass) in turns {
        let fresh =
            generate(&mut ChatSession::new(model.as_ref(), &tokenizer), prompt, &params, pass).unwrap().0;
        let kept = generate(&mut session, prompt, &params, pass).unwrap().0;
        assert_eq!(kept, fresh, "what was said before must not change the answer to {prompt:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let (model, tokenizer) = load(SHAPES[0]);
    let run = |seed| {
        let params =
            GenerateParams { max_new_tokens: 24, temperature: 1.5, top_p: 1.0, seed, ..Default::default() };
        generate(&mut ChatSession::new(model.as_ref(), &tokenizer), "The ferry", &params, Pass::EVAL)
            .unwrap()
            .0
    };
    assert_eq!(run(1), run(1), "the same seed must give the same text");
    assert_ne!(run(1), run(2), "another seed must give another text");
}

#[test]
fn generation_ends_before_a_stop_string_wherever_the_tokens_are_cut() {
    let (model, tokenizer) = load(SHAPES[0]);
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    let whole = generate(&mut session, "The ferry", &GenerateParams::greedy(30), Pass::EVAL).unwrap().0;
    let borders: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for window in borders.windows(6).step_by(3) {
        let stop = &whole[window[0]..window[5]];
        let params =
            GenerateParams { stop: vec!["never there".into(), stop.into()], ..GenerateParams::greedy(30) };
        let (text, _, stats) = generate(&mut session, "The ferry", &params, Pass::EVAL).unwrap();
        let at = whole.find(stop).unwrap();
        assert_eq!(text, whole[..at], "the text must end before {stop:?}");
        assert_eq!(stats.finish, FinishReason::Stop, "and say so");
    }
}

#[test]
fn generation_ends_by_length_context_or_the_listener() {
    let (model, tokenizer) = load(SHAPES[0]);
    let context = model.info().context_length;
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    let stats = generate(&mut session, "The ferry", &GenerateParams::greedy(3), Pass::EVAL).unwrap().2;
    assert_eq!(
        (stats.tokens_generated, stats.finish),
        (3, FinishReason::Length),
        "as many as were asked for"
    );

    let long = "a ".repeat(4 * context);
    let tokens = tokenizer.encode(&long).unwrap().len();
    let error =
        generate(&mut session, &long, &GenerateParams::greedy(3), Pass::EVAL).unwrap_err().to_string();
    assert!(error.contains(&tokens.to_string()), "the prompt's tokens must be named: {error}");
    assert!(error.contains(&context.to_string()), "the context must be named: {error}");

    let mut nearly = String::new();
    while tokenizer.encode(&format!("{nearly}ferry ")).unwrap().len() < context {
        nearly.push_str("ferry ");
    }
    let stats = generate(&mut session, &nearly, &GenerateParams::greedy(10_000), Pass::EVAL).unwrap().2;
    assert!(
        matches!(stats.finish, FinishReason::Context | FinishReason::Eos),
        "a full context ends it: {stats:?}"
    );
    assert!(stats.prompt_tokens + stats.tokens_generated <= context, "no token may be beyond the context");

    let mut enough = Audience { most_pieces: 2, ..Audience::patient() };
    let input = PromptInput::Messages(vec![Message::user("Hello")]);
    let (_, stats) = session.generate(&input, &GenerateParams::greedy(200), Pass::EVAL, &mut enough).unwrap();
    assert_eq!(
        (enough.pieces.len(), stats.finish),
        (2, FinishReason::Cancelled),
        "the listener may end it at any piece"
    );
}

#[test]
fn a_prompt_is_left_between_any_two_layers_and_leaves_no_trace() {
    let (model, tokenizer) = load(SHAPES[0]);
    let (layers, params) = (model.info().layers, GenerateParams::greedy(8));
    let want = generate(&mut ChatSession::new(model.as_ref(), &tokenizer), "The ferry", &params, Pass::EVAL);
    let want = want.unwrap().0;
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    for patience in 0..layers {
        let mut audience = Audience { patience: Cell::new(patience), ..Audience::patient() };
        let input = PromptInput::Text("The ferry leaves the old pier".into());
        let (text, stats) = session.generate(&input, &params, Pass::EVAL, &mut audience).unwrap();
        assert_eq!(
            (text.as_str(), stats.tokens_generated, stats.finish),
            ("", 0, FinishReason::Cancelled),
            "an answer that nobody wants is not begun: layer {patience}"
        );
        let got = generate(&mut session, "The ferry", &params, Pass::EVAL).unwrap().0;
        assert_eq!(got, want, "half a prompt must not change the next answer: layer {patience}");
    }
}

#[test]
fn settings_out_of_range_and_empty_prompts_are_errors() {
    let (model, tokenizer) = load(SHAPES[0]);
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    let bad = GenerateParams { top_p: 0.0, ..GenerateParams::default() };
    let error = generate(&mut session, "a", &bad, Pass::EVAL).unwrap_err();
    assert!(matches!(error, InferError::Params { field: "top_p", .. }), "the setting must be named: {error}");
    match generate(&mut session, "", &GenerateParams::greedy(2), Pass::EVAL) {
        Err(InferError::EmptyPrompt) => {}
        // A tokenizer that begins every text with a token has something to go on from.
        Ok((.., stats)) => assert!(stats.prompt_tokens > 0, "an answer needs a prompt"),
        Err(other) => panic!("an empty prompt must be called so: {other}"),
    }
}
