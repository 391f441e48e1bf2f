//! The emulated card under hostile clients: what the fuzz targets run, in this process and without a socket where that is
//! possible.

use super::card::Card;
use super::command::{Access, MAP_READ, MAP_WRITE};
use super::config_space::{self, ConfigSpace};
use super::device::Device;
use super::logic::msm::{Core, Msm, MsmOptions};
use super::logic::{Logic, Loopback, Memory};
use super::slot::Slot;
use super::{EmulatedCard, Options, Profile, Switches};
use arbitrary::{Result, Unstructured};
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// A page of the client's memory.
const PAGE: u64 = 4096;
/// Pages of the client's memory.
const PAGES: u64 = 16;
/// The page that the card may only read; what is in it stays.
const READ_ONLY: u64 = 8;
/// Region of configuration space.
const CONFIG: u32 = 7;
/// Operations of an input at most, so that none takes long.
const OPERATIONS: usize = 256;

/// A client with all of a card in its hands.
struct Client {
    slot: Arc<Slot>,
    device: Device,
    memory: File,
}

impl Client {
    fn new(options: Options, logic: Arc<dyn Logic>) -> Self {
        let slot = Arc::new(Slot::new(Card::start(options, logic).expect("there are threads")));
        let device = Device::new(Arc::clone(&slot));
        let memory = tempfile::tempfile().expect("there are files");
        memory.set_len(PAGES * PAGE).expect("there is room");
        memory.write_all_at(&[0x5a; PAGE as usize], READ_ONLY * PAGE).expect("there is room");
        let both = MAP_READ | MAP_WRITE;
        // Low, at the end of all addresses, and what the card may only read or only write.
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
        let access = Access { offset, region, count: data.len() as u32 };
        if self.device.check(access).is_ok() {
            self.device.region_write(access, data);
        }
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) {
        let access = Access { offset, region, count: data.len() as u32 };
        if self.device.check(access).is_ok() {
            self.device.region_read(access, data);
        }
    }

    fn word(&mut self, region: u32, offset: u64, value: u32) {
        self.write(region, offset, &value.to_le_bytes());
    }

    fn xdma(&self) -> u32 {
        match self.slot.card().shared.options.profile {
            Profile::F1 => 2,
            Profile::Alveo => 1,
        }
    }

    /// One operation of a client: mostly register accesses.
    fn operate(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15)? {
            0..=6 => {
                let (region, offset, value) = (self.xdma(), register(u)?, u.arbitrary()?);
                self.word(region, offset, value);
            }
            7 => self.read(self.xdma(), register(u)?, &mut [0; 4]),
            8 => {
                let (region, offset) = (u.int_in_range(0..=9)?, place(u)?);
                let len = u.int_in_range(0..=64)?;
                self.write(region, offset, u.bytes(len)?);
            }
            9 => {
                let (region, offset) = (u.int_in_range(0..=9)?, place(u)?);
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

    /// Maps anything anywhere, or takes it away; most of it is refused.
    fn remap(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (flags, address, size) = (u.arbitrary()?, place(u)?, u.int_in_range(0..=20)? * PAGE);
        let _ = match u.arbitrary()? {
            true => self.device.dma_unmap(flags, address, size),
            false => {
                // Never what is to stay as it is.
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
        // Whatever takes the eight bytes of an event.
        let file = || File::from(OwnedFd::from(std::io::pipe().expect("there are files").1));
        let files = (0..u.int_in_range(0..=4)?).map(|_| file()).collect();
        let _ = self.device.set_irqs(index, flags, start, count, files);
        Ok(())
    }

    /// Nothing that the card may only read has changed, and the card still answers.
    fn check(mut self) {
        let mut page = [0; PAGE as usize];
        self.memory.read_exact_at(&mut page, READ_ONLY * PAGE).expect("it is there");
        assert!(page.iter().all(|&byte| byte == 0x5a), "the card wrote what it may only read");
        let mut identifier = [0; 4];
        self.read(self.xdma(), 0x3000, &mut identifier);
        assert_eq!(identifier, 0x1fc3_0006u32.to_le_bytes());
        self.slot.card().disconnect();
    }
}

/// Addresses that mean something in the XDMA BAR, mostly.
fn register(u: &mut Unstructured<'_>) -> Result<u64> {
    let (target, channel, offset): (u64, u64, u8) =
        (u.int_in_range(0..=9)?, u.int_in_range(0..=4)?, u.arbitrary()?);
    Ok(target << 12 | channel << 8 | u64::from(offset & 0xfc))
}

/// Offsets and addresses: near what is there, or anything.
fn place(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=3)? {
        0 => u.int_in_range(0..=0x40)?,
        1 => u.int_in_range(0..=0x3ff)? * PAGE,
        2 => u64::from(u.arbitrary::<u32>()?),
        _ => u.arbitrary()?,
    })
}

fn options(u: &mut Unstructured<'_>) -> Result<Options> {
    let bits: u16 = u.arbitrary()?;
    let bit = |at: u16| bits >> at & 1 != 0;
    Ok(Options {
        profile: if bit(0) { Profile::Alveo } else { Profile::F1 },
        function_reset: bit(1),
        seed: u64::from(bits),
        synchronous: true,
        switches: Switches {
            mm_credits: !bit(2),
            busy_without_credits: bit(3),
            busy_lag: Duration::ZERO,
            stop_clears_run: bit(4),
            unlogged_errors_stop: bit(5),
            error_write_back: bit(6),
            aligned_fetch: bit(7),
            stop_ends_idle_stream: bit(8),
        },
        h2c_channels: 1 + usize::from(bit(9)),
        c2h_channels: 1 + usize::from(bit(10)),
        stream: bit(11),
        axi_timeout: bit(12).then_some(Duration::from_micros(1)),
        ..Options::default()
    })
}

fn logic(options: &Options) -> Arc<dyn Logic> {
    match options.seed % 3 {
        _ if options.stream => Arc::new(Loopback::with_depth(256)),
        0 => {
            let core = if options.function_reset { Core::TakeAll } else { Core::Real };
            Arc::new(Msm::new(MsmOptions { core, scalar_depth: 4, point_depth: 4, ..MsmOptions::default() }))
        }
        _ => Arc::new(Memory::with_size(0x1_0000)),
    }
}

fn client(u: &mut Unstructured<'_>) -> Result<Client> {
    let options = options(u)?;
    let logic = logic(&options);
    Ok(Client::new(options, logic))
}

/// Register, BAR and configuration accesses of any width and place, maps, interrupts and resets, as a hostile guest of QEMU or
/// its QEMU makes them.
pub fn registers(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let Ok(mut client) = client(u) else { return };
    for _ in 0..OPERATIONS {
        if u.is_empty() || client.operate(u).is_err() {
            break;
        }
    }
    client.check();
}

/// Any bytes as descriptors in the client's memory, and engines that run on them.
pub fn descriptors(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let Ok(mut client) = client(u) else { return };
    let _ = run_lists(&mut client, u);
    client.check();
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
        // Where it begins, or as far before as a block may reach.
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

/// Descriptors whose magic number is right, but for every eighth value of the byte where it would be, and whose lengths and
/// addresses mostly are not out of all bounds.
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

/// Configuration space: what is not writable stays, whatever is written.
pub fn config(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let _ = use_config(u);
}

fn use_config(u: &mut Unstructured<'_>) -> Result<()> {
    let profile = if u.arbitrary()? { Profile::F1 } else { Profile::Alveo };
    let mut space = ConfigSpace::new(profile, u.arbitrary()?);
    let fixed = |space: &ConfigSpace| {
        // Identifiers, class, header type, capability pointer, and each capability's first word's identifier and successor.
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

/// Any bytes as messages, over a socket. A panic in the card is contained ([`super::server`]), so what is looked for is one that
/// is not, and memory without bound.
pub fn messages(bytes: &[u8]) {
    let options = Options { h2c_channels: 1, c2h_channels: 1, ..Options::default() };
    let card = EmulatedCard::start(options, Arc::new(Memory::with_size(1 << 20))).expect("it starts");
    let mut stream = UnixStream::connect(card.socket()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time above zero");
    let _ = stream.write_all(&[&hello(), bytes].concat());
    let _ = stream.shutdown(Shutdown::Write);
    let ended = stream.read_to_end(&mut Vec::new());
    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "neither answered nor ended");
    // The next client is served.
    let mut next = UnixStream::connect(card.socket()).expect("it listens");
    next.write_all(&hello()).expect("it is read");
    next.read_exact(&mut [0; 16]).expect("it is answered");
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
