//! A card, memory on it, and how kernels and products are started.

use candle_core::{
    CudaDevice, CudaStorage, Device, Result, Shape, Storage, Tensor,
    backend::BackendStorage,
    bail,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::{
            cublas::{result::gemm_ex, sys as blas},
            driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg, sys},
        },
    },
    op::BackpropOp,
};
use half::{bf16, f16};

use super::precision::Precision;

/// The card of this number, made ready: all work on one stream, and freed memory kept for the next allocation.
///
/// # Errors
/// There is no driver, it is too old, or there is no such card.
#[allow(unsafe_code)]
pub fn card(number: usize) -> Result<Device> {
    super::faults::check_driver()?;
    let device = Device::new_cuda_with_stream(number)?;
    let card = device.as_cuda_device()?;
    // SAFETY: there is one stream, so work and the freeing of memory are in order without events.
    unsafe { card.disable_event_tracking() };
    let stream = card.cuda_stream();
    let mut kept = u64::MAX;
    let mut pool = std::ptr::null_mut();
    let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the card exists, both places are valid, and the attribute is a 64-bit number.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device()).result().w()?;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut kept).cast()).result().w()?;
    }
    Ok(device)
}

/// What a card has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The most that this process has used.
    pub peak: u64,
    /// What it uses now.
    pub used: u64,
    /// What is free, for any process.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// How much memory of a card is used; none on another device.
///
/// # Errors
/// The driver does not tell.
#[allow(unsafe_code)]
pub fn memory(device: &Device) -> Result<Option<Memory>> {
    let Device::Cuda(card) = device else { return Ok(None) };
    let stream = card.cuda_stream();
    let (free, total) = stream.context().mem_get_info().w()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the card exists and the place is valid.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, stream.context().cu_device()).result().w()? };
    let ask = |attribute| -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: both attributes are 64-bit numbers.
        unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()).result().w()? };
        Ok(value)
    };
    use sys::CUmemPool_attribute_enum::{CU_MEMPOOL_ATTR_USED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_HIGH};
    let (peak, used) = (ask(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?, ask(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?);
    Ok(Some(Memory { peak, used, free: free as u64, total: total as u64 }))
}

/// Where numbers lie on the card, and in which precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub at: u64,
    pub precision: Precision,
}

impl Numbers {
    /// Those from `first` on.
    pub fn from(self, first: usize) -> Self {
        Numbers { at: self.at + (first * self.size()) as u64, ..self }
    }

    pub fn size(self) -> usize {
        self.precision.size()
    }

    /// The end of the name of the kernel that works on such numbers.
    pub fn suffix(self) -> &'static str {
        self.precision.suffix()
    }
}

/// Memory on the card.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    slice: CudaSlice<u8>,
    precision: Precision,
}

impl Room {
    /// Its numbers.
    pub fn numbers(&self, card: &Card) -> Numbers {
        Numbers { at: card.address(&self.slice), precision: self.precision }
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::large_enum_variant, reason = "they live for a call, and the driver is given their address")]
pub(crate) enum Arg {
    At(u64),
    Int(i32),
    Long(i64),
    Bits(u32),
    Seed(u64),
    Real(f32),
    /// Several of them as one.
    Table(super::beside::Table),
}

impl From<Numbers> for Arg {
    fn from(numbers: Numbers) -> Self {
        Arg::At(numbers.at)
    }
}

impl From<usize> for Arg {
    fn from(value: usize) -> Self {
        Arg::Int(value as i32)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Arg::Real(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Arg::Int(i32::from(value))
    }
}

/// A source of kernels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Rows,
    Train,
    Plain,
    /// On tensor cores in bf16, in f16, and in f16 on cards of compute capability 7.5.
    Attention,
    AttentionHalf,
    AttentionTuring,
}

impl Source {
    fn text(self) -> (&'static str, &'static str) {
        match self {
            Source::Rows => ("rows", include_str!(concat!(env!("OUT_DIR"), "/rows.ptx"))),
            Source::Train => ("train", include_str!(concat!(env!("OUT_DIR"), "/train.ptx"))),
            Source::Plain => ("plain", include_str!(concat!(env!("OUT_DIR"), "/plain.ptx"))),
            Source::Attention => ("attention", include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"))),
            Source::AttentionHalf => {
                ("attention-half", include_str!(concat!(env!("OUT_DIR"), "/attention-half.ptx")))
            }
            Source::AttentionTuring => {
                ("attention-turing", include_str!(concat!(env!("OUT_DIR"), "/attention-turing.ptx")))
            }
        }
    }
}

/// How many blocks, threads of each, and bytes that they share beside what the kernel declares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub blocks: (usize, usize),
    pub threads: u32,
    pub shared: u32,
}

impl Grid {
    /// A block of so many threads for each of `count`.
    pub fn each(count: usize, threads: u32) -> Self {
        Grid { blocks: (count, 1), threads, shared: 0 }
    }

    /// A thread for each of `count`.
    pub fn threads(count: usize) -> Self {
        Grid { blocks: (count.div_ceil(256), 1), threads: 256, shared: 0 }
    }

    /// A thread for each eight values of rows that are so wide.
    pub fn of_rows(rows: usize, width: usize) -> Self {
        Grid { blocks: (rows, width.div_ceil(8 * 256)), threads: 256, shared: 0 }
    }

    /// A warp for each of `count`.
    pub fn warps(count: usize) -> Self {
        Grid { blocks: (count.div_ceil(8), 1), threads: 256, shared: 0 }
    }
}

/// A matrix of a product: row after row, `pitch` apart, or the other way round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub numbers: Numbers,
    pub pitch: usize,
    /// Whether what lies row after row is the transposed matrix.
    pub turned: bool,
}

impl Matrix {
    pub fn rows(numbers: Numbers, pitch: usize) -> Self {
        Matrix { numbers, pitch, turned: false }
    }

    pub fn columns(numbers: Numbers, pitch: usize) -> Self {
        Matrix { numbers, pitch, turned: true }
    }
}

/// `[m, k]` by `[k, n]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// A card to compute on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Card<'a>(pub &'a CudaDevice);

impl<'a> Card<'a> {
    /// That of a tensor.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        match tensor.device() {
            Device::Cuda(device) => Ok(Card(device)),
            _ => bail!("a tensor on the card is expected here"),
        }
    }

    /// The compute capability, such as 75.
    pub fn capability(&self) -> Result<i32> {
        let (major, minor) = self.0.cuda_stream().context().compute_capability().w()?;
        Ok(10 * major + minor)
    }

    pub fn address<T>(&self, slice: &CudaSlice<T>) -> u64 {
        slice.device_ptr(&self.0.cuda_stream()).0
    }

    /// Room for so many numbers, of any value.
    #[allow(unsafe_code)]
    pub fn room(&self, precision: Precision, count: usize) -> Result<Room> {
        let bytes = count.max(1) * precision.size();
        // SAFETY: bytes of any value are bytes; whoever asks writes before it reads.
        Ok(Room { slice: unsafe { self.0.alloc::<u8>(bytes)? }, precision })
    }

    /// The same for an operation's result.
    #[allow(unsafe_code)]
    pub fn floats(&self, count: usize) -> Result<CudaSlice<f32>> {
        // SAFETY: any bits are a number; whoever asks writes before it reads.
        unsafe { self.0.alloc::<f32>(count.max(1)) }
    }

    /// Numbers of a slice of f32.
    pub fn f32(&self, slice: &CudaSlice<f32>) -> Numbers {
        Numbers { at: self.address(slice), precision: Precision::F32 }
    }

    /// A result as candle has it.
    pub fn storage(&self, slice: CudaSlice<f32>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(slice, self.0.clone())
    }

    /// A tensor of its own.
    pub fn tensor(&self, slice: CudaSlice<f32>, shape: impl Into<Shape>) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage(slice)), shape, BackpropOp::none(), false)
    }

    /// Numbers from the machine's memory.
    pub fn upload<T>(&self, values: &[T]) -> Result<CudaSlice<T>>
    where
        T: candle_core::cuda_backend::cudarc::driver::DeviceRepr + 'static,
    {
        self.0.clone_htod(values)
    }

    /// Starts a kernel.
    #[allow(unsafe_code)]
    pub fn start(&self, source: Source, name: &str, grid: Grid, args: &[Arg]) -> Result<()> {
        if grid.blocks.0 == 0 || grid.blocks.1 == 0 {
            return Ok(());
        }
        let (module, text) = source.text();
        let function = self.0.get_or_load_custom_func(name, module, text)?;
        // What a block may share without being asked for more.
        const USUAL: u32 = 48 << 10;
        if grid.shared > USUAL {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, grid.shared as i32).w()?;
        }
        let mut builder = function.builder();
        for arg in args {
            match arg {
                Arg::At(v) | Arg::Seed(v) => builder.arg(v),
                Arg::Int(v) => builder.arg(v),
                Arg::Long(v) => builder.arg(v),
                Arg::Bits(v) => builder.arg(v),
                Arg::Real(v) => builder.arg(v),
                Arg::Table(v) => builder.arg(v),
            };
        }
        let config = LaunchConfig {
            grid_dim: (grid.blocks.0 as u32, grid.blocks.1 as u32, 1),
            block_dim: (grid.threads, 1, 1),
            shared_mem_bytes: grid.shared,
        };
        // SAFETY: each kernel is started from one place, beside which its parameters are listed in the same order; addresses are of
        // memory that is freed in the order of the stream.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }

    /// `c ← alpha · a b + beta · c`, rows of `c` being `pitch` apart; sums are f32.
    #[allow(unsafe_code)]
    pub fn multiply(
        &self,
        Size { m, n, k }: Size,
        alpha: f32,
        (a, b): (Matrix, Matrix),
        beta: f32,
        (c, pitch): (Numbers, usize),
    ) -> Result<()> {
        if m == 0 || n == 0 {
            return Ok(());
        }
        if a.numbers.precision != b.numbers.precision {
            bail!("both factors of a product have one precision");
        }
        let turn = |turned| {
            if turned { blas::cublasOperation_t::CUBLAS_OP_T } else { blas::cublasOperation_t::CUBLAS_OP_N }
        };
        self.0.cuda_stream().context().bind_to_thread().w()?;
        let handle = self.0.cublas_handle();
        // The library has matrices column after column: it is given the transposed product.
        // SAFETY: the callers give sizes and pitches of memory that they have made or checked.
        unsafe {
            gemm_ex(
                *handle.handle(),
                turn(b.turned),
                turn(a.turned),
                n as i32,
                m as i32,
                k as i32,
                (&raw const alpha).cast(),
                b.numbers.at as *const _,
                b.numbers.precision.of_products(),
                b.pitch as i32,
                a.numbers.at as *const _,
                a.numbers.precision.of_products(),
                a.pitch as i32,
                (&raw const beta).cast(),
                c.at as *mut _,
                c.precision.of_products(),
                pitch as i32,
                blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .w()
    }
}

/// The compute capability of a card.
pub(crate) fn capability(card: &CudaDevice) -> Result<i32> {
    Card(card).capability()
}

/// Where the numbers of a contiguous tensor on the card lie.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Numbers> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => numbers_of(storage, layout),
        _ => bail!("a tensor on the card is expected here"),
    }
}

/// The same of a storage.
pub(crate) fn numbers_of(storage: &CudaStorage, layout: &candle_core::Layout) -> Result<Numbers> {
    let Some((from, _)) = layout.contiguous_offsets() else {
        bail!("a contiguous tensor is expected here");
    };
    let card = Card(storage.device());
    let numbers = match &storage.slice {
        CudaStorageSlice::F32(slice) => card.f32(slice),
        CudaStorageSlice::BF16(slice) => {
            Numbers { at: card.address::<bf16>(slice), precision: Precision::Bf16 }
        }
        CudaStorageSlice::F16(slice) => Numbers { at: card.address::<f16>(slice), precision: Precision::F16 },
        _ => bail!("only f32, bf16 and f16 tensors are computed on, not {:?}", storage.dtype()),
    };
    Ok(numbers.from(from))
}
