//! What the model in training answers to evaluation rows, before the first step and at each evaluation: the first answers are
//! told, and as many as the settings say are scored. [`train`] asks for them, and scores them.
//!
//! Nothing is changed by it, the adapter and every random choice of the run least of all.

use std::error::Error;

use data::{Encoded, Example, Prepared, TokenRows, Tokenizer};
use infer::{ChatSession, InferError, Listener};
use models::{Model, ModelView, Pass};
use train::{Answer, TrainError, metrics::Answered};
use types::{
    GenerateParams, Message, RunSpec, Task,
    engine::PromptInput,
    event::{SAMPLED_ROWS, SAMPLED_TOKENS, SCORED_TOKENS},
};

use crate::EngineError;

/// The longest prompt and answer that are told, in characters.
const TOLD_CHARS: usize = 2000;

/// The rows that a model in training is asked.
pub struct Answers<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    rows: Vec<Row>,
    /// The longest answer in tokens.
    max_tokens: usize,
}

struct Row {
    ask: Ask,
    prompt: String,
    reference: String,
    /// The answers that count as right.
    accepted: Vec<String>,
}

/// How a model is asked.
enum Ask {
    /// By the ids of the prompt, as they are trained on.
    Ids(Vec<u32>),
    /// By the question and its text, which it may read in several windows.
    Question(PromptInput),
}

impl<'a> Answers<'a> {
    /// Takes the first evaluation rows, which a seeded split has mixed.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn new(
        model: &'a dyn Model,
        tokenizer: &'a Tokenizer,
        prepared: &Prepared,
        spec: &RunSpec,
    ) -> Result<Self, EngineError> {
        let task = spec.config.task;
        let scored = spec.config.scored_answers();
        let points = matches!(model.view(), ModelView::Span(_));
        let asked = first_rows(&prepared.eval, scored.max(SAMPLED_ROWS));
        let known = if points { asked.len() } else { scored };
        let numbers: Vec<u64> = asked.iter().take(known).map(|(_, number)| *number).collect();
        let path = spec.eval_dataset_path.as_deref().unwrap_or(&spec.dataset_path);
        let mut examples = data::examples_at(path, task, spec.config.strategy, &numbers)?;

        let frame = Frame::of(tokenizer);
        let (mut rows, mut longest) = (Vec::new(), 0);
        for (index, number) in asked {
            let example = examples.remove(&number);
            let row = if points {
                example.map(|example| question(&example, task))
            } else {
                let encoded = prepared.eval.read(index).map_err(TrainError::Rows)?;
                parts(&encoded).filter(|(prompt, _)| fits(prompt, model)).map(|(prompt, answer)| {
                    longest = longest.max(answer.len());
                    let answer = tokenizer.decode(answer).trim().to_owned();
                    Row {
                        ask: Ask::Ids(prompt.to_vec()),
                        prompt: shortened(&frame.unframed(tokenizer, prompt)),
                        reference: shortened(&answer),
                        // What was trained on may be cut.
                        accepted: example.map_or_else(|| vec![answer], |example| accepted(&example)),
                    }
                })
            };
            rows.extend(row);
        }
        let most = if scored > 0 { SCORED_TOKENS } else { SAMPLED_TOKENS };
        Ok(Self { model, tokenizer, rows, max_tokens: longest.clamp(SAMPLED_TOKENS, most) })
    }

    /// How many rows are answered at an evaluation.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    fn answer_row(
        &self,
        session: &mut ChatSession,
        row: &Row,
        wanted: &dyn Fn() -> bool,
    ) -> Result<String, InferError> {
        let params = GenerateParams::greedy(self.max_tokens);
        let (text, _) = match &row.ask {
            Ask::Ids(ids) => session.go_on(ids.clone(), &params, Pass::EVAL, &mut Quiet(wanted))?,
            Ask::Question(input) => session.generate(input, &params, Pass::EVAL, &mut Quiet(wanted))?,
        };
        Ok(text.trim().to_owned())
    }
}

impl train::Answers for Answers<'_> {
    fn answer(&self, wanted: &dyn Fn() -> bool, each: &mut dyn FnMut(Answer)) -> Result<(), Box<dyn Error>> {
        // A new session each time: what it remembers was computed with the weights of then.
        let mut session = ChatSession::new(self.model, self.tokenizer);
        for row in &self.rows {
            let text = self.answer_row(&mut session, row, wanted)?;
            if !wanted() {
                break;
            }
            let (prompt, reference) = (row.prompt.clone(), row.reference.clone());
            each(Answer { prompt, reference, scored: Answered { text, accepted: row.accepted.clone() } });
        }
        Ok(())
    }
}

/// Places of the first `count` rows of a dataset among its sequences, each with its number; a row can have several sequences,
/// which follow each other.
fn first_rows(rows: &TokenRows, count: usize) -> Vec<(usize, u64)> {
    let mut found: Vec<(usize, u64)> = (0..rows.len()).filter_map(|i| Some((i, rows.number(i)?))).collect();
    found.dedup_by_key(|(_, number)| *number);
    found.truncate(count);
    found
}

/// Ids of what is asked and of the last answer.
fn parts(encoded: &Encoded) -> Option<(&[u32], &[u32])> {
    let Encoded { ids, trained, source, .. } = encoded;
    let last = trained.iter().rposition(|&trained| trained)?;
    let start = trained.iter().take(last).rposition(|&trained| !trained).map_or(0, |at| at + 1);
    let (before, answer) = ids.split_at(start);
    // An encoder-decoder is asked by its source.
    Some((if source.is_empty() { before } else { source }, answer))
}

fn fits(prompt: &[u32], model: &dyn Model) -> bool {
    !prompt.is_empty() && prompt.len() < model.info().context_length
}

/// A row for a model that points at answers.
fn question(example: &Example, task: Task) -> Row {
    let messages = example.prompt_messages(task);
    let accepted = accepted(example);
    Row {
        prompt: shortened(messages.last().map_or("", |message| message.content.trim())),
        reference: shortened(accepted.first().map_or("", |answer| answer.trim())),
        ask: Ask::Question(PromptInput::Messages(messages)),
        accepted,
    }
}

fn accepted(example: &Example) -> Vec<String> {
    example.answers().into_iter().map(str::to_owned).collect()
}

/// Takes no pieces, only the whole.
struct Quiet<'a>(&'a dyn Fn() -> bool);

impl Listener for Quiet<'_> {
    fn text(&mut self, _: &str) {}

    fn listens(&self) -> bool {
        (self.0)()
    }
}

/// What the chat template puts around the person's words.
struct Frame {
    before: String,
    after: String,
}

impl Frame {
    /// Found by putting a word into it; empty where it does not come out again.
    fn of(tokenizer: &Tokenizer) -> Self {
        const WORD: &str = "here";
        let rendered = tokenizer.encode_prompt(&[Message::user(WORD)]).map(|ids| tokenizer.decode_all(&ids));
        let parts = rendered.ok().and_then(|text| {
            text.rsplit_once(WORD).map(|(before, after)| (before.to_owned(), after.to_owned()))
        });
        let (before, after) = parts.unwrap_or_default();
        Self { before, after }
    }

    /// The person's words of a prompt; all of its text where the frame is another one.
    fn unframed(&self, tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let text = tokenizer.decode_all(ids);
        let inner = text.strip_prefix(&self.before).and_then(|text| text.strip_suffix(&self.after));
        inner.map_or_else(|| tokenizer.decode(ids), str::to_owned).trim().to_owned()
    }
}

/// Its end, where a text is too long to be told.
fn shortened(text: &str) -> String {
    match text.char_indices().rev().nth(TOLD_CHARS - 1) {
        Some((at, _)) if at > 0 => format!("…{}", text.get(at..).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};
    use train::{Outcome, Summary, TrainRun, metrics};
    use types::{JobFolder, Phase, TrainEvent, TrainingConfig, files};

    use super::*;
    use crate::load;

    /// A run of 6 steps on the starter model and these rows: its events but the steps, bits of its losses, and how it ended.
    fn run(rows: &[Value], changes: Value, answered: bool) -> (Vec<TrainEvent>, Vec<u64>, Summary) {
        let folder = tempfile::tempdir().unwrap();
        let dataset = folder.path().join("rows.jsonl");
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        files::write(&dataset, lines.join("\n").as_bytes()).unwrap();
        let mut request = json!({
            "task": "text-generation", "model_name": "modelforge/starter", "dataset": dataset, "max_steps": 6,
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "eval_steps": 3, "save_steps": 9,
            "lora_r": 4, "lora_dropout": 0.2, "gradient_checkpointing": false,
        });
        request.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let spec = RunSpec {
            version: RunSpec::VERSION,
            expected: None,
            finish_after: None,
            job_id: String::new(),
            model_id: String::new(),
            config: TrainingConfig::from_json(request.as_object().unwrap()).unwrap(),
            base_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../resources/starter"),
            dataset_path: dataset,
            eval_dataset_path: None,
            model_dir: folder.path().join("model"),
            created_at: String::new(),
        };
        let job = JobFolder::new(folder.path());
        let (tokenizer, prepared) = load::data(&spec, &job.tokens()).unwrap();
        let model = load::model(&spec, &tokenizer, false, &mut |_| {}).unwrap();
        let answers = Answers::new(&*model, &tokenizer, &prepared, &spec).unwrap();
        let (mut events, mut losses) = (Vec::new(), Vec::new());
        let mut sink = |event: TrainEvent| match event {
            TrainEvent::Step(stats) => losses.push(stats.loss.to_bits()),
            event => events.push(event),
        };
        let train = TrainRun {
            model: &*model,
            data: &prepared,
            config: &spec.config,
            job: &job,
            resume: None,
            answers: answered.then_some(&answers as &dyn train::Answers),
        };
        match train::run(train, &mut sink, &|| None).unwrap() {
            Outcome::Finished(summary) => (events, losses, summary),
            other => panic!("the run must finish, not {other:?}"),
        }
    }

    fn boxes() -> Vec<Value> {
        let row = |i| json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")});
        (0..20).map(row).collect()
    }

    /// Step, prompt, text and reference of every sample.
    fn samples(events: &[TrainEvent]) -> Vec<(u64, &str, &str, &str)> {
        let sample = |event| match event {
            &TrainEvent::Sample { step, ref prompt, ref text, ref reference } => {
                Some((step, prompt.as_str(), text.as_str(), reference.as_str()))
            }
            _ => None,
        };
        events.iter().filter_map(sample).collect()
    }

    #[test]
    fn answers_are_told_and_leave_every_loss_as_it_was() {
        let (silent, undisturbed, _) = run(&boxes(), json!({}), false);
        let (events, losses, summary) = run(&boxes(), json!({}), true);
        let told = samples(&events);
        assert!(samples(&silent).is_empty());
        assert_eq!(losses, undisturbed, "generating must not change a bit of training");
        let steps: Vec<u64> = told.iter().map(|sample| sample.0).collect();
        assert_eq!(steps, [0, 0, 0, 3, 3, 3, 6, 6, 6], "before the first step and at each evaluation");
        for (_, prompt, _, reference) in &told {
            let box_of = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            assert_eq!(*prompt, format!("What is box {}?", box_of(prompt)), "the person's words alone");
            assert_eq!(*reference, format!("Box {} is blue.", box_of(prompt)), "the same row's answer");
        }
        let prompts: Vec<&str> = told.iter().map(|sample| sample.1).collect();
        assert_eq!(prompts[..3], prompts[6..], "the same rows each time");
        assert!(told.iter().any(|sample| !sample.2.is_empty()), "the model says something: {told:?}");
        let names: Vec<&str> = summary.metrics.keys().map(String::as_str).collect();
        assert_eq!(names, ["eval_loss", "final_loss", "perplexity"], "free text has no score of answers");
        assert_eq!(summary.answered_rows, None);
    }

    #[test]
    fn without_evaluation_rows_nothing_is_told() {
        let (events, losses, summary) = run(&boxes(), json!({"eval_split": 0.0}), true);
        assert_eq!((losses.len(), samples(&events).len()), (6, 0));
        assert!(summary.base_metrics.is_empty());
    }

    /// Every evaluation's step, scored rows and metrics.
    fn evals(events: &[TrainEvent]) -> Vec<(u64, Option<u64>, &std::collections::BTreeMap<String, f64>)> {
        let eval = |event| match event {
            &TrainEvent::Eval { step, ref metrics, answered_rows } => Some((step, answered_rows, metrics)),
            _ => None,
        };
        events.iter().filter_map(eval).collect()
    }

    #[test]
    fn answers_to_questions_are_scored_by_every_accepted_one() {
        let row = |i: usize| {
            json!({"context": format!("The key of box {i} is in the red drawer."), "question": format!("Where is key {i}?"),
                "answers": {"text": ["in the red drawer", "red drawer"], "answer_start": [0, 0]}})
        };
        let rows: Vec<Value> = (0..20).map(row).collect();
        let settings =
            json!({"task": "extractive-question-answering", "eval_answers": 3, "learning_rate": 0.01});
        let (events, _, summary) = run(&rows, settings, true);
        let phases = events.iter().filter_map(|event| match event {
            TrainEvent::Phase { phase } => Some(*phase),
            _ => None,
        });
        let (evaluating, training) = (Phase::Evaluating, Phase::Training);
        assert_eq!(phases.collect::<Vec<_>>(), [evaluating, training, evaluating, training, evaluating]);
        let evals = evals(&events);
        assert_eq!(
            evals.iter().map(|eval| (eval.0, eval.1)).collect::<Vec<_>>(),
            [0, 3, 6].map(|step| (step, Some(3)))
        );
        for (step, _, metrics) in &evals {
            let answers: Vec<Answered> = samples(&events)
                .iter()
                .filter(|sample| sample.0 == *step)
                .map(|sample| Answered {
                    text: sample.2.into(),
                    accepted: vec!["in the red drawer".into(), "red drawer".into()],
                })
                .collect();
            let task = Some(types::Task::ExtractiveQuestionAnswering);
            let want = metrics::measure(&metrics::Measured { task, answers: &answers, ..Default::default() });
            assert_eq!(answers.len(), 3);
            for name in ["exact_match", "f1"] {
                assert_eq!(metrics[name], want[name], "{name} after step {step} is that of the answers told");
            }
        }
        assert_eq!(&summary.base_metrics, evals[0].2, "the base model's scores are kept beside");
        let named = |name: &str| summary.metrics[name] == evals[2].2[name];
        assert!(named("f1") && named("eval_loss"), "the run's are those of the last evaluation");
        assert_eq!(summary.answered_rows, Some(3));
    }

    #[test]
    fn summaries_are_scored_by_the_whole_reference_and_no_more_rows_than_asked() {
        let words = "lamp ferry harbour keeper book window table drawer key box ".repeat(4);
        let row =
            |i: usize| json!({"document": format!("{i} {words}"), "summary": format!("{words} end{i}")});
        let rows: Vec<Value> = (0..12).map(row).collect();
        let settings =
            json!({"task": "summarization", "max_seq_length": 48, "eval_answers": 2, "max_steps": 3});
        let (events, _, summary) = run(&rows, settings.clone(), true);
        assert_eq!(summary.answered_rows, Some(2), "fewer than the rows there are");
        let reference = samples(&events)[0].3;
        assert!(!reference.contains("end"), "the row was cut: {reference}");
        let (_, answered, metrics) = evals(&events)[0];
        assert_eq!(answered, Some(2));
        let told = samples(&events);
        let recall_free = told[..2].iter().map(|sample| {
            let number = sample.1.split_whitespace().find_map(|word| word.parse::<usize>().ok());
            // The start of the document, with the number, may be cut off: then any row's reference does, as all are alike.
            let accepted = vec![format!("{words} end{}", number.unwrap_or(0))];
            metrics::rouge::Rouge::One.score(&Answered { text: sample.2.into(), accepted }).unwrap()
        });
        let want = recall_free.sum::<f64>() / 2.0;
        assert!(
            (metrics["rouge1"] - want).abs() < 1e-12,
            "{} is scored by the reference as it is in the file",
            want
        );
        let mut none = settings;
        none["eval_answers"] = json!(0);
        let (events, _, summary) = run(&rows, none, true);
        assert_eq!(
            (summary.answered_rows, samples(&events).len()),
            (None, 4),
            "answers to the two rows that there are are told all the same, before the first step and at the end"
        );
        assert!(!summary.metrics.contains_key("rouge1"));
    }

    #[test]
    fn long_texts_are_told_by_their_end() {
        assert_eq!(shortened("äb"), "äb");
        let long = shortened(&format!("start{}", "é".repeat(TOLD_CHARS)));
        assert_eq!((long.chars().count(), long.starts_with("…é")), (TOLD_CHARS + 1, true));
    }
}
