//! AdamW's moving means beside the weights they are of: in memory of the card, or in managed memory, whose pages the driver moves to
//! the machine's memory where the card's gets short, and back as they are used.

use candle_core::{
    CudaDevice, Device, Result,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaSlice, result, sys},
    },
};

use super::{
    card::{Card, Numbers},
    precision::Precision,
};

/// Both means of a tensor on a card.
#[derive(Debug)]
pub struct Moments {
    len: usize,
    m: Memory,
    v: Memory,
}

#[derive(Debug)]
enum Memory {
    Card(CudaSlice<f32>, CudaDevice),
    Managed(Managed),
}

/// Memory that the driver keeps where it is used.
#[derive(Debug)]
struct Managed {
    at: sys::CUdeviceptr,
    device: CudaDevice,
}

impl Managed {
    #[allow(unsafe_code)]
    fn new(values: &[f32], device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let flags = sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL;
        // SAFETY: the memory is filled before it is read.
        let at = unsafe { result::malloc_managed(size_of_val(values).max(1), flags) }.w()?;
        let managed = Managed { at, device: device.clone() };
        // SAFETY: there is room for all values, which are there until the copy is done.
        unsafe { result::memcpy_htod_async(at, values, stream.cu_stream()) }.w()?;
        stream.synchronize().w()?;
        Ok(managed)
    }
}

impl Drop for Managed {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // Where the card fails there is nothing left to give back.
        let _ = self.device.cuda_stream().synchronize();
        // SAFETY: it came from `malloc_managed`, and no kernel works on it any more.
        let _ = unsafe { result::free_sync(self.at) };
    }
}

impl Memory {
    fn new(values: &[f32], device: &CudaDevice, paged: bool) -> Result<Self> {
        // Where a driver has no managed memory, the card's own does.
        match paged.then(|| Managed::new(values, device)) {
            Some(Ok(managed)) => Ok(Memory::Managed(managed)),
            Some(Err(_)) | None => Ok(Memory::Card(device.clone_htod(values)?, device.clone())),
        }
    }

    fn numbers(&self) -> Numbers {
        match self {
            Memory::Card(slice, device) => Card(device).f32(slice),
            Memory::Managed(managed) => Numbers { at: managed.at, precision: Precision::F32 },
        }
    }

    #[allow(unsafe_code)]
    fn read(&self, to: &mut [f32]) -> Result<()> {
        let device = match self {
            Memory::Card(_, device) => device,
            Memory::Managed(managed) => &managed.device,
        };
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        // SAFETY: `Moments` reads as many numbers as there are; this waits until they are there.
        unsafe { result::memcpy_dtoh_async(to, self.numbers().at, stream.cu_stream()) }.w()?;
        stream.synchronize().w()
    }
}

impl Moments {
    /// These means on a card; `paged` ones in managed memory.
    ///
    /// # Errors
    /// The device is no card, there is no memory left, or the means have different lengths.
    pub fn new(device: &Device, (m, v): (&[f32], &[f32]), paged: bool) -> Result<Self> {
        let card = device.as_cuda_device()?;
        if m.len() != v.len() {
            candle_core::bail!("both means have one length, not {} and {}", m.len(), v.len());
        }
        Ok(Moments { len: m.len(), m: Memory::new(m, card, paged)?, v: Memory::new(v, card, paged)? })
    }

    /// Copies them into the machine's memory.
    ///
    /// # Errors
    /// The card fails, or there is room for more or for less.
    pub fn read(&self, (m, v): (&mut [f32], &mut [f32])) -> Result<()> {
        if m.len() != self.len || v.len() != self.len {
            candle_core::bail!("{} means are not read into {} and {}", self.len, m.len(), v.len());
        }
        self.m.read(m)?;
        self.v.read(v)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn numbers(&self) -> [Numbers; 2] {
        [self.m.numbers(), self.v.numbers()]
    }
}
