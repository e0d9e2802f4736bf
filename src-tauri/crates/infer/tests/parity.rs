//! Greedy text of a chat session equals that of transformers' `generate`, as `tests/golden` holds it.

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use data::Tokenizer;
use golden::{Answer, SHAPES, golden, path};
use infer::{ChatSession, Listener};
use models::{LoadOptions, Pass};
use types::{GenerateParams, Provider, engine::PromptInput, generate::FinishReason};

struct Streamed<'a>(&'a mut String);

impl Listener for Streamed<'_> {
    fn text(&mut self, piece: &str) {
        self.0.push_str(piece);
    }

    fn listens(&self) -> bool {
        true
    }
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn greedy_text_is_that_of_transformers() {
    for (shape, provider) in SHAPES.iter().flat_map(|shape| Provider::ALL.iter().map(move |p| (shape, *p))) {
        let options = LoadOptions { bf16: false, provider, device: place::device() };
        let mut model = models::load(&path(shape), &options).unwrap();
        model.load_adapter(&path(shape).join("adapter")).unwrap();
        let tokenizer = Tokenizer::load(&path(shape)).unwrap();
        let greedy = golden(shape).greedy;
        let mut session = ChatSession::new(&*model, &tokenizer);
        for (pass, answers) in [(Pass::BASE, greedy.base), (Pass::EVAL, greedy.lora)] {
            for Answer { prompt, new, text, .. } in answers {
                let params = GenerateParams::greedy(new.len());
                let mut streamed = String::new();
                let listener = &mut Streamed(&mut streamed);
                let (got, stats) =
                    session.generate(&PromptInput::Text(prompt.clone()), &params, pass, listener).unwrap();
                assert_eq!(got, text, "{shape}, {pass:?}: {} greedy tokens after {prompt:?}", new.len());
                assert_eq!(streamed, text, "{shape}, {pass:?}: the streamed pieces are the whole text");
                assert_eq!(
                    (stats.tokens_generated, stats.finish),
                    (new.len(), FinishReason::Length),
                    "{shape}, {pass:?}: generation ends by the number of tokens, as the reference does"
                );
            }
        }
    }
}
