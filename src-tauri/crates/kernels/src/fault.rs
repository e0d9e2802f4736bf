//! Why a card failed. What is done about it is the same in builds that know of no card.

/// Why a card failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardFault {
    /// It had no more memory to give.
    OutOfMemory,
    /// It does not answer any more, or what it was at is damaged: no call of this process succeeds from now on.
    Lost,
}

/// The processor has no faults of its own, and a Mac's GPU does not tell of its.
#[cfg(not(feature = "cuda"))]
pub fn card_fault(_: &candle_core::Error) -> Option<CardFault> {
    None
}
