//! Where sequences begin and end and which places their tokens have, on the card: the same for all layers, so made once for them.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{
    Result,
    cuda_backend::{DeviceId, cudarc::driver::CudaSlice},
};

use super::card::Card;

/// Queries of a tile, and keys.
pub(super) const TILE: usize = 64;

/// The sequences of a batch on the card.
#[derive(Debug)]
pub(super) struct Plan {
    /// Position of each token.
    pub positions: CudaSlice<u32>,
    /// Of each token, where its sequence begins and ends.
    pub bounds: CudaSlice<i32>,
    /// Of each 64 tokens of a sequence: where the sequence begins, its length, and the first of them.
    pub tiles: CudaSlice<i32>,
    pub tile_count: usize,
}

struct Made {
    card: DeviceId,
    lengths: Vec<usize>,
    positions: Arc<Vec<u32>>,
    plan: Arc<Plan>,
}

static LAST: Mutex<Option<Made>> = Mutex::new(None);

impl Plan {
    /// That of these sequences; the last one is kept.
    pub fn of(card: Card, lengths: &[usize], positions: &Arc<Vec<u32>>) -> Result<Arc<Self>> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*last
            && made.card == card.0.id()
            && made.lengths == lengths
            && made.positions == *positions
        {
            return Ok(made.plan.clone());
        }
        let plan = Arc::new(Self::new(card, lengths, positions)?);
        *last = Some(Made {
            card: card.0.id(),
            lengths: lengths.to_vec(),
            positions: positions.clone(),
            plan: plan.clone(),
        });
        Ok(plan)
    }

    fn new(card: Card, lengths: &[usize], positions: &[u32]) -> Result<Self> {
        let (mut bounds, mut tiles, mut start) = (Vec::new(), Vec::new(), 0);
        for &length in lengths {
            for _ in 0..length {
                bounds.extend([start as i32, (start + length) as i32]);
            }
            // Those that see the most keys first: what is begun last takes the least.
            for first in (0..length).step_by(TILE).rev() {
                tiles.extend([start as i32, length as i32, first as i32, 0]);
            }
            start += length;
        }
        Ok(Plan {
            positions: card.upload(positions)?,
            bounds: card.upload(&bounds)?,
            tile_count: tiles.len() / 4,
            tiles: card.upload(&tiles)?,
        })
    }
}
