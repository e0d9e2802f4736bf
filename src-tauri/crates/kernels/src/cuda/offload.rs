//! Tensors that wait in pinned memory of the machine. They are copied on a stream of their own, beside what is computed; the streams
//! wait for each other where one needs what the other does, and the processor waits for neither.

use std::{
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{
    CudaDevice, Result, Shape, Tensor, bail,
    cuda_backend::{
        DeviceId, WrapErr,
        cudarc::driver::{CudaEvent, CudaSlice, CudaStream, result},
    },
};

use super::{
    card::{Card, numbers},
    precision::Precision,
};

/// Numbers that pinned memory is taken for at a time.
const UNIT: usize = 1 << 18;

/// The stream of copies, and pinned memory that is free. Both are kept: pinning takes longer than copying.
struct Kept {
    card: DeviceId,
    copies: Arc<CudaStream>,
    free: Vec<Pinned>,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// What is kept for this card.
fn kept<R>(card: Card, f: impl FnOnce(&mut Kept) -> Result<R>) -> Result<R> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = kept.as_mut().filter(|kept| kept.card == card.0.id()) {
        return f(kept);
    }
    let copies = card.0.cuda_stream().context().new_stream().w()?;
    f(kept.insert(Kept { card: card.0.id(), copies, free: Vec::new() }))
}

/// Memory of the machine that copies to and from the card reach by themselves.
#[derive(Debug)]
struct Pinned {
    at: *mut f32,
    len: usize,
    copies: Arc<CudaStream>,
}

// SAFETY: it is plain memory with one owner.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}
// SAFETY: it is read and written by copies alone, which are in the order of their stream.
#[allow(unsafe_code)]
unsafe impl Sync for Pinned {}

impl Pinned {
    #[allow(unsafe_code)]
    fn new(len: usize, copies: &Arc<CudaStream>) -> Result<Self> {
        let len = len.next_multiple_of(UNIT);
        copies.context().bind_to_thread().w()?;
        // SAFETY: the size is not zero, and the memory is written before it is read.
        let at = unsafe { result::malloc_host(len * size_of::<f32>(), 0) }.w()?;
        Ok(Pinned { at: at.cast(), len, copies: copies.clone() })
    }
}

impl Drop for Pinned {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // Whether it can be given back no longer matters where the card fails.
        let _ = self.copies.synchronize();
        // SAFETY: it came from `malloc_host`, and no copy is under way any more.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}

impl Kept {
    /// Room for so many numbers: the least that is large enough, else new room in place of some that is too small.
    fn room(&mut self, count: usize) -> Result<Pinned> {
        let fitting = self.free.iter().enumerate().filter(|(_, room)| room.len >= count);
        match fitting.min_by_key(|(_, room)| room.len).map(|(index, _)| index) {
            Some(index) => Ok(self.free.swap_remove(index)),
            None => {
                self.free.pop();
                Pinned::new(count, &self.copies)
            }
        }
    }
}

/// The tensor that is on its way: its memory may not be used for anything else before it has left.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Option<(Tensor, CudaEvent)>);

impl Leaving {
    /// Lets go of the memory of what was sent last, in the order of the stream that computes.
    fn settle(&mut self) -> Result<()> {
        if let Some((tensor, left)) = self.0.take() {
            Card::of(&tensor)?.0.cuda_stream().wait(&left).w()?;
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    pub fn send(&mut self, tensor: &Tensor) -> Result<Away> {
        self.settle()?;
        let tensor = tensor.contiguous()?.detach();
        let (card, from, count) = (Card::of(&tensor)?, numbers(&tensor)?, tensor.elem_count());
        if from.precision != Precision::F32 {
            bail!("only f32 tensors are sent away, not {:?}", from.precision);
        }
        let (room, left) = kept(card, |kept| {
            let room = kept.room(count)?;
            kept.copies.join(&card.0.cuda_stream()).w()?;
            // SAFETY: both have so many numbers. The room is given to nobody before the copy is done, since copies are in order; the
            // tensor is held until the computing stream has waited for it.
            unsafe {
                let to = slice::from_raw_parts_mut(room.at, count);
                result::memcpy_dtoh_async(to, from.at, kept.copies.cu_stream()).w()?;
            }
            let left = kept.copies.record_event(None).w()?;
            Ok((room, left))
        })?;
        let away =
            Away { device: card.0.clone(), shape: tensor.shape().clone(), room: Some(room), coming: None };
        self.0 = Some((tensor, left));
        Ok(away)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

/// A tensor in pinned memory, or on its way back.
#[derive(Debug)]
pub(crate) struct Away {
    device: CudaDevice,
    shape: Shape,
    room: Option<Pinned>,
    coming: Option<(CudaSlice<f32>, CudaEvent)>,
}

impl Away {
    #[allow(unsafe_code)]
    pub fn call_back(&mut self) -> Result<()> {
        let (card, count) = (Card(&self.device), self.shape.elem_count());
        let Some(room) = self.room.as_ref().filter(|_| self.coming.is_none()) else { return Ok(()) };
        let to = card.floats(count)?;
        let arrived = kept(card, |kept| {
            // The memory is free for it only where the computing stream has come to.
            kept.copies.join(&card.0.cuda_stream()).w()?;
            // SAFETY: both have so many numbers; the room is given back, and the memory used, after this copy.
            unsafe {
                let from = slice::from_raw_parts(room.at, count);
                result::memcpy_htod_async(card.address(&to), from, kept.copies.cu_stream()).w()?;
            }
            kept.copies.record_event(None).w()
        })?;
        self.coming = Some((to, arrived));
        Ok(())
    }

    pub fn take(mut self) -> Result<Tensor> {
        self.call_back()?;
        let card = Card(&self.device);
        let Some((slice, arrived)) = self.coming.take() else { bail!("a tensor comes back once") };
        card.0.cuda_stream().wait(&arrived).w()?;
        Ok(card.tensor(slice, self.shape.clone()))
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        // Memory that a copy still writes may not be used for anything else.
        if let Some((slice, arrived)) = self.coming.take() {
            let _ = slice.stream().wait(&arrived);
        }
        if let Some(room) = self.room.take() {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(kept) = kept.as_mut().filter(|kept| kept.card == self.device.id()) {
                kept.free.push(room);
            }
        }
    }
}
