//! ModelForge.
