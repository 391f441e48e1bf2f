//! Opening cards, and access to their channels, memory, interrupts and user registers.

pub(crate) mod aws;
mod capability;
mod error;
mod foreign;
mod identify;
mod inspect;
mod interrupts;
mod lease;
pub(crate) mod name;
mod pcie;
mod quiesce;
mod report;
mod user;
mod vectors;

pub use crate::bus::vfio::{Mode, UnknownMode};
pub use crate::bus::{BadAddress, BusError, Description, InterruptKind, PciAddress};
pub use error::{BadCardName, CardError, InterruptError};
pub use inspect::Reading;
pub use interrupts::{Interrupt, Source, USER_LINES};
pub use name::CardName;
use name::Companions;
pub use pcie::Link;
pub use report::{ChannelReport, Report};
pub use user::UserBar;
pub use vectors::Interrupts;

use crate::bus::{Bar, Bus, Tail};
use crate::channel::stream::{Receiver, ReceiverOptions, Sender};
use crate::channel::{
    Channel, ChannelContext, ChannelOptions, EngineError, Event, IDLE_LIMIT, OpenError, SharedState, Wait,
    WriteBackArea,
};
use crate::memory::order::Claims;
use crate::memory::{
    Access, Buffer, DmaSpace, HugePages, MemoryError, Process, RegisterError, Registered, SharedBlock, ToCard,
};
use crate::regs::map::Block;
use crate::regs::{Direction, IDENTIFIER, MAX_CHANNELS, Target};
use crate::stats::{CLIENT_WORDS, Page};
use aws::ShellInterrupts;
use identify::{Layout, UserRegisters};
use lease::Lease;
use pcie::ReadRequest;
use quiesce::{Channels, Command};
use std::any::Any;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vectors::Vectors;

/// Options for opening a card.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use xdma::card::CardOptions;
/// use xdma::memory::{HugePages, PageSize};
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let options = CardOptions { pages: HugePages::Require(PageSize::Base), ..CardOptions::default() };
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardOptions {
    /// Index of the BAR with the XDMA registers; detected if `None`.
    pub register_bar: Option<usize>,
    /// Index of the BAR with the user logic's registers; the first BAR before the register BAR if `None`.
    /// Naming the register BAR is an error.
    pub user_bar: Option<usize>,
    /// Page size of allocated memory.
    pub pages: HugePages,
    /// NUMA node of allocated memory; the card's own node if `None`.
    pub node: Option<u32>,
    /// VFIO mode for a card on `vfio-pci`. If `None`, the environment variable `XDMA_VFIO` names the mode; if it is unset, cdev
    /// is tried first, then type 1.
    pub mode: Option<Mode>,
    /// Seed for the base of the card's device addresses, if the driver chooses them; random if `None`. Set it to get reproducible
    /// addresses.
    pub address_seed: Option<u64>,
    /// Time limit for an engine to become idle when its channel or the card is opened, stopped or closed.
    pub idle_limit: Duration,
    /// Open the card for inspection only: engines, interrupts and error registers are left unchanged at opening and at closing,
    /// and channels cannot be opened. Meanwhile the card cannot access host memory. Note that the kernel resets a function on
    /// `vfio-pci` when it is opened, if the function has a reset; the registers are then in their state after that reset.
    pub as_found: bool,
}

impl Default for CardOptions {
    fn default() -> Self {
        Self {
            register_bar: None,
            user_bar: None,
            pages: HugePages::default(),
            node: None,
            mode: None,
            address_seed: None,
            idle_limit: IDLE_LIMIT,
            as_found: false,
        }
    }
}

/// An open card, owned by this process. Parse a [`CardName`] and open it:
///
/// ```no_run
/// # use xdma::{card::{CardName, CardOptions}, regs::Direction};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let card = "0000:3b:00.0".parse::<CardName>()?.open(CardOptions::default())?;
/// println!("{}", card.report()?);
/// let mut buffer = card.allocate(4096, Direction::H2C)?;
/// buffer.write(0, &[7u8; 4096])?;
/// card.h2c(0)?.transfer(&buffer, 0..4096, 0x1000, std::time::Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
///
/// Clones are handles to the same card. When the last handle and the last channel are dropped, the card's engines are stopped and
/// the card is closed.
#[derive(Clone, Debug)]
pub struct Card {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Arc<dyn Bus>,
    registers: Arc<dyn Bar>,
    /// The block through which an F2 shell delivers interrupts.
    shell: Option<ShellInterrupts>,
    layout: Layout,
    idle_limit: Duration,
    space: Arc<DmaSpace>,
    /// Write-back areas of the channels that were opened. They are kept until the card is closed.
    write_back: Mutex<[Option<Arc<WriteBackArea>>; 2 * MAX_CHANNELS]>,
    as_found: bool,
    /// The channels' statistics, which other processes can read.
    statistics: Page,
    shared: Arc<SharedState>,
    /// A bit for each open channel: H2C in bits 3:0, C2H in bits 7:4.
    claims: Claims,
    /// Set up when an interrupt is first requested.
    vectors: Mutex<Option<Vectors>>,
    /// Original values of configuration space.
    command: Command,
    read_request: Option<ReadRequest>,
    /// Declared after `bus`: dropped when the bus is closed.
    model: Option<Box<dyn Any + Send + Sync>>,
    process: Process,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Card")
            .field("bus", self.bus.description())
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Card {
    /// Opens the card at a PCI address, which must be bound to `vfio-pci`. [`CardOptions::mode`] selects the VFIO mode.
    ///
    /// # Errors
    ///
    /// The function does not exist, is bound to another driver, shares its IOMMU group with functions of other drivers, or is in
    /// use; this user lacks permission, or the mode is not available; it is not an XDMA card, or an engine does not become idle.
    pub fn open(address: PciAddress, options: CardOptions) -> Result<Self, CardError> {
        CardName::Pci(address).open(options)
    }

    /// Opens the card that another process serves on a vfio-user socket.
    ///
    /// # Errors
    ///
    /// The socket does not exist, this user lacks permission, or another client is using the card; it is not an XDMA card, or an
    /// engine does not become idle.
    pub fn connect(path: impl AsRef<Path>, options: CardOptions) -> Result<Self, CardError> {
        CardName::Socket(path.as_ref().into()).open(options)
    }

    pub(crate) fn over(
        bus: Arc<dyn Bus>,
        options: CardOptions,
        companions: Companions,
    ) -> Result<Self, CardError> {
        let _span = tracing::debug_span!("open", card = bus.description().location).entered();
        let layout = Layout::find(&*bus, options)?;
        let registers = bus.bar(layout.register_bar)?;
        let shell = match layout.interrupt_bar {
            Some(bar) => ShellInterrupts::find(bus.bar(bar)?)?,
            None => None,
        };
        let CardOptions { idle_limit, as_found, .. } = options;
        let (command, read_request) = (Command::read(&*bus)?, ReadRequest::find(&*bus)?);
        if as_found {
            command.enable_registers(&*bus)?;
        } else {
            quiesce::quiesce(&*bus, &*registers, Channels::Closed, idle_limit)?;
            shell.as_ref().map_or(Ok(()), ShellInterrupts::reset)?;
            enable_dma(&*bus, command, read_request)?;
        }
        let node = options.node.or(bus.description().node);
        let space = DmaSpace::new(bus.clone(), options.pages, node, options.address_seed);
        let space = Arc::new(match companions.observer {
            Some(observer) => space.with_observer(observer),
            None => space,
        });
        let statistics = Page::new(&bus.description().location).map_err(CardError::Statistics)?;
        let (claims, vectors, write_back) = (Claims::default(), Mutex::new(None), Mutex::default());
        let inner = Inner {
            bus,
            registers,
            shell,
            layout,
            idle_limit,
            space,
            write_back,
            as_found,
            statistics,
            shared: Arc::default(),
            claims,
            vectors,
            command,
            read_request,
            model: companions.model,
            process: Process::this(),
        };
        let (bus, pages) = (inner.bus.description().kind, options.pages);
        tracing::debug!(bus, ?pages, ?node, as_found, "card open");
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Opens H2C channel `channel` (0 to 3).
    ///
    /// # Errors
    ///
    /// The channel is already open, does not exist, or cannot be set up.
    pub fn h2c(&self, channel: usize) -> Result<Channel, OpenError> {
        self.channel(Direction::H2C, channel, ChannelOptions::default())
    }

    /// Opens C2H channel `channel` (0 to 3).
    ///
    /// # Errors
    ///
    /// The channel is already open, does not exist, or cannot be set up.
    pub fn c2h(&self, channel: usize) -> Result<Channel, OpenError> {
        self.channel(Direction::C2H, channel, ChannelOptions::default())
    }

    /// Opens a memory-mapped channel.
    ///
    /// # Errors
    ///
    /// The channel is already open, does not exist, or does not support these options.
    pub fn channel(
        &self,
        direction: Direction,
        channel: usize,
        options: ChannelOptions,
    ) -> Result<Channel, OpenError> {
        let (context, wait) = self.context(direction, channel, options.wait)?;
        let options = ChannelOptions { wait, ..options };
        // SAFETY: the lease claims the channel together with its write-back area and counters, and all of them belong to this
        // card.
        unsafe { Channel::open(context, options) }
    }

    /// Opens H2C stream channel `channel` (0 to 3) to send packets.
    ///
    /// # Errors
    ///
    /// As [`channel`](Self::channel), and if the channel is not a stream channel.
    pub fn stream_h2c(&self, channel: usize, options: ChannelOptions) -> Result<Sender, OpenError> {
        let (context, wait) = self.context(Direction::H2C, channel, options.wait)?;
        let options = ChannelOptions { wait, ..options };
        // SAFETY: as in `channel`.
        unsafe { Sender::open(context, options) }
    }

    /// Opens C2H stream channel `channel` (0 to 3) to receive packets.
    ///
    /// # Errors
    ///
    /// As [`channel`](Self::channel), and if the channel is not a stream channel or its receive buffers cannot be allocated.
    pub fn stream_c2h(&self, channel: usize, options: ReceiverOptions) -> Result<Receiver, OpenError> {
        let (context, wait) = self.context(Direction::C2H, channel, options.channel.wait)?;
        let options = ReceiverOptions { channel: ChannelOptions { wait, ..options.channel }, ..options };
        // SAFETY: as in `channel`.
        unsafe { Receiver::open(context, options) }
    }

    /// Claims a channel and returns the context to open it with, and how it waits: by polling if the card has no interrupts.
    fn context(
        &self,
        direction: Direction,
        channel: usize,
        wait: Wait,
    ) -> Result<(ChannelContext, Wait), OpenError> {
        if self.inner.as_found {
            return Err(OpenError::AsFound);
        }
        let lease = Box::new(Lease::acquire(&self.inner, direction, channel)?);
        let (bar, space) = (self.inner.registers.clone(), self.inner.space.clone());
        let event = match wait.sleeps() {
            true => self.channel_interrupt(direction, channel)?,
            false => None,
        };
        let wait = if event.is_none() && wait.sleeps() { Wait::SpinThenYield } else { wait };
        let (recalled, write_back) =
            (self.inner.bus.recall(), self.inner.write_back_area(direction, channel)?);
        let (shared, idle_limit) = (self.inner.shared.clone(), self.inner.idle_limit);
        let counters = self.inner.statistics.channel(channel_index(direction, channel));
        let context = ChannelContext {
            bar,
            space,
            write_back,
            direction,
            channel,
            idle_limit,
            recalled,
            event,
            shared,
            counters,
            lease,
        };
        Ok((context, wait))
    }

    /// Returns the interrupt that a channel sleeps on; `None` if the card has no interrupts.
    fn channel_interrupt(
        &self,
        direction: Direction,
        channel: usize,
    ) -> Result<Option<Arc<dyn Event>>, OpenError> {
        match Interrupt::enable(&self.inner, Source::Channel(direction, channel)) {
            Ok(interrupt) => Ok(Some(Arc::new(interrupt))),
            Err(InterruptError::NoVectors) => {
                let location = &self.inner.bus.description().location;
                tracing::warn!(card = location, %direction, channel, "the card has no interrupts, so waits poll");
                Ok(None)
            }
            Err(InterruptError::Bus(error) | InterruptError::Card(CardError::Bus(error))) => {
                Err(EngineError::from(error).into())
            }
            Err(InterruptError::NoSource(_)) => Err(self.no_channel(direction, channel)),
            Err(InterruptError::Card(_)) => Err(EngineError::Gone { direction, channel, ring: None }.into()),
        }
    }

    /// Returns the error for a channel that does not exist, with what its identifier reads.
    fn no_channel(&self, direction: Direction, channel: usize) -> OpenError {
        let address = Target::channel(direction).base(channel) + IDENTIFIER;
        match self.inner.registers.read32(address.into()) {
            Ok(identifier) => OpenError::NoChannel { direction, channel, identifier },
            Err(error) => EngineError::from(error).into(),
        }
    }

    fn check_not_as_found(&self) -> Result<(), CardError> {
        if self.inner.as_found { Err(CardError::AsFound) } else { Ok(()) }
    }

    /// Allocates `len` zeroed bytes for zero-copy transfers in a direction. The buffer is aligned to 64 bytes, and contiguous in
    /// the card's address space; without an IOMMU, contiguous only within each hugepage.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn allocate(&self, len: u64, direction: Direction) -> Result<Buffer, MemoryError> {
        self.inner.space.allocate(len, access(direction))
    }

    /// Registers the caller's own vector for transfers in a direction; see [`Registered`].
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which returns the vector.
    pub fn register<T: ToCard>(
        &self,
        data: Vec<T>,
        direction: Direction,
    ) -> Result<Registered<T>, RegisterError<T>> {
        self.inner.space.register(data, access(direction))
    }

    /// Returns the user logic's registers. On AWS F2, these are the registers behind the first 64 KiB of BAR0, which the engine's
    /// registers occupy.
    ///
    /// # Errors
    ///
    /// [`CardError::NoUserBar`] if the card has no user BAR.
    pub fn user(&self) -> Result<UserBar, CardError> {
        Ok(UserBar { bar: self.user_registers()? })
    }

    /// Reads a block of registers. Write-only registers are skipped. Registers with read side effects are skipped unless `force`
    /// is set.
    ///
    /// # Errors
    ///
    /// The link failed, the card is gone, or it does not have the block's BAR.
    pub fn read_block(&self, block: &Block, force: bool) -> Result<Vec<Reading>, CardError> {
        inspect::read_block(self, block, force)
    }

    pub(crate) fn capability(&self, id: u8) -> Result<Option<u16>, BusError> {
        capability::find(&*self.inner.bus, id)
    }

    pub(crate) fn config_read(&self, offset: u16, width: u8) -> Result<u32, BusError> {
        self.inner.bus.config_read(offset, width)
    }

    /// Returns whether the card is gone, or the kernel has requested it back.
    pub(crate) fn is_gone(&self) -> bool {
        let is_present = self.config_read(0, 2).is_ok_and(|vendor| vendor != 0xffff);
        !is_present || self.inner.bus.recall().load(Ordering::Relaxed)
    }

    pub(crate) fn bar(&self, index: usize) -> Result<Arc<dyn Bar>, BusError> {
        self.inner.bus.bar(index)
    }

    pub(crate) fn user_registers(&self) -> Result<Arc<dyn Bar>, CardError> {
        let UserRegisters { bar, offset } = self.inner.layout.user.ok_or(CardError::NoUserBar)?;
        let bar = self.inner.bus.bar(bar)?;
        Ok(if offset == 0 { bar } else { Arc::new(Tail::new(bar, offset)) })
    }

    pub(crate) fn registers(&self) -> Arc<dyn Bar> {
        self.inner.registers.clone()
    }

    /// Enables an interrupt and returns its eventfd. If the same interrupt is enabled twice, dropping either of the two disables
    /// it.
    ///
    /// A channel's interrupt requires [`ChannelOptions::interrupt`]. The user logic holds its line until the interrupt is
    /// acknowledged in a way that the logic defines.
    ///
    /// # Errors
    ///
    /// [`InterruptError`].
    pub fn interrupt(&self, source: Source) -> Result<Interrupt, InterruptError> {
        self.check_not_as_found()?;
        Interrupt::enable(&self.inner, source)
    }

    /// Returns the counters of the client that drives the user logic, such as the MSM client.
    pub(crate) fn client_counters(&self) -> SharedBlock<CLIENT_WORDS> {
        self.inner.statistics.client()
    }

    /// Returns the number of bytes in quarantine: memory of transfers that ended without proof that the card had finished with
    /// it, such as the transfers of a channel that was closed while its registers read all ones. Quarantined memory is never
    /// reused. It is freed when the card is closed, provided that the card can then no longer access it.
    pub fn quarantined_bytes(&self) -> u64 {
        self.inner.space.quarantined_bytes()
    }

    /// Reads the description of the card and its capabilities from its registers.
    ///
    /// # Errors
    ///
    /// The bus failed, or the card is gone.
    pub fn report(&self) -> Result<Report, CardError> {
        Report::read(&*self.inner.bus, &*self.inner.registers, &self.inner.layout, &self.inner.space)
    }

    /// Resets the function, then recovers the card as [`recover`](Self::recover) does. Afterwards every channel must be
    /// recovered, and the user logic set up.
    ///
    /// # Errors
    ///
    /// The function has no reset, or an engine is busy after the reset.
    pub fn reset(&self) -> Result<(), CardError> {
        self.recover_after(|| {
            self.inner.bus.reset().or_else(|refused| {
                // If the card is gone, report that instead of the kernel's error.
                quiesce::check_present(&*self.inner.registers)?;
                Err(refused.into())
            })
        })
    }

    /// Recovers the card without closing it, after its link was down, after it was reset externally, or when an engine hangs.
    /// Stops every engine, resets the function if an engine stays busy and the function has a reset, and re-enables access to
    /// host memory.
    ///
    /// Transfers in flight on all channels are lost. Each channel reports [`EngineError::Reset`] when it is next waited for or
    /// checked ([`poll`](crate::channel::Channel::poll) alone does not notice), and stays halted until it is recovered. Every
    /// [`Interrupt`] stays enabled. A user interrupt whose line is high fires once more.
    ///
    /// # Errors
    ///
    /// [`CardError::Gone`] while the card is gone; [`CardError::Hung`] if an engine stays busy.
    pub fn recover(&self) -> Result<(), CardError> {
        self.recover_after(|| Ok(()))
    }

    fn recover_after(&self, reset: impl FnOnce() -> Result<(), CardError>) -> Result<(), CardError> {
        self.check_not_as_found()?;
        let Inner { bus, registers, shell, command, read_request, idle_limit, shared, .. } = &*self.inner;
        // Until the vectors are restored, other threads must neither recover a channel nor enable an interrupt: its message would have
        // vector 0, and the shell of AWS F2 would lose it.
        let setup = shared.lock_setup();
        let vectors = self.inner.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        reset()?;
        let stopped = quiesce::quiesce(&**bus, &**registers, Channels::Open, *idle_limit);
        let enabled = stopped.and_then(|()| {
            enable_dma(&**bus, *command, *read_request)?;
            let Some(vectors) = &*vectors else { return Ok(()) };
            Ok(vectors.restore(&**registers, shell.as_ref())?)
        });
        // After the reset, so that a channel that was recovered concurrently is notified too. Also after a failure, since engines
        // may have been halted.
        shared.resets.fetch_add(1, Ordering::AcqRel);
        drop((vectors, setup));
        enabled?;
        shared.hung.store(false, Ordering::Release);
        Ok(())
    }
}

/// Enables access to host memory. All engines must be idle.
fn enable_dma(bus: &dyn Bus, command: Command, read_request: Option<ReadRequest>) -> Result<(), CardError> {
    command.enable_bus_master(bus)?;
    read_request.map_or(Ok(()), |found| found.raise(bus))
}

fn access(direction: Direction) -> Access {
    match direction {
        Direction::H2C => Access::CardReads,
        Direction::C2H => Access::CardWrites,
    }
}

/// Returns the index of a channel among all channels: H2C first, then C2H.
fn channel_index(direction: Direction, channel: usize) -> usize {
    match direction {
        Direction::H2C => channel,
        Direction::C2H => MAX_CHANNELS + channel,
    }
}

impl Inner {
    /// Returns the write-back area of a channel, which the caller must have claimed.
    fn write_back_area(
        &self,
        direction: Direction,
        channel: usize,
    ) -> Result<Arc<WriteBackArea>, MemoryError> {
        let mut areas = self.write_back.lock().unwrap_or_else(PoisonError::into_inner);
        let area = &mut areas[channel_index(direction, channel)];
        match area {
            Some(area) => Ok(area.clone()),
            None => Ok(area.insert(Arc::new(WriteBackArea::new(&self.space)?)).clone()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.process.is_forked() {
            // The card belongs to the parent, and a forked child does not have the threads behind these.
            let vectors = self.vectors.get_mut().map(Option::take);
            std::mem::forget((self.bus.clone(), self.space.clone(), self.model.take(), vectors));
            return;
        }
        // Stop the dispatcher thread first: it accesses registers.
        drop(self.vectors.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if self.as_found {
            if let Err(error) = self.command.restore(&*self.bus) {
                tracing::debug!(%error, "could not restore the command register");
            }
            return;
        }
        // All channels are closed, so an engine that hung has already been waited for.
        let hung = self.shared.hung.load(Ordering::Acquire);
        let limit = if hung { Duration::ZERO } else { self.idle_limit };
        let stopped = quiesce::quiesce(&*self.bus, &*self.registers, Channels::Closed, limit);
        let masked = self.shell.as_ref().map_or(Ok(()), |shell| shell.reset().map_err(CardError::from));
        let restored = self.read_request.map_or(Ok(()), |found| found.restore(&*self.bus));
        // This also stops an engine that hangs from accessing memory. Quarantined memory is released after this, if it succeeds.
        let cut_off = self.command.restore(&*self.bus);
        match stopped.and(masked).and(cut_off).and(restored) {
            Ok(()) => tracing::debug!(card = self.bus.description().location, "card closed"),
            Err(CardError::Gone { .. } | CardError::Bus(BusError::Gone { .. })) => {
                tracing::debug!(card = self.bus.description().location, "closed a card that was gone");
            }
            Err(error) => tracing::error!(%error, "the card was closed but may still be busy"),
        }
    }
}
