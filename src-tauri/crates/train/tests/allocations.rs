//! Once the first steps have been done, large buffers are kept for the next step instead of taken anew: each that is costs a
//! search of the allocator, and each of its pages that the system gives anew must be cleared first.
//!
//! `MODELFORGE_ALLOCATIONS=sizes` prints how many buffers of each size a step takes, `=callers` also who takes them.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an allocator that counts is unsafe to declare; a test may fail loudly and shows what it measured"
)]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    backtrace::Backtrace,
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use candle_core::{Device, Tensor};
use serde_json::json;
use support::{Shape, batch, config, job, model_of};
use train::{
    BatchRun, GivenBatches, OPTIMIZERS, Outcome, gradients::Gradients, optimizers::Parameter, run_batches,
};
use types::{Provider, TrainEvent};

/// Buffers up to this size are not counted, in bytes.
const LARGE: usize = 64 << 10;
/// Steps until everything that is kept from step to step is there, and steps that are counted then.
const WARM_UP: usize = 3;
const COUNTED: usize = 4;
/// For the tensors of candle's tape: a layer's output and gradients, and sums of those. The kernels' own are kept.
const MOST_A_LAYER: usize = 20;

/// The starter model's sizes.
const STARTER: Shape =
    Shape { vocab: 6144, hidden: 256, layers: 6, heads: 4, kv_heads: 2, mlp: 704, tied: true };

#[global_allocator]
static COUNTING: Counting = Counting {
    large: AtomicU64::new(0),
    sizes: [const { Slot::new() }; 512],
    callers: AtomicBool::new(false),
};

/// The system's allocator; counts large buffers.
struct Counting {
    large: AtomicU64,
    sizes: [Slot; 512],
    /// Whether to remember who asks.
    callers: AtomicBool,
}

/// How often a size was asked for.
struct Slot {
    bytes: AtomicUsize,
    count: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self { bytes: AtomicUsize::new(0), count: AtomicU64::new(0) }
    }
}

/// By what was called where, and the size.
static CALLERS: Mutex<BTreeMap<(String, usize), u64>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Set while this thread finds out who called, which allocates.
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

impl Counting {
    fn count(&self, bytes: usize) {
        if bytes <= LARGE || LOOKING.get() {
            return;
        }
        self.large.fetch_add(1, Relaxed);
        let slot = self.sizes.iter().find(|slot| {
            let found = slot.bytes.compare_exchange(0, bytes, Relaxed, Relaxed);
            found.is_ok() || found == Err(bytes)
        });
        if let Some(slot) = slot {
            slot.count.fetch_add(1, Relaxed);
        }
        if self.callers.load(Relaxed) {
            LOOKING.set(true);
            *CALLERS.lock().unwrap().entry((caller(), bytes)).or_default() += 1;
            LOOKING.set(false);
        }
    }

    /// Forgets what was counted.
    fn reset(&self) {
        self.large.store(0, Relaxed);
        self.sizes.iter().for_each(|slot| slot.count.store(0, Relaxed));
        CALLERS.lock().unwrap().clear();
    }

    fn print(&self, steps: usize) {
        let mut sizes: Vec<(usize, u64)> =
            self.sizes.iter().map(|slot| (slot.bytes.load(Relaxed), slot.count.load(Relaxed))).collect();
        sizes.retain(|(_, count)| *count > 0);
        sizes.sort_unstable();
        for (bytes, count) in sizes {
            println!("{bytes:>10} bytes: {} a step", count as f64 / steps as f64);
        }
        for ((caller, bytes), count) in CALLERS.lock().unwrap().iter() {
            println!("{bytes:>10} bytes: {} a step by {caller}", *count as f64 / steps as f64);
        }
    }
}

/// The innermost functions of this program on the stack.
fn caller() -> String {
    const OURS: [&str; 6] = ["kernels::", "models::", "train::", "data::", "candle_core::", "rayon"];
    let trace = Backtrace::force_capture().to_string();
    let names = trace.lines().filter_map(|line| Some(line.trim().split_once(": ")?.1));
    let ours = names.filter(|name| OURS.iter().any(|crate_name| name.contains(crate_name)));
    ours.take(4).collect::<Vec<_>>().join(" < ")
}

// SAFETY: everything is left to the system's allocator; counting touches no memory of its callers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Pages that this process has been given so far; none where the system does not tell.
#[cfg(unix)]
fn page_faults() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is as large as the system writes, and all zeros is a value of it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    usage.ru_minflt
}

#[cfg(not(unix))]
fn page_faults() -> i64 {
    0
}

/// Large buffers that the counted steps took, and the pages that the system cleared for them.
fn count(bf16: bool, checkpointing: bool) -> (u64, i64) {
    let model = model_of(&STARTER, 16, 0.1, bf16, Provider::Unsloth);
    let steps = (0..WARM_UP + COUNTED).map(|_| vec![batch(STARTER.vocab, &[50; 8], 1)]);
    let mut batches = GivenBatches { steps: steps.collect(), eval: Vec::new() };
    let settings =
        config(&json!({"gradient_checkpointing": checkpointing, "lora_dropout": 0.1, "bf16": bf16,
        "save_steps": 1000}));
    let (_folder, job) = job();
    let (mut done, mut faults, mut counted) = (0, 0, (0, 0));
    let asked = std::env::var("MODELFORGE_ALLOCATIONS").unwrap_or_default();
    let run = BatchRun {
        model: model.as_ref(),
        batches: &mut batches,
        config: &settings,
        job: &job,
        resume: None,
        answers: None,
    };
    let mut sink = |event| {
        let TrainEvent::Step(_) = event else { return };
        done += 1;
        if done == WARM_UP {
            COUNTING.reset();
            COUNTING.callers.store(asked == "callers", Relaxed);
            faults = page_faults();
        } else if done == WARM_UP + COUNTED {
            counted = (COUNTING.large.load(Relaxed), page_faults() - faults);
            COUNTING.callers.store(false, Relaxed);
            if !asked.is_empty() {
                COUNTING.print(COUNTED);
            }
        }
    };
    let outcome = run_batches(run, &mut sink, &|| None);
    assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
    println!(
        "bf16 {bf16}, checkpointing {checkpointing}: {} buffers over {LARGE} bytes and {} pages a step",
        counted.0 as f64 / COUNTED as f64,
        counted.1 as f64 / COUNTED as f64
    );
    counted
}

/// What is counted is counted for the whole program: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn adding_up_clipping_and_updating_take_no_large_buffer() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = COUNTING.large.load(Relaxed);
    drop(std::hint::black_box(vec![1u8; LARGE + 1]));
    assert!(COUNTING.large.load(Relaxed) > before, "what is to be counted is counted");

    let sizes = [1 << 16, 40_000];
    let parts = sizes.map(|size| Tensor::full(0.5f32, (size / 4, 4), &Device::Cpu).unwrap());
    for entry in OPTIMIZERS {
        let mut gradients = Gradients::zeros(sizes);
        let mut weights = sizes.map(|size| vec![0.1f32; size]);
        let mut optimizers = sizes.map(|len| (entry.build)(Parameter { len, weight_decay: 0.01 }));
        let mut step = |step| {
            gradients.reset().unwrap();
            for (index, part) in parts.iter().enumerate() {
                gradients.add(index, part).unwrap();
                gradients.add(index, part).unwrap();
            }
            gradients.clip(0.3).unwrap();
            for ((optimizer, weights), gradient) in
                optimizers.iter_mut().zip(&mut weights).zip(gradients.iter())
            {
                assert!(optimizer.update(weights, gradient, step, 1e-3));
            }
        };
        step(1);
        let before = COUNTING.large.load(Relaxed);
        step(2);
        assert_eq!(COUNTING.large.load(Relaxed), before, "{}: none after the first step", entry.name);
    }
}

#[test]
fn steps_take_few_large_buffers_anew() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (bf16, checkpointing) in [(false, false), (false, true), (true, false), (true, true)] {
        let taken = count(bf16, checkpointing).0 as usize;
        let most = MOST_A_LAYER * STARTER.layers * COUNTED;
        assert!(
            taken <= most,
            "bf16 {bf16}, checkpointing {checkpointing}: {taken} in {COUNTED} steps, not {most}"
        );
    }
}
