//! A decoder layer on the card over the tokens that go on after cached ones, and single products, where nothing trains.

use candle_core::{CudaStorage, Layout, Result, Shape, Tensor, backend::BackendStorage, bail};

use super::{
    attention::{Heading, WIDEST},
    card::{Arg, Card, Grid, Matrix, Numbers, Room, Size, Source, numbers, numbers_of},
    layer::Parameters,
    plan::Plan,
    precision::Precision,
};
use crate::{DecoderLayer, Heads, KeyValueCache, LayerInput, LayerLinear};

/// Tokens that a cache has room for at first.
const FIRST: usize = 256;

/// Keys, made ready, and values of the tokens of one sequence, row after row, in the precision of the weights.
#[derive(Debug, Clone)]
pub(crate) struct CardCache {
    keys: Room,
    values: Room,
    capacity: usize,
    width: usize,
    precision: Precision,
}

impl CardCache {
    /// One that has room for `tokens`, of which the first `length` are those of `old`.
    fn with_room(
        card: Card,
        old: Option<Self>,
        length: usize,
        tokens: usize,
        width: usize,
        precision: Precision,
    ) -> Result<Self> {
        if let Some(old) = &old
            && length > 0
            && (old.width != width || old.precision != precision)
        {
            bail!("a cache of {length} tokens of another layer cannot go on");
        }
        match old {
            Some(old) if old.capacity >= tokens && old.width == width && old.precision == precision => {
                Ok(old)
            }
            old => {
                let capacity = (tokens + tokens / 2).next_multiple_of(FIRST);
                let room = || card.room(precision, capacity * width);
                let (keys, values) = (room()?, room()?);
                if let Some(old) = old.filter(|_| length > 0) {
                    for (from, to) in [(&old.keys, &keys), (&old.values, &values)] {
                        let (from, to) = (from.numbers(&card), to.numbers(&card));
                        card.copy_rows((from, width), (to, width), length, width)?;
                    }
                }
                Ok(CardCache { keys, values, capacity, width, precision })
            }
        }
    }
}

/// The next tokens of one or more sequences, each after a cache of its own: `[tokens, hidden]` f32 → the same.
pub(crate) fn forward_cached(
    layer: &DecoderLayer,
    hidden: &Tensor,
    input: LayerInput,
    caches: Vec<&mut KeyValueCache>,
) -> Result<Tensor> {
    let card = Card::of(hidden)?;
    let hidden = hidden.contiguous()?;
    let x = numbers(&hidden)?;
    let y = card.floats(hidden.elem_count())?;
    let to = card.f32(&y);
    let mut caches = caches;
    match caches.as_mut_slice() {
        [cache] if input.positions.len() == 1 => one(card, layer, &input, x, to, cache)?,
        caches => many(card, layer, input, x, to, caches)?,
    }
    Ok(card.tensor(y, hidden.shape()))
}

/// Where a cache and its layer meet: the new rows' places.
fn grown(
    card: Card,
    cache: &mut KeyValueCache,
    tokens: usize,
    heads: Heads,
    precision: Precision,
) -> Result<(Numbers, Numbers)> {
    let (length, width) = (cache.len(), heads.keys * heads.dim);
    let grown = CardCache::with_room(card, cache.take_card(), length, length + tokens, width, precision)?;
    let places = (grown.keys.numbers(&card), grown.values.numbers(&card));
    cache.set_card(grown, length + tokens);
    Ok(places)
}

/// Attention of `tokens` queries over a cache that begins `offset` tokens before them.
fn attend(
    card: Card,
    heads: Heads,
    (tokens, offset): (usize, usize),
    (queries, pitch): (Numbers, usize),
    (keys, values): (Numbers, Numbers),
    out: Numbers,
) -> Result<()> {
    let width = heads.keys * heads.dim;
    let args = [
        queries.into(),
        keys.into(),
        values.into(),
        out.into(),
        Arg::At(0),
        Arg::At(0),
        heads.queries.into(),
        (heads.queries / heads.keys).into(),
        heads.dim.into(),
        pitch.into(),
        width.into(),
        width.into(),
        offset.into(),
        heads.window.unwrap_or(0).into(),
        (heads.dim as f32).sqrt().recip().into(),
        (!out.precision.is_narrow()).into(),
    ];
    let grid = Grid { blocks: (tokens, heads.queries), threads: 256, shared: 0 };
    card.start(Source::Plain, &format!("attend_{}", keys.suffix()), grid, &args)
}

/// Products of matrices over all tokens, attention in each sequence.
fn many(
    card: Card,
    layer: &DecoderLayer,
    input: LayerInput,
    x: Numbers,
    y: Numbers,
    caches: &mut [&mut KeyValueCache],
) -> Result<()> {
    let adapters = layer.flat_adapters()?;
    let flat =
        adapters.as_ref().map(|a| Ok::<_, candle_core::Error>((numbers(a)?, a.elem_count()))).transpose()?;
    let frozen = layer.clone().without_values();
    let parameters = Parameters::new(card, &frozen, &input, flat)?;
    let heads = layer.heads;
    let (width, of_keys) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let fresh = caches.iter().all(|cache| cache.is_empty());
    parameters.forward(x, y, false, &mut |parameters, qkv, pitch, mixed, log_sums| {
        let ready_room = parameters.ready(qkv)?;
        let ready = ready_room.numbers(&card);
        let of_ready = width + of_keys;
        let mut first = 0;
        for (cache, &tokens) in caches.iter_mut().zip(&input.lengths) {
            let before = cache.len();
            let (keys, values) = grown(card, cache, tokens, heads, qkv.precision)?;
            let own = ready.from(first * of_ready);
            let to = keys.from(before * of_keys);
            card.copy_rows((own.from(width), of_ready), (to, of_keys), tokens, of_keys)?;
            let to = values.from(before * of_keys);
            card.copy_rows((qkv.from(first * pitch + of_ready), pitch), (to, of_keys), tokens, of_keys)?;
            if !fresh {
                let out = mixed.from(first * width);
                attend(card, heads, (tokens, before), (own, of_ready), (keys, values), out)?;
            }
            first += tokens;
        }
        if fresh { parameters.mixing(ready, qkv).forward(card, mixed, log_sums) } else { Ok(()) }
    })?;
    Ok(())
}

/// `y = x Wᵀ + scale · (x Aᵀ) Bᵀ + bias` of one row, plus `add`.
fn times(
    card: Card,
    linear: &LayerLinear,
    scale: f32,
    x: Numbers,
    y: Numbers,
    add: Option<Numbers>,
) -> Result<()> {
    let (out, inputs) = linear.weight.dims2()?;
    let mut add = add;
    if let Some(bias) = &linear.bias {
        if let Some(add) = add {
            card.convert(add, out, y)?;
        }
        card.fill_rows(numbers(bias)?, 1, out, (y, out), add.is_some())?;
        add = Some(y);
    }
    if let Some((a, b)) = &linear.adapter {
        let rank = a.dim(0)?;
        let room = card.room(Precision::F32, rank)?;
        let u = room.numbers(&card);
        card.times_vector(x, numbers(a)?, (rank, inputs), scale, u, None)?;
        card.times_vector(u, numbers(b)?, (out, rank), 1.0, y, add)?;
        add = Some(y);
    }
    let (weight, _room) = card.weight(&linear.weight)?;
    card.times_vector(x, weight, (out, inputs), 1.0, y, add)
}

/// A single token: products with vectors, in f32 but for the queries and the cache.
fn one(
    card: Card,
    layer: &DecoderLayer,
    input: &LayerInput,
    x: Numbers,
    y: Numbers,
    cache: &mut KeyValueCache,
) -> Result<()> {
    let Heads { queries, keys, dim, .. } = layer.heads;
    if dim > WIDEST || !dim.is_multiple_of(2) {
        bail!("heads of {dim} are not computed on the card");
    }
    let (of_queries, of_keys) = (queries * dim, keys * dim);
    let width = layer.input_norm.dims1()?;
    let precision = Precision::of(layer.linears[0].weight.dtype())?;
    let floats = |count: usize| card.room(Precision::F32, count);
    let at = |room: &Room| room.numbers(&card);
    let plan = Plan::of(card, &input.lengths, &input.positions)?;

    let (normed, qkv) = (floats(width)?, floats(of_queries + 2 * of_keys)?);
    card.rms_norm(x, numbers(&layer.input_norm)?, (1, width), layer.eps, at(&normed))?;
    let mut column = 0;
    for linear in &layer.linears[..3] {
        times(card, linear, layer.scale, at(&normed), at(&qkv).from(column), None)?;
        column += linear.weight.dims2()?.0;
    }
    let heading = Heading {
        norms: layer.query_key_norms.as_ref(),
        eps: layer.eps,
        table: input.table.as_deref(),
        heads: layer.heads,
    };
    let ready = floats(of_queries + of_keys)?;
    heading.apply(card, &plan, 1, (at(&qkv), of_queries + 2 * of_keys), at(&ready))?;
    let before = cache.len();
    let (all_keys, all_values) = grown(card, cache, 1, layer.heads, precision)?;
    card.convert(at(&ready).from(of_queries), of_keys, all_keys.from(before * of_keys))?;
    card.convert(at(&qkv).from(of_queries + of_keys), of_keys, all_values.from(before * of_keys))?;
    let (own, _room) = card.narrowed(at(&ready), of_queries, precision)?;
    let mixed = floats(of_queries)?;
    attend(card, layer.heads, (1, before), (own, of_queries), (all_keys, all_values), at(&mixed))?;

    let [.., o, gate, up, down] = &layer.linears;
    let middle = floats(width)?;
    times(card, o, layer.scale, at(&mixed), at(&middle), Some(x))?;
    card.rms_norm(at(&middle), numbers(&layer.post_attention_norm)?, (1, width), layer.eps, at(&normed))?;
    let inner = gate.weight.dims2()?.0;
    let (both, active) = (floats(2 * inner)?, floats(inner)?);
    times(card, gate, layer.scale, at(&normed), at(&both), None)?;
    times(card, up, layer.scale, at(&normed), at(&both).from(inner), None)?;
    card.gated(at(&both), 1, inner, at(&active))?;
    times(card, down, layer.scale, at(&active), y, Some(at(&middle)))
}

/// `x wᵀ` of f32 rows; see `fused_product`.
pub(crate) fn product(
    storage: &CudaStorage,
    layout: &Layout,
    weight: &Tensor,
) -> Result<(CudaStorage, Shape)> {
    let card = Card(storage.device());
    let x = numbers_of(storage, layout)?;
    let (out, inputs) = weight.dims2()?;
    let (rows, _) = layout.shape().dims2()?;
    let weight = numbers(weight)?;
    let y = card.floats(rows * out)?;
    let to = card.f32(&y);
    if rows == 1 {
        card.times_vector(x, weight, (out, inputs), 1.0, to, None)?;
    } else {
        let (x, _room) = card.narrowed(x, rows * inputs, weight.precision)?;
        let factors = (Matrix::rows(x, inputs), Matrix::columns(weight, inputs));
        card.multiply(Size { m: rows, n: out, k: inputs }, 1.0, factors, 0.0, (to, out))?;
    }
    Ok((card.storage(y), Shape::from((rows, out))))
}
