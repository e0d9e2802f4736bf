//! Answers, their places and their scores against those that transformers and PEFT give, as `tests/golden` holds them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken golden ends the test; differences are shown"
)]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use data::{PromptParts, Tokenizer, prompt_for};
use golden::{SPAN_SHAPES, path, span_golden};
use infer::{ChatSession, Listener, Search, extract};
use models::{LoadOptions, Pass, SpanModel};
use types::{GenerateParams, Message, Provider, Task, engine::PromptInput};

/// Of a probability, relative.
const TOLERANCE: f64 = 1e-4;

fn load(shape: &str) -> (Box<dyn SpanModel>, Tokenizer) {
    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: place::device() };
    let mut model = models::load(&path(shape), &options).unwrap().span().unwrap();
    model.load_adapter(&path(shape).join("adapter")).unwrap();
    (model, Tokenizer::load(&path(shape)).unwrap())
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn the_best_span_over_all_windows_is_that_of_transformers() {
    for shape in SPAN_SHAPES {
        let (model, tokenizer) = load(shape);
        let golden = span_golden(shape);
        let search =
            Search { window: golden.window, overlap: Some(golden.stride), longest: golden.longest_answer };
        let mut worst = 0f64;
        assert_eq!(golden.answers.len(), 50);
        for want in &golden.answers {
            let found = extract(
                model.as_ref(),
                &tokenizer,
                &want.question,
                &want.context,
                &search,
                Pass::EVAL,
                &|| true,
            );
            let found = found.unwrap().unwrap();
            // Where tokens begin with a space, transformers gives it as a part of the answer.
            assert_eq!(
                &want.context[found.bytes.clone()],
                want.answer.trim(),
                "{shape}: {:?} of {:?}",
                want.question,
                want.context
            );
            let start = want.context[..found.bytes.start].chars().count();
            let spaces = want.answer.chars().take_while(|c| c.is_whitespace()).count();
            assert_eq!(
                start,
                want.start + spaces,
                "{shape}: {:?} at its place among equal words",
                want.answer
            );
            for (got, want) in [(found.score, want.score), (found.no_answer, want.no_answer)] {
                worst = worst.max((got / want - 1.0).abs());
            }
        }
        assert!(worst < TOLERANCE, "{shape}: scores are {worst:e} away");
        println!("{shape}: scores {worst:.1e}");
    }
}

#[test]
fn an_answer_that_nobody_wants_is_not_looked_for() {
    let (model, tokenizer) = load("bert-span");
    let ask = |wanted: &dyn Fn() -> bool| {
        extract(
            model.as_ref(),
            &tokenizer,
            "Where?",
            "In the lighthouse.",
            &Search::default(),
            Pass::EVAL,
            wanted,
        )
    };
    assert!(ask(&|| true).unwrap().is_some());
    assert!(ask(&|| false).unwrap().is_none());
}

#[test]
fn a_question_and_a_text_that_give_no_answer_are_told() {
    let (model, tokenizer) = load("bert-span");
    let ask = |question: &str, text: &str| {
        extract(model.as_ref(), &tokenizer, question, text, &Search::default(), Pass::EVAL, &|| true)
            .unwrap_err()
    };
    let long = ask(&"where is the book? ".repeat(40), "In the lighthouse.").to_string();
    assert!(long.contains("leaves no room for the context"), "{long}");
    assert!(ask("Where?", " ").to_string().contains("empty"), "a text of nothing holds no answer");
}

/// Notes what it is told.
#[derive(Default)]
struct Heard(Vec<String>);

impl Listener for Heard {
    fn text(&mut self, piece: &str) {
        self.0.push(piece.to_owned());
    }

    fn listens(&self) -> bool {
        true
    }
}

#[test]
fn a_session_answers_a_message_that_holds_text_and_question() {
    let (model, tokenizer) = load("roberta-span-sharded-bf16");
    let want = &span_golden("roberta-span-sharded-bf16").answers[0];
    let parts = PromptParts { text: &want.context, question: Some(&want.question) };
    let message = Message::user(prompt_for(Task::ExtractiveQuestionAnswering, parts));
    let mut session = ChatSession::new(model.as_ref(), &tokenizer);
    let mut ask = |threshold: f64| {
        let params = GenerateParams { no_answer_threshold: threshold, ..GenerateParams::default() };
        let mut heard = Heard::default();
        let input = PromptInput::Messages(vec![message.clone()]);
        let (text, stats) = session.generate(&input, &params, Pass::EVAL, &mut heard).unwrap();
        (text, stats, heard.0)
    };
    let (text, stats, heard) = ask(0.0);
    let span = stats.span.unwrap();
    let characters: String = want.context.chars().skip(span.start).take(span.end - span.start).collect();
    assert_eq!((&text, heard), (&characters, vec![text.clone()]), "the text at the place told, in one piece");
    assert!(stats.tokens_generated > 0 && stats.prompt_tokens > want.context.split(' ').count(), "{stats:?}");
    let (text, stats, heard) = ask(-1.0);
    let none = stats.span.unwrap();
    assert_eq!((text.as_str(), none.start, none.end, heard.len()), ("", 0, 0, 0), "no answer is believed in");
    assert_eq!((none.score, none.no_answer_score), (span.score, span.no_answer_score), "the scores are told");
    let chat = PromptInput::Text("Where is the book?".into());
    let error =
        session.generate(&chat, &GenerateParams::default(), Pass::EVAL, &mut Heard::default()).unwrap_err();
    assert!(error.to_string().contains("give a question and a context"), "{error}");
}
