//! Open files, and the calls on them.

use crate::caller::Caller;
use crate::device::Device;
use crate::dma::{DmaChannel, MAX_COUNT};
use crate::errno::{of_bus, of_card};
use crate::ioctl::{self, Aperture, Perf};
use crate::node::Node;
use crate::registers::Registers;
use crate::transfer::Transfer;
use crate::wire::{Operation, Request};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use xdma::card::CardError;

// Constants of the kernel's system call interface on x86-64.
const O_ACCMODE: u32 = 3;
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_TRUNC: u32 = 0o1000;
const MAP_TYPE: u32 = 15;
const MAP_SHARED: u32 = 1;
const PROT_WRITE: u32 = 2;
const SEEK_SET: i32 = 0;
const SEEK_CUR: i32 = 1;
const SEEK_END: i32 = 2;

/// Offsets in the config space (PCI Local Bus Specification 3.0, section 6.1).
const SUBSYSTEM_VENDOR: u16 = 0x2c;
const SUBSYSTEM: u16 = 0x2e;

/// An open file, as created by `open`. All duplicates of its file descriptor share it.
#[derive(Debug)]
pub(crate) struct File {
    pub node: Node,
    flags: u32,
    position: Mutex<u64>,
    /// The other end of the socket pair. It hangs up when the last duplicate of the program's file descriptor is closed.
    pub end: OwnedFd,
    /// Set when the file is removed from the open files. A client that has used the file before may still hold it.
    is_removed: AtomicBool,
}

impl File {
    pub fn new(node: Node, flags: u32, end: OwnedFd) -> Self {
        Self { node, flags, position: Mutex::new(0), end, is_removed: AtomicBool::new(false) }
    }

    /// Records that this is no longer one of the open files.
    pub fn mark_removed(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Executes a request. Returns the result of the call.
    #[inline]
    pub fn call(&self, device: &Device, caller: &impl Caller, request: &Request) -> Result<u64, Errno> {
        match request.operation {
            Operation::Read | Operation::ReadAt | Operation::Write | Operation::WriteAt => {
                self.transfer(device, caller, request)
            }
            Operation::Seek => self.seek(device, request.position as i64, request.value as i32),
            Operation::Ioctl => self.ioctl(device, caller, request.value as u32, request.address),
            Operation::Open | Operation::Check | Operation::Cancel | Operation::Map | Operation::Share => {
                Err(Errno::INVAL)
            }
        }
    }

    /// Executes a read or write. All of the path to the engine is inlined.
    #[inline(always)]
    pub fn transfer(&self, device: &Device, caller: &impl Caller, request: &Request) -> Result<u64, Errno> {
        let is_write = request.operation.is_write();
        self.check_mode(is_write)?;
        let at = matches!(request.operation, Operation::ReadAt | Operation::WriteAt);
        let position = if at { request.position } else { self.position() };
        // The kernel rejects negative offsets and ranges beyond the largest offset (`rw_verify_area`).
        let end = position.checked_add(request.length);
        if position > i64::MAX as u64 || end.is_none_or(|end| end > i64::MAX as u64) {
            return Err(Errno::INVAL);
        }
        if self.node.is_dma() {
            // The position does not change.
            return self.move_data(device, caller, [request.address, request.length, position], is_write);
        }
        let done = self.access(device, caller, [request.address, request.length, position], is_write)?;
        if !at && matches!(self.node, Node::User | Node::Control) {
            self.set_position(position + done);
        }
        Ok(done)
    }

    /// Reads or writes registers.
    #[inline(never)]
    fn access(
        &self,
        device: &Device,
        caller: &dyn Caller,
        [address, count, position]: [u64; 3],
        is_write: bool,
    ) -> Result<u64, Errno> {
        match self.node {
            Node::User | Node::Control => {
                let registers = self.registers(device)?;
                match is_write {
                    true => registers.write(caller, address, count, position),
                    false => registers.read(caller, address, count, position),
                }
            }
            Node::Events(_) => Err(Errno::INVAL),
            node => device.bars.transfer(node, caller, [address, count], is_write),
        }
    }

    #[inline(always)]
    fn move_data(
        &self,
        device: &Device,
        caller: &impl Caller,
        [address, count, position]: [u64; 3],
        is_write: bool,
    ) -> Result<u64, Errno> {
        if device.offline.load(Ordering::Relaxed) {
            return Err(Errno::BUSY);
        }
        let count = count.min(MAX_COUNT);
        let ends_with_packet = self.flags & O_TRUNC != 0;
        let transfer = Transfer { caller, address, count, position, ends_with_packet };
        self.channel(device)?.transfer(transfer, is_write)
    }

    /// Returns the file that the client maps, and the offset in it (`bridge_mmap`). A range beyond the BAR is an error.
    pub fn map(&self, device: &Device, request: &Request) -> Result<(OwnedFd, u64), Errno> {
        if !self.node.is_bar() {
            return Err(Errno::NODEV);
        }
        // `MAP_SHARED_VALIDATE` contains the bit too.
        let shared = request.flags & MAP_TYPE & MAP_SHARED != 0;
        let writes = request.value as u32 & PROT_WRITE != 0 && shared;
        match self.flags & O_ACCMODE {
            O_WRONLY => return Err(Errno::ACCESS),
            O_RDONLY if writes => return Err(Errno::ACCESS),
            _ => {}
        }
        self.registers(device)?.map(request.position, request.length)
    }

    fn check_mode(&self, is_write: bool) -> Result<(), Errno> {
        match self.flags & O_ACCMODE {
            O_RDONLY if is_write => Err(Errno::BADF),
            O_WRONLY if !is_write => Err(Errno::BADF),
            _ => Ok(()),
        }
    }

    fn registers<'a>(&self, device: &'a Device) -> Result<&'a Registers, Errno> {
        match self.node {
            Node::Control => Ok(&device.control),
            // The kernel module maps the wrong BAR for the channels' files.
            Node::Bypass | Node::BypassH2c(_) | Node::BypassC2h(_) => {
                device.bars.bypass().ok_or(Errno::NODEV)
            }
            Node::Resource(bar) => device.bars.get(bar.into()).ok_or(Errno::NODEV),
            _ => device.user.as_ref().ok_or_else(|| of_card(&CardError::NoUserBar)),
        }
    }

    fn channel<'a>(&self, device: &'a Device) -> Result<&'a DmaChannel, Errno> {
        device.channel(self.node).ok_or(Errno::NODEV)
    }

    /// Moves the position. Only the files of channels (`char_sgdma_llseek`) and those in sysfs support this.
    fn seek(&self, device: &Device, offset: i64, whence: i32) -> Result<u64, Errno> {
        if !self.node.is_dma() && !matches!(self.node, Node::Resource(_)) {
            return Err(Errno::SPIPE);
        }
        let mut position = self.position.lock();
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => *position as i64,
            SEEK_END if !self.node.is_dma() => device.size(self.node) as i64,
            // The file size that the kernel module reports.
            SEEK_END => i64::from(u32::MAX),
            _ => return Err(Errno::INVAL),
        };
        let moved = base.checked_add(offset).filter(|moved| *moved >= 0).ok_or(Errno::INVAL)?;
        *position = moved as u64;
        Ok(*position)
    }

    fn ioctl(
        &self,
        device: &Device,
        caller: &impl Caller,
        request: u32,
        argument: u64,
    ) -> Result<u64, Errno> {
        let int = |value: u32| caller.write(argument, &value.to_le_bytes()).map(|()| 0);
        match (self.node, request) {
            (Node::H2c(_) | Node::C2h(_), ioctl::ADDRMODE_SET) => {
                let mut value = [0; 4];
                caller.read(argument, &mut value)?;
                self.channel(device)?.set_fixed(value != [0; 4]).map(|()| 0)
            }
            (Node::H2c(_) | Node::C2h(_), ioctl::ADDRMODE_GET) => {
                int(self.channel(device)?.is_fixed().into())
            }
            (Node::H2c(_) | Node::C2h(_), ioctl::ALIGN_GET) => int(self.channel(device)?.alignment()),
            (Node::H2c(_) | Node::C2h(_), ioctl::PERF_START | ioctl::PERF_STOP | ioctl::PERF_GET) => {
                self.perf(device, caller, request, argument)
            }
            (Node::H2c(_) | Node::C2h(_), ioctl::APERTURE_READ | ioctl::APERTURE_WRITE) => {
                self.aperture(device, caller, request == ioctl::APERTURE_WRITE, argument)
            }
            (Node::H2c(_) | Node::C2h(_), _) => Err(Errno::INVAL),
            (Node::User | Node::Control, ioctl::OFFLINE | ioctl::ONLINE) => {
                device.offline.store(request == ioctl::OFFLINE, Ordering::Relaxed);
                Ok(0)
            }
            (Node::User | Node::Control, ioctl::INFO) => self.info(device, caller, argument),
            _ => Err(Errno::NOTTY),
        }
    }

    fn perf(&self, device: &Device, caller: &dyn Caller, request: u32, argument: u64) -> Result<u64, Errno> {
        let channel = self.channel(device)?;
        if request == ioctl::PERF_START {
            if device.offline.load(Ordering::Relaxed) {
                return Err(Errno::BUSY);
            }
            let mut bytes = [0; Perf::BYTES];
            caller.read(argument, &mut bytes)?;
            return channel.start_run(Perf::from_bytes(&bytes)).map(|()| 0);
        }
        let stop = request == ioctl::PERF_STOP;
        let missing = if stop { Errno::INVAL } else { Errno::PROTO };
        let counters = channel.run_counters(stop).ok_or(missing)?;
        caller.write(argument, &counters.to_bytes()).map(|()| 0)
    }

    /// Transfers data with card addresses that wrap around within a window (`ioctl_do_aperture_dma`).
    fn aperture(
        &self,
        device: &Device,
        caller: &impl Caller,
        is_write: bool,
        argument: u64,
    ) -> Result<u64, Errno> {
        let mut bytes = [0; Aperture::BYTES];
        caller.read(argument, &mut bytes)?;
        let Aperture { card, size, buffer, length } = Aperture::from_bytes(&bytes);
        if size == 0 || buffer.checked_add(length).is_none() || self.channel(device)?.is_stream() {
            return Err(Errno::INVAL);
        }
        let mut done = 0;
        let mut result = Ok(());
        while result.is_ok() && done < length.min(MAX_COUNT) {
            let part = u64::from(size).min(length - done);
            match self.move_data(device, caller, [buffer + done, part, card], is_write) {
                Ok(moved) if moved < part => {
                    done += moved;
                    break;
                }
                Ok(moved) => done += moved,
                Err(errno) => result = Err(errno),
            }
        }
        match result {
            Err(errno) if done == 0 => {
                caller.write(argument + Aperture::ERROR as u64, &(-errno.raw_os_error()).to_le_bytes())?;
                Err(errno)
            }
            _ => {
                caller.write(argument + Aperture::ERROR as u64, &[0; 4])?;
                caller.write(argument + Aperture::DONE as u64, &done.to_le_bytes())?;
                Ok(0)
            }
        }
    }

    /// Fills in the structure of `XDMA_IOCINFO` (`version_ioctl`). As in the kernel module, this clears the magic number.
    fn info(&self, device: &Device, caller: &dyn Caller, argument: u64) -> Result<u64, Errno> {
        let mut bytes = [0; ioctl::INFO_BYTES];
        caller.read(argument, &mut bytes)?;
        if bytes[..4] != ioctl::INFO_MAGIC.to_le_bytes() {
            return Err(Errno::NOTTY);
        }
        bytes.fill(0);
        bytes[8..10].copy_from_slice(&device.report.vendor.to_le_bytes());
        bytes[10..12].copy_from_slice(&device.report.device.to_le_bytes());
        for (at, offset) in [(12, SUBSYSTEM_VENDOR), (14, SUBSYSTEM)] {
            let id = xdma::unstable::card::config_read(device.card(), offset, 2)
                .map_err(|error| of_bus(&error))?;
            bytes[at..at + 2].copy_from_slice(&(id as u16).to_le_bytes());
        }
        bytes[20..24].copy_from_slice(&ioctl::DRIVER_VERSION.to_le_bytes());
        // A card that is connected over a socket has no PCI address.
        if let Ok(location) = device.report.bus.location.parse::<xdma::card::PciAddress>() {
            bytes[32..34].copy_from_slice(&(location.domain as u16).to_le_bytes());
            bytes[34..37].copy_from_slice(&[location.bus, location.device, location.function]);
        }
        caller.write(argument, &bytes).map(|()| 0)
    }

    fn position(&self) -> u64 {
        *self.position.lock()
    }

    fn set_position(&self, position: u64) {
        *self.position.lock() = position;
    }
}
