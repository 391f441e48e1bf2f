//! Test tops, each with one flat input port and one flat output port.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// A test top in `hdl/sim/sv`. The `.sv` file of each documents what its ports carry.
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

/// A simulated test top.
pub struct Unit {
    raw: NonNull<c_void>,
    functions: &'static Functions,
    /// The port `in`, little-endian, in whole 32-bit words.
    pub input: Vec<u8>,
    /// The port `out`, sampled before the last edge.
    pub output: Vec<u8>,
}

impl Unit {
    /// Creates the test top and resets it, with all inputs zero.
    pub fn new(top: Top) -> Self {
        let functions = match top {
            Top::FpMul => functions!(unit_fp_mul),
            Top::EcAdd => functions!(unit_ec_add),
            Top::Parts => functions!(unit_parts),
        };
        let (mut input, mut output) = (0, 0);
        // SAFETY: `new` returns the pointer that the other functions expect; `sizes` writes two numbers.
        let raw = unsafe {
            let raw = NonNull::new((functions.new)()).expect("C++'s `new` does not return null");
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

    /// Runs one clock.
    pub fn step(&mut self) {
        self.clock(1);
    }

    fn clock(&mut self, rst_n: c_int) {
        // SAFETY: the model is alive, and the assertion checks that the buffers have the sizes reported by `sizes`.
        unsafe {
            assert!(self.input.len() == self.sizes().0 && self.output.len() == self.sizes().1);
            (self.functions.step)(self.raw.as_ptr(), self.input.as_ptr(), self.output.as_mut_ptr(), rst_n);
        }
    }

    fn sizes(&self) -> (usize, usize) {
        let (mut input, mut output) = (0, 0);
        // SAFETY: the model is alive.
        unsafe { (self.functions.sizes)(self.raw.as_ptr(), &mut input, &mut output) };
        (input as usize, output as usize)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: the model is alive, and nothing uses it afterwards.
        unsafe { (self.functions.free)(self.raw.as_ptr()) };
    }
}
