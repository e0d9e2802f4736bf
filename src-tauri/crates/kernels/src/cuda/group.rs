//! Linear layers that share an input, each with a low-rank adapter, on the card: what `fused::linear` computes, by the same formulas.

use candle_core::{Result, Tensor};

use super::{
    card::{Card, Matrix, Numbers, Room, Size, numbers},
    precision::Precision,
};
use crate::{FrozenWeight, dropout::Mask};

/// A frozen weight and bias, and where B of its adapter lies.
pub(super) struct Linear<'a> {
    pub weight: &'a FrozenWeight,
    pub out: usize,
    pub bias: Option<&'a Tensor>,
    pub b: Option<(Numbers, Option<Mask>)>,
}

/// Linear layers with one input; the result has their outputs side by side.
pub(super) struct Group<'a> {
    pub linears: Vec<Linear<'a>>,
    /// A of every adapter, `[rank, in]` each, one after the other.
    pub a: Numbers,
    pub inputs: usize,
    pub rank: usize,
    pub scale: f32,
    /// Of what is multiplied.
    pub precision: Precision,
}

/// Adapters that see the same input: columns of `u`.
struct Share {
    mask: Option<Mask>,
    first: usize,
    count: usize,
}

impl Group<'_> {
    pub fn outputs(&self) -> usize {
        self.linears.iter().map(|l| l.out).sum()
    }

    /// Values of the adapters: all A, then all B.
    pub fn parameters(&self) -> usize {
        self.adapted().map(|(l, ..)| self.rank * (self.inputs + l.out)).sum()
    }

    fn adapted(&self) -> impl Iterator<Item = (&Linear<'_>, Numbers, Option<Mask>)> {
        self.linears.iter().filter_map(|l| l.b.map(|(b, mask)| (l, b, mask)))
    }

    fn ranks(&self) -> usize {
        self.adapted().count() * self.rank
    }

    fn shares(&self) -> Vec<Share> {
        if self.adapted().all(|(.., mask)| mask.is_none()) {
            let count = self.ranks();
            return if count > 0 { vec![Share { mask: None, first: 0, count }] } else { Vec::new() };
        }
        let each = self.adapted().enumerate();
        each.map(|(i, (.., mask))| Share { mask, first: i * self.rank, count: self.rank }).collect()
    }

    /// `x` as the adapters of a share see it.
    fn seen(&self, card: Card, rows: usize, x: Numbers, share: &Share) -> Result<(Numbers, Option<Room>)> {
        let Some(mask) = share.mask else { return Ok((x, None)) };
        let room = card.room(self.precision, rows * self.inputs)?;
        let to = room.numbers(&card);
        card.drop(x, rows, self.inputs, mask, to)?;
        Ok((to, Some(room)))
    }

    /// `y = x Wᵀ + bias + u Bᵀ` with `u = scale · dropout(x) Aᵀ`, added to what is in `to` where `add`. Gives `u`, which the backward
    /// pass needs.
    pub fn forward(&self, card: Card, rows: usize, x: Numbers, to: Numbers, add: bool) -> Result<Room> {
        let ranks = self.ranks();
        let u_room = card.room(self.precision, rows * ranks)?;
        let u = u_room.numbers(&card);
        for share in self.shares() {
            let (x, _room) = self.seen(card, rows, x, &share)?;
            let size = Size { m: rows, n: share.count, k: self.inputs };
            let a = Matrix::columns(self.a.from(share.first * self.inputs), self.inputs);
            card.multiply(
                size,
                self.scale,
                (Matrix::rows(x, self.inputs), a),
                0.0,
                (u.from(share.first), ranks),
            )?;
        }
        let (pitch, mut column, mut next) = (self.outputs(), 0, 0);
        for linear in &self.linears {
            let place = (to.from(column), pitch);
            let mut beta = f32::from(u8::from(add));
            if let Some(bias) = linear.bias {
                card.fill_rows(numbers(bias)?, rows, linear.out, place, add)?;
                beta = 1.0;
            }
            // The small part first: it is what is rounded on the way.
            if let Some((b, _)) = linear.b {
                let size = Size { m: rows, n: linear.out, k: self.rank };
                let own = Matrix::rows(u.from(next * self.rank), ranks);
                card.multiply(size, 1.0, (own, Matrix::columns(b, self.rank)), beta, place)?;
                (beta, next) = (1.0, next + 1);
            }
            let (weight, _room) = card.weight(linear.weight)?;
            let size = Size { m: rows, n: linear.out, k: self.inputs };
            let factors = (Matrix::rows(x, self.inputs), Matrix::columns(weight, self.inputs));
            card.multiply(size, 1.0, factors, beta, place)?;
            column += linear.out;
        }
        Ok(u_room)
    }

    /// From the gradient `g` of `y`, those of the adapters, f32, to `adapters`, and that of `x` to `dx` where there is one:
    /// `dB = gᵀ u`, `du = scale · g B`, `dA = duᵀ dropout(x)`, `dx = g W + dropout(du A)`.
    pub fn backward(
        &self,
        card: Card,
        rows: usize,
        (x, u): (Numbers, Numbers),
        g: Numbers,
        adapters: Numbers,
        dx: Option<Numbers>,
    ) -> Result<()> {
        let (pitch, ranks) = (self.outputs(), self.ranks());
        let du_room = card.room(self.precision, rows * ranks)?;
        let du = du_room.numbers(&card);
        let (mut column, mut next, mut of_b) = (0, 0, ranks * self.inputs);
        for linear in &self.linears {
            if let Some((b, _)) = linear.b {
                let own = g.from(column);
                let place = (du.from(next * self.rank), ranks);
                let size = Size { m: rows, n: self.rank, k: linear.out };
                let factors = (Matrix::rows(own, pitch), Matrix::rows(b, self.rank));
                card.multiply(size, self.scale, factors, 0.0, place)?;
                let size = Size { m: linear.out, n: self.rank, k: rows };
                let factors = (Matrix::columns(own, pitch), Matrix::rows(u.from(next * self.rank), ranks));
                card.multiply(size, 1.0, factors, 0.0, (adapters.from(of_b), self.rank))?;
                of_b += linear.out * self.rank;
                next += 1;
            }
            column += linear.out;
        }
        let mut beta = 0.0;
        let mut masked = Vec::new();
        for share in self.shares() {
            let own = du.from(share.first);
            let (x, _room) = self.seen(card, rows, x, &share)?;
            let size = Size { m: share.count, n: self.inputs, k: rows };
            let factors = (Matrix::columns(own, ranks), Matrix::rows(x, self.inputs));
            card.multiply(size, 1.0, factors, 0.0, (adapters.from(share.first * self.inputs), self.inputs))?;
            let Some(dx) = dx else { continue };
            let size = Size { m: rows, n: self.inputs, k: share.count };
            let a = Matrix::rows(self.a.from(share.first * self.inputs), self.inputs);
            let factors = (Matrix::rows(own, ranks), a);
            match share.mask {
                None => {
                    card.multiply(size, 1.0, factors, beta, (dx, self.inputs))?;
                    beta = 1.0;
                }
                Some(mask) => {
                    let part = card.room(Precision::F32, rows * self.inputs)?;
                    card.multiply(size, 1.0, factors, 0.0, (part.numbers(&card), self.inputs))?;
                    masked.push((part, mask));
                }
            }
        }
        let Some(dx) = dx else { return Ok(()) };
        let mut column = 0;
        for linear in &self.linears {
            let (weight, _room) = card.weight(linear.weight)?;
            let size = Size { m: rows, n: self.inputs, k: linear.out };
            let factors = (Matrix::rows(g.from(column), pitch), Matrix::rows(weight, self.inputs));
            card.multiply(size, 1.0, factors, beta, (dx, self.inputs))?;
            (beta, column) = (1.0, column + linear.out);
        }
        for (part, mask) in masked {
            card.add_dropped(part.numbers(&card), rows, self.inputs, mask, dx)?;
        }
        Ok(())
    }
}
