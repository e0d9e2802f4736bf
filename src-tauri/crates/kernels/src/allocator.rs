//! How the system's allocator treats large buffers, and what happens when the system has no more memory.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU8, Ordering},
};

/// The exit code of [`exit_when_out_of_memory`]; 0 while nobody has asked for it.
static EXIT: AtomicU8 = AtomicU8::new(0);

/// How the standard library ends its words for ENOMEM, which has this number on every Unix.
const NO_MEMORY: &str = "(os error 12)";

/// The system's allocator. Where the system gives no more memory, a program that has called [`exit_when_out_of_memory`] ends with the
/// code it named, so that whoever started it can tell that from a fault of the program.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call goes to the system's allocator unchanged, and comes back unchanged or not at all.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for; so below.
        given(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Ends this process with `code`, which is not 0, where an allocation of [`Allocator`] fails from now on, or a new thread gets no
/// memory for its stacks.
pub fn exit_when_out_of_memory(code: u8) {
    EXIT.store(code, Ordering::Relaxed);
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The standard library panics on the new thread, before anything of ours runs there, and aborts the process.
        if panic.payload_as_str().is_some_and(|text| text.ends_with(NO_MEMORY)) {
            refused();
        }
        others(panic);
    }));
}

#[inline]
fn given(memory: *mut u8) -> *mut u8 {
    if memory.is_null() {
        refused();
    }
    memory
}

/// Nothing here may allocate.
#[cold]
fn refused() {
    let code = EXIT.load(Ordering::Relaxed);
    if code == 0 {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const WORDS: &[u8] = b"out of memory: the system refused an allocation\n";
        // SAFETY: writes bytes that are there to standard error, and ends the process without running anything of it. Threads that
        // are at work may hold any lock.
        unsafe {
            libc::write(2, WORDS.as_ptr().cast(), WORDS.len());
            libc::_exit(code.into());
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    std::process::exit(code.into());
}

/// Lets the allocator keep what is freed for the next of its size.
///
/// Every step allocates the same large buffers. glibc gives those back to the system at once, which then has to clear and
/// map their pages again for the next step: with small models that takes a third of the time. Other systems' allocators
/// are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest threshold that glibc takes.
        const LARGEST: i32 = 32 << 20;
        // SAFETY: mallopt only sets parameters of the allocator; it refuses what it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

/// Room for `count` values, such as a weight, in large pages where the system has some to spare: a product with a vector
/// reads a weight as fast as memory gives it, and small pages make it a fifth slower.
pub fn in_large_pages<T>(count: usize) -> Vec<T> {
    let values = Vec::with_capacity(count);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// A large page, which begins at a multiple of its size.
        const PAGE: usize = 2 << 20;
        let (start, len) = (values.as_ptr() as usize, count * size_of::<T>());
        if len >= PAGE {
            let (from, to) = (start / PAGE * PAGE, (start + len).next_multiple_of(PAGE));
            // The one is for memory that is new, the other for what was used before.
            for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
                // SAFETY: the advice changes what pages hold the memory, here and beside it, and never what is in it. Where
                // it cannot be taken, all stays as it was.
                unsafe { libc::madvise(from as *mut libc::c_void, to - from, advice) };
            }
        }
    }
    values
}
