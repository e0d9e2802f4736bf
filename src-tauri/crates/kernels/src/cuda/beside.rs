//! Gradients of adapters beside candle's tape. On the tape each of a layer's fourteen adapters is joined to one operand and its
//! gradient taken out of that again, some seventy small kernels a layer; beside it, the layer's gradient is added where it belongs by
//! one.

use std::cell::RefCell;

use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, TensorId, backend::BackendStorage,
    bail,
};

use super::{
    card::{Arg, Card, Grid, Numbers, Room, Source, numbers, numbers_of},
    layer::{SavedOnCard, backward, forward},
    precision::Precision,
};
use crate::fused::{Frozen, LayerInput};

/// Tensors that one kernel joins or splits: A and B of seven linear layers.
pub(super) const PARTS: usize = 14;

thread_local! {
    static OPEN: RefCell<Option<Vec<AdapterGradient>>> = const { RefCell::new(None) };
}

/// The gradients of all adapters of a layer, one after the other.
#[derive(Debug, Clone)]
pub struct AdapterGradient {
    pub(super) values: Tensor,
    /// Whose they are, and how many values each has.
    pub(super) of: Vec<(TensorId, usize)>,
}

/// While this lives, layers on a card that this thread computes give the gradients of their adapters here, and not on the tape.
#[derive(Debug)]
pub struct Beside(());

impl Beside {
    /// Begins to collect.
    pub fn open() -> Self {
        OPEN.set(Some(Vec::new()));
        Beside(())
    }

    /// What backward passes have given since this was asked last.
    pub fn take(&self) -> Vec<AdapterGradient> {
        OPEN.with_borrow_mut(|open| open.as_mut().map(std::mem::take)).unwrap_or_default()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        OPEN.set(None);
    }
}

/// The same layer with its adapters beside the tape, where somebody collects their gradients and all are trained; the first of them
/// stands on the tape for all.
pub(crate) fn layer_beside(
    layer: impl FnOnce() -> Frozen,
    hidden: &Tensor,
    adapters: &[Tensor],
    input: &LayerInput,
) -> Result<Option<Tensor>> {
    let open = OPEN.with_borrow(Option::is_some) && hidden.device().is_cuda();
    let Some(first) = adapters.first().filter(|_| open) else { return Ok(None) };
    if adapters.len() > PARTS || !adapters.iter().all(Tensor::is_variable) {
        return Ok(None);
    }
    let op = LayerBeside {
        layer: layer(),
        input: input.clone(),
        of: adapters.iter().map(|part| (part.id(), part.elem_count())).collect(),
        adapters: adapters.iter().map(Tensor::detach).collect(),
        saved: std::sync::Mutex::new(None),
    };
    hidden.apply_op2(first, op).map(Some)
}

struct LayerBeside {
    layer: Frozen,
    input: LayerInput,
    /// In the order of the flat operand.
    adapters: Vec<Tensor>,
    of: Vec<(TensorId, usize)>,
    saved: std::sync::Mutex<Option<SavedOnCard>>,
}

/// Addresses, then where the part of each ends.
pub(super) type Table = [u64; 2 * PARTS];

/// The table of parts of these sizes.
pub(super) fn table(parts: impl Iterator<Item = (u64, usize)>) -> (Table, usize) {
    let (mut table, mut end) = ([0; 2 * PARTS], 0);
    for (i, (at, count)) in parts.take(PARTS).enumerate() {
        end += count;
        (table[i], table[PARTS + i]) = (at, end as u64);
    }
    // What is not there is never reached.
    table[PARTS..].iter_mut().filter(|place| **place == 0).for_each(|place| *place = u64::MAX >> 1);
    (table, end)
}

impl LayerBeside {
    /// All adapters one after the other, in the precision they are multiplied in.
    fn joined(&self, card: Card) -> Result<(Numbers, usize, Room)> {
        let mut parts = Vec::with_capacity(self.adapters.len());
        for part in &self.adapters {
            parts.push((numbers(part)?.at, part.elem_count()));
        }
        let (table, count) = table(parts.into_iter());
        let room = card.room(Precision::of(self.layer.linears[0].weight.dtype())?, count)?;
        let to = room.numbers(&card);
        let args = [Arg::Table(table), to.into(), Arg::Long(count as i64)];
        card.start(Source::Train, &format!("join_{}", to.suffix()), Grid::threads(count), &args)?;
        Ok((to, count, room))
    }
}

impl CustomOp2 for LayerBeside {
    fn name(&self) -> &'static str {
        "decoder-layer-beside"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("this layer is one on a card")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (adapters, count, _room) = self.joined(Card(x.device()))?;
        let at = numbers_of(x, layout)?;
        let (y, shape, saved) = forward(&self.layer, &self.input, (x, at), Some((adapters, count)), true)?;
        *self.saved.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = saved;
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(saved) = saved else { bail!("the gradient of a decoder layer can be taken once") };
        let (adapters, count, _room) = self.joined(Card::of(x)?)?;
        let (dx, values) =
            backward(&self.layer, &self.input, (x, x.track_op()), Some((adapters, count)), g, saved)?;
        let part = AdapterGradient { values, of: self.of.clone() };
        let taken = OPEN.with_borrow_mut(|open| open.as_mut().map(|open| open.push(part)).is_some());
        if !taken {
            bail!("nobody collects the gradients of adapters that were computed beside the tape");
        }
        Ok((dx, None))
    }
}
