//! A whole decoder layer on the card, forward and backward: the same formulas and the same saved values as on the CPU.

use std::sync::Arc;

use candle_core::{CudaStorage, DType, Result, Shape, Tensor, bail};

use super::{
    attention::{Heading, Mixing, WIDEST},
    card::{Card, Numbers, Room, numbers},
    group::{Group, Linear},
    plan::Plan,
    precision::Precision,
};
use crate::fused::{DOWN, Frozen, GATE_UP, GROUPS, LayerInput, O, QKV};

/// What the backward pass needs beside the layer's input.
pub(crate) struct SavedOnCard {
    qkv: Room,
    mixed: Room,
    log_sums: Room,
    /// The residual stream after attention.
    middle: Room,
    gate_up: Room,
    /// Of each group.
    u: [Room; 4],
}

/// A layer's parameters on the card.
pub(super) struct Parameters<'a> {
    card: Card<'a>,
    norms: [Numbers; 2],
    eps: f32,
    groups: [Group<'a>; 4],
    heading: Heading<'a>,
    plan: Arc<Plan>,
    precision: Precision,
    tokens: usize,
    width: usize,
    /// The adapters in the precision they are multiplied in.
    _adapters: Option<Room>,
}

/// How rows of queries, keys and values, with their width, become mixed values and logarithms of sums.
type Mix<'m, 'a> = &'m mut dyn FnMut(&Parameters<'a>, Numbers, usize, Numbers, Numbers) -> Result<()>;

impl<'a> Parameters<'a> {
    pub fn new(
        card: Card<'a>,
        layer: &'a Frozen,
        input: &'a LayerInput,
        adapters: Option<(Numbers, usize)>,
    ) -> Result<Self> {
        if layer.heads.dim > WIDEST || !layer.heads.dim.is_multiple_of(2) {
            bail!("heads of {} are not computed on the card", layer.heads.dim);
        }
        let precision = Precision::of(layer.linears[0].weight.dtype())?;
        let (mut rest, room) = match adapters {
            Some((values, count)) => match values.precision == precision {
                true => (values, None),
                false => card.narrowed(values, count, precision)?,
            },
            None => (Numbers { at: 0, precision }, None),
        };
        let mut left = adapters.map_or(0, |(_, count)| count);
        let mut take = |count: usize| -> Result<Numbers> {
            let Some(after) = left.checked_sub(count) else { bail!("the adapters are too short") };
            let own = rest;
            (rest, left) = (rest.from(count), after);
            Ok(own)
        };
        let mut groups = Vec::with_capacity(GROUPS.len());
        for members in GROUPS {
            let members = &layer.linears[members];
            let inputs = members[0].weight.dims2()?.1;
            let adapted = members.iter().filter(|linear| linear.adapted).count();
            let a = take(adapted * layer.rank * inputs)?;
            let mut linears = Vec::with_capacity(members.len());
            for linear in members {
                let (out, _) = linear.weight.dims2()?;
                let b = match linear.adapted {
                    true => Some((take(layer.rank * out)?, linear.mask)),
                    false => None,
                };
                linears.push(Linear { weight: &linear.weight, out, bias: linear.bias.as_ref(), b });
            }
            groups.push(Group { linears, a, inputs, rank: layer.rank, scale: layer.scale, precision });
        }
        let Ok(groups) = <[Group; 4]>::try_from(groups) else { bail!("a layer has four groups") };
        Ok(Parameters {
            card,
            norms: [numbers(&layer.input_norm)?, numbers(&layer.post_attention_norm)?],
            eps: layer.eps,
            groups,
            heading: Heading {
                norms: layer.query_key_norms.as_ref(),
                eps: layer.eps,
                table: input.table.as_deref(),
                heads: layer.heads,
            },
            plan: Plan::of(card, &input.lengths, &input.positions)?,
            precision,
            tokens: input.positions.len(),
            width: layer.input_norm.dims1()?,
            _adapters: room,
        })
    }

    fn rows(&self) -> (usize, usize) {
        (self.tokens, self.width)
    }

    /// Room of rows as wide as `width`, in the precision of products.
    fn room(&self, width: usize) -> Result<Room> {
        self.card.room(self.precision, self.tokens * width)
    }

    /// Queries and keys that are ready.
    pub fn ready(&self, qkv: Numbers) -> Result<Room> {
        let room = self.room(self.heading.width())?;
        let to = room.numbers(&self.card);
        self.heading.apply(self.card, &self.plan, self.tokens, (qkv, self.groups[QKV].outputs()), to)?;
        Ok(room)
    }

    pub fn mixing(&self, ready: Numbers, qkv: Numbers) -> Mixing<'_> {
        let values = (qkv.from(self.heading.width()), self.groups[QKV].outputs());
        Mixing { heads: self.heading.heads, plan: &self.plan, tokens: self.tokens, ready, values }
    }

    /// A residual stream's own rows plus what `group` makes of `x`.
    fn added(&self, residual: Numbers, group: usize, x: Numbers, to: Numbers) -> Result<Room> {
        self.card.convert(residual, self.tokens * self.width, to)?;
        self.groups[group].forward(self.card, self.tokens, x, to, true)
    }

    /// `mix` makes mixed values out of rows of queries, keys and values, and perhaps the logarithms of sums of exponentials.
    pub fn forward(
        &self,
        x: Numbers,
        y: Numbers,
        keep: bool,
        mix: Mix<'_, 'a>,
    ) -> Result<Option<SavedOnCard>> {
        let (card, groups) = (self.card, &self.groups);
        let at = |room: &Room| room.numbers(&card);
        let normed = self.room(self.width)?;
        card.rms_norm(x, self.norms[0], self.rows(), self.eps, at(&normed))?;
        let qkv = self.room(groups[QKV].outputs())?;
        let u_qkv = groups[QKV].forward(card, self.tokens, at(&normed), at(&qkv), false)?;
        let mixed = self.room(groups[O].inputs)?;
        let log_sums = card.room(Precision::F32, self.tokens * self.heading.heads.queries)?;
        mix(self, at(&qkv), groups[QKV].outputs(), at(&mixed), at(&log_sums))?;
        let stream = card.room(Precision::F32, self.tokens * self.width)?;
        let u_o = self.added(x, O, at(&mixed), at(&stream))?;
        card.rms_norm(at(&stream), self.norms[1], self.rows(), self.eps, at(&normed))?;
        let gate_up = self.room(groups[GATE_UP].outputs())?;
        let u_gate_up = groups[GATE_UP].forward(card, self.tokens, at(&normed), at(&gate_up), false)?;
        let u_down = {
            let active = self.room(groups[DOWN].inputs)?;
            card.gated(at(&gate_up), self.tokens, groups[DOWN].inputs, at(&active))?;
            self.added(at(&stream), DOWN, at(&active), y)?
        };
        if !keep {
            return Ok(None);
        }
        let middle = match self.precision {
            Precision::Bf16 => {
                card.convert(at(&stream), self.tokens * self.width, at(&normed))?;
                normed
            }
            // The residual streams of some models leave the range of f16.
            Precision::F32 | Precision::F16 => stream,
        };
        let u = [u_qkv, u_o, u_gate_up, u_down];
        Ok(Some(SavedOnCard { qkv, mixed, log_sums, middle, gate_up, u }))
    }

    /// Through the four groups, the gate, the norms and attention in reverse; the gradient of the residual stream is added to in
    /// place, in `dx`, which holds that of the result.
    fn backward(
        &self,
        x: Numbers,
        saved: SavedOnCard,
        gradient: Numbers,
        dx: Numbers,
        wanted: bool,
    ) -> Result<()> {
        let (card, groups) = (self.card, &self.groups);
        let at = |room: &Room| room.numbers(&card);
        let SavedOnCard { qkv, mixed, log_sums, middle, gate_up, u } = saved;
        let mut places = [gradient; 4];
        let mut next = gradient;
        for (place, group) in places.iter_mut().zip(groups) {
            (*place, next) = (next, next.from(group.parameters()));
        }
        let count = self.tokens * self.width;

        {
            let (g, _room) = card.narrowed(dx, count, self.precision)?;
            let (active, d_active) = (self.room(groups[DOWN].inputs)?, self.room(groups[DOWN].inputs)?);
            card.gated(at(&gate_up), self.tokens, groups[DOWN].inputs, at(&active))?;
            let known = (at(&active), at(&u[DOWN]));
            groups[DOWN].backward(card, self.tokens, known, g, places[DOWN], Some(at(&d_active)))?;
            card.gated_backward(at(&gate_up), at(&d_active), self.tokens, groups[DOWN].inputs)?;
        }
        let normed = self.room(self.width)?;
        card.rms_norm(at(&middle), self.norms[1], self.rows(), self.eps, at(&normed))?;
        let dn = card.room(Precision::F32, count)?;
        let known = (at(&normed), at(&u[GATE_UP]));
        groups[GATE_UP].backward(card, self.tokens, known, at(&gate_up), places[GATE_UP], Some(at(&dn)))?;
        drop(gate_up);
        card.rms_norm_backward(at(&middle), self.norms[1], self.rows(), self.eps, at(&dn), dx)?;
        drop(middle);

        let d_qkv = self.room(groups[QKV].outputs())?;
        {
            let (g, _room) = card.narrowed(dx, count, self.precision)?;
            let d_mixed = self.room(groups[O].inputs)?;
            let known = (at(&mixed), at(&u[O]));
            groups[O].backward(card, self.tokens, known, g, places[O], Some(at(&d_mixed)))?;
            let ready = self.ready(at(&qkv))?;
            let d_ready = card.room(Precision::F32, self.tokens * self.heading.width())?;
            let to_values = at(&d_qkv).from(self.heading.width());
            let known = (at(&mixed), at(&log_sums), at(&d_mixed));
            self.mixing(at(&ready), at(&qkv)).backward(card, known, at(&d_ready), to_values)?;
            let pitch = groups[QKV].outputs();
            let places = (at(&qkv), at(&d_qkv), pitch);
            self.heading.back(card, &self.plan, self.tokens, at(&d_ready), places)?;
        }
        card.rms_norm(x, self.norms[0], self.rows(), self.eps, at(&normed))?;
        let known = (at(&normed), at(&u[QKV]));
        let to = wanted.then(|| at(&dn));
        groups[QKV].backward(card, self.tokens, known, at(&d_qkv), places[QKV], to)?;
        if wanted {
            card.rms_norm_backward(x, self.norms[0], self.rows(), self.eps, at(&dn), dx)?;
        }
        Ok(())
    }
}

/// `[tokens, hidden]` f32 → the same, and what the backward pass needs where one is to come.
pub(crate) fn forward(
    layer: &Frozen,
    input: &LayerInput,
    (storage, x): (&CudaStorage, Numbers),
    adapters: Option<(Numbers, usize)>,
    keep: bool,
) -> Result<(CudaStorage, Shape, Option<SavedOnCard>)> {
    let card = Card(candle_core::backend::BackendStorage::device(storage));
    let parameters = Parameters::new(card, layer, input, adapters)?;
    let y = card.floats(parameters.tokens * parameters.width)?;
    let saved = parameters.forward(x, card.f32(&y), keep, &mut |parameters, qkv, _, mixed, log_sums| {
        let ready = parameters.ready(qkv)?;
        parameters.mixing(ready.numbers(&card), qkv).forward(card, mixed, log_sums)
    })?;
    Ok((card.storage(y), Shape::from(parameters.rows()), saved))
}

/// The gradients of `x`, where it is wanted, and of the adapters, one after the other, from that of the result.
pub(crate) fn backward(
    layer: &Frozen,
    input: &LayerInput,
    (x, wanted): (&Tensor, bool),
    adapters: Option<(Numbers, usize)>,
    g: &Tensor,
    saved: SavedOnCard,
) -> Result<(Option<Tensor>, Tensor)> {
    let card = Card::of(x)?;
    if g.dtype() != DType::F32 {
        bail!("the gradient of the residual stream must be f32, not {:?}", g.dtype());
    }
    let parameters = Parameters::new(card, layer, input, adapters)?;
    let rows = parameters.tokens * parameters.width;
    let dx = card.floats(rows)?;
    card.convert(numbers(&g.contiguous()?)?, rows, card.f32(&dx))?;
    let count = adapters.map_or(0, |(_, count)| count);
    let gradient = card.floats(count)?;
    parameters.backward(numbers(x)?, saved, card.f32(&gradient), card.f32(&dx), wanted)?;
    Ok((wanted.then(|| card.tensor(dx, x.shape())), card.tensor(gradient, count)))
}
