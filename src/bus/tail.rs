//! The upper part of a BAR, as a BAR of its own.

use super::{Bar, BarFile, BusError, check_access, check_register};
use std::sync::Arc;

/// A BAR without its first `start` bytes, which cannot be reached through it.
#[derive(Debug)]
pub(crate) struct Tail {
    bar: Arc<dyn Bar>,
    start: u64,
}

impl Tail {
    pub fn new(bar: Arc<dyn Bar>, start: u64) -> Self {
        Self { bar, start }
    }
}

// SAFETY: there is no mapping, and `bar` returns the actual values.
unsafe impl Bar for Tail {
    fn size(&self) -> u64 {
        self.bar.size().saturating_sub(self.start)
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        check_register(self.size(), offset)?;
        self.bar.read32(self.start + offset)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        check_register(self.size(), offset)?;
        self.bar.write32(self.start + offset, value)
    }

    fn read(&self, offset: u64, width: u8) -> Result<u64, BusError> {
        check_access(self.size(), offset, width)?;
        self.bar.read(self.start + offset, width)
    }

    fn write(&self, offset: u64, width: u8, value: u64) -> Result<(), BusError> {
        check_access(self.size(), offset, width)?;
        self.bar.write(self.start + offset, width, value)
    }

    fn file(&self) -> Option<BarFile> {
        let BarFile { file, offset, bytes } = self.bar.file()?;
        let bytes = bytes.checked_sub(self.start)?;
        Some(BarFile { file, offset: offset + self.start, bytes })
    }
}
