//! fuzzing.
