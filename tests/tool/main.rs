//! `xdma`, the program itself, against emulated cards.

mod bench;
mod copy;
mod look;
mod regs;
mod shell;
mod support;
mod top;
mod words;
