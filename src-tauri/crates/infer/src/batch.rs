//! Answers to many prompts at once: their prompts are computed together, and then one token of each at a time, so that the
//! weights are read once for all of them.

use candle_core::{Result, Tensor};
use models::{CausalLm, LayerCache, Pass};
use types::{GenerateParams, generate::FinishReason};

use crate::{InferError, Sampler};

/// Tokens of prompts that are computed together, where there are several.
const TOGETHER: usize = 2048;

/// What is to be answered.
#[derive(Debug, Clone, Copy)]
pub struct BatchPrompt<'a> {
    /// Ids to go on from, at least one.
    pub ids: &'a [u32],
    /// Seed of this answer's choices.
    pub seed: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The ids that were chosen; the last is a stop token where `finish` is [`FinishReason::Eos`].
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Answers all `prompts`, each until one of `stop_ids`, the most tokens that `params` allows, or the end of the context. The
/// seed is that of the prompt, and stop strings are not looked for. An answer does not depend on what else is answered. `None`
/// once `wanted`, which is asked before every layer, says no.
///
/// # Errors
/// A setting is out of range, a prompt is empty or fills the model's context, or the model computes no numbers.
pub fn write_batch(
    model: &dyn CausalLm,
    prompts: &[BatchPrompt<'_>],
    params: &GenerateParams,
    stop_ids: &[u32],
    pass: Pass,
    wanted: &dyn Fn() -> bool,
) -> std::result::Result<Option<Vec<Written>>, InferError> {
    if let Some((field, problem)) = params.problems().into_iter().next() {
        return Err(InferError::Params { field, problem });
    }
    let context = model.info().context_length;
    for prompt in prompts {
        match prompt.ids.len() {
            0 => return Err(InferError::EmptyPrompt),
            prompt if prompt >= context => return Err(InferError::PromptTooLong { prompt, context }),
            _ => {}
        }
    }
    if prompts.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut growing = Growing::new(model, prompts, params, pass);
    let mut written: Vec<Option<Written>> = vec![None; prompts.len()];
    // First of each of the answers that go on: what follows its prompt.
    let Some(mut logits) = growing.read(wanted)? else { return Ok(None) };
    while !growing.answers.is_empty() {
        let mut ended = Vec::new();
        let mut rows: Vec<(&mut Sampler, &[u32])> =
            growing.answers.iter_mut().map(|answer| (&mut answer.sampler, answer.ids.as_slice())).collect();
        let chosen = Sampler::choose_each(&logits, &mut rows)?;
        for (answer, id) in growing.answers.iter_mut().zip(chosen) {
            answer.ids.push(id);
            let new = answer.ids.len() - answer.prompt;
            let finish = if stop_ids.contains(&id) {
                Some(FinishReason::Eos)
            } else if new >= params.max_new_tokens {
                Some(FinishReason::Length)
            } else if answer.ids.len() >= context {
                Some(FinishReason::Context)
            } else {
                None
            };
            if let Some(finish) = finish {
                let ids = answer.ids.split_off(answer.prompt);
                if let Some(place) = written.get_mut(answer.place) {
                    *place = Some(Written { ids, finish });
                }
            }
            ended.push(finish.is_some());
        }
        growing.drop_ended(&ended);
        if growing.answers.is_empty() {
            break;
        }
        match growing.step(wanted)? {
            Some(next) => logits = next,
            None => return Ok(None),
        }
    }
    Ok(written.into_iter().collect())
}

/// An answer that is being written.
struct Answer {
    /// Which prompt's.
    place: usize,
    /// Prompt and answer so far.
    ids: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    sampler: Sampler,
}

/// Answers that go on, and what the layers remember of each.
struct Growing<'m> {
    model: &'m dyn CausalLm,
    pass: Pass,
    answers: Vec<Answer>,
    /// Of each layer, a cache for each answer.
    caches: Vec<Vec<LayerCache>>,
}

impl<'m> Growing<'m> {
    fn new(
        model: &'m dyn CausalLm,
        prompts: &[BatchPrompt<'_>],
        params: &GenerateParams,
        pass: Pass,
    ) -> Self {
        let answer = |(place, prompt): (usize, &BatchPrompt<'_>)| Answer {
            place,
            ids: prompt.ids.to_vec(),
            prompt: prompt.ids.len(),
            sampler: Sampler::new(&GenerateParams { seed: prompt.seed, ..params.clone() }),
        };
        Growing {
            model,
            pass,
            answers: prompts.iter().enumerate().map(answer).collect(),
            caches: vec![vec![LayerCache::default(); prompts.len()]; model.info().layers],
        }
    }

    /// Computes the prompts, as many together as have few tokens; logits after each, `[answers, vocab]`.
    fn read(&mut self, wanted: &dyn Fn() -> bool) -> Result<Option<Tensor>> {
        let mut logits = Vec::new();
        let together = TOGETHER.max(self.model.tokens_at_once());
        let mut from = 0;
        while from < self.answers.len() {
            let (mut to, mut tokens) = (from, 0);
            while to < self.answers.len() && (to == from || tokens + self.answers[to].prompt <= together) {
                tokens += self.answers[to].prompt;
                to += 1;
            }
            let ids = self.answers[from..to].iter().map(|answer| answer.ids.clone()).collect();
            match self.compute(from, ids, wanted)? {
                Some(rows) => logits.push(rows),
                None => return Ok(None),
            }
            from = to;
        }
        Ok(Some(Tensor::cat(&logits, 0)?))
    }

    /// Computes the token that each answer was given last; logits after it.
    fn step(&mut self, wanted: &dyn Fn() -> bool) -> Result<Option<Tensor>> {
        let mut next = Vec::with_capacity(self.answers.len());
        for (i, answer) in self.answers.iter().enumerate() {
            let now = answer.ids.len();
            // Where the positions of long sequences differ, what was computed of a short one is of no more use.
            let from = if self.model.keeps_cache(now - 1, now) { now - 1 } else { 0 };
            if from == 0 {
                self.caches.iter_mut().for_each(|of_layer| of_layer[i].truncate(0));
            }
            next.push(answer.ids[from..].to_vec());
        }
        self.compute(0, next, wanted)
    }

    /// The next ids of the answers from place `from` on; logits after the last id of each.
    fn compute(
        &mut self,
        from: usize,
        next: Vec<Vec<u32>>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Tensor>> {
        let lengths: Vec<usize> = next.iter().map(Vec::len).collect();
        let mut hidden = self.model.embed(&Tensor::new(next.concat(), self.model.device())?)?;
        for (index, caches) in self.caches.iter_mut().enumerate() {
            if !wanted() {
                return Ok(None);
            }
            let caches = &mut caches[from..from + lengths.len()];
            hidden = self.model.layer_of_many(index, &hidden, &lengths, self.pass, caches)?;
        }
        let mut end = 0;
        let mut last = Vec::with_capacity(lengths.len());
        for length in &lengths {
            end += length;
            last.push(end as u32 - 1);
        }
        if let [only] = last.as_slice() {
            // Products of a single row are summed in another order than those of several.
            last.push(*only);
        }
        let last = Tensor::new(last, self.model.device())?;
        let hidden = self.model.final_norm(&hidden.index_select(&last, 0)?)?;
        self.model.logits(&hidden)?.narrow(0, 0, lengths.len()).map(Some)
    }

    /// Forgets the answers that have ended.
    fn drop_ended(&mut self, ended: &[bool]) {
        let mut flags = ended.iter();
        self.answers.retain(|_| flags.next() != Some(&true));
        for of_layer in &mut self.caches {
            let mut flags = ended.iter();
            of_layer.retain(|_| flags.next() != Some(&true));
        }
    }
}
