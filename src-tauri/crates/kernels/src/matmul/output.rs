//! Where sums go: in f32 or bf16, scaled, with a bias and something to add to.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use half::bf16;

use super::micro::{PANEL, Tile};
use crate::{
    level::vectorised,
    values::{ValuesMut, bf16_bits},
};

/// A slice that several threads write to, each its own places.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice; that two threads never have the same place is asked of the callers of `slice`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Shared { start: values.as_mut_ptr(), len: values.len(), borrowed: PhantomData }
    }

    /// `len` values from `at` on.
    ///
    /// # Safety
    /// While the result lives, nobody else may hold a slice of any of its places.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a slice must lie inside the whole");
        // SAFETY: in bounds by the assertion, unique by the caller's promise, alive as long as the borrowed slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

/// What the sums are added to.
#[derive(Clone, Copy)]
pub(crate) enum Add<'a> {
    /// Nothing: they replace what was there.
    Nothing,
    /// What was there, which must be f32.
    Itself,
    /// An f32 matrix of the shape and stride of the output.
    Matrix(&'a [f32]),
}

enum To<'a> {
    F32(Shared<'a, f32>),
    Bf16(Shared<'a, bf16>),
}

/// The columns from `column` on of a row-major matrix.
pub(crate) struct Output<'a> {
    to: To<'a>,
    stride: usize,
    column: usize,
    scale: f32,
    add: Add<'a>,
    bias: Option<&'a [f32]>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(to: ValuesMut<'a>, stride: usize, column: usize) -> Self {
        let to = match to {
            ValuesMut::F32(values) => To::F32(Shared::new(values)),
            ValuesMut::Bf16(values) => To::Bf16(Shared::new(values)),
        };
        Output { to, stride, column, scale: 1.0, add: Add::Nothing, bias: None }
    }

    /// Over all columns of an f32 matrix.
    pub(crate) fn f32(to: &'a mut [f32], stride: usize) -> Self {
        Self::new(ValuesMut::F32(to), stride, 0)
    }

    pub(crate) fn add(self, add: Add<'a>) -> Self {
        Output { add, ..self }
    }

    /// Multiplies the sums before anything is added.
    pub(crate) fn scale(self, scale: f32) -> Self {
        Output { scale, ..self }
    }

    /// Adds a bias for each column written.
    pub(crate) fn bias(self, bias: Option<&'a [f32]>) -> Self {
        Output { bias, ..self }
    }

    pub(super) fn check(&self, rows: usize, columns: usize) {
        let len = match &self.to {
            To::F32(to) => to.len,
            To::Bf16(to) => to.len,
        };
        let reach = if rows == 0 { 0 } else { (rows - 1) * self.stride + self.column + columns };
        assert!(self.column + columns <= self.stride && reach <= len, "a result must fit its place");
        assert!(self.bias.is_none_or(|b| b.len() >= columns), "a bias must be as long as a row");
        match self.add {
            Add::Nothing => {}
            Add::Itself => assert!(matches!(self.to, To::F32(_)), "only f32 is added to"),
            Add::Matrix(m) => assert!(reach <= m.len(), "what is added must be as large as the result"),
        }
    }

    /// Writes `rows × columns` sums, of which a row starts every 32, to row `row`, column `column`.
    ///
    /// Callers write each place from one thread at a time, which [`Shared::slice`] needs.
    pub(super) fn write(&self, row: usize, rows: usize, column: usize, columns: usize, sums: &Tile) {
        match &self.to {
            To::F32(to) => write_f32(self, to, [row, rows, column, columns], sums),
            To::Bf16(to) => write_bf16(self, to, [row, rows, column, columns], sums),
        }
    }

    /// Row `row` of the result, `scale · sums + bias + added` in `N` columns, and where it starts.
    #[inline(always)]
    fn finished<const N: usize>(&self, row: usize, column: usize, sums: &[f32; N]) -> ([f32; N], usize) {
        let at = row * self.stride + self.column + column;
        let mut out = [0f32; N];
        out.iter_mut().zip(sums).for_each(|(o, sum)| *o = self.scale * sum);
        if let Some(bias) = self.bias {
            out.iter_mut().zip(&bias[column..column + N]).for_each(|(o, b)| *o += b);
        }
        if let Add::Matrix(m) = self.add {
            out.iter_mut().zip(&m[at..at + N]).for_each(|(o, a)| *o += a);
        }
        (out, at)
    }

    /// Gives `put` each row of the result, whole or value by value, and where it starts.
    #[inline(always)]
    fn rows(
        &self,
        place: [usize; 4],
        sums: &Tile,
        whole: impl Fn(usize, [f32; PANEL]),
        single: impl Fn(usize, f32),
    ) {
        let [row, rows, column, columns] = place;
        for (i, sums) in sums.0.as_chunks::<PANEL>().0.iter().take(rows).enumerate() {
            if columns == PANEL {
                let (out, at) = self.finished(row + i, column, sums);
                whole(at, out);
                continue;
            }
            for (j, &sum) in sums.iter().enumerate().take(columns) {
                let ([out], at) = self.finished(row + i, column + j, &[sum]);
                single(at, out);
            }
        }
    }
}

vectorised! {
    /// `place` is the first row, the rows, the first column and the columns.
    fn write_f32(o: &Output, to: &Shared<f32>, place: [usize; 4], sums: &Tile) {
        let itself = matches!(o.add, Add::Itself);
        let whole = |at: usize, out: [f32; PANEL]| {
            // SAFETY: every product gives each of its jobs other rows or columns.
            let to = unsafe { to.slice(at, PANEL) };
            if itself {
                to.iter_mut().zip(out).for_each(|(to, o)| *to += o);
            } else {
                to.iter_mut().zip(out).for_each(|(to, o)| *to = o);
            }
        };
        let single = |at: usize, out: f32| {
            // SAFETY: as above.
            let to = unsafe { to.slice(at, 1) };
            to.iter_mut().for_each(|to| *to = if itself { *to + out } else { out });
        };
        o.rows(place, sums, whole, single);
    }

    /// See [`write_f32`].
    fn write_bf16(o: &Output, to: &Shared<bf16>, place: [usize; 4], sums: &Tile) {
        let put = |to: &mut [bf16], out: &[f32]| {
            to.iter_mut().zip(out).for_each(|(to, o)| *to = bf16::from_bits(bf16_bits(*o) as u16));
        };
        // SAFETY: every product gives each of its jobs other rows or columns.
        let whole = |at: usize, out: [f32; PANEL]| put(unsafe { to.slice(at, PANEL) }, &out);
        // SAFETY: as above.
        let single = |at: usize, out: f32| put(unsafe { to.slice(at, 1) }, &[out]);
        o.rows(place, sums, whole, single);
    }
}
