//! Answers of a policy with what is needed to learn from them.

use candle_core::{Result, Tensor, bail};
use data::{Batch, IGNORED};
use models::{CausalLm, Model, ModelView, Pass};
use rayon::prelude::*;

use super::Judge;
use crate::{batches::JOINED_TOKENS, chain::chain};

/// Logits held at a time where entropies are computed: 16 MB.
const LOGITS: usize = 1 << 22;

/// A row to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What is before the row's last answer.
    pub prompt: Vec<u32>,
    /// That answer.
    pub own: Vec<u32>,
}

/// The rows of batches: of each sequence the last run of tokens that are trained is its answer.
pub(crate) fn asked(batches: &[Batch]) -> Vec<Asked> {
    let mut found = Vec::new();
    for batch in batches {
        let mut first = 0;
        for &length in &batch.lengths {
            let (ids, targets) = (&batch.ids[first..first + length], &batch.targets[first..first + length]);
            first += length;
            let Some(last) = targets.iter().rposition(|&target| target != IGNORED) else { continue };
            let before = targets[..last].iter().rposition(|&target| target == IGNORED).map_or(0, |at| at + 1);
            // Position `i` predicts token `i + 1`.
            found.push(Asked { prompt: ids[..=before].to_vec(), own: ids[before + 1..=last + 1].to_vec() });
        }
    }
    found
}

/// An answer of the policy. What is told of its tokens is in lists as long as the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    /// Prompt and answer.
    pub ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    pub score: f64,
    /// Of the policy that wrote it.
    pub log_probs: Vec<f64>,
    /// Of the base model.
    pub reference: Vec<f64>,
    pub entropies: Vec<f64>,
    /// Of the policy's scalar head, where it has one.
    pub values: Vec<f64>,
    pub advantages: Vec<f64>,
    /// What the values ought to have been.
    pub returns: Vec<f64>,
}

impl Answer {
    /// Tokens of the answer.
    pub fn len(&self) -> usize {
        self.ids.len() - self.prompt
    }

    /// How far the policy is from the base over the whole answer, by the first estimator.
    pub fn kl(&self) -> f64 {
        self.log_probs.iter().zip(&self.reference).map(|(p, q)| super::kl::k1(*p, *q)).sum()
    }
}

/// Answers laid end to end, those of their tokens trained that the policy wrote.
pub(crate) fn batch_of<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Batch {
    let mut batch = Batch::default();
    for answer in answers {
        let trained: Vec<bool> = (0..answer.ids.len()).map(|at| at >= answer.prompt).collect();
        batch.push(&answer.ids, &trained);
    }
    batch
}

/// Places of answers that are computed together: as many as have few tokens.
pub(crate) fn joined(answers: &[Answer], places: &[usize]) -> Vec<Vec<usize>> {
    let mut joined: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for &place in places {
        let own = answers[place].ids.len();
        match joined.last_mut() {
            Some(last) if tokens + own <= JOINED_TOKENS => last.push(place),
            _ => {
                joined.push(vec![place]);
                tokens = 0;
            }
        }
        tokens += own;
    }
    joined
}

/// What fills in an answer.
pub(crate) struct Reader<'a> {
    pub model: &'a dyn Model,
    pub judge: &'a Judge,
    pub temperature: f64,
    /// Whether the policy has a scalar head.
    pub values: bool,
}

impl Reader<'_> {
    fn causal(&self) -> Result<&dyn CausalLm> {
        match self.model.view() {
            ModelView::Causal(model) => Ok(model),
            ModelView::Seq2Seq(_) | ModelView::Span(_) => {
                bail!("only decoder-only models learn from rewards")
            }
        }
    }

    /// Log-probabilities, entropies, values, and scores where the model is the judge.
    pub fn read(&self, answers: &mut [Answer]) -> Result<()> {
        let model = self.causal()?;
        for places in joined(answers, &(0..answers.len()).collect::<Vec<_>>()) {
            let batch = batch_of(places.iter().map(|&place| &answers[place]));
            let hidden = self.hidden(&batch, Pass::EVAL)?;
            let log_probs = self.log_probs(model, &hidden, &batch)?;
            let entropies = entropies(model, &hidden, &batch, self.temperature)?;
            let values = match self.values {
                true => counted(&model.score(&hidden, Pass::EVAL)?.to_vec1()?, &batch),
                false => vec![Vec::new(); places.len()],
            };
            let reference = self.log_probs(model, &self.hidden(&batch, Pass::BASE)?, &batch)?;
            let scores = match self.judge {
                Judge::Model => {
                    let scores: Vec<f32> =
                        model.score(&self.hidden(&batch, Pass::SECOND)?, Pass::SECOND)?.to_vec1()?;
                    ends(&batch).into_iter().map(|end| Some(f64::from(scores[end]))).collect()
                }
                Judge::Pattern(_) | Judge::OwnAnswer => vec![None; places.len()],
            };
            let told = log_probs.into_iter().zip(entropies).zip(values).zip(reference).zip(scores);
            for (place, ((((log_probs, entropies), values), reference), score)) in places.iter().zip(told) {
                let answer = &mut answers[*place];
                (answer.log_probs, answer.entropies, answer.values) = (log_probs, entropies, values);
                answer.reference = reference;
                answer.score = score.unwrap_or(answer.score);
            }
        }
        Ok(())
    }

    fn log_probs(&self, model: &dyn CausalLm, hidden: &Tensor, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        let all = model.token_log_probs_at(hidden, &batch.targets, self.temperature)?;
        Ok(counted(&all.to_vec1()?, batch))
    }

    /// Hidden states after the last layer and its norm; nothing is kept for a backward pass.
    fn hidden(&self, batch: &Batch, pass: Pass) -> Result<Tensor> {
        let chain = chain(self.model, batch);
        let mut state = chain.start()?;
        for index in 0..chain.len() {
            state = chain.layer(index, &state, pass)?.iter().map(Tensor::detach).collect();
        }
        Ok(chain.end(&state)?.detach())
    }
}

/// Of a number for each token, those that predict tokens of answers, by answer.
fn counted(all: &[f32], batch: &Batch) -> Vec<Vec<f64>> {
    let mut first = 0;
    let each = batch.lengths.iter().map(|&length| {
        let own = first..first + length;
        first = own.end;
        let counted = batch.targets[own.clone()].iter().zip(&all[own]);
        counted.filter(|(target, _)| **target != IGNORED).map(|(_, value)| f64::from(*value)).collect()
    });
    each.collect()
}

/// The place of the token that ends each answer. What a template writes after it is not the answer's: a policy that answers stops
/// at this token, so only here are a row and an answer scored alike.
pub(crate) fn ends(batch: &Batch) -> Vec<usize> {
    let mut first = 0;
    let each = batch.lengths.iter().map(|&length| {
        let own = first..first + length;
        first = own.end;
        let targets = &batch.targets[own.clone()];
        // A target is the token after its place.
        targets.iter().rposition(|target| *target != IGNORED).map_or(own.end - 1, |last| own.start + last + 1)
    });
    each.collect()
}

/// `−Σ p log p` of what each token of the answers was drawn from, by answer.
fn entropies(
    model: &dyn CausalLm,
    hidden: &Tensor,
    batch: &Batch,
    temperature: f64,
) -> Result<Vec<Vec<f64>>> {
    let rows: Vec<u32> =
        (0u32..).zip(&batch.targets).filter(|(_, target)| **target != IGNORED).map(|(row, _)| row).collect();
    let mut all = vec![0f32; batch.targets.len()];
    for rows in rows.chunks((LOGITS / model.info().vocab_size).max(1)) {
        let chosen = hidden.index_select(&Tensor::new(rows, hidden.device())?, 0)?;
        let logits: Vec<Vec<f32>> = model.logits(&chosen)?.to_vec2()?;
        let told: Vec<f32> = logits.par_iter().map(|logits| entropy(logits, temperature) as f32).collect();
        rows.iter().zip(told).for_each(|(row, entropy)| all[*row as usize] = entropy);
    }
    Ok(counted(&all, batch))
}

fn entropy(logits: &[f32], temperature: f64) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut total, mut weighted) = (0.0, 0.0);
    for logit in logits {
        let below = f64::from(logit - most) / temperature;
        let share = below.exp();
        total += share;
        // An impossible token adds nothing.
        weighted += if share > 0.0 { share * below } else { 0.0 };
    }
    total.ln() - weighted / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_own_last_token() {
        let mut batch = Batch::default();
        batch.push(&[5, 6, 7, 8, 9], &[false, false, true, true, false]);
        batch.push(&[5, 6, 7], &[false, true, true]);
        batch.push(&[5, 6], &[false, false]);
        assert_eq!(ends(&batch), [3, 7, 9], "not what the template writes after it");
    }

    #[test]
    fn the_last_answer_of_a_row_is_its_own_and_all_before_it_the_prompt() {
        let mut batch = Batch::default();
        batch.push(&[1, 2, 3, 4, 5, 6], &[false, false, true, false, true, true]);
        batch.push(&[7, 8], &[false, false]);
        batch.push(&[7, 8, 9], &[false, true, true]);
        let asked = asked(&[batch]);
        let want = [(vec![1, 2, 3, 4], vec![5, 6]), (vec![7], vec![8, 9])];
        assert_eq!(asked, want.map(|(prompt, own)| Asked { prompt, own }));
    }

    #[test]
    fn entropy_is_that_of_the_tempered_distribution() {
        assert!((entropy(&[0.0; 8], 0.5) - 8f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[0.0, f32::NEG_INFINITY], 1.0), 0.0);
        let p = 1.0 / (1.0 + (-2f64).exp());
        let want = -(p * p.ln() + (1.0 - p) * (1.0 - p).ln());
        assert!((entropy(&[1.0, 0.0], 0.5) - want).abs() < 1e-12, "logits are divided by the temperature");
    }

    #[test]
    fn answers_are_computed_together_up_to_a_number_of_tokens() {
        let answer = |tokens| Answer { ids: vec![0; tokens], prompt: 1, ..Answer::default() };
        let answers: Vec<Answer> = [300, 200, 100, 600, 5].map(answer).into();
        assert_eq!(joined(&answers, &[0, 1, 2, 3, 4]), [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert_eq!(joined(&answers, &[4, 2, 1]), [vec![4, 2, 1]], "in the order that is asked for");
        let batch = batch_of(&answers[4..]);
        assert_eq!(batch.trained_tokens(), answers[4].len());
    }
}
