//! The design.

use crate::Ports;
use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

/// How the design is built: `VARIANTS` in `build.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// C = 13, products of 33 cycles, computed by C: the design as it is meant.
    Full,
    /// C = 8, products of 12 cycles, computed by C: quick to reduce.
    Small,
    /// C = 7, an addition each second cycle with six multipliers, FIFOs of 64 scalars and 32 points, 4 waiting additions.
    Halved,
    /// As [`Variant::Small`], but every product is simulated.
    Pure,
    /// The core that computes no MSM, FIFOs of 1,024.
    Stub,
    /// The same with FIFOs of 4,096.
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
            Self::Small => functions!(small),
            Self::Halved => functions!(halved),
            Self::Pure => functions!(pure),
            Self::Stub => functions!(stub),
            Self::StubDeep => functions!(stub_deep),
        }
    }
}

/// The design with its ports.
///
/// Set inputs in [`Model::ports`], call [`Model::step`], read outputs there: they are what the inputs met at the edge, so that a channel
/// has moved when its valid and its ready are both set.
pub struct Model {
    raw: NonNull<c_void>,
    functions: &'static Functions,
    /// Inputs and outputs.
    pub ports: Ports,
    cycles: u64,
}

// SAFETY: a model has no tie to the thread that made it; it is used by one at a time.
unsafe impl Send for Model {}

impl Model {
    /// The design after its reset.
    pub fn new(variant: Variant) -> Self {
        let functions = variant.functions();
        // SAFETY: `new` takes nothing and returns what the other functions take.
        let raw = NonNull::new(unsafe { (functions.new)() }).expect("the model is made by C++'s `new`");
        let mut model = Self { raw, functions, ports: Ports::default(), cycles: 0 };
        model.reset();
        model
    }

    /// Holds the reset for some clocks, which do not count.
    pub fn reset(&mut self) {
        self.ports = Ports { rst_n: 0, ..Ports::default() };
        for _ in 0..8 {
            self.step();
        }
        self.ports.rst_n = 1;
        self.step();
        self.cycles = 0;
    }

    /// One clock.
    pub fn step(&mut self) {
        self.run(1);
    }

    /// Clocks with unchanged inputs, `max` at most, until a channel moves, the design wants it to, or the interrupt changes. Returns how
    /// many there were.
    pub fn run(&mut self, max: u64) -> u64 {
        // SAFETY: the model lives, and `Ports` is laid out as in `ports.h`.
        let done = unsafe { (self.functions.run)(self.raw.as_ptr(), &mut self.ports, max) };
        self.cycles += done;
        done
    }

    /// Clocks since the reset.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Writes an FST trace from now on, of the modules down to `levels` below the top (a block of `generate` counts as one), or of
    /// all of them for 0; `false` without the feature `trace`, or if the file cannot be written.
    pub fn trace(&mut self, path: &Path, levels: u8) -> bool {
        let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
        // SAFETY: the model lives, and the path ends in a zero.
        unsafe { (self.functions.trace)(self.raw.as_ptr(), path.as_ptr(), levels.into()) != 0 }
    }

    /// Sets how many cycles a core that computes no MSM takes for a pair; `false` if this one does.
    pub fn set_pair_cycles(&mut self, cycles: u32) -> bool {
        // SAFETY: the model lives.
        unsafe { (self.functions.set_pair_cycles)(self.raw.as_ptr(), cycles.max(1)) != 0 }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the model lives, and nothing uses it later.
        unsafe { (self.functions.free)(self.raw.as_ptr()) };
    }
}
