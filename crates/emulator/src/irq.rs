//! Interrupts: sources and masks (PG195, "IRQ Block Registers"), and the messages sent by rising requests.
//!
//! A message is sent on the rising edge of source AND mask, so enabling a source that is already high sends one too. MSI-X takes
//! precedence over MSI, and MSI over the legacy line.
//!
//! If the card has a [block that only delivers interrupts](InterruptBlock), messages with vectors 0 to 15 are pulses on its lines, and
//! those with higher vectors are lost.

use super::interrupt_block::InterruptBlock;
use super::log::{EventLog, add, lock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use xdma_card_file::{CardFile, Intx, Msix};
use xdma_regs::irq;

/// Vector control bit 0.
const MASKED: u32 = 1;
/// Vector control after reset (PG195, "MSI-X Vector Table and PBA").
const CONTROL_RESET: u32 = 0xffff_ffff;

/// Interrupt sources of one kind, with their enable mask.
#[derive(Debug, Default)]
struct Requests {
    enable: u32,
    sources: u32,
    /// The requests that were high at the last call of [`Requests::rising`].
    high: u32,
}

impl Requests {
    fn requested(&self) -> u32 {
        self.enable & self.sources
    }

    /// Returns the requests that rose since the last call.
    fn rising(&mut self) -> u32 {
        let requested = self.requested();
        let before = std::mem::replace(&mut self.high, requested);
        requested & !before
    }
}

/// An entry of the MSI-X table.
#[derive(Debug)]
struct Vector {
    words: [u32; 4],
    /// Whether the client programs the table. QEMU and the kernel do not pass table accesses on; then only the eventfd counts.
    programmed: bool,
    pending: bool,
    eventfd: Option<File>,
}

impl Vector {
    fn reset(&mut self) {
        self.words = [0, 0, 0, CONTROL_RESET];
        self.programmed = false;
        self.pending = false;
    }

    fn masked(&self) -> bool {
        self.programmed && self.words[3] & MASKED != 0
    }
}

/// The legacy interrupt line with VFIO's semantics: it is masked automatically when it fires.
#[derive(Debug, Default)]
struct IntxLine {
    /// The function has no pin.
    missing: bool,
    eventfd: Option<File>,
    masked: bool,
    disabled: bool,
}

#[derive(Debug)]
struct State {
    user: Requests,
    channel: Requests,
    user_vectors: [u32; 4],
    channel_vectors: [u32; 2],
    table: Vec<Vector>,
    function_masked: bool,
    bus_master: bool,
    /// The eventfds of the MSI vectors.
    msi: Vec<Option<File>>,
    intx_line: IntxLine,
    /// The block in another BAR through which all messages go.
    block: Option<InterruptBlock>,
}

/// A word of the MSI-X capability's structures in a BAR.
#[derive(Clone, Copy, Debug)]
pub(super) enum MsixPlace {
    /// A word of a table entry.
    Entry { vector: usize, word: usize },
    /// The pending bits of 32 vectors.
    Pending { first: usize },
}

/// The interrupt block.
#[derive(Debug)]
pub(super) struct Irq {
    state: Mutex<State>,
    msix: Option<Msix>,
    log: Arc<EventLog>,
}

impl Irq {
    pub fn new(card: &CardFile, log: Arc<EventLog>) -> Self {
        let function = &card.function;
        let vectors = function.msix.map_or(0, |msix| msix.vectors.into());
        let vector =
            || Vector { words: [0, 0, 0, CONTROL_RESET], programmed: false, pending: false, eventfd: None };
        let state = State {
            user: Requests::default(),
            channel: Requests::default(),
            user_vectors: [0; 4],
            channel_vectors: [0; 2],
            table: std::iter::repeat_with(vector).take(vectors).collect(),
            function_masked: false,
            bus_master: false,
            msi: std::iter::repeat_with(|| None).take(function.msi_vectors.into()).collect(),
            intx_line: IntxLine { missing: function.intx == Intx::None, ..IntxLine::default() },
            block: card.interrupt_bar().map(|_| InterruptBlock::default()),
        };
        Self { state: Mutex::new(state), msix: function.msix, log }
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = lock(&self.state);
        let result = f(&mut state);
        state.deliver(&self.log);
        result
    }

    /// Sets the level of a channel's source.
    pub fn set_channel(&self, bit: u32, level: bool) {
        let mut state = lock(&self.state);
        // Usually the level stays the same from one descriptor to the next.
        if (state.channel.sources >> bit & 1 != 0) != level {
            state.channel.sources ^= 1 << bit;
            state.deliver(&self.log);
        }
    }

    /// Returns whether raising a channel's source now would produce a rising edge of its request.
    pub fn would_rise(&self, bit: u32) -> bool {
        let state = lock(&self.state);
        state.channel.sources >> bit & 1 == 0 && state.channel.enable >> bit & 1 != 0
    }

    /// Raises a channel's source without sending its message.
    pub fn raise_without_message(&self, bit: u32) {
        let mut state = lock(&self.state);
        state.channel.sources |= 1 << bit;
        state.channel.high |= 1 << bit;
    }

    /// Sends a channel's message again.
    pub fn repeat_channel(&self, bit: u32) {
        self.change(|state| state.channel.high &= !(1 << bit));
    }

    /// Sets the level of a user source.
    pub fn set_user(&self, line: usize, level: bool) {
        if line < xdma_regs::USER_IRQS {
            self.change(|state| {
                let bit = 1 << line;
                state.user.sources = state.user.sources & !bit | if level { bit } else { 0 };
            });
        }
    }

    /// Reads a register of the block that only delivers interrupts.
    pub fn block_read(&self, address: u32) -> u32 {
        lock(&self.state).block.as_ref().map_or(0, |block| block.read(address))
    }

    /// Writes a register of the block that only delivers interrupts.
    pub fn block_write(&self, address: u32, value: u32) {
        if let Some(block) = &mut lock(&self.state).block {
            block.write(address, value, &self.log);
        }
    }

    /// Sends the message of a vector, for an engine that decides itself which messages to send.
    #[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
    pub fn send(&self, vector: usize) {
        self.change(|state| state.message(vector, &self.log));
    }

    /// Returns whether the legacy line is asserted.
    pub fn intx(&self) -> bool {
        let state = lock(&self.state);
        !state.uses_messages() && state.asserted()
    }

    /// Applies the settings in configuration space.
    pub fn configure(&self, bus_master: bool, intx_disabled: bool, msix_masked: bool) {
        self.change(|state| {
            state.bus_master = bus_master;
            state.intx_line.disabled = intx_disabled;
            state.function_masked = msix_masked;
        });
    }

    /// Returns MSI enable (bit 0) and MSI-X enable (bit 1), as far as they follow from the client's eventfds.
    pub fn enabled(&self) -> u32 {
        let state = lock(&self.state);
        u32::from(state.uses_msi()) | u32::from(state.msix()) << 1
    }

    /// Reads a register of target 2.
    pub fn read(&self, offset: u32) -> u32 {
        let state = lock(&self.state);
        match offset {
            irq::USER_ENABLE => state.user.enable,
            irq::CHANNEL_ENABLE => state.channel.enable,
            irq::USER_REQUEST => state.user.requested(),
            irq::CHANNEL_REQUEST => state.channel.requested(),
            irq::USER_PENDING => state.user.sources,
            irq::CHANNEL_PENDING => state.channel.sources,
            _ => match (
                vector_index(offset, irq::USER_VECTORS, 4),
                vector_index(offset, irq::CHANNEL_VECTORS, 2),
            ) {
                (Some(index), _) => state.user_vectors[index],
                (_, Some(index)) => state.channel_vectors[index],
                _ => 0,
            },
        }
    }

    /// Writes a register of target 2. `channels` has a bit set for each existing channel.
    pub fn write(&self, offset: u32, value: u32, channels: u32) {
        const USERS: u32 = 0xffff;
        self.change(|state| match offset {
            irq::USER_ENABLE => state.user.enable = value & USERS,
            irq::USER_ENABLE_W1S => state.user.enable |= value & USERS,
            irq::USER_ENABLE_W1C => state.user.enable &= !value,
            irq::CHANNEL_ENABLE => state.channel.enable = value & channels,
            irq::CHANNEL_ENABLE_W1S => state.channel.enable |= value & channels,
            irq::CHANNEL_ENABLE_W1C => state.channel.enable &= !value,
            _ => {
                let value = value & 0x1f1f_1f1f;
                if let Some(index) = vector_index(offset, irq::USER_VECTORS, 4) {
                    state.user_vectors[index] = value;
                } else if let Some(index) = vector_index(offset, irq::CHANNEL_VECTORS, 2) {
                    state.channel_vectors[index] = value;
                }
            }
        });
    }

    /// Returns what the MSI-X capability has at an offset in a BAR.
    pub fn msix_place(&self, bar: usize, offset: u64) -> Option<MsixPlace> {
        let msix = self.msix.filter(|msix| msix.bar == bar)?;
        let vectors = u64::from(msix.vectors);
        let within = |start: u32, bytes: u64| offset.checked_sub(start.into()).filter(|at| *at < bytes);
        let entry = |at: u64| MsixPlace::Entry { vector: at as usize / 16, word: at as usize / 4 % 4 };
        let pending = |at: u64| MsixPlace::Pending { first: at as usize / 4 * 32 };
        within(msix.table, 16 * vectors)
            .map(entry)
            .or_else(|| within(msix.pending, vectors.div_ceil(64) * 8).map(pending))
    }

    /// Reads a word of the MSI-X table or the pending bits.
    pub fn msix_read(&self, place: MsixPlace) -> u32 {
        let state = lock(&self.state);
        match place {
            MsixPlace::Entry { vector, word } => state.table[vector].words[word],
            MsixPlace::Pending { first } => {
                let pending = state.table.iter().skip(first).take(32).enumerate();
                pending.fold(0, |bits, (bit, vector)| bits | u32::from(vector.pending) << bit)
            }
        }
    }

    /// Writes a word of the MSI-X table. The pending bits are read-only.
    pub fn msix_write(&self, place: MsixPlace, value: u32) {
        let MsixPlace::Entry { vector, word } = place else { return };
        self.change(|state| {
            let vector = &mut state.table[vector];
            vector.words[word] = value;
            vector.programmed |= word == 3;
        });
    }

    /// Handles SET_IRQS.
    pub fn set_irqs(&self, index: u32, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        if !fds.iter().all(is_eventfd) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.change(|state| {
            if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 {
                let eventfds = flags & VFIO_IRQ_SET_DATA_EVENTFD != 0;
                return state.trigger(index, eventfds, start as usize, count as usize, fds);
            }
            if index == VFIO_PCI_INTX_IRQ_INDEX {
                state.intx_line.masked |= flags & VFIO_IRQ_SET_ACTION_MASK != 0;
                state.intx_line.masked &= flags & VFIO_IRQ_SET_ACTION_UNMASK == 0;
            }
            Ok(())
        })
    }

    /// Drops the eventfds of a client that has left.
    pub fn disconnect(&self) {
        self.change(|state| {
            state.table.iter_mut().for_each(|vector| vector.eventfd = None);
            state.msi.iter_mut().for_each(|eventfd| *eventfd = None);
            let IntxLine { missing, disabled, .. } = state.intx_line;
            state.intx_line = IntxLine { missing, disabled, ..IntxLine::default() };
        });
    }

    /// Resets registers and table. User sources belong to the custom logic and eventfds to the client, so both are kept.
    pub fn reset(&self) {
        self.change(|state| {
            state.user.enable = 0;
            state.channel = Requests::default();
            state.user_vectors = [0; 4];
            state.channel_vectors = [0; 2];
            state.table.iter_mut().for_each(Vector::reset);
            state.block.iter_mut().for_each(|block| *block = InterruptBlock::default());
        });
    }
}

impl State {
    fn msix(&self) -> bool {
        self.table.iter().any(|vector| vector.eventfd.is_some())
    }

    fn uses_msi(&self) -> bool {
        self.msi.iter().any(Option::is_some)
    }

    fn uses_messages(&self) -> bool {
        self.uses_msi() || self.msix()
    }

    fn asserted(&self) -> bool {
        !self.intx_line.missing && self.user.requested() | self.channel.requested() != 0
    }

    fn trigger(
        &mut self,
        index: u32,
        eventfds: bool,
        start: usize,
        count: usize,
        fds: Vec<File>,
    ) -> io::Result<()> {
        let mut fds = fds.into_iter();
        if index == VFIO_PCI_MSIX_IRQ_INDEX {
            if count == 0 {
                self.table.iter_mut().for_each(|vector| vector.eventfd = None);
                return Ok(());
            }
            let end = start.checked_add(count).filter(|&end| end <= self.table.len());
            let vectors = &mut self.table[start..end.ok_or(io::ErrorKind::InvalidInput)?];
            for vector in vectors {
                if eventfds {
                    vector.eventfd = fds.next();
                } else {
                    // A trigger without data fires the vector, which lets a client test its own interrupt handling.
                    vector.pending = true;
                }
            }
        } else if index == VFIO_PCI_MSI_IRQ_INDEX {
            if count == 0 {
                self.msi.iter_mut().for_each(|eventfd| *eventfd = None);
                return Ok(());
            }
            let end = start.checked_add(count).filter(|&end| end <= self.msi.len());
            let vectors = &mut self.msi[start..end.ok_or(io::ErrorKind::InvalidInput)?];
            if eventfds {
                vectors.iter_mut().for_each(|eventfd| *eventfd = fds.next());
            }
        } else if index == VFIO_PCI_INTX_IRQ_INDEX && (eventfds || count == 0) {
            let IntxLine { missing, disabled, .. } = self.intx_line;
            if missing {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            self.intx_line = IntxLine { missing, eventfd: fds.next(), masked: false, disabled };
        }
        Ok(())
    }

    /// Sends the messages that are due.
    fn deliver(&mut self, log: &EventLog) {
        let (user, channel) = (self.user.rising(), self.channel.rising());
        for line in bits(channel) {
            self.message(vector_of(&self.channel_vectors, line), log);
        }
        for line in bits(user) {
            self.message(vector_of(&self.user_vectors, line), log);
        }
        if self.bus_master && !self.function_masked {
            for vector in self.table.iter_mut().filter(|vector| vector.pending && !vector.masked()) {
                vector.pending = !signal(vector.eventfd.as_mut(), log);
            }
        }
        let fires =
            !self.intx_line.disabled && !self.intx_line.masked && !self.uses_messages() && self.asserted();
        if fires && signal(self.intx_line.eventfd.as_mut(), log) {
            self.intx_line.masked = true;
        }
    }

    fn message(&mut self, mut vector: usize, log: &EventLog) {
        if let Some(block) = &self.block {
            let Some(through) = block.vector(vector) else { return };
            vector = through;
        }
        if self.msix() {
            // The vector is sent together with all other pending vectors.
            if let Some(vector) = self.table.get_mut(vector) {
                vector.pending = true;
            }
        } else if self.bus_master {
            // With fewer vectors than the driver numbered, the upper bits of the number are lost.
            let count = self.msi.len().max(1);
            signal(self.msi.get_mut(vector % count).and_then(Option::as_mut), log);
        }
    }
}

fn signal(eventfd: Option<&mut File>, log: &EventLog) -> bool {
    let sent = eventfd
        .is_some_and(|eventfd| !is_writable(eventfd) || eventfd.write_all(&1u64.to_ne_bytes()).is_ok());
    add(&log.count.interrupts, u64::from(sent));
    sent
}

/// Returns whether a write would not block. A blocking eventfd at its maximum count blocks the writer, but it is signalled
/// already, so the write can be skipped. The kernel does the same (`eventfd_signal`).
fn is_writable(eventfd: &File) -> bool {
    let mut entry = [PollFd::new(eventfd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If polling fails, for example because of a signal, attempt the write.
    poll(&mut entry, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Returns whether a file is an eventfd. Writing to any other file could block the card.
fn is_eventfd(file: &File) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
}

fn bits(word: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |bit| word >> bit & 1 != 0)
}

/// Extracts a 5-bit vector number; each register holds four.
fn vector_of(registers: &[u32], line: usize) -> usize {
    registers.get(line / 4).map_or(0, |register| (register >> (8 * (line % 4)) & 0x1f) as usize)
}

fn vector_index(offset: u32, base: u32, registers: u32) -> Option<usize> {
    let index = offset.checked_sub(base)? / 4;
    (index < registers).then_some(index as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{FromRawFd, IntoRawFd};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
    use xdma_regs::msix;

    const FDS: u32 = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;

    struct Bench {
        irq: Irq,
        eventfds: Vec<EventFd>,
    }

    fn bench() -> Bench {
        let irq = Irq::new(&CardFile::alveo(), Arc::default());
        let eventfds: Vec<_> = (0..4).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        irq.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, FDS, 0, 4, eventfds.iter().map(file).collect()).unwrap();
        irq.configure(true, false, false);
        Bench { irq, eventfds }
    }

    fn file(eventfd: &EventFd) -> File {
        // SAFETY: `into_raw_fd` releases ownership of the descriptor that `try_clone` created, so the file is its only owner.
        unsafe { File::from_raw_fd(eventfd.try_clone().unwrap().into_raw_fd()) }
    }

    impl Bench {
        fn fired(&self, vector: usize) -> bool {
            self.eventfds[vector].read().is_ok()
        }
    }

    #[test]
    fn a_message_is_sent_on_the_rising_edge_of_source_and_mask() {
        let bench = bench();
        bench.irq.write(irq::CHANNEL_VECTORS, 0x0302_0100, 0xff);
        bench.irq.set_channel(1, true);
        assert!(!bench.fired(1));
        assert_eq!(bench.irq.read(irq::CHANNEL_PENDING), 2);
        assert_eq!(bench.irq.read(irq::CHANNEL_REQUEST), 0);
        bench.irq.write(irq::CHANNEL_ENABLE_W1S, 0xff, 0xff);
        assert!(bench.fired(1) && !bench.fired(0));
        bench.irq.set_channel(1, true);
        assert!(!bench.fired(1), "a constant level is not an edge");
        bench.irq.write(irq::CHANNEL_ENABLE_W1C, 2, 0xff);
        bench.irq.write(irq::CHANNEL_ENABLE_W1S, 2, 0xff);
        assert!(bench.fired(1));
    }

    #[test]
    fn a_masked_vector_is_pending_until_it_is_unmasked() {
        let bench = bench();
        bench.irq.write(irq::USER_VECTORS, 2, 0xff);
        bench.irq.write(irq::USER_ENABLE, 1, 0xff);
        let place = |offset: u32| bench.irq.msix_place(1, offset.into()).unwrap();
        bench.irq.msix_write(place(msix::TABLE + 2 * 16 + 12), 1);
        bench.irq.set_user(0, true);
        assert!(!bench.fired(2));
        assert_eq!(bench.irq.msix_read(place(msix::PENDING)), 4);
        bench.irq.msix_write(place(msix::TABLE + 2 * 16 + 12), 0);
        assert!(bench.fired(2));
        assert_eq!(bench.irq.msix_read(place(msix::PENDING)), 0);
        assert_eq!(bench.irq.msix_read(place(msix::TABLE + 12)), CONTROL_RESET);
        assert!(bench.irq.msix_place(1, u64::from(msix::TABLE) + 32 * 16).is_none());
        assert!(bench.irq.msix_place(0, msix::TABLE.into()).is_none());
    }

    #[test]
    fn the_line_masks_itself_and_fires_again_while_asserted() {
        let irq = Irq::new(&CardFile::alveo(), Arc::default());
        let eventfd = EventFd::new(EFD_NONBLOCK).unwrap();
        irq.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, FDS, 0, 1, vec![file(&eventfd)]).unwrap();
        irq.write(irq::USER_ENABLE, 1, 0);
        irq.set_user(0, true);
        assert!(eventfd.read().is_ok() && irq.intx());
        irq.set_user(0, false);
        irq.set_user(0, true);
        assert!(eventfd.read().is_err(), "masked");
        irq.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, vec![]).unwrap();
        assert!(eventfd.read().is_ok());
    }

    #[test]
    fn only_eventfds_are_accepted() {
        let irq = Irq::new(&CardFile::alveo(), Arc::default());
        let file = tempfile::tempfile().unwrap();
        assert!(irq.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, FDS, 0, 1, vec![file]).is_err());
        assert!(irq.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, FDS, 32, 1, vec![]).is_err());
    }
}
