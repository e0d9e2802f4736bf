//! Two answers to one prompt: what is counted, that both see the same prompt, and what is wrong with a row.

use data::{DataError, Encoded, Example, PrepareOptions, Prepared, Tokenizer, prepare};
use types::{Message, Strategy, Task, dataset::RowForm};

use crate::support::{CHATML, byte_level, exchange, file};

fn preference(prompt: &[Message], chosen: &str, rejected: &str) -> Example {
    Example::Preference {
        prompt: prompt.to_vec(),
        chosen: vec![Message::assistant(chosen)],
        rejected: vec![Message::assistant(rejected)],
    }
}

fn encode(tokenizer: &Tokenizer, example: &Example, max_len: usize) -> (Encoded, Encoded) {
    let mut chosen = tokenizer.encode_example(example, Task::TextGeneration, max_len).unwrap();
    let rejected = *chosen.rejected.take().unwrap();
    (chosen, rejected)
}

fn parts(tokenizer: &Tokenizer, encoded: &Encoded) -> (String, String) {
    let first = encoded.trained.iter().position(|&t| t).unwrap();
    let last = encoded.trained.iter().rposition(|&t| t).unwrap();
    assert!(encoded.trained[first..=last].iter().all(|&t| t), "one stretch");
    (tokenizer.decode_all(&encoded.ids[..first]), tokenizer.decode_all(&encoded.ids[first..=last]))
}

#[test]
fn only_the_answers_are_counted() {
    let tokenizer = byte_level(CHATML);
    let prompt = [exchange("Who?", "The keeper."), vec![Message::user("Why?")]].concat();
    let (chosen, rejected) = encode(&tokenizer, &preference(&prompt, "Kindly so.", "No."), usize::MAX);
    let (before, answer) = parts(&tokenizer, &chosen);
    assert_eq!(answer, "Kindly so.<|im_end|>", "not the answer in the prompt");
    assert_eq!(parts(&tokenizer, &rejected), (before, "No.<|im_end|>".to_owned()), "the same prompt");
    assert_eq!(chosen.ids[..20], rejected.ids[..20]);
}

#[test]
fn both_answers_see_the_same_prompt_when_it_is_cut() {
    let tokenizer = byte_level(CHATML);
    let long: String = (0..60).map(|i| format!("word{i} ")).collect();
    let prompt = [exchange("Who?", "The keeper."), vec![Message::user(&long)]].concat();
    for (chosen, rejected) in [("yes", long.as_str()), (long.as_str(), "no"), ("yes", "no")] {
        let example = preference(&prompt, chosen, rejected);
        let (chosen, rejected) = encode(&tokenizer, &example, 90);
        assert!(chosen.ids.len().max(rejected.ids.len()) <= 90, "both fit");
        let (before, after) = (parts(&tokenizer, &chosen), parts(&tokenizer, &rejected));
        assert_eq!(before.0, after.0, "a likelihood is compared after one prompt only");
        assert!(chosen.cut_tokens > 0 && rejected.cut_tokens > 0);
    }
}

fn prepared(rows: &str, strategy: Strategy) -> Result<Prepared, DataError> {
    let (folder, path) = file("a.jsonl", rows);
    let options = PrepareOptions {
        dataset: &path,
        eval_dataset: None,
        task: Task::TextGeneration,
        strategy,
        max_seq_length: None,
        context_length: 512,
        length_cap: None,
        eval_split: 0.5,
        packing: false,
        skip_bad_rows: false,
        seed: 42,
        tokens_dir: folder.path(),
    };
    prepare(&options, &byte_level(CHATML), &mut |_| {})
}

#[test]
fn a_pair_is_one_row_and_the_longest_answer_tells_the_length() {
    let rows = "{\"prompt\": \"p\", \"chosen\": \"a longer answer\", \"rejected\": \"b\"}\n".repeat(4);
    for strategy in [Strategy::Dpo, Strategy::Rlhf] {
        let data = prepared(&rows, strategy).unwrap();
        assert_eq!((data.train.len(), data.eval.len()), (2, 2), "pairs stay together in the split");
        let row = data.train.read(0).unwrap();
        let rejected = row.rejected.as_ref().unwrap();
        assert_eq!(data.max_seq_length, row.ids.len(), "each answer is a sequence of its own");
        assert_eq!(data.train.length(0), row.ids.len() + rejected.ids.len());
        let trained = row.trained_tokens() as u64;
        assert_eq!(
            (data.stats.trained_tokens_per_epoch, data.stats.form),
            (2 * trained, Some(RowForm::Preference))
        );
        assert!(trained > rejected.trained_tokens() as u64, "tokens of both answers are counted");
    }
}

#[test]
fn a_bad_pair_is_told_with_its_line() {
    let good = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
    for (bad, words) in [
        (r#"{"prompt": "p", "chosen": "c", "rejected": "c"}"#, "the same as \"chosen\""),
        (r#"{"prompt": "p", "chosen": "", "rejected": "c"}"#, "\"chosen\" is empty"),
        (r#"{"prompt": "p", "chosen": "c"}"#, "missing field \"rejected\""),
    ] {
        let error = prepared(&format!("{good}\n{bad}\n{good}\n"), Strategy::Dpo).unwrap_err().to_string();
        assert!(error.contains("line 2: ") && error.contains(words), "{bad}: {error}");
    }
    let single = r#"{"instruction": "i", "output": "o"}"#;
    let error = prepared(single, Strategy::Dpo).unwrap_err().to_string();
    assert!(error.contains("They need prompt, chosen and rejected"), "{error}");
    assert!(prepared(&format!("{single}\n{single}\n"), Strategy::Rlhf).is_ok(), "prompts for a policy");
}
