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

    /// Whether sums are kept as they are.
    pub(super) fn is_f32(&self) -> bool {
        matches!(self.to, To::F32(_))
    }

    /// The same place for what is added to a result that has its bias and all else.
    pub(super) fn once_more(self) -> Self {
        Output { add: Add::Itself, bias: None, ..self }
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

    /// What a sum becomes that goes to place `at`, in column `column` of those written.
    #[inline(always)]
    fn finished(&self, at: usize, column: usize, sum: f32) -> f32 {
        let mut value = self.scale * sum;
        if let Some(bias) = self.bias {
            value += bias[column];
        }
        if let Add::Matrix(m) = self.add {
            value += m[at];
        }
        value
    }

    /// The same for the 32 sums of a whole row, in arrays, so that the compiler knows their length.
    #[inline(always)]
    fn finished_row(&self, at: usize, column: usize, sums: &[f32; PANEL]) -> [f32; PANEL] {
        let mut row = *sums;
        row.iter_mut().for_each(|value| *value *= self.scale);
        let added = [self.bias.map(|bias| &bias[column..]), self.matrix().map(|m| &m[at..])];
        for values in added.into_iter().flatten().filter_map(|values| values.first_chunk::<PANEL>()) {
            row.iter_mut().zip(values).for_each(|(to, value)| *to += value);
        }
        row
    }

    fn matrix(&self) -> Option<&[f32]> {
        if let Add::Matrix(m) = self.add { Some(m) } else { None }
    }
}

vectorised! {
    /// `place` is the first row, the rows, the first column and the columns.
    fn write_f32(o: &Output, to: &Shared<f32>, place: [usize; 4], sums: &Tile) {
        let [row, rows, column, columns] = place;
        let itself = matches!(o.add, Add::Itself);
        for (i, sums) in sums.0.as_chunks::<PANEL>().0.iter().take(rows).enumerate() {
            let at = (row + i) * o.stride + o.column + column;
            // SAFETY: every product gives each of its jobs other rows or columns.
            let to = unsafe { to.slice(at, columns) };
            if let Some(to) = to.first_chunk_mut::<PANEL>() {
                let row = o.finished_row(at, column, sums);
                if itself {
                    to.iter_mut().zip(row).for_each(|(to, value)| *to += value);
                } else {
                    *to = row;
                }
                continue;
            }
            for (j, (to, sum)) in to.iter_mut().zip(sums).enumerate() {
                let value = o.finished(at + j, column + j, *sum);
                *to = if itself { *to + value } else { value };
            }
        }
    }

    /// See [`write_f32`].
    fn write_bf16(o: &Output, to: &Shared<bf16>, place: [usize; 4], sums: &Tile) {
        let [row, rows, column, columns] = place;
        for (i, sums) in sums.0.as_chunks::<PANEL>().0.iter().take(rows).enumerate() {
            let at = (row + i) * o.stride + o.column + column;
            // SAFETY: every product gives each of its jobs other rows or columns.
            let to = unsafe { to.slice(at, columns) };
            if let Some(to) = to.first_chunk_mut::<PANEL>() {
                let row = o.finished_row(at, column, sums);
                for (to, value) in to.iter_mut().zip(row) {
                    *to = bf16::from_bits(bf16_bits(value) as u16);
                }
                continue;
            }
            for (j, (to, sum)) in to.iter_mut().zip(sums).enumerate() {
                *to = bf16::from_bits(bf16_bits(o.finished(at + j, column + j, *sum)) as u16);
            }
        }
    }
}
