//! The whole design through its ports, as a card's shell drives it, against halo2curves.

mod bench;
mod feed;
mod sums;
mod tasks;
mod windows;
