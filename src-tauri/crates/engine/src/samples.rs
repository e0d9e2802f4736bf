//! What the model in training answers, told while it trains: before the first step and after each evaluation, to the prompts
//! of the first evaluation rows.
//!
//! Training does not know of it: [`Samples`] listens to its events, which come while it waits. Nothing is changed by it, the
//! adapter and every random choice of the run least of all.

use std::io;

use data::{Encoded, Prepared, Tokenizer};
use infer::{ChatSession, InferError, Listener};
use models::{Model, Pass};
use types::{
    GenerateParams, Message, Phase, TrainEvent,
    event::{SAMPLED_ROWS, SAMPLED_TOKENS},
};

/// The longest prompt and answer that are told, in characters.
const TOLD_CHARS: usize = 2000;

/// The prompts that a model in training is asked.
pub struct Samples<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    rows: Vec<Row>,
    /// Whether the answers before the first step are still to be told.
    first: bool,
}

struct Row {
    /// The ids of the prompt, as they are trained on.
    ids: Vec<u32>,
    prompt: String,
    reference: String,
}

impl<'a> Samples<'a> {
    /// Takes the prompts from the first evaluation rows; without any, nothing is ever told. A run that goes on from a
    /// checkpoint has told its first answers before.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn new(
        model: &'a dyn Model,
        tokenizer: &'a Tokenizer,
        prepared: &Prepared,
        resumed: bool,
    ) -> io::Result<Self> {
        let frame = Frame::of(tokenizer);
        let mut rows = Vec::new();
        for index in 0..prepared.eval.len().min(SAMPLED_ROWS) {
            let Encoded { ids, trained, .. } = prepared.eval.read(index)?;
            let Some(last) = trained.iter().rposition(|&trained| trained) else { continue };
            let start = trained.iter().take(last).rposition(|&trained| !trained).map_or(0, |at| at + 1);
            let (prompt, answer) = ids.split_at(start);
            if prompt.is_empty() || prompt.len() >= model.info().context_length {
                continue;
            }
            rows.push(Row {
                prompt: shortened(&frame.unframed(tokenizer, prompt)),
                reference: shortened(tokenizer.decode(answer).trim()),
                ids: prompt.to_vec(),
            });
        }
        Ok(Self { model, tokenizer, rows, first: !resumed })
    }

    /// The step whose answers are due now that training has told `event`.
    pub fn due(&mut self, event: &TrainEvent) -> Option<u64> {
        match event {
            TrainEvent::Phase { phase: Phase::Training } if std::mem::take(&mut self.first) => Some(0),
            TrainEvent::Eval { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// Tells the answers as they are after `step`, or up to where they are not `wanted` any more.
    pub fn tell(&self, step: u64, wanted: &dyn Fn() -> bool, emit: &mut dyn FnMut(TrainEvent)) {
        // A new session each time: what it remembers was computed with the weights of then.
        let mut session = ChatSession::new(self.model, self.tokenizer);
        for row in &self.rows {
            if !wanted() {
                return;
            }
            match self.answer(&mut session, row, wanted) {
                Ok(text) if wanted() => {
                    let (prompt, reference) = (row.prompt.clone(), row.reference.clone());
                    emit(TrainEvent::Sample { step, prompt, text, reference });
                }
                Ok(_) => return,
                // A run is not given up for want of an example.
                Err(error) => {
                    let message = format!("the model gave no answer after step {step}: {error}");
                    return emit(TrainEvent::Warning { message });
                }
            }
        }
    }

    fn answer(
        &self,
        session: &mut ChatSession,
        row: &Row,
        wanted: &dyn Fn() -> bool,
    ) -> Result<String, InferError> {
        let params = GenerateParams::greedy(SAMPLED_TOKENS);
        let (text, _) = session.go_on(row.ids.clone(), &params, Pass::EVAL, &mut Quiet(wanted))?;
        Ok(text.trim().to_owned())
    }
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

    use serde_json::json;
    use train::{Outcome, TrainRun};
    use types::{JobFolder, RunSpec, TrainingConfig, files};

    use super::*;
    use crate::load;

    /// A run on the starter model: bits of its losses, and its samples where there are to be any.
    fn run(sampled: bool, eval_split: f64) -> (Vec<u64>, Vec<(u64, String, String, String)>) {
        let folder = tempfile::tempdir().unwrap();
        let dataset = folder.path().join("rows.jsonl");
        let rows: Vec<String> = (0..20)
            .map(|i| {
                json!({"input": format!("What is box {i}?"), "output": format!("Box {i} is blue.")})
                    .to_string()
            })
            .collect();
        files::write(&dataset, rows.join("\n").as_bytes()).unwrap();
        let request = json!({
            "task": "text-generation", "model_name": "modelforge/starter", "dataset": dataset, "max_steps": 6,
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "eval_steps": 3, "save_steps": 9,
            "lora_r": 4, "lora_dropout": 0.2, "gradient_checkpointing": false, "eval_split": eval_split,
        });
        let spec = RunSpec {
            version: RunSpec::VERSION,
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
        let model = load::model(&spec, &tokenizer).unwrap();
        let mut samples = Samples::new(&*model, &tokenizer, &prepared, false).unwrap();
        let (mut losses, mut told) = (Vec::new(), Vec::new());
        let mut sink = |event: TrainEvent| {
            if let TrainEvent::Step(stats) = &event {
                losses.push(stats.loss.to_bits());
            }
            if let (true, Some(step)) = (sampled, samples.due(&event)) {
                samples.tell(step, &|| true, &mut |event| match event {
                    TrainEvent::Sample { step, prompt, text, reference } => {
                        told.push((step, prompt, text, reference));
                    }
                    other => panic!("only samples are told: {other:?}"),
                });
            }
        };
        let train =
            TrainRun { model: &*model, data: &prepared, config: &spec.config, job: &job, resume: None };
        let outcome = train::run(train, &mut sink, &|| None).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)), "{outcome:?}");
        (losses, told)
    }

    #[test]
    fn answers_are_told_and_leave_every_loss_as_it_was() {
        let (undisturbed, none) = run(false, 0.2);
        let (losses, told) = run(true, 0.2);
        assert!(none.is_empty());
        assert_eq!(losses, undisturbed, "generating must not change a bit of training");
        let steps: Vec<u64> = told.iter().map(|sample| sample.0).collect();
        assert_eq!(steps, [0, 0, 0, 3, 3, 3, 6, 6, 6], "before the first step and after each evaluation");
        for (_, prompt, _, reference) in &told {
            let box_of = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            assert_eq!(prompt, &format!("What is box {}?", box_of(prompt)), "the person's words alone");
            assert_eq!(reference, &format!("Box {} is blue.", box_of(prompt)), "the same row's answer");
        }
        let prompts: Vec<&str> = told.iter().map(|sample| sample.1.as_str()).collect();
        assert_eq!(prompts[..3], prompts[6..], "the same rows each time");
        assert!(told.iter().any(|sample| !sample.2.is_empty()), "the model says something: {told:?}");
    }

    #[test]
    fn without_evaluation_rows_nothing_is_told() {
        let (losses, told) = run(true, 0.0);
        assert_eq!((losses.len(), told.len()), (6, 0));
    }

    #[test]
    fn long_texts_are_told_by_their_end() {
        assert_eq!(shortened("äb"), "äb");
        let long = shortened(&format!("start{}", "é".repeat(TOLD_CHARS)));
        assert_eq!((long.chars().count(), long.starts_with("…é")), (TOLD_CHARS + 1, true));
    }
}
