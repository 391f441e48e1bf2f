//! System tests: the whole design, driven through its ports as a card's shell would, and checked against halo2curves.

mod bench;
mod feed;
mod sums;
mod tasks;
mod windows;
