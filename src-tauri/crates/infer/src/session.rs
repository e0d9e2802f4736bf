//! One conversation after another with one model.

use std::time::Instant;

use data::{TextStream, Tokenizer};
use models::{Model, ModelView, Pass};
use types::{GenerateParams, GenerateStats, engine::PromptInput, generate::FinishReason};

use crate::{Decoder, InferError, Sampler, StopText, extract::point, writer::PairWriter};

/// Whoever an answer is for.
pub trait Listener {
    /// Takes the next piece of the answer: whole characters only.
    fn text(&mut self, piece: &str);

    /// Whether the answer is still wanted. Asked before every layer, while the prompt is computed too.
    fn listens(&self) -> bool;
}

/// What computes the next token.
enum Writer<'m> {
    Causal(Decoder<'m>),
    Pairs(PairWriter<'m>),
    /// The model writes no text.
    None,
}

/// Generates text; what the next prompt has in common with the last one is not computed again.
pub struct ChatSession<'m> {
    model: &'m dyn Model,
    tokenizer: &'m Tokenizer,
    writer: Writer<'m>,
}

impl<'m> ChatSession<'m> {
    /// A session with nothing said yet.
    pub fn new(model: &'m dyn Model, tokenizer: &'m Tokenizer) -> Self {
        let writer = match (model.view(), tokenizer.encoder_decoder()) {
            (ModelView::Causal(model), _) => Writer::Causal(Decoder::new(model)),
            (ModelView::Seq2Seq(model), Some(format)) => {
                Writer::Pairs(PairWriter { model, tokenizer, format })
            }
            (ModelView::Seq2Seq(_) | ModelView::Span(_), _) => Writer::None,
        };
        ChatSession { model, tokenizer, writer }
    }

    /// Answers `input`. The listener is given the answer in pieces as it comes, and ends it by not listening any more.
    ///
    /// # Errors
    /// When a setting is out of range, or the prompt is empty or fills the model's context.
    pub fn generate(
        &mut self,
        input: &PromptInput,
        params: &GenerateParams,
        pass: Pass,
        listener: &mut dyn Listener,
    ) -> Result<(String, GenerateStats), InferError> {
        if let ModelView::Span(model) = self.model.view() {
            let asked = match input {
                PromptInput::Messages(messages) => messages.last().map_or("", |message| &message.content),
                PromptInput::Text(text) => text,
            };
            return point(model, self.tokenizer, asked, params, pass, listener);
        }
        if let Writer::Pairs(writer) = &self.writer {
            let (source, writing) = match input {
                PromptInput::Messages(messages) => writer.format.source(messages),
                PromptInput::Text(text) => (text.clone(), &writer.format.texts),
            };
            let (ids, _) = self.tokenizer.encode_framed(&source, usize::MAX)?;
            return writer.write(&ids, writing, params, pass, listener);
        }
        let ids = match input {
            PromptInput::Messages(messages) => self.tokenizer.encode_prompt(messages)?,
            PromptInput::Text(text) => self.tokenizer.encode(text)?,
        };
        self.go_on(ids, params, pass, listener)
    }

    /// Goes on after `ids`, as [`generate`](Self::generate) does after the ids of its prompt; an encoder-decoder answers to
    /// them.
    ///
    /// # Errors
    /// When a setting is out of range, or there are no ids or so many that they fill the model's context.
    pub fn go_on(
        &mut self,
        mut ids: Vec<u32>,
        params: &GenerateParams,
        pass: Pass,
        listener: &mut dyn Listener,
    ) -> Result<(String, GenerateStats), InferError> {
        let decoder = match &mut self.writer {
            Writer::Causal(decoder) => decoder,
            Writer::Pairs(writer) => return writer.write(&ids, &writer.format.texts, params, pass, listener),
            Writer::None => return Err(InferError::WritesNothing(self.model.info().architecture.clone())),
        };
        if let Some((field, problem)) = params.problems().into_iter().next() {
            return Err(InferError::Params { field, problem });
        }
        let (prompt, context) = (ids.len(), self.model.info().context_length);
        if prompt == 0 {
            return Err(InferError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(InferError::PromptTooLong { prompt, context });
        }
        let started = Instant::now();
        let mut logits = decoder.start(&ids, pass, &|| listener.listens())?;
        let prefill = started.elapsed();

        let mut sampler = Sampler::new(params);
        let mut stream = TextStream::new(self.tokenizer);
        let mut output = Output::new(params, listener);
        let finish = loop {
            let Some(known) = logits else { break FinishReason::Cancelled };
            let id = sampler.choose_from(&known, &ids)?;
            if self.tokenizer.eos_ids().contains(&id) {
                break FinishReason::Eos;
            }
            ids.push(id);
            if let Some(piece) = stream.push(id) {
                output.push(&piece);
            }
            if output.stop.stopped() {
                break FinishReason::Stop;
            }
            if ids.len() - prompt == params.max_new_tokens {
                break FinishReason::Length;
            }
            if ids.len() == context {
                break FinishReason::Context;
            }
            logits = decoder.extend(&[id], &|| output.listener.listens())?;
        };
        let rest = stream.finish();
        let finish = output.finish(&rest, finish);
        let stats = GenerateStats {
            prompt_tokens: prompt,
            tokens_generated: ids.len() - prompt,
            prefill_ms: prefill.as_millis() as u64,
            generation_time_ms: started.elapsed().as_millis() as u64,
            finish,
            span: None,
        };
        Ok((output.text, stats))
    }
}

/// The text that has been let through.
pub(crate) struct Output<'a> {
    pub stop: StopText,
    pub text: String,
    pub listener: &'a mut dyn Listener,
}

impl<'a> Output<'a> {
    /// No text yet.
    pub fn new(params: &GenerateParams, listener: &'a mut dyn Listener) -> Self {
        Output { stop: StopText::new(&params.stop), text: String::new(), listener }
    }

    /// Takes more text.
    pub fn push(&mut self, piece: &str) {
        let sure = self.stop.push(piece);
        self.tell(&sure);
    }

    fn tell(&mut self, text: &str) {
        self.text.push_str(text);
        if !text.is_empty() {
            self.listener.text(text);
        }
    }

    /// Lets the last text through; a stop string may still be found in it.
    pub fn finish(&mut self, rest: &str, reason: FinishReason) -> FinishReason {
        if matches!(reason, FinishReason::Cancelled | FinishReason::Stop) {
            return reason;
        }
        self.push(rest);
        if self.stop.stopped() {
            return FinishReason::Stop;
        }
        let held = self.stop.finish();
        self.tell(&held);
        reason
    }
}
