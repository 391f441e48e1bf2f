//! Arguments of calls.

use crate::errors::{Failure, invalid};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ops::Range;
use std::time::Duration;
use xdma::channel::{ChannelOptions, Ring, Wait};
use xdma::regs;

/// The direction of a channel or buffer.
#[pyclass(frozen, eq, hash, from_py_object, module = "xdma")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Host to card: the card reads the buffer.
    H2C,
    /// Card to host: the card writes the buffer.
    C2H,
}

#[pymethods]
impl Direction {
    /// Returns the name of the constant as which the direction is pickled and copied.
    fn __reduce__(&self) -> &'static str {
        match self {
            Self::H2C => "H2C",
            Self::C2H => "C2H",
        }
    }
}

impl From<Direction> for regs::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::H2C => Self::H2C,
            Direction::C2H => Self::C2H,
        }
    }
}

impl From<regs::Direction> for Direction {
    fn from(direction: regs::Direction) -> Self {
        match direction {
            regs::Direction::H2C => Self::H2C,
            regs::Direction::C2H => Self::C2H,
        }
    }
}

/// The longest time that calls accept, in seconds: about 30 years.
const MAX_SECONDS: f64 = 1e9;

/// Returns a time in seconds as a duration.
#[inline]
pub fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
    if (0.0..=MAX_SECONDS).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(invalid(format!("`{name}` is {value} seconds; pass a number from 0 to {MAX_SECONDS}")))
}

/// Returns the range of `size` bytes from `offset` on. Without a size, the range ends with the buffer.
#[inline]
pub fn range(offset: u64, size: Option<u64>, len: u64) -> Result<Range<u64>, Failure> {
    let end = match size {
        Some(size) => offset.saturating_add(size),
        None => len,
    };
    if offset > len || end > len {
        return Err(invalid(format!(
            "bytes {offset}..{end} are outside of the {len} bytes of the buffer; pass a smaller `offset` or `size`"
        )));
    }
    Ok(offset..end)
}

/// Returns an object's memory.
pub fn view(data: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    // A memoryview fills in the strides, which arrays of ctypes lack.
    PyUntypedBuffer::get(data).or_else(|error| match PyMemoryView::from(data) {
        Ok(view) => PyUntypedBuffer::get(&view),
        Err(_) => Err(error),
    })
}

/// Returns the address and length of an object's bytes.
pub fn bytes(data: &PyUntypedBuffer) -> Result<(*const u8, usize), Failure> {
    if !data.is_c_contiguous() {
        let text =
            "the data is not contiguous in memory; pass a contiguous copy, such as `numpy.ascontiguousarray`";
        return Err(invalid(text));
    }
    Ok((data.buf_ptr().cast_const().cast(), data.len_bytes()))
}

/// Checks that an object's bytes may have any value, so that a card may write them.
pub fn check_plain(data: &PyUntypedBuffer) -> Result<(), Failure> {
    // Names of fields are between colons.
    let has_pointers =
        data.format().to_bytes().split(|byte| *byte == b':').step_by(2).any(|part| part.contains(&b'O'));
    if has_pointers {
        return Err(invalid("the object contains references to Python objects; pass an array of numbers"));
    }
    Ok(())
}

/// Options of a channel, as keyword arguments.
pub fn channel_options(
    ring: &str,
    wait: &str,
    slots: usize,
    fixed_address: bool,
    check_idle: bool,
    interrupt: bool,
) -> Result<ChannelOptions, Failure> {
    let ring = match ring {
        "auto" => None,
        "chain" => Some(Ring::Chain),
        "credits" => Some(Ring::Credits),
        _ => return Err(invalid(format!("`ring` is {ring:?}; use \"auto\", \"chain\" or \"credits\""))),
    };
    let wait: Wait = wait.parse().map_err(|error| invalid(format!("`wait`: {error}")))?;
    Ok(ChannelOptions { ring, slots, fixed_address, check_idle, interrupt, wait })
}
