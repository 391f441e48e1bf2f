//! How interrupt sources are assigned to the card's vectors.
//!
//! With one MSI-X vector per source, the kernel signals each source's eventfd. Otherwise sources share vectors: a thread waits for
//! them, reads which sources request an interrupt, disables these sources, and signals their eventfds. A source is enabled again
//! when its owner takes the interrupt or waits for the next one. Enabling a source that is still asserted fires it again, so no
//! interrupt is lost.

use super::aws::ShellInterrupts;
use super::interrupts::Source;
use super::{Inner, InterruptError, quiesce};
use crate::bus::{Bar, Bus, BusError, Description, InterruptKind, readable};
use crate::regs::irq::{
    CHANNEL_ENABLE_W1C, CHANNEL_ENABLE_W1S, CHANNEL_REQUEST, CHANNEL_VECTORS, USER_ENABLE_W1C,
    USER_ENABLE_W1S, USER_REQUEST, USER_VECTORS, pack_vectors,
};
use crate::regs::{Direction, GONE, Target};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Offset of the Interrupt Pin register in config space.
const INTERRUPT_PIN: u16 = 0x3d;
/// Largest number of shared vectors that are used. More would only use more file descriptors.
const MAX_SHARED: u32 = 8;

/// How the sources of interrupts are assigned to vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// Each source has an MSI-X vector of its own.
    PerSource,
    /// Sources share vectors of this kind.
    Shared {
        /// MSI-X, MSI or INTx.
        kind: InterruptKind,
        /// Number of vectors.
        vectors: u32,
    },
    /// The function has no interrupts. Waits poll.
    None,
}

impl Interrupts {
    /// Decides how `sources` sources are assigned to the vectors that the bus reports.
    pub(super) fn of(bus: &Description, sources: usize) -> Self {
        let shared = |kind, vectors| Self::Shared { kind, vectors };
        match bus {
            Description { vectors, .. } if *vectors as usize >= sources => Self::PerSource,
            Description { vectors: 1.., .. } => shared(InterruptKind::Msix, bus.vectors.min(MAX_SHARED)),
            Description { msi_vectors: 1.., .. } => shared(InterruptKind::Msi, 1),
            Description { intx: true, .. } => shared(InterruptKind::Intx, 1),
            _ => Self::None,
        }
    }
}

impl fmt::Display for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSource => f.write_str("one MSI-X vector per source"),
            Self::Shared { kind: InterruptKind::Intx, .. } => f.write_str("INTx, shared by all sources"),
            Self::Shared { kind, vectors: 1 } => write!(f, "one {kind} vector, shared by all sources"),
            Self::Shared { kind, vectors } => write!(f, "{vectors} {kind} vectors, shared by all sources"),
            Self::None => f.write_str("none, so waits poll"),
        }
    }
}

/// How the owners of a source learn of its interrupts.
pub(super) struct Wakeup {
    event: EventFd,
    /// Whether the source has an owner.
    owned: AtomicBool,
    /// Whether the source shares its vector, fired, and was therefore disabled.
    disarmed: AtomicBool,
}

impl Wakeup {
    fn new() -> Result<Self, BusError> {
        Ok(Self { event: eventfd()?, owned: AtomicBool::new(false), disarmed: AtomicBool::new(false) })
    }

    /// Records whether the source has an owner.
    pub fn set_owned(&self, owned: bool) {
        self.owned.store(owned, Ordering::Release);
    }

    /// Returns whether the source must be enabled while sources are not masked.
    fn is_armed(&self) -> bool {
        self.owned.load(Ordering::Acquire) && !self.disarmed.load(Ordering::Acquire)
    }

    /// Returns whether the source must be enabled again, and takes note that it is.
    pub fn rearms(&self) -> bool {
        self.disarmed.swap(false, Ordering::AcqRel)
    }

    /// Returns the eventfd.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

/// All sources: the channels that exist, H2C first, then the user lines.
pub(super) struct Vectors {
    channels: Vec<(Direction, usize)>,
    /// Number of user lines that have an interrupt.
    lines: usize,
    sources: Arc<Vec<Wakeup>>,
    mode: Interrupts,
    /// Value of the vector registers if all sources share INTx.
    pin: u8,
    /// The thread that signals the events of shared vectors.
    dispatcher: Option<Dispatcher>,
}

impl Vectors {
    /// Assigns a vector and an eventfd to each source.
    pub fn set_up(card: &Inner) -> Result<Self, InterruptError> {
        let channels: Vec<_> = quiesce::channels(&*card.registers)?
            .iter()
            .map(|&(direction, channel, _)| (direction, channel))
            .collect();
        let lines = card.layout.user_lines(channels.len());
        let count = channels.len() + lines;
        let mode = Interrupts::of(card.bus.description(), count);
        if mode == Interrupts::None {
            return Err(InterruptError::NoVectors);
        }
        let sources = Arc::new((0..count).map(|_| Wakeup::new()).collect::<Result<Vec<_>, _>>()?);
        let pin = card.bus.config_read(INTERRUPT_PIN, 1)?.saturating_sub(1) as u8;
        let mut this = Self { channels, lines, sources, mode, pin, dispatcher: None };
        this.write_vectors(&*card.registers)?;
        match mode {
            Interrupts::Shared { kind, vectors } => {
                tracing::warn!(card = card.bus.description().location, "interrupts: {mode}");
                this.dispatcher = Some(this.dispatch(card, kind, vectors)?);
            }
            _ => {
                let events: Vec<_> = this.sources.iter().map(Wakeup::event).collect();
                card.bus.set_interrupts(InterruptKind::Msix, &events)?;
            }
        }
        // Messages that the shell sends before MSI-X is enabled can be lost.
        card.shell.as_ref().map_or(Ok(()), ShellInterrupts::enable)?;
        Ok(this)
    }

    fn dispatch(&self, card: &Inner, kind: InterruptKind, vectors: u32) -> Result<Dispatcher, BusError> {
        let lines = (0..vectors).map(|_| eventfd()).collect::<Result<Vec<_>, _>>()?;
        card.bus.set_interrupts(kind, &lines.iter().collect::<Vec<_>>())?;
        let work = Work {
            bus: card.bus.clone(),
            registers: card.registers.clone(),
            kind,
            lines,
            sources: self.sources.clone(),
            channels: self.channels.len(),
        };
        Dispatcher::start(work)
    }

    /// Sets up interrupts again after all sources were masked or the card was reset. A source whose request is high then fires.
    pub fn restore(&self, registers: &dyn Bar, shell: Option<&ShellInterrupts>) -> Result<(), BusError> {
        self.write_vectors(registers)?;
        shell.map_or(Ok(()), ShellInterrupts::enable)?;
        let (channels, lines) = self.sources.split_at(self.channels.len());
        for (register, sources) in [(CHANNEL_ENABLE_W1S, channels), (USER_ENABLE_W1S, lines)] {
            let armed = sources.iter().enumerate().filter(|(_, source)| source.is_armed());
            registers.write32(irq(register), armed.fold(0, |bits, (bit, _)| bits | 1 << bit))?;
        }
        Ok(())
    }

    /// Writes the vector of each source to the card.
    fn write_vectors(&self, registers: &dyn Bar) -> Result<(), BusError> {
        let vector = |source: usize| match self.mode {
            Interrupts::Shared { kind: InterruptKind::Intx, .. } => self.pin,
            Interrupts::Shared { vectors, .. } => (source % vectors as usize) as u8,
            _ => source as u8,
        };
        let numbers = |first: usize| pack_vectors(std::array::from_fn(|at| vector(first + at)));
        for (register, first, count) in
            [(CHANNEL_VECTORS, 0, self.channels.len()), (USER_VECTORS, self.channels.len(), self.lines)]
        {
            for at in (0..count).step_by(4) {
                registers.write32(irq(register + at as u32), numbers(first + at))?;
            }
        }
        Ok(())
    }

    /// Returns all sources, and of one source the place among them and the bit in the channel or user interrupt registers.
    pub fn find(&self, source: Source) -> Result<(Arc<Vec<Wakeup>>, usize, u32), InterruptError> {
        let missing = || InterruptError::NoSource(source);
        let (at, bit) = match source {
            Source::Channel(direction, channel) => {
                let at = self.channels.iter().position(|&known| known == (direction, channel));
                at.map(|at| (at, 1 << at)).ok_or_else(missing)?
            }
            Source::User(line) if line < self.lines => (self.channels.len() + line, 1 << line),
            Source::User(_) => return Err(missing()),
        };
        Ok((self.sources.clone(), at, bit))
    }
}

/// Returns the address of a register of the interrupt block.
pub(super) fn irq(register: u32) -> u64 {
    u64::from(Target::Irq.base(0) + register)
}

fn eventfd() -> Result<EventFd, BusError> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(|cause| BusError::Refused { what: "an eventfd", cause })
}

/// The state of the dispatcher thread.
struct Work {
    bus: Arc<dyn Bus>,
    registers: Arc<dyn Bar>,
    kind: InterruptKind,
    /// The eventfds that the kernel signals.
    lines: Vec<EventFd>,
    /// The sources: channels, then user lines.
    sources: Arc<Vec<Wakeup>>,
    /// Number of channels.
    channels: usize,
}

/// The thread that determines which sources fired. Dropping it stops the thread.
struct Dispatcher {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Dispatcher {
    fn start(work: Work) -> Result<Self, BusError> {
        let refused = |cause| BusError::Refused { what: "a thread for interrupts", cause };
        let stop = eventfd()?;
        let stopped = stop.try_clone().map_err(refused)?;
        let builder = std::thread::Builder::new().name("xdma interrupts".into());
        let thread = builder.spawn(move || work.run(&stopped)).map_err(refused)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // Writing to an eventfd fails only if its count overflows.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // The thread does not panic.
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(&self, stop: &EventFd) {
        loop {
            let mut files = [None; 1 + MAX_SHARED as usize];
            for (file, event) in files.iter_mut().zip(std::iter::once(stop).chain(&self.lines)) {
                // SAFETY: the eventfd stays open while `self` and `stop` are borrowed.
                *file = Some(unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) });
            }
            match readable(files, Duration::MAX) {
                Ok(ready) if ready[0] => return,
                Ok(_) => self.dispatch(),
                Err(error) => return tracing::error!(%error, "interrupts are no longer delivered"),
            }
        }
    }

    /// Signals the eventfds of the sources that request an interrupt.
    fn dispatch(&self) {
        // Cleared before the requests are read: a request in between signals the line again.
        self.lines.iter().for_each(|line| _ = line.read());
        if self.signal_requested().is_err() {
            // The card is gone. Waking all waiters makes them notice it.
            self.sources.iter().for_each(|source| _ = source.event.write(1));
        }
        if self.kind == InterruptKind::Intx
            && let Err(error) = self.bus.unmask_intx()
        {
            tracing::debug!(%error, "could not unmask the interrupt line");
        }
    }

    fn signal_requested(&self) -> Result<(), BusError> {
        let (channels, users) = self.sources.split_at(self.channels);
        for (request, disable, sources) in
            [(CHANNEL_REQUEST, CHANNEL_ENABLE_W1C, channels), (USER_REQUEST, USER_ENABLE_W1C, users)]
        {
            let requested = self.registers.read32(irq(request))?;
            if requested == GONE {
                let reason =
                    "the interrupt block reads all ones; close it, and open it again when it is back";
                return Err(BusError::Gone { reason: reason.into() });
            }
            // Disabling a source also deasserts INTx.
            self.registers.write32(irq(disable), requested)?;
            for (_, source) in sources.iter().enumerate().filter(|(bit, _)| requested >> bit & 1 != 0) {
                // Before the event, after which the owner enables the source again.
                source.disarmed.store(true, Ordering::Release);
                let _ = source.event.write(1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(vectors: u32, msi_vectors: u32, intx: bool) -> Description {
        Description {
            kind: "test",
            location: String::new(),
            bars: [0; 6],
            vectors,
            msi_vectors,
            intx,
            resettable: false,
            registers_by_system_call: false,
            page_sizes: 0,
            iova_bits: 64,
            node: None,
            notes: vec![],
        }
    }

    #[test]
    fn sources_share_vectors_if_there_are_too_few() {
        let of = |vectors, msi, intx| Interrupts::of(&bus(vectors, msi, intx), 18);
        assert_eq!(of(32, 1, true), Interrupts::PerSource);
        assert_eq!(of(18, 0, false), Interrupts::PerSource);
        let shared = |kind, vectors| Interrupts::Shared { kind, vectors };
        assert_eq!(of(17, 1, true), shared(InterruptKind::Msix, 8));
        assert_eq!(of(1, 32, true), shared(InterruptKind::Msix, 1));
        assert_eq!(of(0, 4, true), shared(InterruptKind::Msi, 1));
        assert_eq!(of(0, 0, true), shared(InterruptKind::Intx, 1));
        assert_eq!(of(0, 0, false), Interrupts::None);
    }
}
