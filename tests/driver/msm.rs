//! MSMs.
