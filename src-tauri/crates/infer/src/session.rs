//! One conversation after another with one model.

use std::time::Instant;

use data::{TextStream, Tokenizer};
use models::{CausalLm, Pass};
use types::{GenerateParams, GenerateStats, engine::PromptInput, generate::FinishReason};

use crate::{Decoder, InferError, Sampler, StopText};

/// Generates text; what the next prompt has in common with the last one is not computed again.
pub struct ChatSession<'m> {
    model: &'m dyn CausalLm,
    tokenizer: &'m Tokenizer,
    decoder: Decoder<'m>,
}

impl<'m> ChatSession<'m> {
    /// A session with nothing said yet.
    pub fn new(model: &'m dyn CausalLm, tokenizer: &'m Tokenizer) -> Self {
        ChatSession { model, tokenizer, decoder: Decoder::new(model) }
    }

    /// Answers `input`. `on_text` is given the answer in pieces of whole characters as it comes, and ends it by
    /// returning false.
    ///
    /// # Errors
    /// When a setting is out of range, or the prompt is empty or fills the model's context.
    pub fn generate(
        &mut self,
        input: &PromptInput,
        params: &GenerateParams,
        pass: Pass,
        on_text: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(String, GenerateStats), InferError> {
        if let Some((field, problem)) = params.problems().into_iter().next() {
            return Err(InferError::Params { field, problem });
        }
        let mut ids = match input {
            PromptInput::Messages(messages) => self.tokenizer.encode_prompt(messages)?,
            PromptInput::Text(text) => self.tokenizer.encode(text)?,
        };
        let (prompt, context) = (ids.len(), self.model.info().context_length);
        if prompt == 0 {
            return Err(InferError::EmptyPrompt);
        }
        if prompt >= context {
            return Err(InferError::PromptTooLong { prompt, context });
        }
        let started = Instant::now();
        let mut logits = self.decoder.start(&ids, pass)?;
        let prefill = started.elapsed();

        let mut sampler = Sampler::new(params);
        let mut stream = TextStream::new(self.tokenizer);
        let mut output = Output { stop: StopText::new(&params.stop), text: String::new(), on_text };
        let finish = loop {
            let id = sampler.choose(logits, &ids)?;
            if self.tokenizer.eos_ids().contains(&id) {
                break FinishReason::Eos;
            }
            ids.push(id);
            let wanted = stream.push(id).is_none_or(|piece| output.push(&piece));
            if output.stop.stopped() {
                break FinishReason::Stop;
            }
            if !wanted {
                break FinishReason::Cancelled;
            }
            if ids.len() - prompt == params.max_new_tokens {
                break FinishReason::Length;
            }
            if ids.len() == context {
                break FinishReason::Context;
            }
            logits = self.decoder.extend(&[id])?;
        };
        let rest = stream.finish();
        let finish = output.finish(&rest, finish);
        let stats = GenerateStats {
            prompt_tokens: prompt,
            tokens_generated: ids.len() - prompt,
            prefill_ms: prefill.as_millis() as u64,
            generation_time_ms: started.elapsed().as_millis() as u64,
            finish,
        };
        Ok((output.text, stats))
    }
}

/// The text that has been let through.
struct Output<'a> {
    stop: StopText,
    text: String,
    on_text: &'a mut dyn FnMut(&str) -> bool,
}

impl Output<'_> {
    /// Takes a piece; false once the listener has had enough.
    fn push(&mut self, piece: &str) -> bool {
        let sure = self.stop.push(piece);
        self.tell(&sure)
    }

    fn tell(&mut self, text: &str) -> bool {
        self.text.push_str(text);
        text.is_empty() || (self.on_text)(text)
    }

    /// Lets the last text through; a stop string may still be found in it.
    fn finish(&mut self, rest: &str, reason: FinishReason) -> FinishReason {
        if matches!(reason, FinishReason::Cancelled | FinishReason::Stop) {
            return reason;
        }
        let wanted = self.push(rest);
        if self.stop.stopped() {
            return FinishReason::Stop;
        }
        let held = self.stop.finish();
        if wanted {
            self.tell(&held);
        }
        reason
    }
}
