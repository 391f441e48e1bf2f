//! The device files `user` and `control`: the registers of a BAR.

use crate::caller::Caller;
use crate::errno::of_bus;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use xdma::unstable::bus::Bar;

/// Size of a register in bytes. Every call accesses one register.
const REGISTER: u64 = 4;
/// Size of a page in bytes.
const PAGE: u64 = 4096;

pub(crate) struct Registers(Arc<dyn Bar>);

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registers({:#x} bytes)", self.0.size())
    }
}

impl Registers {
    pub fn new(bar: Arc<dyn Bar>) -> Self {
        Self(bar)
    }

    pub fn bar(&self) -> &dyn Bar {
        &*self.0
    }

    /// Reads one register regardless of the count, as the kernel module does. A count below four, for which the kernel module
    /// writes beyond the buffer, is an error here, and so is a register beyond the BAR.
    pub fn read(&self, caller: &dyn Caller, address: u64, count: u64, position: u64) -> Result<u64, Errno> {
        self.check(count, position)?;
        let value = self.0.read32(position).map_err(|error| of_bus(&error))?;
        caller.write(address, &value.to_le_bytes())?;
        Ok(REGISTER)
    }

    /// Writes one register. If the buffer is unreadable, returns an error and leaves the register unchanged.
    pub fn write(&self, caller: &dyn Caller, address: u64, count: u64, position: u64) -> Result<u64, Errno> {
        self.check(count, position)?;
        let mut bytes = [0; REGISTER as usize];
        caller.read(address, &mut bytes)?;
        self.0.write32(position, u32::from_le_bytes(bytes)).map_err(|error| of_bus(&error))?;
        Ok(REGISTER)
    }

    /// Returns a file through which the BAR can be mapped, and the offset in it. A card that is connected over a socket has
    /// none.
    pub fn map(&self, offset: u64, length: u64) -> Result<(OwnedFd, u64), Errno> {
        let bar = self.0.file().ok_or(Errno::NODEV)?;
        let length = length.checked_next_multiple_of(PAGE).ok_or(Errno::INVAL)?;
        let fits = length > 0 && offset.checked_add(length).is_some_and(|end| end <= bar.bytes);
        if !offset.is_multiple_of(PAGE) || !fits {
            return Err(Errno::INVAL);
        }
        Ok((bar.file.into(), bar.offset + offset))
    }

    fn check(&self, count: u64, position: u64) -> Result<(), Errno> {
        match position {
            position if !position.is_multiple_of(REGISTER) => Err(Errno::PROTO),
            _ if count < REGISTER => Err(Errno::INVAL),
            position if position.checked_add(REGISTER).is_none_or(|end| end > self.0.size()) => {
                Err(Errno::INVAL)
            }
            _ => Ok(()),
        }
    }
}
