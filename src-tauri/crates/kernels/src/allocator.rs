//! How the system's allocator treats large buffers.
#![allow(unsafe_code)]

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
