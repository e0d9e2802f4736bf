//! What an encoder-decoder's files say about reading and writing texts: where its decoder starts, what its sources begin with,
//! how it writes; and rows laid out for it.

use std::path::Path;

use serde_json::Value;
use types::{
    Message, Role, Task,
    architecture::{self, ModelKind},
};

use crate::{
    encode::Encoded,
    error::DataError,
    example::{Example, SUMMARIZE},
    tokenizer::Tokenizer,
};

/// What an encoder-decoder's files say.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDecoder {
    /// The token that every target begins with.
    pub start: u32,
    /// What a text to summarize begins with, such as T5's `summarize: `.
    pub prefix: String,
    /// How summaries are written.
    pub summaries: Writing,
    /// How any other text is written.
    pub texts: Writing,
}

/// How a text is written, by the names and meanings of transformers' `generation_config.json`. Lengths count the token that
/// the decoder starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Writing {
    /// Texts that the search follows at a time; 1 takes token by token.
    pub num_beams: usize,
    /// A finished text's score is divided by its length to the power of this.
    pub length_penalty: f32,
    /// Runs of so many tokens come once; 0 allows any.
    pub no_repeat_ngram_size: usize,
    /// No end before so many tokens.
    pub min_length: usize,
    /// The most tokens.
    pub max_length: Option<usize>,
    /// When the search is over.
    pub early_stopping: EarlyStopping,
    /// The first token.
    pub forced_bos: Option<u32>,
    /// The last token of a text that reaches its greatest length.
    pub forced_eos: Option<u32>,
}

/// When a search that follows several texts is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlyStopping {
    /// Once as many texts are finished as are followed.
    Yes,
    /// Once a longer text seems unlikely to be better.
    No,
    /// Once no longer text can be better.
    Never,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            num_beams: 1,
            length_penalty: 1.0,
            no_repeat_ngram_size: 0,
            min_length: 0,
            max_length: None,
            early_stopping: EarlyStopping::No,
            forced_bos: None,
            forced_eos: None,
        }
    }
}

impl EncoderDecoder {
    /// From `config.json` and `generation_config.json`; `None` for a model of another kind.
    ///
    /// # Errors
    /// A value that makes no sense, or no token to start from.
    pub(crate) fn read(dir: &Path, config: &Value, generation: &Value) -> Result<Option<Self>, DataError> {
        let named = config.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
        if named.and_then(architecture::find).is_none_or(|family| family.kind != ModelKind::Seq2Seq) {
            return Ok(None);
        }
        let path = dir.join("config.json");
        let start =
            [config, generation].into_iter().find_map(|file| token(file.get("decoder_start_token_id")));
        let Some(start) = start else {
            let message =
                "field \"decoder_start_token_id\" is missing: the decoder has nothing to start from";
            return Err(DataError::model_file(&path, message));
        };
        let mut texts = Writing::default();
        // What is in generation_config.json counts; older models have it in config.json.
        for file in [config, generation] {
            texts.read(file).map_err(|message| DataError::model_file(&path, message))?;
        }
        let own = config.get("task_specific_params").and_then(|tasks| tasks.get("summarization"));
        let mut summaries = texts.clone();
        let mut prefix = config.get("prefix").and_then(Value::as_str).unwrap_or_default();
        if let Some(own) = own {
            summaries.read(own).map_err(|message| DataError::model_file(&path, message))?;
            prefix = own.get("prefix").and_then(Value::as_str).unwrap_or(prefix);
        }
        Ok(Some(Self { start, prefix: prefix.to_owned(), summaries, texts }))
    }

    /// The text that the encoder reads for a conversation, and how the answer is written. A prompt to summarize
    /// ([`prompt_for`](crate::prompt_for)) is put as the model's own files say, and what was said before it has no part in
    /// it; the turns of any other conversation are joined.
    pub fn source(&self, messages: &[Message]) -> (String, &Writing) {
        if let Some(document) = messages.last().and_then(|last| last.content.strip_prefix(SUMMARIZE)) {
            return (format!("{}{document}", self.prefix), &self.summaries);
        }
        let turns: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
        (turns.join("\n\n"), &self.texts)
    }
}

impl Writing {
    /// Takes over what a file says.
    fn read(&mut self, file: &Value) -> Result<(), String> {
        let whole = |field: &str, range: std::ops::RangeInclusive<u64>| match file.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| range.contains(n)) {
                Some(n) => Ok(Some(n as usize)),
                None => {
                    let (from, to) = (range.start(), range.end());
                    Err(format!(
                        "field \"{field}\" must be a whole number between {from} and {to}, not {value}"
                    ))
                }
            },
        };
        const LONGEST: u64 = 1 << 24;
        if let Some(beams) = whole("num_beams", 1..=64)? {
            self.num_beams = beams;
        }
        if let Some(size) = whole("no_repeat_ngram_size", 0..=LONGEST)? {
            self.no_repeat_ngram_size = size;
        }
        if let Some(length) = whole("min_length", 0..=LONGEST)? {
            self.min_length = length;
        }
        if let Some(length) = whole("max_length", 2..=LONGEST)? {
            self.max_length = Some(length);
        }
        match file.get("length_penalty") {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_f64().filter(|penalty| penalty.abs() <= 100.0) {
                Some(penalty) => self.length_penalty = penalty as f32,
                None => {
                    return Err(format!(
                        "field \"length_penalty\" must be a number within ±100, not {value}"
                    ));
                }
            },
        }
        match file.get("early_stopping") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(true)) => self.early_stopping = EarlyStopping::Yes,
            Some(Value::Bool(false)) => self.early_stopping = EarlyStopping::No,
            Some(Value::String(never)) if never == "never" => self.early_stopping = EarlyStopping::Never,
            Some(value) => {
                return Err(format!(
                    "field \"early_stopping\" must be true, false or \"never\", not {value}"
                ));
            }
        }
        self.forced_bos = token(file.get("forced_bos_token_id")).or(self.forced_bos);
        self.forced_eos = token(file.get("forced_eos_token_id")).or(self.forced_eos);
        Ok(())
    }
}

/// A token id is written as a number or as a list of numbers, of which the first counts.
fn token(value: Option<&Value>) -> Option<u32> {
    let value = value?;
    let value = value.as_array().map_or(Some(value), |list| list.first())?;
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl Tokenizer {
    /// The ids of a source or of an answer with the tokens that the model's tokenizer puts around a text, at most `max_len` of
    /// them: of a text that is too long the end is left out, but not what stands after it. Beside them, how many are left out.
    ///
    /// # Errors
    /// A text that cannot be encoded, and a length without room for a token of it.
    pub fn encode_framed(&self, text: &str, max_len: usize) -> Result<(Vec<u32>, usize), DataError> {
        let (mut ids, special) = self.encode_with_special(text)?;
        let before = special.iter().take_while(|&&special| special).count();
        let after = special.iter().skip(before).rev().take_while(|&&special| special).count();
        let left_out = ids.len().saturating_sub(max_len);
        if left_out > 0 {
            let overhead = before + after;
            if max_len <= overhead {
                return Err(DataError::NoRoom { max_len, overhead });
            }
            let end = ids.len() - after;
            ids.drain(end - left_out..end);
        }
        Ok((ids, left_out))
    }

    /// A row for an encoder-decoder: source and target have at most `max_len` ids each, the target's start aside.
    ///
    /// # Errors
    /// As [`encode_framed`](Self::encode_framed).
    pub fn encode_pair(
        &self,
        model: &EncoderDecoder,
        example: &Example,
        task: Task,
        max_len: usize,
    ) -> Result<Encoded, DataError> {
        let mut messages = example.to_messages(task);
        let answer = messages.pop().filter(|last| last.role == Role::Assistant);
        let answer = answer.map(|message| message.content).unwrap_or_default();
        let (source, source_cut) = self.encode_framed(&model.source(&messages).0, max_len)?;
        let (target, target_cut) = self.encode_framed(answer.trim(), max_len)?;
        let mut ids = vec![model.start];
        ids.extend(target);
        let mut trained = vec![true; ids.len()];
        trained[0] = false;
        Ok(Encoded { ids, trained, source, cut_tokens: source_cut + target_cut, ..Encoded::default() })
    }
}
