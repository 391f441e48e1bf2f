//! A card, a client and host memory.

use crate::fabric::Fabric;
use crate::host::{Host, descriptor, pattern};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use vfio_user::Client;
use xdma_emulator::{EmulatedCard, Latency, Options, Profile, Rule};

/// No wait of a test is longer.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// A test that takes longer hangs in the client, which has no deadline of its own.
const TEST_DEADLINE: Duration = Duration::from_secs(240);

/// Where the card sees host memory: above 4 GiB, so that the upper halves of addresses matter.
pub const IOVA: u64 = 0x12_3400_0000;
const HOST_BYTES: usize = 4 << 20;
/// Configuration space as a vfio-user region.
const CONFIG: u32 = 7;

/// A channel by the addresses of its registers (PG195 "PCIe to DMA Address Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Of the channel's own registers.
    pub base: u64,
    /// Of its descriptor fetch.
    pub sgdma: u64,
    /// Its bit in 0x6010 and 0x6020: H2C 3:0, C2H 19:16.
    pub common: u32,
    /// Its bit in the interrupt block where there are four and four channels.
    pub irq: u32,
    pub number: usize,
    pub to_card: bool,
}

pub fn h2c(n: u32) -> Channel {
    let at = u64::from(n) << 8;
    Channel { base: at, sgdma: 0x4000 + at, common: 1 << n, irq: 1 << n, number: n as usize, to_card: true }
}

pub fn c2h(n: u32) -> Channel {
    let at = u64::from(n) << 8;
    let common = 0x1_0000 << n;
    Channel {
        base: 0x1000 + at,
        sgdma: 0x5000 + at,
        common,
        irq: 0x10 << n,
        number: n as usize,
        to_card: false,
    }
}

/// All eight.
pub fn channels() -> Vec<Channel> {
    (0..4).map(h2c).chain((0..4).map(c2h)).collect()
}

/// What a descriptor moves.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Offset in host memory.
    pub host: usize,
    /// Address on the card.
    pub card: u64,
    pub len: u32,
}

impl Piece {
    pub fn descriptor(
        &self,
        host: &Host,
        channel: Channel,
        control: u32,
        adjacent: u32,
        next: u64,
    ) -> [u32; 8] {
        let (from, to) = match channel.to_card {
            true => (host.at(self.host), self.card),
            false => (self.card, host.at(self.host)),
        };
        descriptor(control, adjacent, self.len, from, to, next)
    }
}

/// `count` pieces of `len` bytes; on the host from [`DATA`] on, on the card from 0x1000_0000 on, with gaps that differ.
pub fn pieces(count: usize, len: u32) -> Vec<Piece> {
    let piece = |i: usize| Piece {
        host: DATA + i * (len as usize + 16),
        card: 0x1000_0000 + i as u64 * (u64::from(len) + 48),
        len,
    };
    (0..count).map(piece).collect()
}

/// Where tests keep lists of descriptors.
pub const LIST: usize = 0x10_0000;
/// Where tests keep data.
pub const DATA: usize = 0x20_0000;
/// Where tests have the completed count written.
pub const WORD: usize = 0x1000;

pub struct Rig {
    // The client goes before the card that it talks to.
    pub client: Client,
    pub card: EmulatedCard,
    pub fabric: Arc<Fabric>,
    pub host: Host,
    /// The region that holds XDMA's registers.
    pub bar: u32,
    /// What broken rules the test is about; any other is a failure.
    expected: Vec<Rule>,
    /// Rules whose breaking the card may or may not notice.
    tolerated: Vec<Rule>,
    _watchdog: Sender<()>,
}

/// A card that finishes what a register write starts before it answers.
pub fn synchronous() -> Options {
    Options { synchronous: true, latency: Latency::NONE, ..Options::default() }
}

/// Both ways of keeping time, for tests that must hold in each.
pub fn both_times() -> [Options; 2] {
    [synchronous(), Options::default()]
}

fn connect(card: &EmulatedCard, host: &Host) -> Client {
    let mut client = Client::new(card.socket()).expect("the card answers");
    client.dma_map(0, host.iova, host.len() as u64, host.fd()).expect("memory is mapped");
    client
}

impl Rig {
    pub fn new(options: Options) -> Self {
        let watchdog = watchdog();
        let fabric = Arc::new(Fabric::default());
        let bar = if options.profile == Profile::F1 { 2 } else { 1 };
        let card = EmulatedCard::start(options, fabric.clone()).expect("the card starts");
        let host = Host::new(IOVA, HOST_BYTES);
        let client = connect(&card, &host);
        let mut rig = Self {
            client,
            card,
            fabric,
            host,
            bar,
            expected: vec![],
            tolerated: vec![],
            _watchdog: watchdog,
        };
        // Memory space and bus mastering (PCI "Command Register"): nothing moves without.
        rig.config_write(0x04, &0x0006u16.to_le_bytes());
        rig
    }

    /// Leaves, and comes back as another client.
    pub fn reconnect(&mut self) {
        self.client.shutdown().expect("shutdown");
        self.client = connect(&self.card, &self.host);
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        self.bar_read(self.bar, offset)
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        self.bar_write(self.bar, offset, value);
    }

    pub fn bar_read(&mut self, bar: u32, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.client.region_read(bar, offset, &mut bytes).expect("the card answers a read");
        u32::from_le_bytes(bytes)
    }

    pub fn bar_write(&mut self, bar: u32, offset: u64, value: u32) {
        self.client.region_write(bar, offset, &value.to_le_bytes()).expect("the card answers a write");
    }

    pub fn config_bytes<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.client.region_read(CONFIG, offset, &mut bytes).expect("the card answers a read");
        bytes
    }

    pub fn config8(&mut self, offset: u64) -> u8 {
        self.config_bytes::<1>(offset)[0]
    }

    pub fn config16(&mut self, offset: u64) -> u16 {
        u16::from_le_bytes(self.config_bytes(offset))
    }

    pub fn config32(&mut self, offset: u64) -> u32 {
        u32::from_le_bytes(self.config_bytes(offset))
    }

    pub fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.client.region_write(CONFIG, offset, bytes).expect("the card answers a write");
    }

    /// Where capability `id` lies.
    pub fn capability(&mut self, id: u8) -> Option<u64> {
        let mut at = self.config8(0x34);
        // 48 capabilities are all that fit: more is a loop.
        for _ in 0..48 {
            match (at, self.config8(u64::from(at))) {
                (0, _) => return None,
                (_, found) if found == id => return Some(u64::from(at)),
                _ => at = self.config8(u64::from(at) + 1),
            }
        }
        panic!("the list of capabilities is a loop");
    }

    /// Waits until `done` holds, by reading whatever it reads.
    pub fn until(&mut self, what: &str, done: impl FnMut(&mut Self) -> bool) {
        self.until_within(DEADLINE, what, done);
    }

    pub fn until_within(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < limit, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }

    /// Waits until the channel is no longer busy; reads no register that clears.
    pub fn idle(&mut self, channel: Channel) {
        self.until("the channel is idle", |rig| rig.read(channel.base + 0x40) & 1 == 0);
    }

    /// The first descriptor's address and adjacent count.
    pub fn first(&mut self, channel: Channel, address: u64, adjacent: u32) {
        self.write(channel.sgdma + 0x80, address as u32);
        self.write(channel.sgdma + 0x84, (address >> 32) as u32);
        self.write(channel.sgdma + 0x88, adjacent);
    }

    /// Lays descriptors one after the other at `offset` of host memory, in blocks of up to 64 that end at every 2 KiB, each
    /// telling what follows it: the k-th of n holds n-2-k, the last the size of the next block less one. `each` goes into
    /// every descriptor's control, `last` into the last one's. Returns the adjacent count for the start register.
    pub fn lay(&self, channel: Channel, offset: usize, pieces: &[Piece], each: u32, last: u32) -> u32 {
        let count = pieces.len();
        let room = |i: usize| (64 - (offset / 32 + i) % 64).min(count - i) as u32;
        for (i, piece) in pieces.iter().enumerate() {
            let at = offset + 32 * i;
            let end = i + 1 == count;
            let adjacent = match room(i) {
                _ if end => 0,
                1 => room(i + 1) - 1,
                n => n - 2,
            };
            let control = if end { each | last } else { each };
            let next = if end { 0 } else { self.host.at(at + 32) };
            self.host.put(at, piece.descriptor(&self.host, channel, control, adjacent, next));
        }
        room(0) - 1
    }

    /// Fills the source of each piece, and returns what must lie at its destination.
    pub fn fill(&self, channel: Channel, pieces: &[Piece], seed: u64) -> Vec<Vec<u8>> {
        let data = |i: usize, piece: &Piece| pattern(seed + i as u64, piece.len as usize);
        let all: Vec<Vec<u8>> = pieces.iter().enumerate().map(|(i, piece)| data(i, piece)).collect();
        for (piece, bytes) in pieces.iter().zip(&all) {
            match channel.to_card {
                true => self.host.write(piece.host, bytes),
                false => self.fabric.poke(piece.card, bytes),
            }
        }
        all
    }

    /// What lies at the destination of a piece.
    pub fn arrived(&self, channel: Channel, piece: &Piece) -> Vec<u8> {
        match channel.to_card {
            true => self.fabric.peek(piece.card, piece.len as usize),
            false => self.host.read(piece.host, piece.len as usize),
        }
    }

    /// Demands that each piece arrived.
    pub fn check(&self, channel: Channel, pieces: &[Piece], expected: &[Vec<u8>]) {
        for (i, (piece, bytes)) in pieces.iter().zip(expected).enumerate() {
            assert!(
                self.arrived(channel, piece) == *bytes,
                "piece {i} of {channel:?} did not arrive: {piece:?}"
            );
        }
    }

    /// Clears Run, starts the list at `offset` of host memory with `control` (Run is added) and waits until it is over.
    pub fn run(&mut self, channel: Channel, offset: usize, adjacent: u32, control: u32) {
        self.go(channel, offset, adjacent, control);
        self.idle(channel);
    }

    /// As [`Rig::run`], without the wait.
    pub fn go(&mut self, channel: Channel, offset: usize, adjacent: u32, control: u32) {
        self.write(channel.base + 0x04, 0);
        self.first(channel, self.host.at(offset), adjacent);
        self.write(channel.base + 0x04, control | 1);
    }

    /// Clears Run and waits until the channel is idle.
    pub fn stop(&mut self, channel: Channel) {
        self.write(channel.base + 0x0c, 1);
        self.idle(channel);
    }

    /// The test breaks this rule on purpose; at its end it must have been noticed.
    pub fn breaks(&mut self, rule: Rule) {
        self.expected.push(rule);
    }

    /// The test may break this rule, by chance.
    pub fn may_break(&mut self, rule: Rule) {
        self.tolerated.push(rule);
    }

    /// Demands that exactly the rules that the test breaks were noticed.
    fn check_violations(&self) {
        let seen = self.card.violations();
        for rule in &self.expected {
            assert!(
                seen.iter().any(|violation| violation.rule == *rule),
                "{rule:?} went unnoticed: {seen:?}"
            );
        }
        let known = |rule: &Rule| self.expected.contains(rule) || self.tolerated.contains(rule);
        let other: Vec<_> = seen.iter().filter(|violation| !known(&violation.rule)).collect();
        assert!(other.is_empty(), "rules broken that the test is not about: {other:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_violations();
        }
        let _ = self.client.shutdown();
    }
}

/// Ends the whole process if the sender is not dropped in time: a message that is never answered blocks the client.
pub fn watchdog() -> Sender<()> {
    let (alive, gone) = channel();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        if gone.recv_timeout(TEST_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    alive
}
