//! Linear layers that share an input, each with a low-rank adapter (Hu et al. 2021, arXiv:2106.09685), on slices.

use rayon::prelude::*;

use crate::{
    buffer::Buffer,
    dropout::Mask,
    matmul::{Add, Kind, Matrix, Output, Packed, Product, multiply},
    values::{Numbers, Values, ValuesMut, narrow},
};

/// A frozen weight `[out, in]` and bias, and the adapter on it.
pub(crate) struct Linear<'a> {
    pub weight: Values<'a>,
    pub out: usize,
    pub bias: Option<Vec<f32>>,
    pub adapter: Option<Adapter<'a>>,
}

/// `y += scale · B A dropout(x)`.
pub(crate) struct Adapter<'a> {
    /// `[rank, in]`.
    pub a: &'a [f32],
    /// `[out, rank]`.
    pub b: &'a [f32],
    /// Which values of `x` are dropped.
    pub mask: Option<Mask>,
}

/// Linear layers with one input; the result has their outputs side by side.
pub(crate) struct Group<'a> {
    pub linears: Vec<Linear<'a>>,
    pub inputs: usize,
    /// Of every adapter.
    pub rank: usize,
    pub scale: f32,
    pub kind: Kind,
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
        for (_, adapter, i) in self.adapted() {
            let dropped = adapter.mask.as_ref().map(|mask| {
                Packed::from_rows(self.kind, rows, self.inputs, |row, x| {
                    fill(row, x);
                    mask.apply(row, x);
                })
            });
            let a = dropped.as_ref().unwrap_or(&packed);
            let b = Matrix::rows(Values::F32(adapter.a), self.inputs);
            let place = Output::new(ValuesMut::F32(&mut u), ranks, i * self.rank).scale(self.scale);
            multiply(&[Product { a, b }], self.rank, place);
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

    /// From the gradient `g` of `y`, that of `x` where one is wanted, and those of the adapters, which go to `adapters`:
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
        wanted: bool,
    ) -> Option<Buffer<f32>> {
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
        wanted.then(|| {
            let mut dx = Buffer::any(rows * self.inputs);
            let mut products: Vec<Product> = Vec::new();
            for (a, linear) in packed.iter().zip(&self.linears) {
                products.push(Product { a, b: Matrix::columns(linear.weight, self.inputs) });
            }
            let parts: Vec<Packed> = (0..next)
                .map(|i| {
                    let du = Matrix::rows(Values::F32(&du).from(i * rank), ranks);
                    Packed::new(self.kind, du, rows, rank)
                })
                .collect();
            let low: Vec<(Product, Option<&Mask>)> = self
                .adapted()
                .map(|(_, adapter, i)| {
                    let b = Matrix::columns(Values::F32(adapter.a), self.inputs);
                    (Product { a: &parts[i], b }, adapter.mask.as_ref())
                })
                .collect();
            products.extend(low.iter().filter(|(_, mask)| mask.is_none()).map(|(product, _)| product));
            multiply(&products, self.inputs, Output::f32(&mut dx, self.inputs));
            for (product, mask) in &low {
                let Some(mask) = mask else { continue };
                let mut part = Buffer::<f32>::any(rows * self.inputs);
                multiply(&[*product], self.inputs, Output::f32(&mut part, self.inputs));
                let pairs = dx.par_chunks_exact_mut(self.inputs).zip(part.par_chunks_exact_mut(self.inputs));
                pairs.enumerate().for_each(|(row, (dx, part))| {
                    mask.apply(row, part);
                    super::rows::add(part, dx);
                });
            }
            dx
        })
    }

    /// `dA = duᵀ dropout(x)`, one after the other.
    fn gradient_of_a(
        &self,
        rows: usize,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
        du: &[f32],
        mut to: &mut [f32],
    ) {
        let ranks = self.ranks();
        let mut plain = None;
        for (_, adapter, i) in self.adapted() {
            let masked;
            let x = match &adapter.mask {
                Some(mask) => {
                    masked = self.matrix(rows, &|row, x: &mut [f32]| {
                        fill(row, x);
                        mask.apply(row, x);
                    });
                    &masked
                }
                None => plain.get_or_insert_with(|| self.matrix(rows, fill)),
            };
            let du = Matrix::columns(Values::F32(du).from(i * self.rank), ranks);
            let a = Packed::new(self.kind, du, self.rank, rows);
            let (own, rest) = std::mem::take(&mut to).split_at_mut(self.rank * self.inputs);
            let b = Matrix::columns(x.values(), self.inputs);
            multiply(&[Product { a: &a, b }], self.inputs, Output::f32(own, self.inputs));
            to = rest;
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
