//! What every model has in common, whatever it computes, and the kinds there are.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
};

use candle_core::{Device, Var};
use types::architecture::ModelKind;

use crate::{CausalLm, LoraConfig, LoraLinear, ModelError, Seq2SeqLm, SpanModel, TrainedLinear, adapter};

/// Facts about a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Architecture as `config.json` names it.
    pub architecture: String,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers; of an encoder-decoder those of the decoder.
    pub layers: usize,
    /// The longest sequence the positions are made for.
    pub context_length: usize,
    /// Parameters of the base model.
    pub parameters: u64,
    /// dtype of the base weights and activations: `f32`, `bf16` or `f16`.
    pub dtype: String,
}

/// A model of any kind: a frozen base, and an adapter that is trained.
pub trait Model: Send + Sync {
    /// Facts about it.
    fn info(&self) -> &ModelInfo;

    /// Where its tensors are.
    fn device(&self) -> &Device;

    /// Itself as the kind of model that it is.
    fn view(&self) -> ModelView<'_>;

    /// Whether it multiplies in f16, whose range gradients leave unless the loss is scaled.
    fn multiplies_f16(&self) -> bool {
        false
    }

    /// What is trained, by PEFT's names, in a fixed order: the tensors of the adapter, such as
    /// `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, then layers that are trained as a whole. Empty
    /// without an adapter.
    fn trainable(&self) -> Vec<(String, Var)>;

    /// Its linear layers by their path, such as `model.layers.0.self_attn.q_proj`, in a fixed order: what an adapter can
    /// be put on.
    fn linears(&mut self) -> Vec<(String, &mut LoraLinear)>;

    /// Layers that are trained as a whole beside the adapter, by their path; PEFT's `modules_to_save`.
    fn trained_layers(&mut self) -> Vec<(String, &mut TrainedLinear)> {
        Vec::new()
    }

    /// Puts a fresh adapter on the model in place of any other; the same seed gives the same adapter.
    ///
    /// # Errors
    /// Settings that make no sense, and a target that the model does not have.
    fn attach_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<(), ModelError> {
        adapter::attach(self, config, seed)
    }

    /// Takes the adapter off.
    fn detach_lora(&mut self) {
        adapter::detach(self);
    }

    /// Gives the model a scalar head, `score` as transformers calls that of a sequence classifier with one label, which is
    /// trained as a whole beside an adapter that is attached from then on, or takes it away with what it has learnt. It begins
    /// at zero.
    ///
    /// # Errors
    /// Only decoder-only models have one.
    fn set_scored(&mut self, _scored: bool) -> Result<(), ModelError> {
        Err(ModelError::Kind {
            architecture: self.info().architecture.clone(),
            is: self.view().kind(),
            wanted: ModelKind::Causal,
        })
    }

    /// Keeps the adapter, with layers trained as a whole, for passes with [`Pass::second`](crate::Pass::second), so that
    /// another can be attached beside it. It is trained and saved no more.
    fn shelve_adapter(&mut self) {
        self.linears().into_iter().for_each(|(_, linear)| linear.shelve());
        self.trained_layers().into_iter().for_each(|(_, layer)| layer.shelve());
    }

    /// Writes the adapter into `folder` as PEFT does. `base_model` is what PEFT calls `base_model_name_or_path`.
    ///
    /// # Errors
    /// A file cannot be written.
    fn save_adapter(&self, folder: &Path, config: &LoraConfig, base_model: &str) -> Result<(), ModelError> {
        adapter::save(self, folder, config, base_model)
    }

    /// Puts the adapter in `folder` on the model, in place of any other, and gives its settings.
    ///
    /// # Errors
    /// When it was made for another model, or uses a feature of PEFT that is not computed here.
    fn load_adapter(&mut self, folder: &Path) -> Result<LoraConfig, ModelError> {
        adapter::load(self, folder)
    }
}

/// A model as the kind it is.
#[derive(Clone, Copy)]
pub enum ModelView<'a> {
    /// Decoder-only.
    Causal(&'a dyn CausalLm),
    /// Encoder-decoder.
    Seq2Seq(&'a dyn Seq2SeqLm),
    /// An encoder that points at an answer.
    Span(&'a dyn SpanModel),
}

impl ModelView<'_> {
    /// Its kind.
    pub fn kind(&self) -> ModelKind {
        match self {
            ModelView::Causal(_) => ModelKind::Causal,
            ModelView::Seq2Seq(_) => ModelKind::Seq2Seq,
            ModelView::Span(_) => ModelKind::Span,
        }
    }
}

/// A loaded model of any kind.
pub enum AnyModel {
    /// Decoder-only.
    Causal(Box<dyn CausalLm>),
    /// Encoder-decoder.
    Seq2Seq(Box<dyn Seq2SeqLm>),
    /// An encoder that points at an answer.
    Span(Box<dyn SpanModel>),
}

impl AnyModel {
    /// The model, where it is a decoder-only one.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn causal(self) -> Result<Box<dyn CausalLm>, ModelError> {
        match self {
            AnyModel::Causal(model) => Ok(model),
            other => Err(other.is_no(ModelKind::Causal)),
        }
    }

    /// The model, where it is an encoder-decoder.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn seq2seq(self) -> Result<Box<dyn Seq2SeqLm>, ModelError> {
        match self {
            AnyModel::Seq2Seq(model) => Ok(model),
            other => Err(other.is_no(ModelKind::Seq2Seq)),
        }
    }

    /// The model, where it points at answers.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn span(self) -> Result<Box<dyn SpanModel>, ModelError> {
        match self {
            AnyModel::Span(model) => Ok(model),
            other => Err(other.is_no(ModelKind::Span)),
        }
    }

    fn is_no(&self, wanted: ModelKind) -> ModelError {
        ModelError::Kind { architecture: self.info().architecture.clone(), is: self.view().kind(), wanted }
    }
}

impl Deref for AnyModel {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        match self {
            AnyModel::Causal(model) => model.as_ref(),
            AnyModel::Seq2Seq(model) => model.as_ref(),
            AnyModel::Span(model) => model.as_ref(),
        }
    }
}

impl DerefMut for AnyModel {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            AnyModel::Causal(model) => model.as_mut(),
            AnyModel::Seq2Seq(model) => model.as_mut(),
            AnyModel::Span(model) => model.as_mut(),
        }
    }
}
