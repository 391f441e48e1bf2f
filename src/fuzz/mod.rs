//! What the fuzz targets run (`fuzz/`, `cargo xtask fuzz`): each takes any bytes, and panics if something is wrong. The same
//! runs as a test on the corpora and on what seeds make of them, without instrumentation.

mod points;
mod replies;
mod sysfs;
#[cfg(test)]
mod tests;
mod texts;

pub use crate::emulator::fuzz::{config, descriptors, messages, registers};
pub use points::points;
pub use replies::replies;
pub use sysfs::sysfs;
pub use texts::texts;
