//! A card with a client and host memory.

use crate::fabric::Fabric;
use crate::host::{Host, descriptor, pattern};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use vfio_user::Client;
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Latency, Rule, Switches};
use xdma_testkit::board::like;

/// Time limit for each wait of a test.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Time limit for a test. A test that exceeds it hangs in the client, which has no timeouts.
const TEST_DEADLINE: Duration = Duration::from_secs(240);

/// The IOVA of host memory: above 4 GiB, so that the upper halves of addresses matter.
pub const IOVA: u64 = 0x12_3400_0000;
const HOST_BYTES: usize = 4 << 20;
/// The vfio-user region of configuration space.
const CONFIG: u32 = 7;

/// The addresses and bits of a channel (PG195 "PCIe to DMA Address Format").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// The base of the channel's registers.
    pub base: u64,
    /// The base of its descriptor-fetch registers.
    pub sgdma: u64,
    /// The channel's bit in 0x6010 and 0x6020: H2C in 3:0, C2H in 19:16.
    pub common: u32,
    /// The channel's bit in the interrupt block of a card with four channels in each direction.
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

/// Returns all eight channels.
pub fn channels() -> Vec<Channel> {
    (0..4).map(h2c).chain((0..4).map(c2h)).collect()
}

/// The transfer described by a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The offset in host memory.
    pub host: usize,
    /// The card address.
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

/// Returns `count` pieces of `len` bytes, starting at [`DATA`] on the host and 0x1000_0000 on the card, with different gaps.
pub fn pieces(count: usize, len: u32) -> Vec<Piece> {
    let piece = |i: usize| Piece {
        host: DATA + i * (len as usize + 16),
        card: 0x1000_0000 + i as u64 * (u64::from(len) + 48),
        len,
    };
    (0..count).map(piece).collect()
}

/// The offset of descriptor lists in host memory.
pub const LIST: usize = 0x10_0000;
/// The offset of data in host memory.
pub const DATA: usize = 0x20_0000;
/// The offset of the completed count in host memory.
pub const WORD: usize = 0x1000;

pub struct Rig {
    // Declared first, so that the client is dropped before the card.
    pub client: Client,
    pub card: EmulatedCard,
    pub fabric: Arc<Fabric>,
    pub host: Host,
    /// The region of the XDMA registers.
    pub bar: u32,
    /// Rules that the test breaks on purpose. Any other violation fails the test.
    expected: Vec<Rule>,
    /// Rules that the test may or may not break.
    tolerated: Vec<Rule>,
    _watchdog: Sender<()>,
}

/// Options of a card that completes all work triggered by a register write before it answers the write.
pub fn synchronous() -> EmulatorOptions {
    EmulatorOptions { synchronous: true, latency: Latency::NONE, ..EmulatorOptions::default() }
}

/// Synchronous and asynchronous options, for tests that must hold in both modes.
pub fn both_times() -> [EmulatorOptions; 2] {
    [synchronous(), EmulatorOptions::default()]
}

/// Whether the card has the engine of `hdl/rtl/dma`.
pub const RTL: bool = cfg!(feature = "rtl-dma");

/// Returns whether an engine with the channels of this card exists. The engine of `hdl/rtl/dma` has memory-mapped channels in both
/// directions.
pub fn exists(card: &CardFile) -> bool {
    !RTL || !card.is_stream() && card.channels.h2c > 0 && card.channels.c2h > 0
}

fn connect(card: &EmulatedCard, host: &Host) -> Client {
    let mut client = Client::new(card.socket()).expect("the card answers");
    client.dma_map(0, host.iova, host.len() as u64, host.fd()).expect("memory is mapped");
    client
}

/// Starts the card: the model, or the DMA engine of `hdl/rtl/dma` with the feature `rtl-dma`.
fn start(options: EmulatorOptions, fabric: Arc<Fabric>) -> EmulatedCard {
    #[cfg(feature = "rtl-dma")]
    let card = EmulatedCard::start_rtl_dma(options, fabric);
    #[cfg(not(feature = "rtl-dma"))]
    let card = EmulatedCard::start(options, fabric);
    card.expect("the card starts")
}

impl Rig {
    /// Starts a card like the board on which the tests run: see [`like`].
    pub fn new(options: EmulatorOptions) -> Self {
        Self::exactly(EmulatorOptions { card: like(options.card), ..options })
    }

    /// Starts this card, for tests of a board's layout.
    pub fn exactly(options: EmulatorOptions) -> Self {
        let watchdog = watchdog();
        let fabric = Arc::new(Fabric::default());
        let bar = options.card.register_bar().expect("a card has registers") as u32;
        let card = start(options, fabric.clone());
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
        // Memory space and bus mastering (PCI "Command Register"), without which nothing moves.
        rig.config_write(0x04, &0x0006u16.to_le_bytes());
        rig
    }

    /// Returns the switches of the card: those of its options, or those of the engine of `hdl/rtl/dma`.
    pub fn switches(&self) -> Switches {
        self.card.options().card.switches
    }

    /// Disconnects, and reconnects as another client.
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

    /// Returns the offset of capability `id`.
    pub fn capability(&mut self, id: u8) -> Option<u64> {
        let mut at = self.config8(0x34);
        // No more than 48 capabilities fit, so a longer list is a loop.
        for _ in 0..48 {
            match (at, self.config8(u64::from(at))) {
                (0, _) => return None,
                (_, found) if found == id => return Some(u64::from(at)),
                _ => at = self.config8(u64::from(at) + 1),
            }
        }
        panic!("the list of capabilities is a loop");
    }

    /// Waits until `done` returns true.
    pub fn until(&mut self, what: &str, done: impl FnMut(&mut Self) -> bool) {
        self.until_within(DEADLINE, what, done);
    }

    pub fn until_within(&mut self, limit: Duration, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < limit, "timed out waiting until {what}");
            std::thread::yield_now();
        }
    }

    /// Waits until the channel is not busy, without reading any register that clears on read.
    pub fn idle(&mut self, channel: Channel) {
        self.until("the channel is idle", |rig| rig.read(channel.base + 0x40) & 1 == 0);
    }

    /// Writes the first descriptor's address and adjacent count.
    pub fn first(&mut self, channel: Channel, address: u64, adjacent: u32) {
        self.write(channel.sgdma + 0x80, address as u32);
        self.write(channel.sgdma + 0x84, (address >> 32) as u32);
        self.write(channel.sgdma + 0x88, adjacent);
    }

    /// Writes consecutive descriptors at `offset` in host memory, in blocks of up to 64 that end at 2 KiB boundaries. The k-th
    /// descriptor of a block of n has the adjacent count n-2-k, and the last one has the size of the next block minus one. `each`
    /// is added to the control bits of every descriptor, and `last` to those of the last one. Returns the adjacent count for the
    /// start register.
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

    /// Fills the source of each piece, and returns the data expected at its destination.
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

    /// Returns the data at the destination of a piece.
    pub fn arrived(&self, channel: Channel, piece: &Piece) -> Vec<u8> {
        match channel.to_card {
            true => self.fabric.peek(piece.card, piece.len as usize),
            false => self.host.read(piece.host, piece.len as usize),
        }
    }

    /// Asserts that all pieces have arrived.
    pub fn check(&self, channel: Channel, pieces: &[Piece], expected: &[Vec<u8>]) {
        for (i, (piece, bytes)) in pieces.iter().zip(expected).enumerate() {
            assert!(
                self.arrived(channel, piece) == *bytes,
                "piece {i} of {channel:?} did not arrive: {piece:?}"
            );
        }
    }

    /// Clears Run, starts the list at `offset` in host memory with `control` and Run, and waits until it has ended.
    pub fn run(&mut self, channel: Channel, offset: usize, adjacent: u32, control: u32) {
        self.go(channel, offset, adjacent, control);
        self.idle(channel);
    }

    /// Like [`Rig::run`], but does not wait.
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

    /// Expects that the test breaks this rule; at its end, the violation must have been recorded.
    pub fn expect_violation(&mut self, rule: Rule) {
        self.expected.push(rule);
    }

    /// Allows the test to break this rule by chance.
    pub fn tolerate_violation(&mut self, rule: Rule) {
        self.tolerated.push(rule);
    }

    /// Asserts the number of violations recorded so far. The engine of `hdl/rtl/dma` does not record them.
    pub fn assert_violations(&self, count: usize) {
        if !RTL {
            assert_eq!(self.card.violations().len(), count);
        }
    }

    /// Asserts that exactly the expected violations were recorded.
    fn check_violations(&self) {
        let seen = self.card.violations();
        for rule in &self.expected {
            assert!(
                seen.iter().any(|violation| violation.rule == *rule),
                "{rule:?} was not detected: {seen:?}"
            );
        }
        let known = |rule: &Rule| self.expected.contains(rule) || self.tolerated.contains(rule);
        let other: Vec<_> = seen.iter().filter(|violation| !known(&violation.rule)).collect();
        assert!(other.is_empty(), "unexpected violations: {other:?}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The engine of `hdl/rtl/dma` does not record violations.
        if !std::thread::panicking() && !RTL {
            self.check_violations();
        }
        let _ = self.client.shutdown();
    }
}

/// Aborts the process if the sender is not dropped in time, because a message that is never answered blocks the client.
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
