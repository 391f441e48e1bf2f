//! The MSM design's client.
pub mod curve;
