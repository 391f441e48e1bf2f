//! The card: configuration space, BARs, channels and custom logic behind one function.

use super::axi_timeout::AxiTimeout;
use super::bell::Bell;
use super::channel::{Channel, Shared};
use super::config_space::{Bar, BarKind, ConfigSpace, Effects};
use super::faults::{Board, Kind, Occasion};
use super::guest::GuestMemory;
use super::irq::Irq;
use super::log::{ChannelId, Log, Rule, lock};
use super::logic::{Answer, Burst, Logic, PCIS_ID, Shell};
use super::options::Options;
use super::pace::Pace;
use super::registers::ConfigBlock;
use super::watch::Watch;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma_regs::Direction;

/// Bytes that the AXI port moves at a time.
const AXI_PIECE: u64 = 4096;
/// How long an access to the AXI port waits before the shell completes it itself. AWS' shell gives up after 8 us; here
/// the logic shares its processor with everything else.
const AXI_TIMEOUT: Duration = Duration::from_millis(5);

/// A card with its channels' threads.
pub(super) struct Card {
    pub shared: Arc<Shared>,
    pub config_block: ConfigBlock,
    config: Arc<Mutex<ConfigSpace>>,
    channels: Vec<Arc<Channel>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Ends what serves the card.
    leave: Arc<OnceLock<Leave>>,
}

pub(super) type Leave = Box<dyn Fn() + Send + Sync>;

/// What the logic sees of the card. It must not own what owns the logic.
struct CardShell {
    shared: Weak<Shared>,
    bells: Vec<Arc<Bell>>,
}

impl Shell for CardShell {
    fn progress(&self) {
        self.bells.iter().for_each(|bell| bell.ring());
    }

    fn user_irq(&self, line: usize, level: bool) {
        if let Some(shared) = self.shared.upgrade() {
            shared.irq.set_user(line, level);
        }
    }
}

impl Card {
    /// Builds the card, attaches the logic and starts the channels' threads.
    pub fn start(options: Options, logic: Arc<dyn Logic>) -> io::Result<Self> {
        let log = Arc::new(Log::default());
        let irq = Arc::new(Irq::new(options.profile.vectors(), Arc::clone(&log)));
        let config = Arc::new(Mutex::new(ConfigSpace::new(options.profile, options.function_reset)));
        let axi_timeout = AxiTimeout::new(options.axi_timeout);
        let pace = Pace::new(options.link_rate);
        let link = Arc::default();
        let guest = Arc::new(GuestMemory::new(Watch::new(Arc::clone(&log), Arc::clone(&link))));
        let faults = Board::new(&options.faults);
        Self::build(
            Shared { options, log, guest, link, irq, logic, axi_timeout, pace, faults },
            config,
            Arc::default(),
        )
    }

    /// The same function with other channels and another logic: what loading an image makes of it. The client's memory, its
    /// interrupts and configuration space stay; the log starts anew.
    pub fn with_image(&self, options: Options, logic: Arc<dyn Logic>) -> io::Result<Self> {
        let Shared { log, guest, link, irq, .. } = &*self.shared;
        let (log, guest, link, irq) = (Arc::clone(log), Arc::clone(guest), Arc::clone(link), Arc::clone(irq));
        let axi_timeout = AxiTimeout::new(options.axi_timeout);
        let pace = Pace::new(options.link_rate);
        irq.reset();
        // Nobody drives the lines of the image that is gone; one left up would have no edge to interrupt with.
        (0..xdma_regs::USER_IRQS).for_each(|line| irq.set_user(line, false));
        link.reset_limits();
        log.clear();
        let faults = Board::new(&options.faults);
        let shared = Shared { options, log, guest, link, irq, logic, axi_timeout, pace, faults };
        Self::build(shared, Arc::clone(&self.config), Arc::clone(&self.leave))
    }

    fn build(
        shared: Shared,
        config: Arc<Mutex<ConfigSpace>>,
        leave: Arc<OnceLock<Leave>>,
    ) -> io::Result<Self> {
        let shared = Arc::new(shared);
        let channels = channels(&shared);
        let bells = channels.iter().map(|channel| Arc::clone(&channel.bell)).collect();
        let shell = CardShell { shared: Arc::downgrade(&shared), bells };
        shared.logic.attach(Arc::new(shell));
        let card = Self {
            shared,
            config_block: ConfigBlock::default(),
            config,
            channels,
            threads: Mutex::default(),
            leave,
        };
        card.apply(lock(&card.config).effects());
        for channel in card.channels() {
            let thread = std::thread::Builder::new().name(format!("xdma {}", channel.id));
            let channel = Arc::clone(channel);
            lock(&card.threads).push(thread.spawn(move || channel.run())?);
        }
        Ok(card)
    }

    /// Says how to end what serves the card.
    pub fn leave_by(&self, leave: Leave) {
        // There is one server, made with the card.
        let _ = self.leave.set(leave);
    }

    pub fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    /// MSI and MSI-X enable as configuration space has them, as bits 0 and 1.
    pub fn messages_enabled(&self) -> u32 {
        let effects = lock(&self.config).effects();
        u32::from(effects.msi_enabled) | u32::from(effects.msix_enabled) << 1
    }

    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        let up = self.shared.link.is_up();
        if !*up {
            data.fill(0xff);
            return;
        }
        let intx = self.shared.irq.intx();
        lock(&self.config).read(offset, data, intx);
    }

    pub fn config_write(&self, offset: u64, data: &[u8]) {
        let up = self.shared.link.is_up();
        if !*up {
            return;
        }
        let effects = lock(&self.config).write(offset, data);
        if effects.reset {
            self.reset_function();
        } else {
            let effects = lock(&self.config).effects();
            self.apply(effects);
        }
    }

    /// Resets everything, configuration space included.
    fn reset_function(&self) {
        let Options { profile, function_reset, .. } = self.shared.options;
        *lock(&self.config) = ConfigSpace::new(profile, function_reset);
        self.reset();
        let effects = lock(&self.config).effects();
        self.apply(effects);
    }

    /// Takes the link down, which resets the function, or brings it back.
    pub fn set_link(&self, up: bool) {
        self.shared.link.set_up(up);
        if !up {
            self.reset_function();
        }
    }

    /// Carries what configuration space says to where it acts.
    fn apply(&self, effects: Effects) {
        let Shared { link, irq, .. } = &*self.shared;
        link.set_sizes(effects.max_payload, effects.max_read_request);
        irq.configure(effects.bus_master, effects.intx_disabled, effects.msix_masked);
        if link.bus_master() != effects.bus_master {
            link.set_bus_master(effects.bus_master);
            self.shared.guest.watch.forget();
            self.channels.iter().for_each(|channel| channel.poke());
        }
    }

    /// Resets engines, registers and logic. Configuration space is the business of whoever resets: a function reset clears it,
    /// VFIO's device reset keeps it.
    pub fn reset(&self) {
        match self.shared.faults.strike(Occasion::Reset, None) {
            Some(Kind::ResetIneffective) => return,
            Some(Kind::ResetClears) => self.shared.logic.clear(),
            _ => {}
        }
        self.channels.iter().for_each(|channel| channel.reset());
        self.shared.irq.reset();
        self.shared.link.reset_limits();
        self.config_block.reset();
        self.shared.logic.reset();
    }

    /// The client is gone. As the kernel does when a device is closed, bus mastering ends first; then nothing of
    /// the client is touched any more. Registers stay as they are.
    pub fn disconnect(&self) {
        lock(&self.config).clear_bus_master();
        let effects = lock(&self.config).effects();
        self.apply(effects);
        self.shared.irq.disconnect();
        self.shared.guest.unmap_all();
    }

    /// The BAR that covers an access.
    fn bar(&self, index: usize, offset: u64, len: usize) -> Option<&Bar> {
        let mut bars = self.shared.options.profile.bars().iter();
        bars.find(|bar| bar.index == index && inside(bar, offset, len))
    }

    /// What a fault makes of an access to a BAR, or of no access at all.
    pub fn access(&self) {
        if let Some(fault) = self.shared.faults.strike(Occasion::Access, None) {
            self.suffer(fault);
        }
    }

    /// Something happens to the whole card.
    pub fn suffer(&self, fault: Kind) {
        match fault {
            Kind::LinkDown => self.set_link(false),
            Kind::LinkUp => self.set_link(true),
            Kind::ProcessGone => {
                if let Some(leave) = self.leave.get() {
                    leave();
                }
            }
            _ => {}
        }
    }

    /// A read of a BAR; what lies outside, or beyond a link that is down, reads as all ones.
    pub fn bar_read(&self, index: usize, offset: u64, data: &mut [u8]) {
        self.access();
        let up = self.shared.link.is_up();
        match self.bar(index, offset, data.len()).filter(|_| *up) {
            None => data.fill(0xff),
            Some(Bar { kind: BarKind::Xdma, .. }) => self.xdma_read(offset, data),
            Some(Bar { kind: BarKind::User, .. }) => self.user_read(index, offset, data),
            Some(Bar { kind: BarKind::Axi { reserved }, size, .. }) => {
                self.axi_read(offset, size - reserved, data);
            }
        }
    }

    /// A write to a BAR; what lies outside, or beyond a link that is down, is dropped.
    pub fn bar_write(&self, index: usize, offset: u64, data: &[u8]) {
        self.access();
        let up = self.shared.link.is_up();
        match self.bar(index, offset, data.len()).filter(|_| *up) {
            None => {}
            Some(Bar { kind: BarKind::Xdma, .. }) => self.xdma_write(offset, data),
            Some(Bar { kind: BarKind::User, .. }) => self.user_write(index, offset, data),
            Some(Bar { kind: BarKind::Axi { reserved }, size, .. }) => {
                self.axi_write(offset, size - reserved, data);
            }
        }
    }

    /// AXI-Lite moves 32-bit words.
    fn words(&self, offset: u64, len: usize) -> bool {
        let words = offset.is_multiple_of(4) && len.is_multiple_of(4);
        if !words {
            self.shared.log.violation(Rule::AccessWidth, offset, None);
        }
        words
    }

    fn user_read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        if !self.words(offset, data.len()) {
            data.fill(0xff);
            return;
        }
        for (offset, word) in (offset..).step_by(4).zip(data.chunks_exact_mut(4)) {
            word.copy_from_slice(&self.shared.logic.user_read(bar, offset).to_le_bytes());
        }
    }

    fn user_write(&self, bar: usize, offset: u64, data: &[u8]) {
        if !self.words(offset, data.len()) {
            return;
        }
        for (offset, word) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            self.shared.logic.user_write(bar, offset, value);
        }
    }

    /// Reads through the AXI port; what nobody answers reads as all ones.
    fn axi_read(&self, offset: u64, limit: u64, data: &mut [u8]) {
        pieces(offset, data.len(), |address, range| {
            let piece = &mut data[range];
            let view = VolatileSlice::from(&mut piece[..]);
            let logic = &self.shared.logic;
            let read = |at: u64, view: &VolatileSlice<'_>| logic.read(PCIS_ID, at, Burst::Increment, view);
            if address >= limit || !insist(address, &view, read) {
                piece.fill(0xff);
            }
        });
    }

    /// Writes through the AXI port; what nobody takes vanishes.
    fn axi_write(&self, offset: u64, limit: u64, data: &[u8]) {
        pieces(offset, data.len(), |address, range| {
            let mut piece = data[range].to_vec();
            let view = VolatileSlice::from(&mut piece[..]);
            let logic = &self.shared.logic;
            let mut accepted = false;
            let write = |at: u64, view: &VolatileSlice<'_>| {
                if !accepted {
                    match logic.write(PCIS_ID, at, Burst::Increment, view) {
                        Answer::Accepted => accepted = true,
                        answer => return answer,
                    }
                }
                match logic.response(PCIS_ID) {
                    Answer::Okay(_) => Answer::Okay(view.len()),
                    answer => answer,
                }
            };
            if address < limit && !insist(address, &view, write) {
                logic.forget(PCIS_ID);
            }
        });
    }
}

impl Card {
    /// Stops the engines for good, wherever they are.
    pub fn halt(&self) {
        self.channels.iter().for_each(|channel| channel.quit());
    }

    /// Stops the engines for good, and returns when they have.
    pub fn end(&self) {
        self.halt();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.end();
    }
}

fn channels(shared: &Arc<Shared>) -> Vec<Arc<Channel>> {
    let ids = |direction, count| (0..count).map(move |index| ChannelId { direction, index });
    let h2c = ids(Direction::H2C, shared.options.h2c_channels);
    let all = h2c.chain(ids(Direction::C2H, shared.options.c2h_channels));
    all.enumerate().map(|(bit, id)| Arc::new(Channel::new(id, bit as u32, Arc::clone(shared)))).collect()
}

fn inside(bar: &Bar, offset: u64, len: usize) -> bool {
    offset.checked_add(len as u64).is_some_and(|end| end <= bar.size)
}

/// Cuts an access where AXI bursts must end.
fn pieces(offset: u64, len: usize, mut f: impl FnMut(u64, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let address = offset + done as u64;
        let piece = ((AXI_PIECE - address % AXI_PIECE) as usize).min(len - done);
        f(address, done..done + piece);
        done += piece;
    }
}

/// Repeats an access until all of it is done; false if it failed or took too long.
fn insist(
    address: u64,
    data: &VolatileSlice<'_>,
    mut access: impl FnMut(u64, &VolatileSlice<'_>) -> Answer,
) -> bool {
    let end = Instant::now() + AXI_TIMEOUT;
    let mut done = 0;
    while done < data.len() {
        let rest = data.offset(done).expect("inside the piece");
        match access(address + done as u64, &rest) {
            Answer::Okay(n) if n > 0 => done += n.min(rest.len()),
            Answer::Okay(_) | Answer::Wait if Instant::now() < end => std::thread::yield_now(),
            _ => return false,
        }
    }
    true
}
