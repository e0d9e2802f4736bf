//! Threads of the tensor library.
#![allow(unsafe_code)]

use std::sync::Once;

/// The variable that candle reads when it starts its own pool of threads.
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Lets candle's element-by-element operations run on the thread that calls them, unless the user chose otherwise.
///
/// candle's own pool waits for its slowest thread in a busy loop, after every operation. For activations of usual size
/// that costs more than it gains, and several times more as soon as another program wants one of the cores. Products
/// and the operations of this crate use rayon, whose threads sleep. Must come before the first operation.
pub fn stop_busy_waiting() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(VARIABLE).is_none() {
            // SAFETY: Rust's own reads and writes of the environment are serialised by the standard library, and
            // no C code that reads it runs in a process that computes on tensors.
            unsafe { std::env::set_var(VARIABLE, "1") };
        }
        // Started here and now, so that the variable is read before anybody else changes it.
        candle_core::utils::barrier_pool();
    });
}
