//! Answers of an encoder-decoder: the prompt is its source, the answer a target that begins anew.

use std::time::Instant;

use candle_core::Result;
use data::{EncoderDecoder, TextStream, Tokenizer, Writing};
use models::{Pass, Seq2SeqLm};
use types::{GenerateParams, GenerateStats, generate::FinishReason};

use crate::{
    InferError, Listener, Sampler,
    beam::{self, Growing},
    rules::Rules,
    session::Output,
    target::Targets,
};

/// Writes the answers of one model.
pub(crate) struct PairWriter<'m> {
    pub model: &'m dyn Seq2SeqLm,
    pub tokenizer: &'m Tokenizer,
    pub format: &'m EncoderDecoder,
}

impl PairWriter<'_> {
    /// The answer to a source. One that is searched for comes as a whole, one that is written token by token as it is written.
    ///
    /// # Errors
    /// As [`ChatSession::generate`](crate::ChatSession::generate).
    pub fn write(
        &self,
        source: &[u32],
        writing: &Writing,
        params: &GenerateParams,
        pass: Pass,
        listener: &mut dyn Listener,
    ) -> std::result::Result<(String, GenerateStats), InferError> {
        if let Some((field, problem)) = params.problems().into_iter().next() {
            return Err(InferError::Params { field, problem });
        }
        let context = self.model.info().context_length;
        match source.len() {
            0 => return Err(InferError::EmptyPrompt),
            prompt if prompt > context => {
                return Err(InferError::PromptTooLong { prompt, context: context + 1 });
            }
            _ => {}
        }
        let started = Instant::now();
        let targets = Targets::read(self.model, source, pass, &|| listener.listens())?;
        let prefill = started.elapsed();

        let own = params.max_new_tokens.saturating_add(1);
        let max_length = own.min(writing.max_length.unwrap_or(own)).min(context).max(2);
        let rules = Rules { writing, max_length, eos: self.tokenizer.eos_ids() };
        let beams = if params.num_beams == 0 { writing.num_beams } else { params.num_beams };
        let mut output = Output::new(params, listener);
        let (tokens_generated, finish) = match targets {
            None => (0, FinishReason::Cancelled),
            Some(targets) if beams > 1 => self.search(targets, beams, &rules, params, &mut output)?,
            Some(targets) => self.one_by_one(targets, &rules, params, &mut output)?,
        };
        let stats = GenerateStats {
            prompt_tokens: source.len(),
            tokens_generated,
            prefill_ms: prefill.as_millis() as u64,
            generation_time_ms: started.elapsed().as_millis() as u64,
            finish,
            span: None,
        };
        Ok((output.text, stats))
    }

    fn search(
        &self,
        mut targets: Targets<'_>,
        beams: usize,
        rules: &Rules<'_>,
        params: &GenerateParams,
        output: &mut Output<'_>,
    ) -> std::result::Result<(usize, FinishReason), InferError> {
        let sampler = Sampler::new(params);
        let mut growing = Wanted { targets: &mut targets, wanted: &|| output.listener.listens() };
        let Some(mut ids) = beam::search(&mut growing, self.format.start, beams, rules, &sampler)? else {
            return Ok((0, FinishReason::Cancelled));
        };
        ids.remove(0);
        let ended = ids.last().is_some_and(|last| rules.eos.contains(last));
        if ended {
            ids.pop();
        }
        let finish = if ended { FinishReason::Eos } else { FinishReason::Length };
        let text = self.tokenizer.decode(&ids);
        Ok((ids.len(), output.finish(&text, finish)))
    }

    fn one_by_one(
        &self,
        mut targets: Targets<'_>,
        rules: &Rules<'_>,
        params: &GenerateParams,
        output: &mut Output<'_>,
    ) -> std::result::Result<(usize, FinishReason), InferError> {
        let mut sampler = Sampler::new(params);
        let mut stream = TextStream::new(self.tokenizer);
        let mut ids = vec![self.format.start];
        let finish = loop {
            let last = ids.last().copied().unwrap_or(self.format.start);
            let logits = targets.push(&[last], &|| output.listener.listens())?;
            let Some(mut logits) = logits.and_then(|rows| rows.into_iter().next()) else {
                break FinishReason::Cancelled;
            };
            rules.apply(&ids, &mut logits);
            let id = sampler.choose(logits, &ids)?;
            if rules.eos.contains(&id) {
                break FinishReason::Eos;
            }
            ids.push(id);
            if let Some(piece) = stream.push(id) {
                output.push(&piece);
            }
            if output.stop.stopped() {
                break FinishReason::Stop;
            }
            if rules.ends(ids.len(), id) {
                break FinishReason::Length;
            }
        };
        let rest = stream.finish();
        Ok((ids.len() - 1, output.finish(&rest, finish)))
    }
}

/// Targets, and whether anybody waits for them.
struct Wanted<'a, 'm> {
    targets: &'a mut Targets<'m>,
    wanted: &'a dyn Fn() -> bool,
}

impl Growing for Wanted<'_, '_> {
    fn push(&mut self, ids: &[u32]) -> Result<Option<Vec<Vec<f32>>>> {
        self.targets.push(ids, self.wanted)
    }

    fn select(&mut self, parents: &[usize]) -> Result<()> {
        self.targets.select(parents)
    }
}
