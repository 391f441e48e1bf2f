//! The simulated image for AWS F2.

use crate::F2Ports;
use std::ffi::c_void;
use std::ptr::NonNull;

/// What is behind the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Nothing: the ports `design` and `user` lead to the caller (`f2_bridge`).
    Bridge,
    /// The same, with four channels in each direction.
    #[cfg(feature = "f2-shapes")]
    WideBridge,
    /// The MSM design, with field arithmetic computed in C (`cl_f2`).
    Full,
}

impl Image {
    /// Returns the number of channels in each direction.
    pub fn channels(self) -> usize {
        match self {
            Self::Bridge | Self::Full => 1,
            #[cfg(feature = "f2-shapes")]
            Self::WideBridge => 4,
        }
    }
}

struct Functions {
    new: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    step: unsafe extern "C" fn(*mut c_void, *mut F2Ports),
}

/// The functions of `cpp/f2.cpp` for one image.
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
                pub fn step(model: *mut c_void, ports: *mut F2Ports);
            }
        }
        &Functions { new: $name::new, free: $name::free, step: $name::step }
    }};
}

/// The image with its ports.
///
/// Set the inputs in [`F2::ports`], call [`F2::step`], and read the outputs there. The outputs are sampled at the clock edge together
/// with the inputs, so a handshake took place on a channel if its valid and ready are both set.
pub struct F2 {
    raw: NonNull<c_void>,
    functions: &'static Functions,
    /// The inputs and outputs.
    pub ports: F2Ports,
    cycle: u64,
}

// SAFETY: an image is not tied to the thread that created it, and only one thread uses it at a time.
unsafe impl Send for F2 {}

impl F2 {
    /// Creates and resets the image. Payloads have at most 256 bytes, and read requests 512, until `ports` say otherwise.
    pub fn new(image: Image) -> Self {
        let functions = match image {
            Image::Bridge => functions!(f2_bridge),
            #[cfg(feature = "f2-shapes")]
            Image::WideBridge => functions!(f2_bridge_4_4),
            Image::Full => functions!(cl_f2),
        };
        // SAFETY: `new` has no preconditions; it returns the pointer that the other functions expect.
        let raw = NonNull::new(unsafe { (functions.new)() }).expect("C++'s `new` does not return null");
        let ports = F2Ports { max_payload: 1, max_read_request: 2, ..F2Ports::default() };
        let mut f2 = Self { raw, functions, ports, cycle: 0 };
        for _ in 0..8 {
            f2.step();
        }
        f2.ports.rst_n = 1;
        // The reset passes through registers.
        for _ in 0..8 {
            f2.step();
        }
        f2.cycle = 0;
        f2
    }

    /// Runs one clock.
    pub fn step(&mut self) {
        // SAFETY: the image is alive, and `F2Ports` is laid out as in `ports.h`.
        unsafe { (self.functions.step)(self.raw.as_ptr(), &mut self.ports) };
        self.cycle += 1;
    }

    /// Returns the number of clocks run since the reset.
    pub fn cycle(&self) -> u64 {
        self.cycle
    }
}

impl Drop for F2 {
    fn drop(&mut self) {
        // SAFETY: the image is alive, and nothing uses it afterwards.
        unsafe { (self.functions.free)(self.raw.as_ptr()) };
    }
}
