//! The model's tokenizer: text to ids and back, its special tokens, and its chat template.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde_json::Value;
use tokenizers::AddedToken;
use types::{
    Message,
    architecture::{self, ModelKind},
};

use crate::{
    encoder_decoder::EncoderDecoder,
    error::DataError,
    model_files,
    template::{ChatTemplate, PLAIN},
    vocabulary_files,
};

/// The largest published tokenizers have about 35 MB.
const MAX_TOKENIZER: u64 = 256 << 20;

/// Special tokens that `tokenizer_config.json` names and chat templates use.
const NAMED_TOKENS: &[&str] =
    &["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// A model's tokenizer with its chat template.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    template: ChatTemplate,
    has_own_template: bool,
    bos: Option<(u32, String)>,
    adds_bos: bool,
    eos: Vec<u32>,
    vocab_size: usize,
    encoder_decoder: Option<EncoderDecoder>,
    points_at_answers: bool,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or the files it would be made from, and as far as they exist `tokenizer_config.json`, `special_tokens_map.json`,
    /// `chat_template.jinja`, `generation_config.json` and `config.json` from a model's folder.
    ///
    /// # Errors
    /// A file that is missing, too large or not what it should be, and a tokenizer with no end-of-sequence token.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let mut inner = load_inner(dir)?;
        let config = model_files::read_json(&dir.join("tokenizer_config.json"))?;
        let map = model_files::read_json(&dir.join("special_tokens_map.json"))?;
        let generation = model_files::read_json(&dir.join("generation_config.json"))?;
        let model = model_files::read_json(&dir.join("config.json"))?;

        let named: Vec<(String, String)> = NAMED_TOKENS
            .iter()
            .filter_map(|&name| {
                let text = token_text(config.get(name)).or_else(|| token_text(map.get(name)))?;
                Some((name.to_owned(), text.to_owned()))
            })
            .collect();
        add_special_tokens(&mut inner, dir, &named)?;
        let id_of = |name: &str| {
            let (_, text) = named.iter().find(|(n, _)| n == name)?;
            Some((inner.token_to_id(text)?, text.clone()))
        };

        let mut eos = Vec::new();
        let from_files = [&generation, &model].into_iter().flat_map(|file| ids(file.get("eos_token_id")));
        // An encoder writes nothing: what ends its texts is what separates them.
        let named_end = id_of("eos_token").or_else(|| id_of("sep_token"));
        for id in from_files.chain(named_end.map(|(id, _)| id)) {
            if !eos.contains(&id) && inner.id_to_token(id).is_some() {
                eos.push(id);
            }
        }
        let Some(&first_eos) = eos.first() else { return Err(DataError::NoEos { dir: dir.into() }) };

        let bos = id_of("bos_token").or_else(|| {
            let id = ids(generation.get("bos_token_id"))
                .into_iter()
                .chain(ids(model.get("bos_token_id")))
                .next()?;
            Some((id, inner.id_to_token(id)?))
        });
        let adds_bos = bos.as_ref().is_some_and(|(id, _)| {
            let by_config = config.get("add_bos_token").and_then(Value::as_bool);
            by_config.unwrap_or_else(|| {
                inner.encode("a", true).is_ok_and(|encoding| encoding.get_ids().first() == Some(id))
            })
        });

        let mut variables = named;
        if !variables.iter().any(|(name, _)| name == "eos_token") {
            variables.extend(inner.id_to_token(first_eos).map(|text| ("eos_token".to_owned(), text)));
        }
        if let (Some((_, text)), false) = (&bos, variables.iter().any(|(name, _)| name == "bos_token")) {
            variables.push(("bos_token".to_owned(), text.clone()));
        }
        let own = ChatTemplate::load(dir, &config, &variables)?;
        let has_own_template = own.is_some();
        let template = match own {
            Some(template) => template,
            None => ChatTemplate::new(PLAIN, "the plain chat template", &variables)?,
        };
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let encoder_decoder = EncoderDecoder::read(dir, &model, &generation)?;
        let points_at_answers = points_at_answers(&model);
        let mut tokenizer = Self {
            inner,
            template,
            has_own_template,
            bos,
            adds_bos,
            eos,
            vocab_size,
            encoder_decoder,
            points_at_answers,
        };
        if tokenizer.encoder_decoder.is_none()
            && !tokenizer.points_at_answers
            && let Some(id) = tokenizer.turn_end()
            && !tokenizer.eos.contains(&id)
        {
            tokenizer.eos.push(id);
        }
        Ok(tokenizer)
    }

    /// The ids of raw text, special tokens in it recognised; begins with the begin-of-sequence token where the model
    /// expects one.
    ///
    /// # Errors
    /// A text with characters the tokenizer has no token for, not even an unknown one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        Ok(self.encode_with_offsets(text)?.ids)
    }

    /// The text of ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(ids, true)
    }

    /// The text of ids, special tokens included.
    pub fn decode_all(&self, ids: &[u32]) -> String {
        self.decode_with(ids, false)
    }

    pub(crate) fn decode_with(&self, ids: &[u32], skip_special: bool) -> String {
        match self.inner.decode(ids, skip_special) {
            Ok(text) => text,
            // A decoder fails only on tokens it did not make; their plain names are the best that is left.
            Err(_) => ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect(),
        }
    }

    /// Every id that ends the model's turn, at least one.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The begin-of-sequence token, if there is one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|(id, _)| *id)
    }

    /// One more than the largest id, which must not be more than the model has embeddings.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether every sequence begins with the begin-of-sequence token.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Every token's text by its id, added ones included.
    pub(crate) fn texts(&self) -> HashMap<u32, String> {
        self.inner.get_vocab(true).into_iter().map(|(text, id)| (id, text)).collect()
    }

    /// Whether an added token is special; `None` for one that is not added.
    pub(crate) fn added(&self, id: u32) -> Option<bool> {
        self.inner.get_added_tokens_decoder().get(&id).map(|token| token.special)
    }

    /// The first token that ends a text, and the one that ends the model's turn in a conversation.
    pub(crate) fn ends(&self) -> (u32, Option<u32>) {
        (self.eos.first().copied().unwrap_or_default(), self.turn_end())
    }

    /// Whether the id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.eos.contains(&id)
            || self.bos_id() == Some(id)
            || self
                .inner
                .get_added_vocabulary()
                .get_added_tokens_decoder()
                .get(&id)
                .is_some_and(|t| t.special)
    }

    /// How an encoder-decoder reads and writes texts; `None` where the model is of another kind.
    pub fn encoder_decoder(&self) -> Option<&EncoderDecoder> {
        self.encoder_decoder.as_ref()
    }

    /// The ids of a text with the tokens that the tokenizer puts around it, and which of them those are.
    pub(crate) fn encode_with_special(&self, text: &str) -> Result<(Vec<u32>, Vec<bool>), DataError> {
        let encoding =
            self.inner.encode(text, true).map_err(|e| DataError::Encode { message: e.to_string() })?;
        let special = encoding.get_special_tokens_mask().iter().map(|&special| special != 0).collect();
        Ok((encoding.get_ids().to_vec(), special))
    }

    /// Whether its model reads a question and a text and points at the answer; others write theirs.
    pub fn points_at_answers(&self) -> bool {
        self.points_at_answers
    }

    /// The chat template in force.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Whether the model brought its chat template; otherwise [`PLAIN`] is in force and must go with a tuned model.
    pub fn has_own_template(&self) -> bool {
        self.has_own_template
    }

    /// The conversation as the model sees it.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        self.template.render(messages, add_generation_prompt)
    }

    /// The ids that a conversation is continued from, up to the start of the assistant's turn.
    ///
    /// # Errors
    /// As [`Tokenizer::render`] and [`Tokenizer::encode`].
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        self.encode(&self.render(messages, true)?)
    }

    /// Ids with the byte range of each in `text`.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<Tokens, DataError> {
        let mut tokens = self.encode_piece(text)?;
        if let (true, Some((id, _))) = (self.adds_bos, &self.bos)
            && tokens.ids.first() != Some(id)
        {
            tokens.ids.insert(0, *id);
            tokens.offsets.insert(0, (0, 0));
        }
        Ok(tokens)
    }

    /// Like [`Tokenizer::encode_with_offsets`] for text that is not at the start of a sequence.
    pub(crate) fn encode_piece(&self, text: &str) -> Result<Tokens, DataError> {
        let encoding =
            self.inner.encode(text, false).map_err(|e| DataError::Encode { message: e.to_string() })?;
        Ok(Tokens { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec() })
    }

    /// Question and text together, with what the tokenizer's post-processor puts around them.
    pub(crate) fn pair_encoding(
        &self,
        question: &str,
        text: &str,
    ) -> Result<tokenizers::Encoding, DataError> {
        self.inner.encode((question, text), true).map_err(|e| DataError::Encode { message: e.to_string() })
    }

    /// The special token the template puts after an answer: the model learns to write it, so generation must stop there.
    fn turn_end(&self) -> Option<u32> {
        const ANSWER: &str = "fine";
        let text = self.render(&[Message::user("hello"), Message::assistant(ANSWER)], false).ok()?;
        let after = text.get(text.rfind(ANSWER)? + ANSWER.len()..)?;
        let first = *self.encode_piece(after.trim_start()).ok()?.ids.first()?;
        self.is_special(first).then_some(first).filter(|&id| Some(id) != self.bos_id())
    }
}

/// Token ids, and where each stands in the text it was made from (bytes, start and end).
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    pub offsets: Vec<(usize, usize)>,
}

fn load_inner(dir: &Path) -> Result<tokenizers::Tokenizer, DataError> {
    let path = dir.join("tokenizer.json");
    if !path.exists() && dir.join("tokenizer.model").exists() {
        let message = "not found; only tokenizer.model is there. Convert it by loading and saving the model's \
                       tokenizer with transformers, which writes tokenizer.json";
        return Err(DataError::model_file(&path, message));
    }
    let described = if path.exists() { None } else { vocabulary_files::described(dir)? };
    let bytes = match described {
        Some(described) => described.to_string().into_bytes(),
        None => model_files::read(&path, MAX_TOKENIZER)?,
    };
    // Some normalizers of the tokenizers crate panic on data that contradicts itself.
    let parsed = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(&bytes)));
    let mut inner = parsed
        .map_err(|_| DataError::model_file(&path, "not a usable tokenizer: its parts contradict each other"))?
        .map_err(|e| DataError::model_file(&path, e))?;
    // A saved tokenizer may still carry the truncation and padding of whoever used it last.
    inner.with_truncation(None).map_err(|e| DataError::model_file(&path, e))?;
    inner.with_padding(None);
    Ok(inner)
}

/// Named special tokens are recognised in text even where tokenizer.json lists them as plain vocabulary.
fn add_special_tokens(
    inner: &mut tokenizers::Tokenizer,
    dir: &Path,
    named: &[(String, String)],
) -> Result<(), DataError> {
    let known = inner.get_added_tokens_decoder();
    let plain: Vec<AddedToken> = named
        .iter()
        .filter(|(_, text)| inner.token_to_id(text).is_some_and(|id| !known.contains_key(&id)))
        .map(|(_, text)| AddedToken::from(text.clone(), true))
        .collect();
    inner
        .add_special_tokens(plain)
        .map(drop)
        .map_err(|e| DataError::model_file(&dir.join("tokenizer_config.json"), e))
}

/// Whether the model that a `config.json` describes points at answers.
fn points_at_answers(config: &Value) -> bool {
    let name = config.get("architectures").and_then(|names| names.get(0)).and_then(Value::as_str);
    name.and_then(architecture::find).is_some_and(|found| found.kind == ModelKind::Span)
}

/// A special token is written as text or as `{"content": …}`.
fn token_text(value: Option<&Value>) -> Option<&str> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).filter(|text| !text.is_empty())
}

/// A token id is written as a number or as a list of numbers.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}
