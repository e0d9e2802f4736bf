//! Models that answer on a card, as a whole, in parts and in few bits, against the same models on the processor. Without a card they are
//! skipped, and say so.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what is skipped is told")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;

use candle_core::{DType, Device};
use data::Tokenizer;
use golden::{Answer, golden, path, relative_distance};
use infer::{BatchPrompt, ChatSession, Decoder, Listener, write_batch};
use models::{CausalLm, Codes, LoadOptions, Pass, Quantise, load_split};
use types::{GenerateParams, Provider, engine::PromptInput};

/// Tiny models whose layers are computed on cards.
const SHAPES: [&str; 3] = ["llama-tied-gqa", "qwen3-sharded-bf16", "mistral-window-f16"];

fn card(test: &str) -> Option<Device> {
    match kernels::card(0) {
        Ok(card) => Some(card),
        Err(error) => {
            println!("SKIPPED {test}: there is no card: {error}");
            None
        }
    }
}

fn load(shape: &str, device: &Device, quantise: Option<Quantise>, left: usize) -> Box<dyn CausalLm> {
    let options = LoadOptions { bf16: false, provider: Provider::Unsloth, device: device.clone() };
    let mut model = load_split(&path(shape), &options, quantise, DType::F32, left).unwrap().causal().unwrap();
    model.load_adapter(&path(shape).join("adapter")).unwrap();
    model
}

/// Logits after a prompt, after each of three more tokens, and after three together.
fn logits(model: &dyn CausalLm, pass: Pass) -> Vec<Vec<f32>> {
    let mut decoder = Decoder::new(model);
    let mut all = vec![decoder.start(&[3, 1, 4, 1, 5, 9, 2, 6], pass, &|| true)];
    for ids in [&[5u32][..], &[3], &[5], &[8, 9, 7]] {
        all.push(decoder.extend(ids, &|| true));
    }
    all.into_iter().map(|row| row.unwrap().unwrap().to_vec1().unwrap()).collect()
}

#[test]
fn a_model_on_a_card_or_half_on_it_computes_what_it_computes_elsewhere() {
    let name = "a_model_on_a_card_or_half_on_it_computes_what_it_computes_elsewhere";
    let Some(card) = card(name) else { return };
    let few = [(Codes::Nf4, true), (Codes::Nf4, false), (Codes::Fp4, false), (Codes::Int8, false)];
    let quantised = few.map(|(codes, nested)| Some(Quantise { codes, nested, bf16: false }));
    for shape in SHAPES {
        for quantise in [None].into_iter().chain(quantised) {
            let here = load(shape, &Device::Cpu, quantise, 0);
            for left in 0..here.info().layers {
                let there = load(shape, &card, quantise, left);
                for pass in [Pass::EVAL, Pass::BASE] {
                    let (got, want) = (logits(there.as_ref(), pass), logits(here.as_ref(), pass));
                    for (step, (got, want)) in got.iter().zip(&want).enumerate() {
                        let apart = relative_distance(got, want);
                        assert!(
                            apart < 2e-4,
                            "{shape}, {quantise:?}, {left} layers left, step {step}: {apart:e} apart"
                        );
                    }
                }
            }
        }
    }
}

struct Quiet;

impl Listener for Quiet {
    fn text(&mut self, _: &str) {}

    fn listens(&self) -> bool {
        true
    }
}

#[test]
fn greedy_text_on_a_card_is_that_of_transformers() {
    let Some(card) = card("greedy_text_on_a_card_is_that_of_transformers") else { return };
    for (shape, left) in SHAPES.iter().flat_map(|shape| [(*shape, 0), (*shape, 1)]) {
        let model = load(shape, &card, None, left);
        let tokenizer = Tokenizer::load(&path(shape)).unwrap();
        let greedy = golden(shape).greedy;
        let mut session = ChatSession::new(&*model, &tokenizer);
        for (pass, answers) in [(Pass::BASE, greedy.base), (Pass::EVAL, greedy.lora)] {
            for Answer { prompt, new, text, .. } in answers {
                let params = GenerateParams::greedy(new.len());
                let input = PromptInput::Text(prompt.clone());
                let (got, _) = session.generate(&input, &params, pass, &mut Quiet).unwrap();
                assert_eq!(got, text, "{shape}, {left} layers left, {pass:?}: after {prompt:?}");
            }
        }
    }
}

#[test]
fn answers_drawn_on_a_card_are_the_same_again() {
    let name = "answers_drawn_on_a_card_are_the_same_again";
    let Some(card) = card(name) else { return };
    for left in [0, 1] {
        let model = load(SHAPES[0], &card, None, left);
        let params = GenerateParams {
            max_new_tokens: 6,
            temperature: 0.9,
            top_p: 0.95,
            repetition_penalty: 1.1,
            ..GenerateParams::default()
        };
        let all: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6, 7, 8, 9]];
        let prompts: Vec<BatchPrompt<'_>> =
            all.iter().zip(5..).map(|(ids, seed)| BatchPrompt { ids, seed }).collect();
        let write = |prompts: &[BatchPrompt<'_>]| {
            write_batch(model.as_ref(), prompts, &params, &[], Pass::EVAL, &|| true).unwrap().unwrap()
        };
        let together = write(&prompts);
        assert_eq!(together, write(&prompts), "the same seeds give the same answers");
        assert!(together.iter().all(|answer| answer.ids.len() == 6), "{together:?}");
    }
}
