//! The emulated card.
pub mod logic;
