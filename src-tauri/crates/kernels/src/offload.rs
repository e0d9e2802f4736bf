//! Tensors of a card that wait in the machine's memory until they are wanted again.

use candle_core::{Result, Tensor};

/// Sends tensors away and has them back. On the processor they are where they are to wait.
#[derive(Debug, Default)]
pub struct Offload {
    #[cfg(feature = "cuda")]
    leaving: crate::cuda::Leaving,
}

/// A tensor that waits.
#[derive(Debug)]
pub struct Offloaded(Place);

#[derive(Debug)]
enum Place {
    Here(Tensor),
    #[cfg(feature = "cuda")]
    Away(crate::cuda::Away),
}

impl Offload {
    /// Begins to send a tensor away, as it is once all is done that was asked for before. Its memory on a card is free again when the
    /// next one is sent.
    ///
    /// # Errors
    /// The machine has no memory left, or the card fails.
    pub fn send(&mut self, tensor: &Tensor) -> Result<Offloaded> {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            return self.leaving.send(tensor).map(|away| Offloaded(Place::Away(away)));
        }
        Ok(Offloaded(Place::Here(tensor.clone())))
    }
}

impl Offloaded {
    /// Begins to bring it back while other work goes on.
    ///
    /// # Errors
    /// The card has no memory left, or fails.
    pub fn call_back(&mut self) -> Result<()> {
        match &mut self.0 {
            Place::Here(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Place::Away(away) => away.call_back(),
        }
    }

    /// The tensor, which is no operand of anything on the tape.
    ///
    /// # Errors
    /// The card has no memory left, or fails.
    pub fn take(self) -> Result<Tensor> {
        match self.0 {
            Place::Here(tensor) => Ok(tensor.detach()),
            #[cfg(feature = "cuda")]
            Place::Away(away) => away.take(),
        }
    }
}
