//! A card: found, identified, quiesced; its channels, its memory and its user registers.

mod error;
mod identify;
mod inspect;
mod interrupts;
mod name;
mod pcie;
mod quiesce;
mod report;

pub use crate::bus::PciAddress;
pub use error::CardError;
pub use inspect::Reading;
pub use interrupts::{Interrupt, Source, USER_LINES};
pub use name::CardName;
pub use pcie::Link;
pub use report::{ChannelReport, Report};

use crate::bus::vfio::Mode;
use crate::bus::{Bar, Bus, BusError};
use crate::channel::stream::{Receiver, ReceiverOptions, Sender};
use crate::channel::{Channel, ChannelOptions, Event, IDLE_LIMIT, Notice, Place, Wait, WriteBackArea};
use crate::memory::order::Claims;
use crate::memory::{
    Access, Buffer, DmaSpace, HugePages, MemoryError, Process, RegisterError, Registered, SharedBlock,
    ToCard, Witness,
};
use crate::regs::{Direction, MAX_CHANNELS};
use crate::stats::{CLIENT_WORDS, Page};
use identify::Layout;
use interrupts::Vectors;
use pcie::ReadRequest;
use quiesce::{Channels, Command};
use std::any::Any;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How a card is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardOptions {
    /// The BAR with the XDMA registers, where it is not to be looked for.
    pub register_bar: Option<usize>,
    /// The BAR with the user logic's registers, where it is not to be guessed.
    pub user_bar: Option<usize>,
    /// Which pages memory comes from.
    pub pages: HugePages,
    /// Which NUMA node memory comes from; the card's own if none is named.
    pub node: Option<u32>,
    /// How a card on `vfio-pci` is reached.
    pub mode: Option<Mode>,
    /// Seed for the base of the card's device addresses, if the driver chooses them; random if `None`. Set it to get reproducible
    /// addresses.
    pub address_seed: Option<u64>,
    /// How long an engine may take to become idle, when its channel or the card is opened, stopped or closed.
    pub idle_limit: Duration,
    /// Only look: leave engines, interrupts and errors as they are found, at opening and at closing, and give out no channels.
    /// The card reaches no host memory meanwhile. (The kernel resets a function on `vfio-pci` that has a reset when it is
    /// opened; what is found then is that.)
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

/// What belongs to a card that is a device model.
#[doc(hidden)]
#[derive(Default)]
pub struct Companions {
    /// Observes which memory the card may use.
    pub witness: Option<Arc<dyn Witness>>,
    /// The model, if it ends with the card.
    pub model: Option<Box<dyn Any + Send + Sync>>,
}

/// A card that this process has for itself. Clones are handles to the same card, which is quiesced and closed with
/// the last of them and of its channels.
#[derive(Clone, Debug)]
pub struct Card {
    inner: Arc<Inner>,
}

struct Inner {
    bus: Arc<dyn Bus>,
    registers: Arc<dyn Bar>,
    layout: Layout,
    idle_limit: Duration,
    space: Arc<DmaSpace>,
    /// Of the channels that were opened: they outlive them.
    words: Mutex<[Option<Arc<WriteBackArea>>; 2 * MAX_CHANNELS]>,
    as_found: bool,
    /// What the channels count, for other processes to read.
    page: Page,
    notice: Arc<Notice>,
    /// One bit for each channel that is open: H2C in 3:0, C2H in 7:4.
    claims: Claims,
    /// Set up when somebody first asks for an interrupt.
    vectors: Mutex<Option<Vectors>>,
    /// What configuration space held when the card was opened.
    command: Command,
    read_request: Option<ReadRequest>,
    /// Dropped after the bus was closed.
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
    /// Opens the card at a PCI address, bound to `vfio-pci`: in [`CardOptions::mode`], in the one that the environment names
    /// ([`MODE_VARIABLE`](crate::bus::vfio::MODE_VARIABLE)), or in the first that works of cdev and type 1.
    ///
    /// # Errors
    ///
    /// As [`Vfio::open`](crate::bus::vfio::Vfio::open); not an XDMA card, or an engine that does not become idle.
    pub fn open(address: PciAddress, options: CardOptions) -> Result<Self, CardError> {
        CardName::Pci(address).open(options)
    }

    /// Opens the card that another process serves at a vfio-user socket.
    ///
    /// # Errors
    ///
    /// No such socket, no permission, taken by another client, not an XDMA card, or an engine that does not become idle.
    pub fn connect(path: impl AsRef<Path>, options: CardOptions) -> Result<Self, CardError> {
        CardName::Socket(path.as_ref().into()).open(options)
    }

    /// Opens the card on a bus.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Safety
    ///
    /// Until the card and all of its memory are dropped, nothing else opens a card on this bus, writes the registers of its channels,
    /// or sets its Bus Master bit.
    pub unsafe fn on_bus(bus: Arc<dyn Bus>, options: CardOptions) -> Result<Self, CardError> {
        Self::over(bus, options, Companions::default())
    }

    fn over(bus: Arc<dyn Bus>, options: CardOptions, companions: Companions) -> Result<Self, CardError> {
        let _span = tracing::debug_span!("open", card = bus.description().location).entered();
        let layout = Layout::find(&*bus, options)?;
        let registers = bus.bar(layout.register_bar)?;
        let CardOptions { idle_limit, as_found, .. } = options;
        let (command, read_request) = (Command::read(&*bus)?, ReadRequest::find(&*bus)?);
        if as_found {
            command.enable_registers(&*bus)?;
        } else {
            quiesce::quiesce(&*bus, &*registers, Channels::Closed, idle_limit)?;
            let_in(&*bus, command, read_request)?;
        }
        let node = options.node.or(bus.description().node);
        let space = DmaSpace::new(bus.clone(), options.pages, node, options.address_seed);
        let space = Arc::new(match companions.witness {
            Some(witness) => space.witnessed_by(witness),
            None => space,
        });
        let page = Page::new(&bus.description().location).map_err(CardError::Statistics)?;
        let (claims, vectors, words) = (Claims::default(), Mutex::new(None), Mutex::default());
        let inner = Inner {
            bus,
            registers,
            layout,
            idle_limit,
            space,
            words,
            as_found,
            page,
            notice: Arc::default(),
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

    /// Takes H2C channel `channel` (0 to 3).
    ///
    /// # Errors
    ///
    /// It is open already, does not exist, or cannot be set up.
    pub fn h2c(&self, channel: usize) -> Result<Channel, CardError> {
        self.channel(Direction::H2C, channel, ChannelOptions::default())
    }

    /// Takes C2H channel `channel` (0 to 3).
    ///
    /// # Errors
    ///
    /// It is open already, does not exist, or cannot be set up.
    pub fn c2h(&self, channel: usize) -> Result<Channel, CardError> {
        self.channel(Direction::C2H, channel, ChannelOptions::default())
    }

    /// Takes a memory-mapped channel, set up as asked.
    ///
    /// # Errors
    ///
    /// It is open already, does not exist, or cannot be set up so.
    pub fn channel(
        &self,
        direction: Direction,
        channel: usize,
        options: ChannelOptions,
    ) -> Result<Channel, CardError> {
        let place = self.place(direction, channel, options.wait)?;
        // SAFETY: the lease claims the channel, its words and its counters, and all is of this card.
        Ok(unsafe { Channel::open(place, options) }?)
    }

    /// Takes H2C stream channel `channel` (0 to 3), to send packets.
    ///
    /// # Errors
    ///
    /// As [`channel`](Self::channel), and it is no stream.
    pub fn stream_h2c(&self, channel: usize, options: ChannelOptions) -> Result<Sender, CardError> {
        let place = self.place(Direction::H2C, channel, options.wait)?;
        // SAFETY: as in `channel`.
        Ok(unsafe { Sender::open(place, options) }?)
    }

    /// Takes C2H stream channel `channel` (0 to 3), to receive packets.
    ///
    /// # Errors
    ///
    /// As [`channel`](Self::channel), it is no stream, or there is no memory for such buffers.
    pub fn stream_c2h(&self, channel: usize, options: ReceiverOptions) -> Result<Receiver, CardError> {
        let place = self.place(Direction::C2H, channel, options.channel.wait)?;
        // SAFETY: as in `channel`.
        Ok(unsafe { Receiver::open(place, options) }?)
    }

    /// What a channel needs of its card.
    fn place(&self, direction: Direction, channel: usize, wait: Wait) -> Result<Place, CardError> {
        self.check_taken_over()?;
        let lease = Box::new(Lease::take(&self.inner, direction, channel)?);
        let (bar, space) = (self.inner.registers.clone(), self.inner.space.clone());
        let event: Option<Arc<dyn Event>> = match wait.sleeps() {
            true => Some(Arc::new(Interrupt::enable(&self.inner, Source::Channel(direction, channel))?)),
            false => None,
        };
        let (recall, words) = (self.inner.bus.recall(), self.inner.words(direction, channel)?);
        let (notice, idle_limit) = (self.inner.notice.clone(), self.inner.idle_limit);
        let counters = self.inner.page.channel(number(direction, channel));
        Ok(Place {
            bar,
            space,
            words,
            direction,
            channel,
            idle_limit,
            recall,
            event,
            notice,
            counters,
            lease,
        })
    }

    fn check_taken_over(&self) -> Result<(), CardError> {
        if self.inner.as_found { Err(CardError::AsFound) } else { Ok(()) }
    }

    /// Allocates `len` zeroed bytes for transfers in a direction: zero-copy, contiguous for the card, aligned to 64 bytes.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn allocate(&self, len: u64, direction: Direction) -> Result<Buffer, MemoryError> {
        self.inner.space.allocate(len, access(direction))
    }

    /// Gives the card the caller's own elements for transfers in a direction; see [`Registered`].
    ///
    /// # Errors
    ///
    /// [`RegisterError`], which gives the vector back.
    pub fn register<T: ToCard>(
        &self,
        data: Vec<T>,
        direction: Direction,
    ) -> Result<Registered<T>, RegisterError<T>> {
        self.inner.space.register(data, access(direction))
    }

    /// The user logic's registers.
    ///
    /// # Errors
    ///
    /// [`CardError::NoUserBar`] when the card has no user BAR.
    pub fn user(&self) -> Result<UserBar, CardError> {
        let index = self.inner.layout.user_bar.ok_or(CardError::NoUserBar)?;
        Ok(UserBar { bar: self.inner.bus.bar(index)? })
    }

    /// The XDMA core's registers, for bring-up and tools: what they do to channels that are open is the caller's affair. Without
    /// an IOMMU, whoever writes them can have the card write anywhere in this machine's memory.
    pub fn register_bar(&self) -> Arc<dyn Bar> {
        self.inner.registers.clone()
    }

    /// Lets an interrupt come, as an eventfd. One that was asked for twice is off once either is dropped.
    ///
    /// A channel's interrupt needs [`ChannelOptions::interrupt`]. The user logic holds its line until it is told that the
    /// interrupt was seen; how, is its own affair.
    ///
    /// # Errors
    ///
    /// [`CardError::NoInterrupts`], [`CardError::NoSuchInterrupt`], or the bus refused.
    pub fn interrupt(&self, source: Source) -> Result<Interrupt, CardError> {
        self.check_taken_over()?;
        Interrupt::enable(&self.inner, source)
    }

    /// Where the client of the user logic counts.
    pub(crate) fn client_counters(&self) -> SharedBlock<CLIENT_WORDS> {
        self.inner.page.client()
    }

    /// Bytes in quarantine: memory of transfers that ended without proof that the card was done with it, such as those of a channel
    /// that was closed while its registers read all ones. It is never reused, and freed when the card is closed, if the card can
    /// then be kept from reaching it.
    pub fn quarantined_bytes(&self) -> u64 {
        self.inner.space.quarantined_bytes()
    }

    /// What the card is and can do, read from its registers now.
    ///
    /// # Errors
    ///
    /// The bus failed or the card is gone.
    pub fn report(&self) -> Result<Report, CardError> {
        Report::read(&*self.inner.bus, &*self.inner.registers, &self.inner.layout, &self.inner.space)
    }

    /// Resets the function, and brings it back as [`recover`](Self::recover) does: every channel has to be recovered, the user logic
    /// set up and interrupts asked for again.
    ///
    /// # Errors
    ///
    /// There is no reset, or the card is busy again after it.
    pub fn reset(&self) -> Result<(), CardError> {
        self.check_taken_over()?;
        if let Err(refused) = self.inner.bus.reset() {
            // Why a card that is gone cannot be reset is not what the kernel says.
            quiesce::check_present(&*self.inner.registers)?;
            return Err(refused.into());
        }
        self.recover()
    }

    /// Brings a card that is kept open back to use, after its link was down, after something else reset it, or when an engine hangs:
    /// stops every engine, resets the function if one stays busy and there is a reset, and lets the card reach host memory again.
    /// Transfers in flight are lost, on all channels: each is told so ([`EngineError::Reset`](crate::channel::EngineError::Reset))
    /// when it is next waited for or checked, and stays halted until it is recovered.
    ///
    /// # Errors
    ///
    /// [`CardError::Gone`] while it is; [`CardError::Hung`] when an engine stays busy.
    pub fn recover(&self) -> Result<(), CardError> {
        self.check_taken_over()?;
        let Inner { bus, registers, command, read_request, idle_limit, .. } = &*self.inner;
        let stopped = quiesce::quiesce(&**bus, &**registers, Channels::Open, *idle_limit);
        let taken = stopped.and_then(|()| let_in(&**bus, *command, *read_request));
        // Last, so that a channel that was recovered meanwhile is told as well; and in any case, as engines were halted.
        self.inner.notice.resets.fetch_add(1, Ordering::AcqRel);
        taken?;
        self.inner.notice.hung.store(false, Ordering::Release);
        let vectors = self.inner.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.as_ref().map_or(Ok(()), |vectors| vectors.write_numbers(&*self.inner.registers))
    }
}

/// Lets a card that is at rest reach host memory.
fn let_in(bus: &dyn Bus, command: Command, read_request: Option<ReadRequest>) -> Result<(), CardError> {
    command.enable_bus_master(bus)?;
    read_request.map_or(Ok(()), |found| found.raise(bus))
}

fn access(direction: Direction) -> Access {
    match direction {
        Direction::H2C => Access::CardReads,
        Direction::C2H => Access::CardWrites,
    }
}

/// Which of the card's channels it is.
fn number(direction: Direction, channel: usize) -> usize {
    match direction {
        Direction::H2C => channel,
        Direction::C2H => MAX_CHANNELS + channel,
    }
}

impl Inner {
    /// The words that a channel reports to, which the caller has claimed.
    fn words(&self, direction: Direction, channel: usize) -> Result<Arc<WriteBackArea>, MemoryError> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = &mut words[number(direction, channel)];
        match words {
            Some(words) => Ok(words.clone()),
            None => Ok(words.insert(Arc::new(WriteBackArea::new(&self.space)?)).clone()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.process.is_forked() {
            // The card is the parent's, and the threads behind these are not here.
            std::mem::forget((self.bus.clone(), self.space.clone(), self.model.take()));
            return;
        }
        if self.as_found {
            if let Err(error) = self.command.restore(&*self.bus) {
                tracing::debug!(%error, "the command register was not restored");
            }
            return;
        }
        // All channels are closed: what is busy now was waited for.
        let hung = self.notice.hung.load(Ordering::Acquire);
        let limit = if hung { Duration::ZERO } else { self.idle_limit };
        let stopped = quiesce::quiesce(&*self.bus, &*self.registers, Channels::Closed, limit);
        let restored = self.read_request.map_or(Ok(()), |found| found.restore(&*self.bus));
        // An engine that hangs must not reach memory either. Quarantined memory is looked at after this.
        let cut_off = self.command.restore(&*self.bus);
        match stopped.and(cut_off).and(restored) {
            Ok(()) => tracing::debug!(card = self.bus.description().location, "card closed"),
            Err(CardError::Gone { .. } | CardError::Bus(BusError::Gone { .. })) => {
                tracing::debug!(card = self.bus.description().location, "card closed, which was gone");
            }
            Err(error) => tracing::error!(%error, "the card was closed and may still be busy"),
        }
    }
}

/// The claim to a channel, given back when the channel is closed; keeps the card open.
struct Lease {
    card: Arc<Inner>,
    bit: u32,
}

impl Lease {
    fn take(card: &Arc<Inner>, direction: Direction, channel: usize) -> Result<Self, CardError> {
        if channel >= MAX_CHANNELS {
            return Err(CardError::ChannelNumber { direction, channel });
        }
        let bit = 1 << number(direction, channel);
        if !card.claims.take(bit) {
            return Err(CardError::ChannelTaken { direction, channel });
        }
        Ok(Self { card: card.clone(), bit })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.card.claims.give_back(self.bit);
    }
}

/// The user logic's registers: 32 bits, at offsets in bytes, checked against the BAR.
#[derive(Clone, Debug)]
pub struct UserBar {
    bar: Arc<dyn Bar>,
}

impl UserBar {
    /// Bytes of the BAR.
    pub fn size(&self) -> u64 {
        self.bar.size()
    }

    /// Reads a register: a round trip. All ones may mean that the card is gone.
    ///
    /// # Errors
    ///
    /// The offset is unaligned or outside, or the link failed.
    pub fn read(&self, offset: u32) -> Result<u32, BusError> {
        self.bar.read32(offset.into())
    }

    /// Writes a register, posted.
    ///
    /// # Errors
    ///
    /// The offset is unaligned or outside, or the link failed.
    pub fn write(&self, offset: u32, value: u32) -> Result<(), BusError> {
        self.bar.write32(offset.into(), value)
    }
}
