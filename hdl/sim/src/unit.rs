//! Test tops with flat ports.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// A file of `hdl/sim/sv`, which says what its ports carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// `unit_fp_mul.sv`.
    FpMul,
    /// `unit_ec_add.sv`.
    EcAdd,
    /// `unit_parts.sv`.
    Parts,
}

macro_rules! functions {
    ($name:ident) => {{
        mod $name {
            use super::*;
            unsafe extern "C" {
                #[link_name = concat!(stringify!($name), "_new")]
                pub fn new() -> *mut c_void;
                #[link_name = concat!(stringify!($name), "_free")]
                pub fn free(model: *mut c_void);
                #[link_name = concat!(stringify!($name), "_step")]
                pub fn step(model: *mut c_void, input: *const u8, output: *mut u8, rst_n: c_int);
                #[link_name = concat!(stringify!($name), "_sizes")]
                pub fn sizes(model: *mut c_void, input: *mut u64, output: *mut u64);
            }
        }
        &Functions { new: $name::new, free: $name::free, step: $name::step, sizes: $name::sizes }
    }};
}

struct Functions {
    new: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    step: unsafe extern "C" fn(*mut c_void, *const u8, *mut u8, c_int),
    sizes: unsafe extern "C" fn(*mut c_void, *mut u64, *mut u64),
}

/// A test top.
pub struct Unit {
    raw: NonNull<c_void>,
    functions: &'static Functions,
    /// The port `in`, little-endian, in whole 32-bit words.
    pub input: Vec<u8>,
    /// The port `out` as it was before the last edge.
    pub output: Vec<u8>,
}

impl Unit {
    /// The top after its reset, all inputs zero.
    pub fn new(top: Top) -> Self {
        let functions = match top {
            Top::FpMul => functions!(unit_fp_mul),
            Top::EcAdd => functions!(unit_ec_add),
            Top::Parts => functions!(unit_parts),
        };
        let (mut input, mut output) = (0, 0);
        // SAFETY: `new` returns what the other functions take; `sizes` writes two numbers.
        let raw = unsafe {
            let raw = NonNull::new((functions.new)()).expect("the model is made by C++'s `new`");
            (functions.sizes)(raw.as_ptr(), &mut input, &mut output);
            raw
        };
        let (input, output) = (vec![0; input as usize], vec![0; output as usize]);
        let mut unit = Self { raw, functions, input, output };
        for _ in 0..4 {
            unit.clock(0);
        }
        unit
    }

    /// One clock.
    pub fn step(&mut self) {
        self.clock(1);
    }

    fn clock(&mut self, rst_n: c_int) {
        // SAFETY: the buffers have the sizes that `sizes` said, and only their contents can change.
        unsafe {
            assert!(self.input.len() == self.sizes().0 && self.output.len() == self.sizes().1);
            (self.functions.step)(self.raw.as_ptr(), self.input.as_ptr(), self.output.as_mut_ptr(), rst_n);
        }
    }

    fn sizes(&self) -> (usize, usize) {
        let (mut input, mut output) = (0, 0);
        // SAFETY: the model lives.
        unsafe { (self.functions.sizes)(self.raw.as_ptr(), &mut input, &mut output) };
        (input as usize, output as usize)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the model lives, and nothing uses it later.
        unsafe { (self.functions.free)(self.raw.as_ptr()) };
    }
}
