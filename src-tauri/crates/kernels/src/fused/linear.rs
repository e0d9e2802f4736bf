//! Linear layers that share an input, each with a low-rank adapter (Hu et al. 2021, arXiv:2106.09685), on slices.

use rayon::prelude::*;

use crate::{
    buffer::Buffer,
    dropout::Mask,
    frozen_weight::Source,
    matmul::{Add, Kind, Matrix, Output, Packed, Product, multiply},
    values::{Numbers, Values, ValuesMut, narrow},
};

/// A frozen weight `[out, in]` and bias, and the adapter on it.
pub(crate) struct Linear<'a> {
    pub weight: Source<'a>,
    pub out: usize,
    pub bias: Option<Vec<f32>>,
    pub adapter: Option<Adapter<'a>>,
}

/// `y += scale · B A dropout(x)`.
pub(crate) struct Adapter<'a> {
    /// `[out, rank]`.
    pub b: &'a [f32],
    /// Which values of `x` are dropped.
    pub mask: Option<Mask>,
}

/// Linear layers with one input; the result has their outputs side by side.
pub(crate) struct Group<'a> {
    pub linears: Vec<Linear<'a>>,
    /// A of every adapter, `[rank, in]` each, one after the other.
    pub a: &'a [f32],
    pub inputs: usize,
    /// Of every adapter.
    pub rank: usize,
    pub scale: f32,
    pub kind: Kind,
}

/// Adapters that see the same input: columns of `u`.
struct Share<'a> {
    mask: Option<&'a Mask>,
    first: usize,
    count: usize,
}

impl Group<'_> {
    /// Width of the result.
    pub(crate) fn outputs(&self) -> usize {
        self.linears.iter().map(|l| l.out).sum()
    }

    /// Values of the adapters: all A, then all B.
    pub(crate) fn parameters(&self) -> usize {
        let adapted = self.linears.iter().filter(|l| l.adapter.is_some());
        adapted.map(|l| self.rank * (self.inputs + l.out)).sum()
    }

    fn adapted(&self) -> impl Iterator<Item = (&Linear<'_>, &Adapter<'_>, usize)> {
        let mut count = 0;
        self.linears.iter().filter_map(move |l| {
            let adapter = l.adapter.as_ref()?;
            count += 1;
            Some((l, adapter, count - 1))
        })
    }

    /// The adapters that see the same input: each its own where it drops values, else all at once.
    fn shares(&self) -> Vec<Share<'_>> {
        if self.adapted().all(|(_, adapter, _)| adapter.mask.is_none()) {
            let all = Share { mask: None, first: 0, count: self.ranks() };
            return if all.count > 0 { vec![all] } else { Vec::new() };
        }
        self.adapted()
            .map(|(_, adapter, i)| Share {
                mask: adapter.mask.as_ref(),
                first: i * self.rank,
                count: self.rank,
            })
            .collect()
    }

    /// Columns of `u`: those of all adapters side by side.
    fn ranks(&self) -> usize {
        self.adapted().count() * self.rank
    }

    /// `y = x Wᵀ + bias + u Bᵀ`, with `u = scale · dropout(x) Aᵀ`, written or added as `out` says. `fill(row, x)` gives a
    /// row of `x`. Returns `u`, `[rows, ranks]`, which the backward pass needs.
    pub(crate) fn forward(
        &self,
        rows: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
        mut to: ValuesMut,
        residual: Option<&[f32]>,
    ) -> Buffer<f32> {
        let packed = Packed::from_rows(self.kind, rows, self.inputs, fill);
        let ranks = self.ranks();
        let mut u = Buffer::any(rows * ranks);
        for Share { mask, first, count } in self.shares() {
            let dropped = mask.map(|mask| {
                Packed::from_rows(self.kind, rows, self.inputs, |row, x| {
                    fill(row, x);
                    mask.apply(row, x);
                })
            });
            let a = dropped.as_ref().unwrap_or(&packed);
            let b = Matrix::rows(Values::F32(&self.a[first * self.inputs..]), self.inputs);
            let place = Output::new(ValuesMut::F32(&mut u), ranks, first).scale(self.scale);
            multiply(&[Product { a, b }], count, place);
        }
        let (stride, mut column, mut next) = (self.outputs(), 0, 0);
        for linear in &self.linears {
            let base = Product { a: &packed, b: Matrix::rows(linear.weight, self.inputs) };
            let own = match &linear.adapter {
                None => None,
                Some(adapter) => {
                    let columns = Matrix::rows(Values::F32(&u).from(next * self.rank), ranks);
                    next += 1;
                    Some((Packed::new(self.kind, columns, rows, self.rank), adapter))
                }
            };
            let mut products = vec![base];
            if let Some((u, adapter)) = &own {
                products.push(Product { a: u, b: Matrix::rows(Values::F32(adapter.b), self.rank) });
            }
            let place = Output::new(to.reborrow(), stride, column);
            let add = residual.map_or(Add::Nothing, Add::Matrix);
            multiply(&products, linear.out, place.bias(linear.bias.as_deref()).add(add));
            column += linear.out;
        }
        u
    }

    /// From the gradient `g` of `y`, that of `x`, which goes to `dx` where there is one, and those of the adapters, which go to `adapters`:
    ///
    /// ```text
    /// dB = gᵀ u        du = scale · g B        dA = duᵀ dropout(x)        dx = g W + dropout(du A)
    /// ```
    ///
    /// No gradient of `W` or the bias is ever computed.
    pub(crate) fn backward(
        &self,
        rows: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
        u: &[f32],
        g: Values,
        adapters: &mut [f32],
        dx: Option<ValuesMut>,
    ) {
        let (stride, ranks, rank) = (self.outputs(), self.ranks(), self.rank);
        let (all_a, mut all_b) = adapters.split_at_mut(ranks * self.inputs);
        let mut du = Buffer::any(rows * ranks);
        let mut packed = Vec::with_capacity(self.linears.len());
        let (mut column, mut next) = (0, 0);
        for linear in &self.linears {
            let own = g.from(column);
            packed.push(Packed::new(self.kind, Matrix::rows(own, stride), rows, linear.out));
            if let (Some(adapter), Some(a)) = (&linear.adapter, packed.last()) {
                let b = Matrix::columns(Values::F32(adapter.b), rank);
                let place = Output::new(ValuesMut::F32(&mut du), ranks, next * rank).scale(self.scale);
                multiply(&[Product { a, b }], rank, place);

                let u = Matrix::columns(Values::F32(u).from(next * rank), ranks);
                let a = Packed::new(self.kind, u, rank, rows);
                let mut transposed = Buffer::any(rank * linear.out);
                let b = Matrix::columns(own, stride);
                multiply(&[Product { a: &a, b }], linear.out, Output::f32(&mut transposed, linear.out));
                let (b, rest) = std::mem::take(&mut all_b).split_at_mut(linear.out * rank);
                for (i, row) in b.chunks_exact_mut(rank).enumerate() {
                    row.iter_mut().enumerate().for_each(|(r, to)| *to = transposed[r * linear.out + i]);
                }
                all_b = rest;
                next += 1;
            }
            column += linear.out;
        }
        self.gradient_of_a(rows, fill, &du, all_a);
        let Some(dx) = dx else { return };
        let shares = self.shares();
        let parts: Vec<Packed> = shares
            .iter()
            .map(|share| {
                let du = Matrix::rows(Values::F32(&du).from(share.first), ranks);
                Packed::new(self.kind, du, rows, share.count)
            })
            .collect();
        let mut products: Vec<Product> = Vec::new();
        for (a, linear) in packed.iter().zip(&self.linears) {
            products.push(Product { a, b: Matrix::columns(linear.weight, self.inputs) });
        }
        // What passes through a mask cannot be summed in registers with the rest.
        let mut masked: Option<Buffer<f32>> = None;
        for (a, share) in parts.iter().zip(&shares) {
            let values = Values::F32(&self.a[share.first * self.inputs..]);
            let product = Product { a, b: Matrix::columns(values, self.inputs) };
            let Some(mask) = share.mask else {
                products.push(product);
                continue;
            };
            let mut part = Buffer::<f32>::any(rows * self.inputs);
            multiply(&[product], self.inputs, Output::f32(&mut part, self.inputs));
            part.par_chunks_exact_mut(self.inputs).enumerate().for_each(|(row, part)| mask.apply(row, part));
            match &mut masked {
                None => masked = Some(part),
                Some(sum) => {
                    let rows = sum.par_chunks_exact_mut(self.inputs).zip(part.par_chunks_exact(self.inputs));
                    rows.for_each(|(sum, part)| super::rows::add(part, sum));
                }
            }
        }
        let add = masked.as_deref().map_or(Add::Nothing, Add::Matrix);
        multiply(&products, self.inputs, Output::new(dx, self.inputs, 0).add(add));
    }

    /// `dA = duᵀ dropout(x)`, one after the other.
    fn gradient_of_a(
        &self,
        rows: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
        du: &[f32],
        to: &mut [f32],
    ) {
        let ranks = self.ranks();
        for Share { mask, first, count } in self.shares() {
            let x = self.matrix(rows, &|row, x: &mut [f32]| {
                fill(row, x);
                if let Some(mask) = mask {
                    mask.apply(row, x);
                }
            });
            let du = Matrix::columns(Values::F32(du).from(first), ranks);
            let a = Packed::new(self.kind, du, count, rows);
            let own = &mut to[first * self.inputs..(first + count) * self.inputs];
            let b = Matrix::columns(x.values(), self.inputs);
            multiply(&[Product { a: &a, b }], self.inputs, Output::f32(own, self.inputs));
        }
    }

    /// All rows that `fill` gives, in the precision they are multiplied in.
    fn matrix(&self, rows: usize, fill: &(dyn Fn(usize, &mut [f32]) + Sync)) -> Numbers {
        let mut x = Numbers::any(self.kind == Kind::Bf16, rows * self.inputs);
        match x.values_mut() {
            ValuesMut::F32(x) => {
                x.par_chunks_exact_mut(self.inputs).enumerate().for_each(|(row, x)| fill(row, x));
            }
            ValuesMut::Bf16(x) => {
                x.par_chunks_exact_mut(self.inputs).enumerate().for_each_init(
                    || Buffer::<f32>::any(self.inputs),
                    |wide, (row, x)| {
                        fill(row, wide);
                        narrow(wide, x);
                    },
                );
            }
        }
        x
    }
}
