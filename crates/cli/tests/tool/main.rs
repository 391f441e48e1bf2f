//! Runs the program `xdma` against emulated cards.

mod bench;
mod copy;
mod emulate;
mod info;
mod list;
mod package;
mod regs;
mod results;
mod run;
mod schemas;
mod selftest;
mod shell;
mod streams;
mod support;
mod survey;
mod top;
mod words;
