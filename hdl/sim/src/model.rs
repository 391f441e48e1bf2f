//! The simulated design.

use crate::Ports;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

/// A configuration of the design, from `build.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The intended configuration: C = 13, products of 33 cycles, computed in C.
    Full,
    /// C = 8, products of 12 cycles, computed in C. The reduction is short.
    #[cfg(feature = "test-designs")]
    Small,
    /// C = 7, an addition every second cycle with six multipliers, FIFOs of 64 scalars and 32 points, a retry queue of 4
    /// additions.
    #[cfg(feature = "test-designs")]
    Halved,
    /// Like [`Variant::Small`], but every product is simulated.
    #[cfg(feature = "test-designs")]
    Pure,
    /// The stub core, which computes no MSM, with FIFOs of 1,024 scalars and points.
    Stub,
    /// The stub core with FIFOs of 4,096 scalars and points.
    StubDeep,
}

struct Functions {
    new: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    run: unsafe extern "C" fn(*mut c_void, *mut Ports, u64) -> u64,
    trace: unsafe extern "C" fn(*mut c_void, *const c_char, c_int) -> c_int,
    set_pair_cycles: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
}

/// The functions of `cpp/design.cpp` for one variant.
macro_rules! functions {
    ($name:ident) => {{
        mod $name {
            use super::*;
            unsafe extern "C" {
                #[link_name = concat!(stringify!($name), "_new")]
                pub fn new() -> *mut c_void;
                #[link_name = concat!(stringify!($name), "_free")]
                pub fn free(model: *mut c_void);
                #[link_name = concat!(stringify!($name), "_run")]
                pub fn run(model: *mut c_void, ports: *mut Ports, max: u64) -> u64;
                #[link_name = concat!(stringify!($name), "_trace")]
                pub fn trace(model: *mut c_void, path: *const c_char, levels: c_int) -> c_int;
                #[link_name = concat!(stringify!($name), "_set_pair_cycles")]
                pub fn set_pair_cycles(model: *mut c_void, cycles: u32) -> c_int;
            }
        }
        &Functions {
            new: $name::new,
            free: $name::free,
            run: $name::run,
            trace: $name::trace,
            set_pair_cycles: $name::set_pair_cycles,
        }
    }};
}

impl Variant {
    fn functions(self) -> &'static Functions {
        match self {
            Self::Full => functions!(full),
            #[cfg(feature = "test-designs")]
            Self::Small => functions!(small),
            #[cfg(feature = "test-designs")]
            Self::Halved => functions!(halved),
            #[cfg(feature = "test-designs")]
            Self::Pure => functions!(pure),
            Self::Stub => functions!(stub),
            Self::StubDeep => functions!(stub_deep),
        }
    }
}

/// The design with its ports.
///
/// Set the inputs in [`Model::ports`], call [`Model::step`], and read the outputs there. The outputs are sampled at the clock
/// edge together with the inputs, so a handshake took place on a channel if its valid and ready are both set.
pub struct Model {
    raw: NonNull<c_void>,
    functions: &'static Functions,
    /// The inputs and outputs.
    pub ports: Ports,
    cycles: u64,
}

// SAFETY: a model is not tied to the thread that created it, and only one thread uses it at a time.
unsafe impl Send for Model {}

impl Model {
    /// Creates the design and resets it.
    pub fn new(variant: Variant) -> Self {
        let functions = variant.functions();
        // SAFETY: `new` has no preconditions; it returns the pointer that the other functions expect.
        let raw = NonNull::new(unsafe { (functions.new)() }).expect("C++'s `new` does not return null");
        let mut model = Self { raw, functions, ports: Ports::default(), cycles: 0 };
        model.reset();
        model
    }

    /// Asserts the reset for several clocks, which are not counted.
    pub fn reset(&mut self) {
        self.ports = Ports { rst_n: 0, ..Ports::default() };
        for _ in 0..8 {
            self.step();
        }
        self.ports.rst_n = 1;
        self.step();
        self.cycles = 0;
    }

    /// Runs one clock.
    pub fn step(&mut self) {
        self.run(1);
    }

    /// Runs with unchanged inputs until a handshake takes place, the design offers a response, or the interrupt changes, for at
    /// most `max` clocks. Returns the number of clocks run.
    pub fn run(&mut self, max: u64) -> u64 {
        // SAFETY: the model is alive, and `Ports` is laid out as in `ports.h`.
        let done = unsafe { (self.functions.run)(self.raw.as_ptr(), &mut self.ports, max) };
        self.cycles += done;
        done
    }

    /// Returns the number of clocks since the last reset.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Starts writing an FST trace of the modules down to `levels` below the top, or of all modules if `levels` is 0. A
    /// `generate` block counts as a level. Returns `false` without the feature `trace`, or if the file cannot be written.
    pub fn trace(&mut self, path: &Path, levels: u8) -> bool {
        let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
        // SAFETY: the model is alive, and the path is null-terminated.
        unsafe { (self.functions.trace)(self.raw.as_ptr(), path.as_ptr(), levels.into()) != 0 }
    }

    /// Sets the cycles per pair of the stub core. Returns `false` if the variant has the real core.
    pub fn set_pair_cycles(&mut self, cycles: u32) -> bool {
        // SAFETY: the model is alive.
        unsafe { (self.functions.set_pair_cycles)(self.raw.as_ptr(), cycles.max(1)) != 0 }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the model is alive, and nothing uses it afterwards.
        unsafe { (self.functions.free)(self.raw.as_ptr()) };
    }
}
