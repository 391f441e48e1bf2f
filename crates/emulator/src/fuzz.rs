//! Hostile clients of the emulated card: the entry points of the fuzz targets. They run in this process, and bypass the socket
//! where possible.

use super::card::CardModel;
use super::command::{MAP_READ, MAP_WRITE, RegionAccess};
use super::config_space::{self, ConfigSpace};
use super::device::Device;
use super::logic::msm::{Core, MsmModel, MsmModelOptions};
use super::logic::{Logic, Loopback, Memory};
use super::slot::Slot;
use super::{CardFile, EmulatedCard, EmulatorOptions, Switches};
use arbitrary::{Result, Unstructured};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// Page size of the client's memory.
const PAGE: u64 = 4096;
/// The number of pages of the client's memory.
const PAGES: u64 = 16;
/// The page that is mapped read-only for the card, whose contents must not change.
const READ_ONLY: u64 = 8;
/// The region of configuration space.
const CONFIG: u32 = 7;
/// The maximum number of operations per input, which limits its run time.
const MAX_OPERATIONS: usize = 256;

/// A client with full access to a card.
struct Client {
    slot: Arc<Slot>,
    device: Device,
    memory: File,
}

impl Client {
    fn new(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Self {
        let slot = Arc::new(Slot::new(CardModel::start(options, logic).expect("threads are available")));
        let device = Device::new(Arc::clone(&slot));
        let memory = tempfile::tempfile().expect("a temporary file can be created");
        memory.set_len(PAGES * PAGE).expect("there is enough space");
        memory.write_all_at(&[0x5a; PAGE as usize], READ_ONLY * PAGE).expect("there is enough space");
        let both = MAP_READ | MAP_WRITE;
        // Maps at low addresses and at the end of the address space, and one read-only and one write-only map.
        for (address, page, pages, flags) in [
            (0, 0, READ_ONLY, both),
            (READ_ONLY * PAGE, READ_ONLY, 1, MAP_READ),
            (0xf_f000, 9, 2, both),
            (0x10_1000, 11, 1, MAP_WRITE),
            (PAGE.wrapping_neg(), 12, 1, both),
        ] {
            let file = memory.try_clone().ok();
            let mapped = device.dma_map(flags, page * PAGE, address, pages * PAGE, file);
            mapped.expect("the maps do not overlap");
        }
        let mut this = Self { slot, device, memory };
        // Memory space and bus master.
        this.write(CONFIG, 4, &[6, 0]);
        this
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let access = RegionAccess { offset, region, count: data.len() as u32 };
        if self.device.check(access).is_ok() {
            self.device.region_write(access, data);
        }
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) {
        let access = RegionAccess { offset, region, count: data.len() as u32 };
        if self.device.check(access).is_ok() {
            self.device.region_read(access, data);
        }
    }

    fn word(&mut self, region: u32, offset: u64, value: u32) {
        self.write(region, offset, &value.to_le_bytes());
    }

    fn xdma(&self) -> u32 {
        self.slot.card().shared.options.card.register_bar().expect("the description was checked") as u32
    }

    /// Executes one random operation, most often a register access.
    fn operate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15)? {
            0..=6 => {
                let (region, offset, value) = (self.xdma(), register(u)?, u.arbitrary()?);
                self.word(region, offset, value);
            }
            7 => self.read(self.xdma(), register(u)?, &mut [0; 4]),
            8 => {
                let (region, offset) = (u.int_in_range(0..=9)?, address(u)?);
                let len = u.int_in_range(0..=64)?;
                self.write(region, offset, u.bytes(len)?);
            }
            9 => {
                let (region, offset) = (u.int_in_range(0..=9)?, address(u)?);
                self.read(region, offset, &mut vec![0; u.int_in_range(0..=64)?]);
            }
            10 => self.word(0, u.int_in_range(0..=0x1ff)? * 4, u.arbitrary()?),
            11 => {
                let (at, len) = (u.int_in_range(0..=READ_ONLY * PAGE - 256)?, u.int_in_range(0..=255)?);
                self.memory.write_all_at(u.bytes(len)?, at).expect("inside the file");
            }
            12 => self.remap(u)?,
            13 => self.set_interrupts(u)?,
            14 => _ = self.device.reset(),
            _ => {
                let (offset, len) = (u.int_in_range(0..=0x100)?, u.int_in_range(0..=8)?);
                self.write(CONFIG, offset, u.bytes(len)?);
            }
        }
        Ok(())
    }

    /// Maps or unmaps random ranges. Most attempts are refused.
    fn remap(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (flags, address, size) = (u.arbitrary()?, address(u)?, u.int_in_range(0..=20)? * PAGE);
        let _ = match u.arbitrary()? {
            true => self.device.dma_unmap(flags, address, size),
            false => {
                // Never map the read-only page, or the pages before it.
                let offset = u.int_in_range(READ_ONLY + 1..=PAGES + 1)? * PAGE;
                let file = if u.arbitrary()? { self.memory.try_clone().ok() } else { None };
                self.device.dma_map(flags, offset, address, size, file)
            }
        };
        Ok(())
    }

    fn set_interrupts(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (index, flags, start, count) =
            (u.int_in_range(0..=5)?, u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        // Pipes are not eventfds, but accept writes of eight bytes too.
        let file = || File::from(OwnedFd::from(std::io::pipe().expect("a pipe can be created").1));
        let files = (0..u.int_in_range(0..=4)?).map(|_| file()).collect();
        let _ = self.device.set_irqs(index, flags, start, count, files);
        Ok(())
    }

    /// Asserts that the read-only page is unchanged and that the card still answers.
    fn assert_intact(mut self) {
        let mut page = [0; PAGE as usize];
        self.memory.read_exact_at(&mut page, READ_ONLY * PAGE).expect("inside the file");
        assert!(page.iter().all(|&byte| byte == 0x5a), "the card wrote to read-only memory");
        let mut identifier = [0; 4];
        self.read(self.xdma(), 0x3000, &mut identifier);
        assert_eq!(identifier, 0x1fc3_0006u32.to_le_bytes());
        self.slot.card().disconnect();
    }
}

/// Returns a register address in the XDMA BAR, most often a valid one.
fn register(u: &mut Unstructured<'_>) -> Result<u64> {
    let (target, channel, offset): (u64, u64, u8) =
        (u.int_in_range(0..=9)?, u.int_in_range(0..=4)?, u.arbitrary()?);
    Ok(target << 12 | channel << 8 | u64::from(offset & 0xfc))
}

/// Returns an offset or address: one that is likely to be valid, or any.
fn address(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=3)? {
        0 => u.int_in_range(0..=0x40)?,
        1 => u.int_in_range(0..=0x3ff)? * PAGE,
        2 => u64::from(u.arbitrary::<u32>()?),
        _ => u.arbitrary()?,
    })
}

fn options(u: &mut Unstructured<'_>) -> Result<EmulatorOptions> {
    let bits: u16 = u.arbitrary()?;
    let bit = |at: u16| bits >> at & 1 != 0;
    let switches = Switches {
        busy_without_credits: bit(3).into(),
        busy_lag_us: 0.into(),
        stop_clears_run: bit(4).into(),
        unlogged_errors_stop: bit(5).into(),
        error_write_back: bit(6).into(),
        aligned_fetch: bit(7).into(),
        stop_ends_idle_stream: bit(8).into(),
        narrow_stream_buffers: bit(13).into(),
    };
    let options = EmulatorOptions {
        seed: u64::from(bits),
        synchronous: true,
        axi_timeout: bit(12).then_some(Duration::from_micros(1)),
        ..EmulatorOptions::like(if bit(0) { CardFile::alveo() } else { CardFile::f1() })
    };
    let (h2c, c2h) = (1 + usize::from(bit(9)), 1 + usize::from(bit(10)));
    let options = options.with_function_reset(bit(1)).with_channels(h2c, c2h).with_credits(!bit(2));
    Ok(if bit(11) { options.with_streams() } else { options }.with_switches(switches))
}

fn logic(options: &EmulatorOptions) -> Arc<dyn Logic> {
    match options.seed % 3 {
        _ if options.card.is_stream() => Arc::new(Loopback::with_depth(256)),
        0 => {
            let core = if options.card.function.reset { Core::Checksum } else { Core::Real };
            Arc::new(MsmModel::new(MsmModelOptions {
                core,
                scalar_depth: 4,
                point_depth: 4,
                ..MsmModelOptions::default()
            }))
        }
        _ => Arc::new(Memory::with_size(0x1_0000)),
    }
}

fn client(u: &mut Unstructured<'_>) -> Result<Client> {
    let options = options(u)?;
    let logic = logic(&options);
    Ok(Client::new(options, logic))
}

/// Makes random accesses to registers, BARs and configuration space, and random maps, interrupts and resets, like a hostile QEMU
/// or its guest.
pub fn registers(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let Ok(mut client) = client(u) else { return };
    for _ in 0..MAX_OPERATIONS {
        if u.is_empty() || client.operate(u).is_err() {
            break;
        }
    }
    client.assert_intact();
}

/// Interprets arbitrary bytes as descriptors in the client's memory, and runs engines on them.
pub fn descriptors(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let Ok(mut client) = client(u) else { return };
    let _ = run_lists(&mut client, u);
    client.assert_intact();
}

fn run_lists(client: &mut Client, u: &mut Unstructured<'_>) -> Result<()> {
    let xdma = client.xdma();
    for _ in 0..u.int_in_range(1..=4)? {
        let channel = u64::from(u.arbitrary::<bool>()?) << 12 | u64::from(u.arbitrary::<bool>()?) << 8;
        let (start, adjacent, credits): (u16, u8, u16) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        let credit_mode: bool = u.arbitrary()?;
        for (offset, value) in [
            (channel | 0x88, 0xf_f000),
            (channel | 0x4080, u32::from(start)),
            (channel | 0x4088, adjacent.into()),
            (0x6020, if credit_mode { 0x000f_000f } else { 0 }),
        ] {
            client.word(xdma, offset, value);
        }
        let len = u.int_in_range(0..=512)?;
        // The start of the list, or up to one block before it.
        let at = u64::from(start) % (READ_ONLY * PAGE - 512);
        let list = u.bytes(len.min(u.len()))?;
        client.memory.write_all_at(&well_formed(list), at).expect("inside the file");
        client.word(xdma, channel | 4, 0x04ff_fe7f);
        client.word(xdma, channel | 0x408c, credits.into());
        client.word(xdma, channel | 0x0c, 1);
        client.read(xdma, channel | 0x40, &mut [0; 4]);
        client.read(xdma, channel | 0x48, &mut [0; 4]);
    }
    Ok(())
}

/// Makes most descriptors well-formed: sets the magic number, except for every eighth value of the byte in its place, and mostly
/// keeps lengths and addresses in range.
fn well_formed(list: &[u8]) -> Vec<u8> {
    let mut list = list.to_vec();
    for descriptor in list.chunks_exact_mut(32) {
        if !descriptor[2].is_multiple_of(8) {
            descriptor[2..4].copy_from_slice(&[0x4b, 0xad]);
        }
        let wild = descriptor[3].is_multiple_of(16);
        for at in [7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31].into_iter().filter(|_| !wild) {
            descriptor[at] = 0;
        }
    }
    list
}

/// Checks that read-only bits of configuration space keep their values through any sequence of writes.
pub fn config(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let _ = use_config(u);
}

fn use_config(u: &mut Unstructured<'_>) -> Result<()> {
    let mut card = if u.arbitrary()? { CardFile::f1() } else { CardFile::alveo() };
    card.function.reset = u.arbitrary()?;
    let mut space = ConfigSpace::new(&card);
    let fixed = |space: &ConfigSpace| {
        // Identifiers, class, header type, capability pointer, and the identifier and successor of each capability.
        let mut bytes = vec![];
        for (at, len) in
            [(0, 4), (8, 4), (0x0e, 1), (0x2c, 4), (0x34, 1), (0x40, 2), (0x48, 2), (0x60, 2), (0x70, 8)]
        {
            let mut data = vec![0; len];
            space.read(at, &mut data, false);
            bytes.extend(data);
        }
        bytes
    };
    let before = fixed(&space);
    while !u.is_empty() {
        let (offset, len) = (u.int_in_range(0..=config_space::SIZE - 1)?, u.int_in_range(0..=16)?);
        match u.arbitrary()? {
            true => _ = space.write(offset, u.bytes(len)?),
            false => space.read(offset, &mut vec![0; len], u.arbitrary()?),
        }
        space.effects();
    }
    assert_eq!(fixed(&space), before);
    Ok(())
}

/// Sends arbitrary bytes as messages over a socket. The server contains panics ([`super::server`]), so this target looks for
/// uncontained ones and for unbounded memory use.
pub fn messages(bytes: &[u8]) {
    let options = EmulatorOptions::default().with_channels(1, 1);
    let card = EmulatedCard::start(options, Arc::new(Memory::with_size(1 << 20))).expect("the card starts");
    let mut stream = UnixStream::connect(card.socket()).expect("the card listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("the timeout is not zero");
    let _ = stream.write_all(&[&hello(), bytes].concat());
    let _ = stream.shutdown(Shutdown::Write);
    let ended = stream.read_to_end(&mut Vec::new());
    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "the card neither answered nor closed the connection");
    // The card must still serve the next client.
    let mut next = UnixStream::connect(card.socket()).expect("the card listens");
    next.write_all(&hello()).expect("the card receives VERSION");
    next.read_exact(&mut [0; 16]).expect("the card answers");
}

fn hello() -> Vec<u8> {
    const VERSION: &[u8] = b"\0\0\x01\0{\"capabilities\":{}}\0";
    let mut bytes = vec![1, 0, 1, 0];
    bytes.extend((16 + VERSION.len() as u32).to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(VERSION);
    bytes
}

#[cfg(test)]
mod tests {
    use xdma_testkit::corpus::replay;

    #[test]
    fn config() {
        replay("config", super::config);
    }

    #[test]
    fn descriptors() {
        replay("descriptors", super::descriptors);
    }

    #[test]
    fn messages() {
        replay("messages", super::messages);
    }

    #[test]
    fn registers() {
        replay("registers", super::registers);
    }
}
