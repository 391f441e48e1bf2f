//! `xdma`, the program itself, against emulated cards.

mod bench;
mod copy;
mod emulate;
mod look;
mod regs;
mod shell;
mod streams;
mod support;
mod top;
mod words;
