//! The card: configuration space, BARs, channels and custom logic of one PCI function.

use super::axi_timeout::AxiTimeout;
use super::channel::{ChannelModel, Shared};
use super::config_space::{ConfigSpace, Effects};
#[cfg(feature = "rtl-f2")]
use super::f2::{F2Image, describe_image};
use super::faults::{FaultInjector, InjectionPoint, Kind};
use super::guest::GuestMemory;
use super::irq::Irq;
use super::log::{ChannelId, EventLog, lock};
use super::logic::{AxiResponse, Burst, Logic, PCIS_ID, Shell};
use super::memory_tracker::MemoryTracker;
use super::notifier::Notifier;
use super::options::{Behaviour, EmulatorOptions};
use super::registers::ConfigBlock;
use super::throttle::Throttle;
#[cfg(feature = "rtl-dma")]
use super::{Error, rtl_dma::RtlDma};
use std::io;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma_card_file::{Bar, Holds};
use xdma_regs::Direction;

/// The maximum number of bytes in one AXI burst.
const AXI_PIECE: u64 = 4096;
/// Time limit for an access through the AXI port, after which the shell completes it. The AWS shell waits 8 us; the model waits
/// longer because the logic shares the processor with all other threads.
const AXI_TIMEOUT: Duration = Duration::from_millis(5);

/// The model of a card, with its channels' threads.
pub(super) struct CardModel {
    pub shared: Arc<Shared>,
    pub config_block: ConfigBlock,
    config: Arc<Mutex<ConfigSpace>>,
    channels: Vec<Arc<ChannelModel>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Shuts down the server of this card.
    shutdown: Arc<OnceLock<ShutdownFn>>,
    /// The simulated engine, which replaces the channels and their registers.
    #[cfg(feature = "rtl-dma")]
    pub rtl_dma: Option<Arc<RtlDma>>,
    /// The simulated image of an F2 card, which also replaces BAR4.
    #[cfg(feature = "rtl-f2")]
    pub f2: Option<Arc<F2Image>>,
}

pub(super) type ShutdownFn = Box<dyn Fn() + Send + Sync>;

/// The logic's interface to the card. Refers to the shared state weakly, because that state owns the logic.
struct CardShell {
    shared: Weak<Shared>,
    notifiers: Vec<Arc<Notifier>>,
}

impl Shell for CardShell {
    fn progress(&self) {
        self.notifiers.iter().for_each(|notifier| notifier.notify());
    }

    fn user_irq(&self, line: usize, level: bool) {
        if let Some(shared) = self.shared.upgrade() {
            shared.irq.set_user(line, level);
        }
    }
}

impl CardModel {
    /// Builds the card, attaches the logic and starts the channels' threads.
    pub fn start(options: EmulatorOptions, logic: Arc<dyn Logic>) -> io::Result<Self> {
        Self::build(Self::shared(described(options, &*logic), logic), None, Arc::default())
    }

    /// Builds the card with the simulated engine, and starts its thread.
    #[cfg(feature = "rtl-dma")]
    pub fn start_rtl_dma(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Result<Self, Error> {
        let channels = options.card.channels;
        let shared = Arc::new(Self::shared(options, logic));
        let engine = Arc::new(RtlDma::new(&shared).ok_or(Error::Engine(channels))?);
        shared.logic.attach(Arc::clone(&engine) as Arc<dyn Shell>);
        let config = Arc::new(Mutex::new(ConfigSpace::new(&shared.options.card)));
        let card = Self {
            shared,
            config_block: ConfigBlock::default(),
            config,
            channels: vec![],
            threads: Mutex::default(),
            shutdown: Arc::default(),
            rtl_dma: Some(Arc::clone(&engine)),
            #[cfg(feature = "rtl-f2")]
            f2: None,
        };
        card.apply(lock(&card.config).effects());
        let thread = std::thread::Builder::new().name("xdma rtl".into());
        lock(&card.threads).push(thread.spawn(move || engine.run()).map_err(Error::Threads)?);
        Ok(card)
    }

    /// The state of a new card that its parts share.
    pub fn shared(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Shared {
        let log = Arc::new(EventLog::default());
        let irq = Arc::new(Irq::new(&options.card, Arc::clone(&log)));
        let axi_timeout = AxiTimeout::new(options.axi_timeout);
        let throttle = Throttle::new(options.link_rate);
        let link = Arc::default();
        let guest = Arc::new(GuestMemory::new(MemoryTracker::new(Arc::clone(&log), Arc::clone(&link))));
        let faults = FaultInjector::new(&options.faults);
        let behaviour = Behaviour::of(&options.card);
        Shared { behaviour, options, log, guest, link, irq, logic, axi_timeout, throttle, faults }
    }

    /// Builds the card after an image was loaded: the same PCI function with new channels and new logic. The client's maps and
    /// interrupts and configuration space are kept; the log is cleared.
    pub fn with_image(&self, options: EmulatorOptions, logic: Arc<dyn Logic>) -> io::Result<Self> {
        let options = described(options, &*logic);
        let Shared { log, guest, link, irq, .. } = &*self.shared;
        let (log, guest, link, irq) = (Arc::clone(log), Arc::clone(guest), Arc::clone(link), Arc::clone(irq));
        let axi_timeout = AxiTimeout::new(options.axi_timeout);
        let throttle = Throttle::new(options.link_rate);
        irq.reset();
        // The lines of the old image have no driver any more. A line left high could not produce a rising edge.
        (0..xdma_regs::USER_IRQS).for_each(|line| irq.set_user(line, false));
        link.reset_limits();
        log.clear();
        let faults = FaultInjector::new(&options.faults);
        let behaviour = Behaviour::of(&options.card);
        let shared =
            Shared { options, behaviour, log, guest, link, irq, logic, axi_timeout, throttle, faults };
        Self::build(shared, Some(Arc::clone(&self.config)), Arc::clone(&self.shutdown))
    }

    fn build(
        shared: Shared,
        config: Option<Arc<Mutex<ConfigSpace>>>,
        shutdown: Arc<OnceLock<ShutdownFn>>,
    ) -> io::Result<Self> {
        let shared = Arc::new(shared);
        let new_config = || Arc::new(Mutex::new(ConfigSpace::new(&shared.options.card)));
        let config = config.unwrap_or_else(new_config);
        #[cfg(feature = "rtl-f2")]
        if shared.options.card.interrupt_bar().is_some() {
            return Self::build_f2(shared, config, shutdown);
        }
        let channels = channels(&shared);
        let notifiers = channels.iter().map(|channel| Arc::clone(&channel.notifier)).collect();
        let shell = CardShell { shared: Arc::downgrade(&shared), notifiers };
        shared.logic.attach(Arc::new(shell));
        let card = Self {
            shared,
            config_block: ConfigBlock::default(),
            config,
            channels,
            threads: Mutex::default(),
            shutdown,
            #[cfg(feature = "rtl-dma")]
            rtl_dma: None,
            #[cfg(feature = "rtl-f2")]
            f2: None,
        };
        card.apply(lock(&card.config).effects());
        for channel in card.channels() {
            let thread = std::thread::Builder::new().name(format!("xdma {}", channel.id));
            let channel = Arc::clone(channel);
            lock(&card.threads).push(thread.spawn(move || channel.run())?);
        }
        Ok(card)
    }

    /// Builds a card with the simulated image for F2, and starts its thread.
    #[cfg(feature = "rtl-f2")]
    fn build_f2(
        shared: Arc<Shared>,
        config: Arc<Mutex<ConfigSpace>>,
        shutdown: Arc<OnceLock<ShutdownFn>>,
    ) -> io::Result<Self> {
        let image = Arc::new(F2Image::new(&shared));
        shared.logic.attach(Arc::clone(&image) as Arc<dyn Shell>);
        let card = Self {
            shared,
            config_block: ConfigBlock::default(),
            config,
            channels: vec![],
            threads: Mutex::default(),
            shutdown,
            #[cfg(feature = "rtl-dma")]
            rtl_dma: None,
            f2: Some(Arc::clone(&image)),
        };
        card.apply(lock(&card.config).effects());
        let thread = std::thread::Builder::new().name("xdma f2".into());
        lock(&card.threads).push(thread.spawn(move || image.run())?);
        Ok(card)
    }

    /// Sets the function that shuts down the card's server.
    pub fn set_shutdown(&self, shutdown: ShutdownFn) {
        // The function is set only once, by the server created with the card.
        let _ = self.shutdown.set(shutdown);
    }

    pub fn channels(&self) -> &[Arc<ChannelModel>] {
        &self.channels
    }

    /// Returns MSI enable (bit 0) and MSI-X enable (bit 1) from configuration space.
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

    /// Resets the whole function, including configuration space.
    fn reset_function(&self) {
        *lock(&self.config) = ConfigSpace::new(&self.shared.options.card);
        self.reset();
        let effects = lock(&self.config).effects();
        self.apply(effects);
    }

    /// Takes the link down, which resets the function, or brings it up.
    pub fn set_link(&self, up: bool) {
        self.shared.link.set_up(up);
        if !up {
            self.reset_function();
        }
    }

    /// Applies the settings in configuration space to the rest of the card.
    fn apply(&self, effects: Effects) {
        let Shared { link, irq, .. } = &*self.shared;
        link.set_device_control(effects.max_payload, effects.max_read_request);
        irq.configure(effects.bus_master, effects.intx_disabled, effects.msix_masked);
        if link.bus_master() != effects.bus_master {
            link.set_bus_master(effects.bus_master);
            self.shared.guest.tracker.clear();
            self.channels.iter().for_each(|channel| channel.kick());
        }
        #[cfg(feature = "rtl-dma")]
        if let Some(engine) = &self.rtl_dma {
            engine.set_sizes(effects.max_payload, effects.max_read_request);
        }
        #[cfg(feature = "rtl-f2")]
        if let Some(image) = &self.f2 {
            image.set_sizes(effects.max_payload, effects.max_read_request);
        }
    }

    /// Resets engines, registers and logic. Configuration space is left to the caller: a function reset clears it, VFIO's device
    /// reset keeps it.
    pub fn reset(&self) {
        match self.shared.faults.fault_at(InjectionPoint::Reset, None) {
            Some(Kind::ResetIneffective) => return,
            Some(Kind::ResetClears) => self.shared.logic.clear_memory(),
            _ => {}
        }
        self.channels.iter().for_each(|channel| channel.reset());
        #[cfg(feature = "rtl-dma")]
        if let Some(engine) = &self.rtl_dma {
            engine.reset();
        }
        #[cfg(feature = "rtl-f2")]
        if let Some(image) = &self.f2 {
            image.reset();
        }
        self.shared.irq.reset();
        self.shared.link.reset_limits();
        self.config_block.reset();
        self.shared.logic.reset();
    }

    /// Handles the departure of the client. As in the kernel's close of a device, bus mastering is turned off first. Afterwards
    /// the card no longer accesses any of the client's resources. Registers keep their values.
    pub fn disconnect(&self) {
        lock(&self.config).clear_bus_master();
        let effects = lock(&self.config).effects();
        self.apply(effects);
        self.shared.irq.disconnect();
        self.shared.guest.unmap_all();
    }

    /// Returns the BAR that contains an access.
    fn bar(&self, index: usize, offset: u64, len: usize) -> Option<&Bar> {
        let mut bars = self.shared.options.card.bars.iter();
        bars.find(|bar| bar.index == index && covers(bar, offset, len))
    }

    /// Injects the faults that are due at an access to a BAR.
    pub fn inject_access_fault(&self) {
        if let Some(fault) = self.shared.faults.fault_at(InjectionPoint::Access, None) {
            self.apply_fault(fault);
        }
    }

    /// Applies a fault of the whole card.
    pub fn apply_fault(&self, fault: Kind) {
        match fault {
            Kind::LinkDown => self.set_link(false),
            Kind::LinkUp => self.set_link(true),
            Kind::ProcessGone => {
                if let Some(shutdown) = self.shutdown.get() {
                    shutdown();
                }
            }
            _ => {}
        }
    }

    /// Reads a BAR. Returns all ones outside of the BARs or while the link is down.
    pub fn bar_read(&self, index: usize, offset: u64, data: &mut [u8]) {
        self.inject_access_fault();
        let up = self.shared.link.is_up();
        let Some(bar) = self.bar(index, offset, data.len()).filter(|_| *up) else { return data.fill(0xff) };
        if self.shared.irq.msix_place(index, offset).is_some() {
            return self.msix_read(index, offset, data);
        }
        match bar.holds.known() {
            Some(Holds::Registers) => match user_offset(bar, offset) {
                Some(_) if self.simulated_user_read(offset, data) => {}
                Some(offset) => self.user_read(index, offset, data),
                None => self.xdma_read(offset, data),
            },
            Some(Holds::User) => self.user_read(index, offset, data),
            Some(Holds::Memory) => self.axi_read(offset, usable(bar), data),
            Some(Holds::Interrupts) => self.interrupt_block_read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes a BAR. Drops writes outside of the BARs or while the link is down.
    pub fn bar_write(&self, index: usize, offset: u64, data: &[u8]) {
        self.inject_access_fault();
        let up = self.shared.link.is_up();
        let Some(bar) = self.bar(index, offset, data.len()).filter(|_| *up) else { return };
        if self.shared.irq.msix_place(index, offset).is_some() {
            return self.msix_write(index, offset, data);
        }
        match bar.holds.known() {
            Some(Holds::Registers) => match user_offset(bar, offset) {
                Some(_) if self.simulated_user_write(offset, data) => {}
                Some(offset) => self.user_write(index, offset, data),
                None => self.xdma_write(offset, data),
            },
            Some(Holds::User) => self.user_write(index, offset, data),
            Some(Holds::Memory) => self.axi_write(offset, usable(bar), data),
            Some(Holds::Interrupts) => self.interrupt_block_write(offset, data),
            None => {}
        }
    }

    /// Reads registers of the user logic. AXI-Lite reads whole words; a narrower access returns its bytes of the word.
    fn user_read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        for (word, range, first) in words(offset, data.len()) {
            let value = self.shared.logic.user_read(bar, word).to_le_bytes();
            let len = range.len();
            data[range].copy_from_slice(&value[first..first + len]);
        }
    }

    /// Writes registers of the user logic. The byte enables of a narrower access select its bytes of the word.
    fn user_write(&self, bar: usize, offset: u64, data: &[u8]) {
        for (word, range, first) in words(offset, data.len()) {
            let (value, mask) = masked(&data[range], first);
            match mask {
                u32::MAX => self.shared.logic.user_write(bar, word, value),
                _ => self.shared.logic.user_write_bytes(bar, word, value, mask),
            }
        }
    }

    /// Reads through the AXI port. Returns all ones for addresses that do not answer.
    fn axi_read(&self, offset: u64, limit: u64, data: &mut [u8]) {
        pieces(offset, data.len(), |address, range| {
            let piece = &mut data[range];
            #[cfg(feature = "rtl-f2")]
            if let Some(image) = self.f2.as_ref().filter(|_| address < limit) {
                return image.memory_read(address, piece);
            }
            let view = VolatileSlice::from(&mut piece[..]);
            let logic = &self.shared.logic;
            let read = |at: u64, view: &VolatileSlice<'_>| logic.read(PCIS_ID, at, Burst::Increment, view);
            if address >= limit || !retry_until_done(address, &view, read) {
                piece.fill(0xff);
            }
        });
    }

    /// Writes through the AXI port. Drops writes that are not accepted.
    fn axi_write(&self, offset: u64, limit: u64, data: &[u8]) {
        pieces(offset, data.len(), |address, range| {
            #[cfg(feature = "rtl-f2")]
            if let Some(image) = self.f2.as_ref().filter(|_| address < limit) {
                return image.memory_write(address, &data[range]);
            }
            let mut piece = data[range].to_vec();
            let view = VolatileSlice::from(&mut piece[..]);
            let logic = &self.shared.logic;
            let mut accepted = false;
            let write = |at: u64, view: &VolatileSlice<'_>| {
                if !accepted {
                    match logic.write(PCIS_ID, at, Burst::Increment, view) {
                        AxiResponse::Accepted => accepted = true,
                        answer => return answer,
                    }
                }
                match logic.response(PCIS_ID) {
                    AxiResponse::Okay(_) => AxiResponse::Okay(view.len()),
                    answer => answer,
                }
            };
            if address < limit && !retry_until_done(address, &view, write) {
                logic.discard_responses(PCIS_ID);
            }
        });
    }
}

impl CardModel {
    /// Stops the engines permanently, in any state.
    pub fn halt(&self) {
        self.channels.iter().for_each(|channel| channel.quit());
        #[cfg(feature = "rtl-dma")]
        if let Some(engine) = &self.rtl_dma {
            engine.quit();
        }
        #[cfg(feature = "rtl-f2")]
        if let Some(image) = &self.f2 {
            image.quit();
        }
    }

    /// Stops the engines permanently, and waits for their threads.
    pub fn join(&self) {
        self.halt();
        for thread in lock(&self.threads).drain(..) {
            // A panic has already been reported by its thread.
            let _ = thread.join();
        }
    }
}

impl Drop for CardModel {
    fn drop(&mut self) {
        self.join();
    }
}

/// Returns the options with a description of the card that matches the simulated image, if there is one.
fn described(options: EmulatorOptions, logic: &dyn Logic) -> EmulatorOptions {
    #[cfg(feature = "rtl-f2")]
    if options.card.interrupt_bar().is_some() {
        return EmulatorOptions { card: describe_image(options.card, logic), ..options };
    }
    let _ = logic;
    options
}

fn channels(shared: &Arc<Shared>) -> Vec<Arc<ChannelModel>> {
    let ids = |direction, count| (0..count).map(move |index| ChannelId { direction, index });
    let h2c = ids(Direction::H2C, shared.options.card.channels.h2c);
    let all = h2c.chain(ids(Direction::C2H, shared.options.card.channels.c2h));
    all.enumerate().map(|(bit, id)| Arc::new(ChannelModel::new(id, bit as u32, Arc::clone(shared)))).collect()
}

/// Returns how many bytes of a BAR answer.
fn usable(bar: &Bar) -> u64 {
    bar.size - bar.reserved.known().unwrap_or_default().0
}

/// Returns the offset among the user logic's registers of an offset in the register BAR, or `None` for the core's registers.
fn user_offset(bar: &Bar, offset: u64) -> Option<u64> {
    offset.checked_sub(bar.user_offset?.0)
}

fn covers(bar: &Bar, offset: u64, len: usize) -> bool {
    offset.checked_add(len as u64).is_some_and(|end| end <= bar.size)
}

/// Splits an access into 32-bit words: the offset of each word, the range of the access that lies in it, and the position of that
/// range in the word.
pub(super) fn words(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (at, first) = (offset + done as u64, ((offset + done as u64) % 4) as usize);
        let part = (4 - first).min(len - done);
        let range = done..done + part;
        done += part;
        (part > 0).then_some((at - first as u64, range, first))
    })
}

/// Returns the bytes at position `first` of a word as a value and a mask.
pub(super) fn masked(bytes: &[u8], first: usize) -> (u32, u32) {
    let (mut value, mut mask) = ([0; 4], [0; 4]);
    value[first..first + bytes.len()].copy_from_slice(bytes);
    mask[first..first + bytes.len()].fill(0xff);
    (u32::from_le_bytes(value), u32::from_le_bytes(mask))
}

/// Splits an access at the boundaries that AXI bursts must not cross.
fn pieces(offset: u64, len: usize, mut f: impl FnMut(u64, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let address = offset + done as u64;
        let piece = ((AXI_PIECE - address % AXI_PIECE) as usize).min(len - done);
        f(address, done..done + piece);
        done += piece;
    }
}

/// Repeats an access until all of it is done. Returns false if it failed or timed out.
fn retry_until_done(
    address: u64,
    data: &VolatileSlice<'_>,
    mut access: impl FnMut(u64, &VolatileSlice<'_>) -> AxiResponse,
) -> bool {
    let end = Instant::now() + AXI_TIMEOUT;
    let mut done = 0;
    while done < data.len() {
        let rest = data.offset(done).expect("inside the piece");
        match access(address + done as u64, &rest) {
            AxiResponse::Okay(n) if n > 0 => done += n.min(rest.len()),
            AxiResponse::Okay(_) | AxiResponse::Wait if Instant::now() < end => std::thread::yield_now(),
            _ => return false,
        }
    }
    true
}
