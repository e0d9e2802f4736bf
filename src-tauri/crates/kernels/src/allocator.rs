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
