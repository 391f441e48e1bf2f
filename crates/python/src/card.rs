//! Cards.

use crate::arguments::{self, Direction, channel_options, seconds};
use crate::buffer::{self, Buffer, Memory, Registered, release_finished};
use crate::channel::Channel;
use crate::errors::{Failure, invalid};
use crate::interrupt::Interrupt;
use crate::msm::{Msm, Points, Scalars};
use crate::process::{close_at_exit, detached, has_views};
use crate::receiver::{Receiver, Sender};
use crate::registers::{Registers, UserRegisters};
use crate::slot::{Child, Children, Close, Slot};
use pyo3::prelude::*;
use std::sync::Arc;
use xdma::card::{CardOptions, Interrupts, Mode, Report, Source};
use xdma::memory::{CallerMemory, HugePages, PageSize};
use xdma::regs;
use xdma::unstable::card::register_raw;
use xdma_emulated_card::emulator::{CardFile, EmulatorOptions, card_file, logic};
use xdma_emulated_card::{CardChoice, StartError, described, find_description, start, start_like};

/// A card and what was opened from it.
pub struct Inner {
    pub slot: Slot<xdma::card::Card>,
    pub children: Arc<Children>,
}

impl Close for Inner {
    fn close_with_card(&self) {
        self.children.close_all();
        self.slot.close_with_card();
        // Another thread may have opened something in the meantime.
        self.children.close_all();
        release_finished();
    }
}

/// An open card. Open one with Card.open or Card.emulate; use it in a with statement, which closes it.
///
/// Any thread may use it and everything that is opened from it. Calls on the same object run one at a time. Closing the card stops its
/// engines and closes everything that was opened from it.
#[pyclass(frozen, module = "xdma")]
pub struct Card {
    inner: Arc<Inner>,
    name: String,
    emulated: bool,
}

/// What a card has, read from its registers.
#[pyclass(frozen, get_all, module = "xdma")]
pub struct CardInfo {
    /// PCI vendor ID.
    vendor: u16,
    /// PCI device ID.
    device: u16,
    /// Numbers of the H2C channels.
    h2c_channels: Vec<usize>,
    /// Numbers of the C2H channels.
    c2h_channels: Vec<usize>,
    /// Whether the channels are AXI-Stream channels, which carry packets and have no card addresses.
    streams: bool,
    /// Width of the data path in bytes.
    data_width: u32,
    /// Maximum payload of a PCI Express write in bytes.
    max_payload: u32,
    /// Maximum PCI Express read request in bytes.
    max_read_request: u32,
    /// Whether the card has interrupts.
    interrupts: bool,
    /// Index of the BAR with the XDMA registers.
    register_bar: usize,
    /// Index of the BAR with the user logic's registers, if there is one.
    user_bar: Option<usize>,
    /// Offset of the user logic's registers in that BAR, in bytes: 0 unless the BAR also holds the XDMA registers. Card.user adds it.
    user_offset: u64,
    /// Index of the BAR with the interrupt block of an AWS F2 shell, through which all interrupts go, if the card has one.
    interrupt_bar: Option<usize>,
    /// NUMA node of the card, if the system reports one.
    numa_node: Option<u32>,
    /// Whether Card.register uses objects in place. Otherwise all of their bytes are staged.
    registers_in_place: bool,
    /// Whether buffers are in small pages because no hugepages were free.
    small_pages: bool,
    /// Whether the function can be reset.
    resettable: bool,
    /// How the card is reached: vfio-user for an emulated card, or a mode of vfio-pci.
    bus: String,
}

impl From<&Report> for CardInfo {
    fn from(report: &Report) -> Self {
        let channels = |direction| {
            let channels = report.channels.iter().filter(|channel| channel.direction == direction);
            channels.map(|channel| channel.index).collect()
        };
        Self {
            vendor: report.vendor,
            device: report.device,
            h2c_channels: channels(regs::Direction::H2C),
            c2h_channels: channels(regs::Direction::C2H),
            streams: report.channels.iter().any(|channel| channel.identifier.is_stream()),
            data_width: report.data_width,
            max_payload: report.max_payload,
            max_read_request: report.max_read_request,
            interrupts: report.interrupts != Interrupts::None,
            register_bar: report.register_bar,
            user_bar: report.user_bar,
            user_offset: report.user_offset,
            interrupt_bar: report.interrupt_bar,
            numa_node: report.bus.node,
            registers_in_place: report.caller_memory == CallerMemory::Pinned,
            small_pages: report.small_pages,
            resettable: report.bus.resettable,
            bus: report.bus.kind.to_string(),
        }
    }
}

#[pymethods]
impl CardInfo {
    fn __repr__(&self) -> String {
        let Self { vendor, device, h2c_channels, c2h_channels, bus, .. } = self;
        let (h2c, c2h) = (h2c_channels.len(), c2h_channels.len());
        format!("<xdma.CardInfo {vendor:04x}:{device:04x}, {h2c} H2C and {c2h} C2H channels, {bus}>")
    }
}

fn pages(name: &str) -> Result<HugePages, Failure> {
    Ok(match name {
        "prefer-huge" => HugePages::Prefer,
        "4K" => HugePages::Require(PageSize::Base),
        "2M" => HugePages::Require(PageSize::Huge2M),
        "1G" => HugePages::Require(PageSize::Huge1G),
        _ => {
            return Err(invalid(format!(
                "`pages` is {name:?}; use \"prefer-huge\", \"4K\", \"2M\" or \"1G\""
            )));
        }
    })
}

/// Starts an emulated card with the logic of that name, or with that of its description.
fn emulate(
    mut card: CardFile,
    name: Option<&str>,
    options: CardOptions,
) -> Result<xdma::card::Card, Failure> {
    let started: Result<_, StartError> = match name {
        None => start_like(card, options),
        Some("msm") => {
            let options = described(&card, options);
            let design = logic::Design::Msm(logic::MsmModelOptions::default());
            start(EmulatorOptions::like(card), design.build(), options)
        }
        Some("memory") => {
            card.channels.interface = card_file::Interface::MemoryMapped;
            card.logic = card_file::Logic::default();
            start_like(card, options)
        }
        Some("loopback") => {
            card.set_streams();
            start_like(card, options)
        }
        Some(name) => {
            return Err(invalid(format!("`logic` is {name:?}; use \"msm\", \"memory\" or \"loopback\"")));
        }
    };
    Ok(started?)
}

impl Card {
    fn opened(
        py: Python<'_>,
        name: String,
        open: impl FnOnce() -> Result<xdma::card::Card, Failure> + Send,
    ) -> Result<Self, Failure> {
        let card = detached(py, open)?;
        // So far, only emulated cards use vfio-user.
        let emulated = card.report()?.bus.kind == "vfio-user";
        let inner = Arc::new(Inner { slot: Slot::new("card", card), children: Children::new() });
        let close: Arc<dyn Close> = inner.clone();
        close_at_exit(&close);
        Ok(Self { inner, name, emulated })
    }

    /// Opens something from the card that is closed with it.
    pub fn child<T: Send>(
        &self,
        py: Python<'_>,
        what: &'static str,
        open: impl FnOnce(&xdma::card::Card) -> Result<T, Failure> + Send,
    ) -> Result<Child<Slot<T>>, Failure> {
        let children = &self.inner.children;
        self.inner.slot.with(py, |card| Ok(Child::new(children, Slot::new(what, open(card)?))))
    }

    pub fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

#[pymethods]
impl Card {
    /// Opens a card.
    ///
    /// name is a PCI address such as "0000:3b:00.0", of a function that is bound to vfio-pci; "unix:PATH" for a vfio-user socket; or an
    /// emulated card, named as for emulate. If name is None, the environment variable XDMA_CARD names the card. If that is not set
    /// either, the card is an emulated AWS F1 card; if the machine has XDMA cards, ArgumentError is raised instead, and lists them.
    ///
    /// pages is the page size of allocated memory: "prefer-huge", "4K", "2M" or "1G". mode is the VFIO mode: "cdev", "type1" or
    /// "noiommu"; None tries the first two. register_bar and user_bar are indices of BARs, 0 to 5; None detects them. numa_node is the node
    /// of allocated memory; None selects the card's. idle_limit is the time in seconds within which an engine must become idle when a
    /// channel or the card is opened, stopped or closed. With inspect_only, engines are left as they are, and channels cannot be opened.
    ///
    /// Raises NotFoundError, PermissionError, HostError, BusyError, UnsupportedError, HungError, GoneError, ArgumentError.
    #[staticmethod]
    #[pyo3(signature = (name=None, *, pages="prefer-huge", mode=None, register_bar=None, user_bar=None, numa_node=None, idle_limit=6.0,
        inspect_only=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn open(
        py: Python<'_>,
        name: Option<String>,
        pages: &str,
        mode: Option<&str>,
        register_bar: Option<usize>,
        user_bar: Option<usize>,
        numa_node: Option<u32>,
        idle_limit: f64,
        inspect_only: bool,
    ) -> Result<Self, Failure> {
        let mode = match mode {
            Some(name) => Some(name.parse::<Mode>().map_err(|error| invalid(format!("`mode`: {error}")))?),
            None => None,
        };
        let options = CardOptions {
            register_bar,
            user_bar,
            pages: self::pages(pages)?,
            node: numa_node,
            mode,
            address_seed: None,
            idle_limit: seconds("idle_limit", idle_limit)?,
            as_found: inspect_only,
        };
        let named = match name.or_else(|| std::env::var("XDMA_CARD").ok()) {
            Some(name) => Some(name.parse::<CardChoice>()?),
            None => None,
        };
        let choice = CardChoice::or_emulated(named.as_ref())?;
        let name = choice.to_string();
        Self::opened(py, name, move || Ok(choice.open(options)?))
    }

    /// Starts an emulated card in this process, and opens it.
    ///
    /// like is the name of an included description, "f1", "f2", "alveo", "msi", "eight-vectors", "7-series", "streams", "c2h-only" or
    /// "three-and-one", or the path of another one, which ends in ".toml". logic is the design behind the card's engine: "memory", which
    /// stores what is written; "loopback", which returns stream packets; or "msm", the model of the MSM design. None selects the
    /// description's.
    #[staticmethod]
    #[pyo3(signature = (like="f1", *, logic=None, idle_limit=6.0))]
    fn emulate(py: Python<'_>, like: &str, logic: Option<&str>, idle_limit: f64) -> Result<Self, Failure> {
        let card = find_description(like)?;
        let idle_limit = seconds("idle_limit", idle_limit)?;
        let options = CardOptions { idle_limit, ..CardOptions::default() };
        Self::opened(py, like.into(), || emulate(card, logic, options))
    }

    /// The name under which it was opened.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Whether a program emulates the card: one in this process, or one at a vfio-user socket.
    ///
    /// An emulated card that a virtual machine presents as a PCI function cannot be told from a real one.
    #[getter]
    fn emulated(&self) -> bool {
        self.emulated
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.slot.is_closed()
    }

    /// What the card has, read from its registers.
    #[getter]
    fn info(&self, py: Python<'_>) -> Result<CardInfo, Failure> {
        self.inner.slot.with(py, |card| Ok((&card.report()?).into()))
    }

    /// Number of bytes in quarantine: memory of transfers that ended without proof that the card had finished with it. It is not used
    /// again before the card is closed.
    #[getter]
    fn quarantined_bytes(&self, py: Python<'_>) -> Result<u64, Failure> {
        Ok(self.inner.slot.lock(py)?.quarantined_bytes())
    }

    /// Describes the card in a few lines of text: identity, channels, link, interrupts, memory, and every fallback that is in effect.
    fn describe(&self, py: Python<'_>) -> Result<String, Failure> {
        let text = self.inner.slot.with(py, |card| Ok(card.report()?.to_string()))?;
        Ok(if self.emulated { format!("{text}\nThis card is emulated.") } else { text })
    }

    /// Allocates size zeroed bytes for transfers in a direction, aligned to 64 bytes.
    ///
    /// Raises ArgumentError if size is 0, and MemoryError.
    fn allocate(&self, py: Python<'_>, size: u64, direction: Direction) -> Result<Buffer, Failure> {
        let children = &self.inner.children;
        self.inner.slot.with(py, |card| {
            let memory = Memory::Allocated(card.allocate(size, direction.into())?);
            Ok(Buffer::new(Child::new(children, buffer::Inner::new(memory, direction.into()))))
        })
    }

    /// Makes the bytes of data accessible to the card for transfers in a direction. data is a contiguous object that supports the buffer
    /// protocol, such as a numpy array.
    ///
    /// If the bus can pin memory (CardInfo.registers_in_place), whole pages are used in place, and the rest is staged; otherwise
    /// everything is staged: see Buffer.sync. The object cannot be resized until the buffer is closed. It must be writable for C2H. If the
    /// buffer is dropped while a transfer uses it, the object is released by a later call of this function, or when the card is closed.
    fn register(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> Result<Buffer, Failure> {
        release_finished();
        let object = arguments::view(data)?;
        let (ptr, len) = arguments::bytes(&object)?;
        arguments::check_plain(&object)?;
        if direction == Direction::C2H && object.readonly() {
            return Err(invalid("the object is read-only, and the card would write it; pass a writable one"));
        }
        if has_views(ptr.addr(), len) {
            return Err(invalid(
                "the object is a view of a buffer, which a card uses already; use that buffer",
            ));
        }
        let card = self.inner.slot.lock(py)?;
        // SAFETY: the object keeps the bytes allocated until the buffer releases it, after the card has lost access to them. Only
        // Python code accesses them, as plain bytes. The buffer copies them while it holds the GIL.
        let raw = unsafe { register_raw(&card, ptr.cast_mut(), len as u64, direction.into())? };
        let memory = Memory::Registered(Registered::new(raw, object));
        Ok(Buffer::new(Child::new(&self.inner.children, buffer::Inner::new(memory, direction.into()))))
    }

    /// Opens the memory-mapped H2C channel with this number (0 to 3), which moves data to the card.
    ///
    /// ring is "auto" (credits if the channel has them), "chain" or "credits". wait selects how the channel waits: "hybrid" polls for
    /// up to 50 us, then sleeps until the channel interrupts; "interrupt" sleeps at once; "spin-then-yield" and "spin" poll. slots is the
    /// number of descriptors for single transfers, at most 512. With fixed_address, a transfer accesses a single card address. With
    /// check_idle, the busy bit is read before a chain is started again. interrupt enables the channel's interrupt, for Channel.fileno;
    /// "hybrid" and "interrupt" enable it in any case.
    ///
    /// Raises BusyError if the channel is already open; UnsupportedError if the card does not have it; ArgumentError.
    #[pyo3(signature = (number=0, *, ring="auto", wait="hybrid", slots=256, fixed_address=false, check_idle=true, interrupt=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn h2c(
        &self,
        py: Python<'_>,
        number: usize,
        ring: &str,
        wait: &str,
        slots: usize,
        fixed_address: bool,
        check_idle: bool,
        interrupt: bool,
    ) -> Result<Channel, Failure> {
        let options = channel_options(ring, wait, slots, fixed_address, check_idle, interrupt)?;
        Channel::open(py, self, regs::Direction::H2C, number, options)
    }

    /// Opens the memory-mapped C2H channel with this number (0 to 3), which moves data from the card. Arguments and exceptions
    /// are those of h2c.
    #[pyo3(signature = (number=0, *, ring="auto", wait="hybrid", slots=256, fixed_address=false, check_idle=true, interrupt=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn c2h(
        &self,
        py: Python<'_>,
        number: usize,
        ring: &str,
        wait: &str,
        slots: usize,
        fixed_address: bool,
        check_idle: bool,
        interrupt: bool,
    ) -> Result<Channel, Failure> {
        let options = channel_options(ring, wait, slots, fixed_address, check_idle, interrupt)?;
        Channel::open(py, self, regs::Direction::C2H, number, options)
    }

    /// Opens the H2C stream channel with this number (0 to 3), to send packets. Arguments and exceptions are those of h2c;
    /// UnsupportedError is also raised if the channel is not a stream.
    #[pyo3(signature = (number=0, *, ring="auto", wait="hybrid", slots=256, interrupt=false))]
    fn sender(
        &self,
        py: Python<'_>,
        number: usize,
        ring: &str,
        wait: &str,
        slots: usize,
        interrupt: bool,
    ) -> Result<Py<Sender>, Failure> {
        let options = channel_options(ring, wait, slots, false, true, interrupt)?;
        Sender::open(py, self, number, options)
    }

    /// Opens the C2H stream channel with this number (0 to 3), to receive packets.
    ///
    /// buffers is the number of receive buffers, 1 to 256; buffer_size the size of each in bytes, a multiple of 64; max_posted the largest
    /// number of buffers that the engine has at a time, None for all. A packet longer than max_packet bytes is discarded, and raises
    /// ArgumentError. If discard_quiet is not None, old data is discarded until none has arrived for that many seconds, but for at
    /// most 5 seconds. timeout is the time limit of iteration in seconds. Exceptions are those of h2c.
    #[pyo3(signature = (number=0, *, buffers=64, buffer_size=65536, max_posted=None, max_packet=67_108_864, discard_quiet=None, timeout=5.0,
        ring="auto", wait="hybrid"))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn receiver(
        &self,
        py: Python<'_>,
        number: usize,
        buffers: usize,
        buffer_size: u32,
        max_posted: Option<usize>,
        max_packet: usize,
        discard_quiet: Option<f64>,
        timeout: f64,
        ring: &str,
        wait: &str,
    ) -> Result<Receiver, Failure> {
        Receiver::open(
            py,
            self,
            number,
            buffers,
            buffer_size,
            max_posted,
            max_packet,
            discard_quiet,
            timeout,
            ring,
            wait,
        )
    }

    /// Copies points to memory that the card reads: 64 bytes each, as Points describes. Raises ArgumentError if data does not
    /// consist of whole points.
    fn points(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> Result<Points, Failure> {
        Points::open(py, self, data)
    }

    /// Copies scalars to memory that the card reads: 32 bytes each, in the form "canonical" or "montgomery", as Scalars describes. Raises
    /// ArgumentError if data does not consist of whole scalars.
    #[pyo3(signature = (data, form="canonical"))]
    fn scalars(&self, py: Python<'_>, data: &Bound<'_, PyAny>, form: &str) -> Result<Scalars, Failure> {
        Scalars::open(py, self, data, form)
    }

    /// Opens the MSM design on the card: resets it, and opens one channel of each direction.
    ///
    /// h2c is the number of the channel that streams points and scalars, and c2h that of the channel that fetches results. chunk
    /// is the number of pairs per chunk, an even number; None selects the design's. ring, wait and slots are as for Card.h2c, except that
    /// "auto" selects chains. Raises UnsupportedError if the card's logic is not this design, and the exceptions of h2c.
    #[pyo3(signature = (*, h2c=0, c2h=0, chunk=None, ring="auto", wait="hybrid", slots=256))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments")]
    fn msm(
        &self,
        py: Python<'_>,
        h2c: usize,
        c2h: usize,
        chunk: Option<u32>,
        ring: &str,
        wait: &str,
        slots: usize,
    ) -> Result<Msm, Failure> {
        Msm::open(py, self, h2c, c2h, chunk, ring, wait, slots)
    }

    /// The registers of the core and of the MSM design, by name and field.
    #[getter]
    fn registers(&self, py: Python<'_>) -> Result<Registers, Failure> {
        Registers::of(py, self)
    }

    /// The registers of the user logic, by offset. Raises UnsupportedError if the card has no BAR with them.
    #[getter]
    fn user(&self, py: Python<'_>) -> Result<UserRegisters, Failure> {
        UserRegisters::of(py, self)
    }

    /// Enables the interrupt of a line of the user logic, 0 to 15. AWS F2 has fewer lines: they share 16 interrupts with the channels.
    ///
    /// The logic holds its line until the interrupt is acknowledged in a way that the logic defines: acknowledge first, then look for
    /// work. Raises ArgumentError for a line that the card does not have, and UnsupportedError if the card has no interrupts.
    fn user_interrupt(&self, py: Python<'_>, line: usize) -> Result<Interrupt, Failure> {
        Interrupt::open(py, self, Source::User(line))
    }

    /// Enables the interrupt of a channel that was opened with interrupt=True.
    #[pyo3(signature = (direction, number=0))]
    fn channel_interrupt(
        &self,
        py: Python<'_>,
        direction: Direction,
        number: usize,
    ) -> Result<Interrupt, Failure> {
        Interrupt::open(py, self, Source::Channel(direction.into(), number))
    }

    /// Recovers the card without closing it, after its link was down, after another program reset it, or when an engine hangs.
    ///
    /// Transfers in flight are lost: each channel raises EngineError until it is recovered. Raises GoneError while the card is gone, and
    /// HungError if an engine stays busy.
    fn recover(&self, py: Python<'_>) -> Result<(), Failure> {
        self.inner.slot.with(py, |card| Ok(card.recover()?))
    }

    /// Resets the function of the card, then recovers it as recover does. Afterwards, recover every channel, and set up the user
    /// logic.
    fn reset(&self, py: Python<'_>) -> Result<(), Failure> {
        self.inner.slot.with(py, |card| Ok(card.reset()?))
    }

    /// Closes the card and everything that was opened from it: stops its engines and restores the reset values of its registers, so that
    /// another program can use it.
    ///
    /// Memory with views stays allocated until the last view is gone; only then can another process open the card. Closing
    /// it twice does nothing.
    fn close(&self, py: Python<'_>) {
        if !self.inner.slot.is_forked() {
            detached(py, || self.inner.close_with_card());
        }
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let emulated = if self.emulated { ", emulated" } else { "" };
        let closed = if self.closed() { ", closed" } else { "" };
        format!("<xdma.Card {}{emulated}{closed}>", self.name)
    }
}
