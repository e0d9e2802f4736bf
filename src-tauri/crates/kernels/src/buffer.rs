//! Large buffers that are used again: every step of a run asks for the same ones.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use half::bf16;
use memmap2::MmapMut;

/// A cache line. Vectors that start with one never lie across two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

const LINE: usize = size_of::<Line>();

/// Lines from which on memory is asked of the system itself, to which all of it goes back when it is freed.
const MAPPED: usize = (1 << 20) / LINE;

/// Lines that may be idle beyond what once was used at the same time: buffers of sizes that do not fit each other.
const SPARE: usize = (16 << 20) / LINE;

/// Whole cache lines.
enum Memory {
    Heap(Vec<Line>),
    Mapped(MmapMut),
}

impl Memory {
    /// All zeros.
    fn new(lines: usize) -> Self {
        let heap = || Memory::Heap(vec![Line([0; 16]); lines]);
        if lines < MAPPED {
            return heap();
        }
        MmapMut::map_anon(lines * LINE).map_or_else(|_| heap(), Memory::Mapped)
    }

    /// How many there are.
    fn lines(&self) -> usize {
        match self {
            Memory::Heap(lines) => lines.len(),
            Memory::Mapped(map) => map.len() / LINE,
        }
    }

    fn start(&self) -> *const u8 {
        match self {
            Memory::Heap(lines) => lines.as_ptr().cast(),
            Memory::Mapped(map) => map.as_ptr(),
        }
    }

    fn start_mut(&mut self) -> *mut u8 {
        match self {
            Memory::Heap(lines) => lines.as_mut_ptr().cast(),
            Memory::Mapped(map) => map.as_mut_ptr(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::Heap(Vec::new())
    }
}

/// Numbers of which every pattern of bits is one, and which a line can hold.
pub(crate) trait Plain: Copy + Send + Sync {}
impl Plain for f32 {}
impl Plain for bf16 {}
impl Plain for u32 {}

/// A slice of numbers, aligned to cache lines. Its memory comes from buffers that are no longer used and goes back to them.
pub(crate) struct Buffer<T: Plain> {
    memory: Memory,
    len: usize,
    holds: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// `len` numbers of any value: what an earlier buffer held, or zeros.
    pub(crate) fn any(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        let memory = POOL.lock().unwrap_or_else(PoisonError::into_inner).take(lines);
        Buffer { memory, len, holds: PhantomData }
    }

    /// Makes place for `len` numbers of any value.
    pub(crate) fn resize(&mut self, len: usize) {
        if len * size_of::<T>() > self.memory.lines() * LINE {
            *self = Buffer::any(len);
        }
        self.len = len;
    }
}

impl Buffer<f32> {
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Buffer::any(len);
        buffer.fill(0.0);
        buffer
    }
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { memory: Memory::default(), len: 0, holds: PhantomData }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` numbers, all of them initialised, and every pattern of bits is one.
        unsafe { std::slice::from_raw_parts(self.memory.start().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start_mut().cast(), self.len) }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.memory.lines() > 0 {
            let memory = std::mem::take(&mut self.memory);
            POOL.lock().unwrap_or_else(PoisonError::into_inner).give_back(memory);
        }
    }
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} numbers", self.len)
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// What is not used at the moment. Little more memory is held, used or not, than once was used at the same time.
struct Pool {
    /// By their size; never an empty list.
    idle: BTreeMap<usize, Vec<Memory>>,
    idle_lines: usize,
    used: usize,
    most_used: usize,
}

impl Pool {
    const fn new() -> Self {
        Pool { idle: BTreeMap::new(), idle_lines: 0, used: 0, most_used: 0 }
    }

    /// The smallest buffer that is large enough and little of it wasted, or a new one.
    fn take(&mut self, lines: usize) -> Memory {
        if lines == 0 {
            return Memory::default();
        }
        let fit = self.idle.range(lines..=lines + lines / 8).next().map(|(&size, _)| size);
        let buffer = fit.and_then(|size| self.remove(size)).unwrap_or_else(|| {
            self.make_room(lines);
            Memory::new(lines)
        });
        self.used += buffer.lines();
        self.most_used = self.most_used.max(self.used);
        buffer
    }

    fn give_back(&mut self, buffer: Memory) {
        self.used -= buffer.lines();
        self.idle_lines += buffer.lines();
        self.idle.entry(buffer.lines()).or_default().push(buffer);
    }

    /// An idle buffer of this very size.
    fn remove(&mut self, size: usize) -> Option<Memory> {
        let same = self.idle.get_mut(&size)?;
        let buffer = same.pop();
        if same.is_empty() {
            self.idle.remove(&size);
        }
        self.idle_lines -= size;
        buffer
    }

    /// Frees idle buffers, the largest first, until a new one takes little more than there was before.
    fn make_room(&mut self, lines: usize) {
        let most = self.most_used.max(self.used + lines) + SPARE;
        while self.used + lines + self.idle_lines > most {
            let Some((&size, _)) = self.idle.last_key_value() else { return };
            self.remove(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_where_it_fits() {
        let mut pool = Pool::new();
        let (small, large) = (pool.take(10), pool.take(100));
        let (small_at, large_at) = (small.start(), large.start());
        pool.give_back(large);
        pool.give_back(small);
        let smallest = pool.take(9);
        assert_eq!(smallest.start(), small_at, "the smallest that fits");
        let again = pool.take(95);
        assert_eq!((again.start(), again.lines()), (large_at, 100));
    }

    #[test]
    fn little_more_is_held_than_once_was_used() {
        let mut pool = Pool::new();
        for lines in (SPARE / 10..2 * SPARE).step_by(SPARE / 9) {
            let (one, other) = (pool.take(lines), pool.take(3 * lines));
            assert!(pool.used + pool.idle_lines <= pool.most_used + SPARE, "{lines} lines");
            pool.give_back(one);
            pool.give_back(other);
            assert_eq!(pool.idle_lines, pool.idle.values().flatten().map(Memory::lines).sum::<usize>());
        }
        assert_eq!(pool.used, 0);
    }

    #[test]
    fn buffers_are_aligned_and_as_long_as_asked() {
        for len in [0, 1, 15, 16, 17, 1000, 1 << 20] {
            let mut buffer = Buffer::<bf16>::any(len);
            buffer.fill(bf16::ONE);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % LINE), (len, 0), "{len}");
            buffer.resize(3 * len);
            assert_eq!(buffer.len(), 3 * len);
            assert!(Buffer::zeros(len).iter().all(|&v| v == 0.0));
        }
    }
}
