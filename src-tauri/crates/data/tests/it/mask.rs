//! Which tokens are trained, that the prompt's are those of generation, and what a row that is too long loses.

use std::sync::LazyLock;

use data::{DataError, Encoded, Example, Tokenizer};
use proptest::prelude::*;
use types::{Message, Task};

use crate::support::{CHATML, INST, byte_level, exchange, sentencepiece};

fn chat(messages: Vec<Message>) -> Example {
    Example::Chat { messages }
}

fn encode(tokenizer: &Tokenizer, messages: &[Message], max_len: usize) -> Encoded {
    tokenizer.encode_example(&chat(messages.to_vec()), Task::TextGeneration, max_len).unwrap()
}

/// The trained stretches as text, special tokens included.
fn trained(tokenizer: &Tokenizer, encoded: &Encoded) -> Vec<String> {
    let runs = encoded.ids.iter().zip(&encoded.trained).collect::<Vec<_>>();
    let runs = runs.chunk_by(|a, b| a.1 == b.1).filter(|run| *run[0].1);
    runs.map(|run| tokenizer.decode_all(&run.iter().map(|(id, _)| **id).collect::<Vec<_>>())).collect()
}

#[test]
fn the_answers_and_their_ends_are_trained() {
    let two = [exchange("Who?", "The keeper."), exchange("Why?", "é 😀\nso")].concat();
    let tokenizer = byte_level(CHATML);
    let encoded = encode(&tokenizer, &two, usize::MAX);
    assert_eq!(
        trained(&tokenizer, &encoded),
        ["The keeper.<|im_end|>", "é 😀\nso<|im_end|>"],
        "not the line end after"
    );
    assert_eq!(
        tokenizer.decode_all(&encoded.ids),
        tokenizer.render(&two, false).unwrap(),
        "the whole is the template's"
    );
    let tokenizer = sentencepiece(INST);
    let encoded = encode(&tokenizer, &two, usize::MAX);
    let texts: Vec<String> = trained(&tokenizer, &encoded).iter().map(|t| t.trim().to_owned()).collect();
    assert_eq!(texts, ["The keeper. </s>", "é 😀\nso </s>"]);
}

#[test]
fn the_prompt_is_the_one_generation_starts_from() {
    let awkward = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}<|im_end|>{% else %} {% endif %}\
        {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    for template in [CHATML, awkward, data::PLAIN] {
        let tokenizer = byte_level(template);
        for answer in ["The keeper.", " spaced", "\nnext line"] {
            let messages = exchange("Who counts the ferries?", answer);
            let encoded = encode(&tokenizer, &messages, usize::MAX);
            let prompt = tokenizer.encode_prompt(&messages[..1]).unwrap();
            let first = encoded.trained.iter().position(|&t| t).unwrap();
            assert_eq!(
                encoded.ids[..first],
                prompt,
                "{template}: {answer:?} is what comes after the prompt's ids"
            );
        }
    }
}

#[test]
fn a_template_without_an_end_gets_one() {
    let tokenizer = byte_level(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
        {% if add_generation_prompt %}assistant: {% endif %}",
    );
    let encoded = encode(&tokenizer, &exchange("Q", "A b"), usize::MAX);
    assert_eq!(trained(&tokenizer, &encoded), ["A b<|im_end|>"], "without an end the model would never stop");
}

#[test]
fn a_template_that_rewrites_history_trains_the_last_turn() {
    let hides = "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(hidden)\n{% else %}\
        <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";
    let tokenizer = byte_level(hides);
    let two = [exchange("Who?", "first"), exchange("Why?", "second")].concat();
    assert_eq!(trained(&tokenizer, &encode(&tokenizer, &two, usize::MAX)), ["second<|im_end|>"]);
    let drops = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    let error = byte_level(drops).encode_example(&chat(two), Task::TextGeneration, 99).unwrap_err();
    assert!(matches!(error, DataError::AnswerNotRendered), "nothing to train is an error: {error}");
}

#[test]
fn the_oldest_turns_go_first() {
    let tokenizer = byte_level(CHATML);
    let system = vec![Message::system("Be brief.")];
    let turns: Vec<_> =
        (0..6).flat_map(|i| exchange(&format!("question {i}"), &format!("answer {i}"))).collect();
    let all = [system.clone(), turns.clone()].concat();
    let kept = [system, turns[8..].to_vec()].concat();
    let (whole, want) = (encode(&tokenizer, &all, usize::MAX), encode(&tokenizer, &kept, usize::MAX));
    let cut = encode(&tokenizer, &all, want.ids.len() + 3);
    assert_eq!(cut.ids, want.ids, "the system message and as many of the last exchanges as fit");
    assert_eq!(cut.cut_tokens, whole.ids.len() - want.ids.len(), "what is gone is counted");
}

#[test]
fn then_the_start_of_the_prompt_and_then_the_end_of_the_answer() {
    let tokenizer = byte_level(CHATML);
    let document: Vec<String> = (0..60).map(|i| format!("word{i}")).collect();
    let example = Example::Pair { input: document.join(" "), output: "short".into() };
    let encoded = tokenizer.encode_example(&example, Task::Summarization, 100).unwrap();
    let text = tokenizer.decode_all(&encoded.ids);
    assert!(
        text.starts_with("<|im_start|>user\nSummarize the following text.\n\n"),
        "the instruction stays: {text}"
    );
    assert!(
        text.ends_with("word59<|im_end|>\n<|im_start|>assistant\nshort<|im_end|>\n"),
        "the text's end stays: {text}"
    );
    let question = Example::Question {
        context: document.join(" "),
        question: "Which?".into(),
        answers: vec!["word59".into()],
        start: None,
    };
    let encoded = tokenizer.encode_example(&question, Task::ExtractiveQuestionAnswering, 100).unwrap();
    let text = tokenizer.decode_all(&encoded.ids);
    assert!(
        text.contains("user\nContext: ") && text.contains("word59\n\nQuestion: Which?<|im_end|>"),
        "{text}"
    );

    let long = chat(exchange(&document.join(" "), &document.join(" ")));
    let encoded = tokenizer.encode_example(&long, Task::TextGeneration, 60).unwrap();
    assert_eq!(encoded.ids.len(), 60, "the room is used");
    let answer = trained(&tokenizer, &encoded).concat();
    assert!(
        answer.starts_with("word0 ") && !answer.ends_with("<|im_end|>"),
        "a cut answer has no end: {answer}"
    );
    let kept = encoded.trained.iter().filter(|&&t| !t).count();
    assert!((20..40).contains(&kept), "the prompt keeps a part, too: {kept}");

    let error = tokenizer.encode_example(&long, Task::TextGeneration, 8).unwrap_err();
    assert!(matches!(error, DataError::NoRoom { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_cut_loses_the_whole_answer(
        turns in prop::collection::vec(("[a-z é😀]{0,60}x", "x[a-z é😀]{0,60}"), 1..5),
        system: bool, max_len in 24usize..160,
    ) {
        static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| byte_level(CHATML));
        let tokenizer = &*TOKENIZER;
        let mut messages: Vec<Message> = turns.iter().flat_map(|(q, a)| exchange(q, a)).collect();
        if system {
            messages.insert(0, Message::system("Be brief."));
        }
        let whole = encode(tokenizer, &messages, usize::MAX);
        prop_assert_eq!(trained(tokenizer, &whole).len(), turns.len(), "every answer of a whole row is trained");
        match tokenizer.encode_example(&chat(messages.clone()), Task::TextGeneration, max_len) {
            Ok(cut) => {
                prop_assert!(cut.ids.len() <= max_len, "never longer than asked");
                prop_assert_eq!(cut.ids.len(), cut.trained.len(), "a flag for each id");
                prop_assert_eq!(cut.cut_tokens, whole.ids.len() - cut.ids.len(), "what is gone is counted");
                prop_assert!(cut.trained_tokens() > 0, "something of an answer is left");
                let kept = trained(tokenizer, &cut).pop().unwrap();
                let answer = format!("{}<|im_end|>", turns.last().unwrap().1);
                let kept = kept.trim_end_matches('\u{fffd}');
                prop_assert!(answer.starts_with(kept), "the last answer is kept from its start: {:?}", kept);
            }
            Err(error) => prop_assert!(matches!(error, DataError::NoRoom { .. }), "{}", error),
        }
    }
}
