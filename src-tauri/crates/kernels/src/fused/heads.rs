//! What heads of queries and keys go through before they are compared: perhaps a norm of their own, perhaps rotary positions.

use super::rows::{rms_norm_backward, rms_norm_itself, rotate};
use crate::RopeTable;

/// Which of the two a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Query,
    Key,
}

/// How the heads of a layer are made ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heading<'a> {
    /// Weights of the norms of queries and of keys, `[dim]` each.
    pub norms: Option<&'a [Vec<f32>; 2]>,
    pub eps: f32,
    /// None in a layer that knows no positions.
    pub table: Option<&'a RopeTable>,
}

impl Heading<'_> {
    fn norm(&self, side: Side) -> Option<&[f32]> {
        self.norms.map(|[query, key]| match side {
            Side::Query => query.as_slice(),
            Side::Key => key.as_slice(),
        })
    }

    /// Makes one head of a token at `position` ready, in place.
    pub fn apply(&self, side: Side, head: &mut [f32], position: u32) {
        if let Some(weight) = self.norm(side) {
            rms_norm_itself(head, weight, self.eps);
        }
        if let Some(table) = self.table {
            let (cos, sin) = table.at(position);
            rotate(head, cos, sin, 1.0);
        }
    }

    /// Turns the gradient of a head that is ready into that of the head as it was; `read` gives that head where it is needed,
    /// to `room`.
    pub fn back(
        &self,
        side: Side,
        gradient: &mut [f32],
        position: u32,
        room: &mut Room,
        read: impl FnOnce(&mut [f32]),
    ) {
        if let Some(table) = self.table {
            let (cos, sin) = table.at(position);
            rotate(gradient, cos, sin, -1.0);
        }
        if let Some(weight) = self.norm(side) {
            let Room { head, of_head } = room;
            head.resize(gradient.len(), 0.0);
            read(head);
            of_head.clear();
            of_head.resize(gradient.len(), 0.0);
            rms_norm_backward(head, weight, self.eps, gradient, of_head);
            gradient.copy_from_slice(of_head);
        }
    }
}

/// Memory for one head and its gradient.
#[derive(Default)]
pub(super) struct Room {
    head: Vec<f32>,
    of_head: Vec<f32>,
}
