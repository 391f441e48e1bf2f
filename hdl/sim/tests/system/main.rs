//! System tests: the whole design, driven through its ports as by the shell of a card, compared to halo2curves.

mod bench;
mod feed;
mod sums;
mod tasks;
mod windows;
