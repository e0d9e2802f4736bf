//! Many prompts at once: each gets the answer that it gets alone.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

#[path = "../../../../tests/golden/golden.rs"]
mod golden;
#[path = "../../../../tests/golden/place.rs"]
mod place;

use data::Tokenizer;
use golden::{SHAPES, golden, path};
use infer::{BatchPrompt, InferError, Written, write_batch};
use models::{CausalLm, LoadOptions, Pass};
use types::{GenerateParams, Provider, generate::FinishReason};

fn load(shape: &str, provider: Provider, bf16: bool) -> (Box<dyn CausalLm>, Tokenizer) {
    let options = LoadOptions { bf16, provider, device: place::device() };
    let mut model = models::load(&path(shape), &options).unwrap().causal().unwrap();
    model.load_adapter(&path(shape).join("adapter")).unwrap();
    (model, Tokenizer::load(&path(shape)).unwrap())
}

fn write(
    model: &dyn CausalLm,
    prompts: &[(&[u32], u64)],
    params: &GenerateParams,
    stop: &[u32],
    pass: Pass,
) -> Vec<Written> {
    let prompts: Vec<BatchPrompt> = prompts.iter().map(|&(ids, seed)| BatchPrompt { ids, seed }).collect();
    write_batch(model, &prompts, params, stop, pass, &|| true).unwrap().unwrap()
}

#[test]
fn the_same_wherever_it_is_computed() {
    place::everywhere();
}

#[test]
fn greedy_answers_side_by_side_are_those_of_transformers() {
    for (shape, provider) in SHAPES.iter().flat_map(|shape| Provider::ALL.iter().map(move |p| (shape, *p))) {
        let (model, tokenizer) = load(shape, provider, false);
        let greedy = golden(shape).greedy;
        for (pass, answers) in [(Pass::BASE, greedy.base), (Pass::EVAL, greedy.lora)] {
            let longest = answers.iter().map(|answer| answer.new.len()).max().unwrap();
            let ids: Vec<Vec<u32>> = answers.iter().map(|a| tokenizer.encode(&a.prompt).unwrap()).collect();
            let prompts: Vec<(&[u32], u64)> = ids.iter().map(|ids| (ids.as_slice(), 0)).collect();
            let written = write(model.as_ref(), &prompts, &GenerateParams::greedy(longest), &[], pass);
            for (answer, written) in answers.iter().zip(written) {
                let new = &answer.new;
                assert_eq!(
                    written.ids[..new.len()],
                    new[..],
                    "{shape}, {provider}, {pass:?}: {:?}",
                    answer.prompt
                );
            }
        }
    }
}

#[test]
fn a_drawn_answer_does_not_depend_on_its_neighbours() {
    /// About one in six gets so far, whatever is drawn.
    const LONGEST: usize = 6;
    for (shape, provider, bf16) in [
        ("llama-tied-gqa", Provider::Unsloth, false),
        ("qwen3-sharded-bf16", Provider::Unsloth, true),
        ("phi3-longrope", Provider::Huggingface, false),
        ("gemma2", Provider::Unsloth, false),
    ] {
        let (model, _) = load(shape, provider, bf16);
        let prompts: Vec<Vec<u32>> =
            (1..16).map(|n| (0..n * 2 - 1).map(|i| (i * 17 + n) % 250).collect()).collect();
        let asked: Vec<(&[u32], u64)> =
            prompts.iter().zip(10..).map(|(ids, seed)| (ids.as_slice(), seed)).collect();
        let params = GenerateParams {
            max_new_tokens: LONGEST,
            temperature: 0.9,
            top_k: 0,
            top_p: 1.0,
            ..Default::default()
        };
        let stop: Vec<u32> = (0..12).collect();
        let together = write(model.as_ref(), &asked, &params, &stop, Pass::EVAL);
        let lengths: Vec<usize> = together.iter().map(|written| written.ids.len()).collect();
        assert!(
            lengths.iter().any(|&l| l < LONGEST) && lengths.contains(&LONGEST),
            "some end early: {lengths:?}"
        );
        for (place, alone) in asked.iter().enumerate() {
            assert_eq!(
                write(model.as_ref(), &[*alone], &params, &stop, Pass::EVAL)[0],
                together[place],
                "{shape}"
            );
        }
        for written in &together {
            let ended = stop.contains(written.ids.last().unwrap());
            assert_eq!(ended, written.finish == FinishReason::Eos, "an end is told, and its token is kept");
        }
        let other: Vec<(&[u32], u64)> = asked.iter().map(|(ids, seed)| (*ids, seed + 100)).collect();
        assert_ne!(write(model.as_ref(), &other, &params, &stop, Pass::EVAL), together, "another seed");
    }
}

#[test]
fn an_answer_ends_with_the_context_and_bad_input_is_told() {
    let (model, _) = load("llama-tied-gqa", Provider::Unsloth, false);
    let context = model.info().context_length;
    let long: Vec<u32> = (0..context as u32 - 2).map(|i| i % 250).collect();
    let params = GenerateParams::greedy(9);
    let written = write(model.as_ref(), &[(&long, 0), (&[5], 0)], &params, &[], Pass::BASE);
    assert_eq!((written[0].ids.len(), written[0].finish), (2, FinishReason::Context));
    assert_eq!((written[1].ids.len(), written[1].finish), (9, FinishReason::Length));
    let ask = |ids: &[u32], params: &GenerateParams| {
        write_batch(model.as_ref(), &[BatchPrompt { ids, seed: 0 }], params, &[], Pass::BASE, &|| true)
    };
    assert!(matches!(ask(&[], &params), Err(InferError::EmptyPrompt)));
    let full = vec![1; context];
    assert!(matches!(ask(&full, &params), Err(InferError::PromptTooLong { .. })));
    let cold = GenerateParams { temperature: -1.0, ..params.clone() };
    assert!(matches!(ask(&[1], &cold), Err(InferError::Params { field: "temperature", .. })));
    assert!(
        write_batch(model.as_ref(), &[], &params, &[], Pass::BASE, &|| true).unwrap().unwrap().is_empty()
    );
    let prompt = BatchPrompt { ids: &[1], seed: 0 };
    assert_eq!(write_batch(model.as_ref(), &[prompt], &params, &[], Pass::BASE, &|| false).unwrap(), None);
}
