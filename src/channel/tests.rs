//! Tests of the channel against scripted registers, for behavior that the emulated card does not have.

use super::*;
use crate::bus::{Bar, BusError};
use crate::memory::{
    Access, Addressing, Buffer, CallerMemory, DmaSpace, Extent, HugePages, Isolation, MapError, Mapper,
    MemoryError, MemoryRef,
};
use crate::regs::channel::{CONTROL_W1S, Status};
use crate::regs::{Direction, GONE, Identifier, Target};
use crate::stats::{Count, Counters};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Registers that store what is written, and a record of mapped memory.
#[derive(Debug, Default)]
pub(super) struct Fake {
    registers: Mutex<HashMap<u64, u32>>,
    maps: Mutex<Vec<(u64, u64, usize)>>,
    pub(super) status: AtomicU32,
    gone: AtomicBool,
    recalled: Arc<AtomicBool>,
    /// Number of descriptors posted by credits.
    credits: AtomicU32,
}

const STATUS: u64 = 0x40;
const COMPLETED: u64 = 0x48;
const CREDITS: u64 = 0x408c;
/// The register with the lower half of the first descriptor's address.
const FIRST_DESCRIPTOR: u64 = 0x4080;

impl Fake {
    fn open(self: &Arc<Self>, ring: Ring) -> Channel {
        self.open_through(self.clone(), ring)
    }

    /// Opens a channel with `bar` between it and these registers.
    pub(super) fn open_through(self: &Arc<Self>, bar: Arc<dyn Bar>, ring: Ring) -> Channel {
        let options = ChannelOptions { ring: Some(ring), ..Default::default() };
        // SAFETY: nothing runs on this card.
        unsafe { Channel::open(self.context(bar), options) }.unwrap()
    }

    pub(super) fn context(self: &Arc<Self>, bar: Arc<dyn Bar>) -> ChannelContext {
        let space = Arc::new(DmaSpace::new(self.clone(), HugePages::Prefer, None, None));
        let write_back = Arc::new(WriteBackArea::new(&space).unwrap());
        let (lease, recalled) = (Box::new(()), self.recalled.clone());
        let (direction, idle_limit) = (Direction::H2C, Duration::from_millis(50));
        let shared = Arc::default();
        let counters = Counters::private().unwrap();
        ChannelContext {
            bar,
            space,
            write_back,
            direction,
            channel: 0,
            idle_limit,
            recalled,
            event: None,
            shared,
            counters,
            lease,
        }
    }

    pub(super) fn get(&self, offset: u64) -> u32 {
        self.registers.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    /// Returns the words of the descriptor at a device address.
    pub(super) fn descriptor(&self, address: u64) -> [u32; 8] {
        let maps = self.maps.lock().unwrap();
        let (iova, _, ptr) = maps.iter().find(|m| (m.0..m.0 + m.1).contains(&address)).expect("it is mapped");
        // SAFETY: inside the mapping, as just looked up, and aligned; descriptors do not cross the end of one.
        unsafe { ((ptr + (address - iova) as usize) as *const [u32; 8]).read_volatile() }
    }

    /// Writes `word` to the channel's current write-back address.
    pub(super) fn write_back(&self, word: u32) {
        self.write_word(u64::from(self.get(0x8c)) << 32 | u64::from(self.get(0x88)), word);
    }

    /// Writes a word to memory, as the card does.
    pub(super) fn write_word(&self, address: u64, word: u32) {
        let maps = self.maps.lock().unwrap();
        let (iova, _, ptr) = maps.iter().find(|m| (m.0..m.0 + m.1).contains(&address)).expect("it is mapped");
        // SAFETY: inside the mapping, as just looked up, and aligned.
        unsafe { ((ptr + (address - iova) as usize) as *mut u32).write_volatile(word) };
    }
}

// SAFETY: nothing is mapped.
unsafe impl Bar for Fake {
    fn size(&self) -> u64 {
        0x1_0000
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        Ok(match offset {
            _ if self.gone.load(Ordering::Relaxed) => GONE,
            0 => Identifier::new(Target::H2C, 0, false).0,
            STATUS | 0x44 => self.status.load(Ordering::Relaxed),
            CREDITS => self.credits.load(Ordering::Relaxed),
            _ => self.get(offset),
        })
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        match offset {
            CREDITS => drop(self.credits.fetch_add(value, Ordering::Relaxed)),
            0x0c => self.credits.store(0, Ordering::Relaxed),
            _ => drop(self.registers.lock().unwrap().insert(offset, value)),
        }
        Ok(())
    }
}

// SAFETY: this card reaches what is in `maps` and nothing else.
unsafe impl Mapper for Fake {
    fn addressing(&self) -> Addressing {
        Addressing::Chosen { ranges: vec![0..=1 << 40], page_bytes: 4096 }
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Staged("for this test")
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, _: Access) -> Result<Vec<Extent>, MapError> {
        self.maps.lock().unwrap().push((iova, memory.len, memory.ptr as usize));
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, iova: u64, _: u64) -> Result<(), MapError> {
        self.maps.lock().unwrap().retain(|m| m.0 != iova);
        Ok(())
    }

    fn isolation(&self) -> Isolation {
        Isolation::Iommu
    }
}

fn program(channel: &Channel, descriptors: u64) -> Program {
    let buffer = channel.space.allocate(descriptors, Access::CardReads).unwrap();
    let mut transfers = Transfers::new(Direction::H2C);
    for at in 0..descriptors {
        transfers.add(&buffer, at..at + 1, at).unwrap();
    }
    channel.program(&transfers).unwrap()
}

#[test]
fn the_write_back_count_wraps_at_24_bits() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Credits);
    let program = program(&channel, 1000);
    let mut completed = 0u32;
    // Somewhat more than 2^24 descriptors.
    for _ in 0..16_800 {
        let ticket = channel.run(&program).unwrap();
        assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending);
        completed += 999;
        fake.write_back(completed & 0xff_ffff);
        assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending, "one is missing");
        completed += 1;
        fake.write_back(completed & 0xff_ffff);
        assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
    }
    assert!(completed > 1 << 24);
}

#[test]
fn credits_never_exceed_the_capacity_of_the_register() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Credits);
    let program = program(&channel, 2500);
    let first = channel.run(&program).unwrap();
    let second = channel.run(&program).unwrap();
    let mut completed = 0;
    while channel.poll(second).unwrap() == Poll::Pending {
        let posted = fake.credits.load(Ordering::Relaxed);
        assert!(posted - completed <= 1023, "{posted} posted, {completed} completed");
        assert!(posted > completed, "more is posted as soon as possible");
        completed = (completed + 300).min(posted);
        fake.write_back(completed);
    }
    assert_eq!((channel.poll(first).unwrap(), completed), (Poll::Ready, 5000));
}

#[test]
fn stale_and_impossible_counts_are_ignored() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Credits);
    let small = program(&channel, 10);
    let done = channel.run(&small).unwrap();
    fake.write_back(10);
    assert_eq!(channel.poll(done).unwrap(), Poll::Ready);
    let ticket = channel.run(&small).unwrap();
    for word in [0, 5, 10, 21, 0x7fff_ffff] {
        fake.write_back(word);
        assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending, "{word}");
    }
    fake.write_back(20);
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);

    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let small = program(&channel, 10);
    let ticket = channel.run(&small).unwrap();
    let late = fake.get(0x88);
    fake.write_back(10);
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
    let ticket = channel.run(&small).unwrap();
    // The first run's completion arrives a second time, at the word of the first run.
    let now = fake.registers.lock().unwrap().insert(0x88, late).unwrap();
    fake.write_back(10);
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending);
    fake.registers.lock().unwrap().insert(0x88, now);
    fake.write_back(9);
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending);
    fake.write_back(10);
    assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
}

#[test]
fn all_ones_mean_that_the_card_is_gone() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let small = program(&channel, 1);
    let ticket = channel.run(&small).unwrap();
    fake.gone.store(true, Ordering::Relaxed);
    let WaitError::Engine(error) = channel.wait(ticket, Duration::from_secs(5)).unwrap_err() else {
        panic!("the card is gone")
    };
    assert!(matches!(error, EngineError::Gone { .. }), "{error}");
    assert!(error.to_string().contains("lspci"), "{error}");
    assert!(error.to_string().contains(". chain ring: 1 in flight, the oldest at "), "{error}");
    assert_eq!(error.ring(), Some(&channel.ring_state()));
    for error in [channel.check().unwrap_err(), channel.stop().unwrap_err(), channel.snapshot().unwrap_err()]
    {
        assert!(matches!(error, EngineError::Gone { .. }), "{error}");
    }
    let closed = channel.close();
    assert!(matches!(closed, Err(CloseError::Quarantined { bytes: 8000.., .. })), "{closed:?}");
    assert_eq!(Arc::strong_count(&fake), 1 + 1, "only the test's program holds its memory");
    drop(small);
    // The last reference to the address space is gone, and its mappings with it.
    assert!(fake.maps.lock().unwrap().is_empty(), "all memory was released");
}

#[test]
fn memory_is_in_flight_while_a_program_that_uses_it_runs() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Credits);
    let [mut used, mut other] = [(); 2].map(|()| channel.space.allocate(64, Access::CardReads).unwrap());
    let mut transfers = Transfers::new(Direction::H2C);
    transfers.add(&used, 0..64, 0).unwrap();
    let program = channel.program(&transfers).unwrap();
    transfers.add(&other, 0..64, 0).unwrap();
    let both = channel.program(&transfers).unwrap();
    channel.run(&program).unwrap();
    let last = channel.run(&program).unwrap();
    // It continues to run after its owner is gone.
    drop(program);
    let in_flight = |memory: &mut Buffer| match memory.write(0, &[1u8]) {
        Ok(()) => 0,
        Err(MemoryError::InFlight(count)) => count,
        Err(error) => panic!("{error}"),
    };
    assert_eq!((in_flight(&mut used), in_flight(&mut other)), (2, 0));
    fake.write_back(1);
    assert_eq!(channel.poll(last).unwrap(), Poll::Pending);
    assert_eq!((in_flight(&mut used), in_flight(&mut other)), (1, 0));
    fake.write_back(2);
    assert_eq!(channel.poll(last).unwrap(), Poll::Ready);
    assert_eq!((in_flight(&mut used), in_flight(&mut other)), (0, 0));
    // The progress of a channel that was forgotten is unknown.
    channel.run(&both).unwrap();
    std::mem::forget(channel);
    assert_eq!((in_flight(&mut used), in_flight(&mut other)), (1, 1));
}

/// A register access over a socket may take milliseconds, so a wait that reads registers checks the clock between reads.
#[test]
fn a_wait_for_the_engine_ends_after_few_register_reads() {
    /// Slow registers that count reads.
    #[derive(Debug)]
    struct Slow(Arc<Fake>, AtomicU32);
    // SAFETY: nothing is mapped.
    unsafe impl Bar for Slow {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            self.0.read32(offset)
        }
        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            self.0.write32(offset, value)
        }
    }
    let fake = Arc::new(Fake::default());
    let slow = Arc::new(Slow(fake.clone(), AtomicU32::new(0)));
    let mut channel = fake.open_through(slow.clone(), Ring::Chain);
    let small = program(&channel, 1);
    channel.run(&small).unwrap();
    // Busy after its last completion, so the second run cannot be started.
    fake.status.store(Status::BUSY.bits(), Ordering::Relaxed);
    let second = channel.run(&small).unwrap();
    fake.write_back(1);
    let before = slow.1.load(Ordering::Relaxed);
    let error = channel.wait(second, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, WaitError::Deadline { .. }), "{error}");
    let reads = slow.1.load(Ordering::Relaxed) - before;
    assert!((2..100).contains(&reads), "{reads} register reads");
}

/// Registers that read all ones after an error was read: permanently, or until Run is cleared.
#[derive(Debug)]
struct GoneAfterAnError(Arc<Fake>, bool);

// SAFETY: nothing is mapped.
unsafe impl Bar for GoneAfterAnError {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        let value = self.0.read32(offset)?;
        self.0.gone.fetch_or(value == Status::READ_ERROR_0.bits(), Ordering::Relaxed);
        Ok(value)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        if self.1 && offset == 0x0c {
            self.0.gone.store(false, Ordering::Relaxed);
            self.0.status.store(0, Ordering::Relaxed);
        }
        self.0.write32(offset, value)
    }
}

/// After 2^32 descriptors, all ones would be a valid count.
#[test]
fn all_ones_finish_no_job_when_the_registers_come_back() {
    let fake = Arc::new(Fake::default());
    let bar = Arc::new(GoneAfterAnError(fake.clone(), true));
    let mut channel = fake.open_through(bar, Ring::Credits);
    let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
    channel.engine.progress.set_done(0xffff_fffe);
    let ticket = channel.submit(&buffer, 0..64, 0).unwrap();
    fake.status.store(Status::READ_ERROR_0.bits(), Ordering::Relaxed);
    assert!(matches!(channel.check(), Err(EngineError::Failed { .. })));
    let ended = channel.poll(ticket);
    assert!(matches!(ended, Err(PollError::Engine(EngineError::Failed { .. }))), "{ended:?}");
}

#[test]
fn an_error_is_reported_even_if_the_registers_are_gone_after_it() {
    for rearm in [false, true] {
        let fake = Arc::new(Fake::default());
        let mut channel = fake.open_through(Arc::new(GoneAfterAnError(fake.clone(), false)), Ring::Chain);
        let small = program(&channel, 1);
        channel.run(&small).unwrap();
        fake.status.store(Status::READ_ERROR_0.bits(), Ordering::Relaxed);
        let seen = if rearm { channel.rearm_interrupt() } else { channel.check() };
        for error in [SubmitError::from(seen.unwrap_err()), channel.run(&small).unwrap_err()] {
            assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
            assert!(
                error.to_string().contains("and its registers now read all ones; chain ring: 1 in"),
                "{error}"
            );
        }
        assert_eq!(channel.in_flight(), 1, "the engine may still use its memory");
    }
}

#[test]
fn a_failure_is_reported_rather_than_a_full_ring() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let buffer = channel.space.allocate(1 << 20, Access::CardReads).unwrap();
    let mut transfers = Transfers::new(Direction::H2C);
    let slots = channel.options().slots as u64;
    (0..slots).for_each(|at| transfers.add(&buffer, at * 64..at * 64 + 64, at * 128).map(drop).unwrap());
    fake.gone.store(true, Ordering::Relaxed);
    let is_gone = |error: SubmitError| {
        assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
    };
    is_gone(channel.submit(&buffer, 0..64, 0).unwrap_err());
    assert_eq!(channel.in_flight(), 1, "the engine may still use its memory");
    is_gone(channel.start(&transfers).unwrap_err());
    is_gone(channel.submit(&buffer, 0..64, 0).unwrap_err());
    assert_eq!(channel.stats().full, 0);
}

#[test]
fn memory_of_an_engine_that_stays_busy_is_quarantined() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let buffer = channel.space.allocate(2 << 20, Access::CardReads).unwrap();
    channel.submit(&buffer, 0..1, 0).unwrap();
    drop(buffer);
    fake.status.store(1, Ordering::Relaxed);
    let space = channel.space.clone();
    let error = channel.close().unwrap_err();
    assert!(matches!(&error, CloseError::Quarantined { cause: EngineError::Hung { .. }, .. }), "{error}");
    assert!(error.engine().snapshot().is_some() && error.engine().ring().is_some());
    assert!(fake.maps.lock().unwrap().len() >= 2, "ring and data stay mapped");
    assert!(space.quarantined_bytes() >= 2 << 20);
}

#[test]
fn a_failure_is_reported_before_a_hang() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let buffer = channel.space.allocate(2 << 20, Access::CardReads).unwrap();
    let ticket = channel.submit(&buffer, 0..64, 0).unwrap();
    fake.status.store(0x80011, Ordering::Relaxed);
    let error = channel.wait(ticket, Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    let error = channel.submit(&buffer, 0..64, 0).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    assert_eq!(channel.in_flight(), 1, "the engine may still be running");
    let error = channel.recover().unwrap_err();
    assert!(matches!(error, EngineError::Hung { .. }), "{error}");
}

#[test]
fn an_error_without_a_write_back_ends_a_wait_early() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Chain);
    let small = program(&channel, 1);
    let ticket = channel.run(&small).unwrap();
    fake.status.store(0x80010, Ordering::Relaxed);
    let error = channel.wait(ticket, Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })));
    assert!(error.to_string().contains("descriptor fetch refused"), "{error}");
}

#[test]
fn a_job_that_finished_before_a_failure_is_reported_as_finished() {
    let fake = Arc::new(Fake::default());
    let mut channel = fake.open(Ring::Credits);
    let buffer = channel.space.allocate(4096, Access::CardReads).unwrap();
    let [first, second] = [0, 64].map(|at| channel.submit(&buffer, at..at + 64, 0).unwrap());
    // The engine has completed one descriptor, whose write-back was not seen, and refused the next one.
    fake.registers.lock().unwrap().insert(COMPLETED, 1);
    fake.status.store(0x80010, Ordering::Relaxed);
    channel.wait(first, Duration::from_secs(60)).unwrap();
    let error = channel.wait(second, Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Failed { .. })), "{error}");
    assert_eq!(channel.poll(first).unwrap(), Poll::Ready);
}

#[test]
fn a_poll_reads_no_register_and_a_submission_writes_few() {
    use crate::bus::counts::Counts;
    use crate::unstable::channel::counts;
    // The fake does not count register accesses, so this BAR does.
    #[derive(Debug)]
    struct Counting(Arc<Fake>);
    // SAFETY: nothing is mapped.
    unsafe impl Bar for Counting {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            crate::bus::counts::register_read();
            self.0.read32(offset)
        }
        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            crate::bus::counts::register_write();
            self.0.write32(offset, value)
        }
    }
    for (ring, writes, reads) in [(Ring::Chain, 6, 1), (Ring::Credits, 1, 0)] {
        let fake = Arc::new(Fake::default());
        let memory = Arc::new(MappedBar::new());
        for bar in [Arc::new(Counting(fake.clone())) as Arc<dyn Bar>, memory.clone()] {
            let mut channel = fake.open_through(bar.clone(), ring);
            let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
            let before = counts(&channel);
            let ticket = channel.submit(&buffer, 0..64, 0).unwrap();
            let submitted = counts(&channel);
            let expected = Counts { register_writes: writes, register_reads: reads, system_calls: 0 };
            assert_eq!(submitted - before, expected, "{ring} {bar:?}");
            assert_eq!(channel.poll(ticket).unwrap(), Poll::Pending);
            match bar.mapped() {
                None => fake.write_back(1),
                Some(_) => fake.write_word(memory.write_back(), 1),
            }
            assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
            assert_eq!(counts(&channel), submitted, "{ring} {bar:?}");
        }
    }
}

/// Registers in memory, mapped like those of a card under `vfio-pci`.
pub(super) struct MappedBar(Box<[AtomicU32]>);

impl MappedBar {
    pub(super) fn new() -> Self {
        let registers: Box<[AtomicU32]> = (0..0x1_0000 / 4).map(|_| AtomicU32::new(0)).collect();
        registers[0].store(Identifier::new(Target::H2C, 0, false).0, Ordering::Relaxed);
        Self(registers)
    }

    /// Returns the address in the registers at `offset`.
    fn address(&self, offset: u64) -> u64 {
        let [low, high] = [0, 1].map(|at| self.0[offset as usize / 4 + at].load(Ordering::Relaxed));
        u64::from(high) << 32 | u64::from(low)
    }

    /// Returns the channel's current write-back address.
    fn write_back(&self) -> u64 {
        self.address(0x88)
    }
}

impl std::fmt::Debug for MappedBar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MappedBar")
    }
}

// SAFETY: the registers are atomics, which live as long as `self`.
unsafe impl Bar for MappedBar {
    fn size(&self) -> u64 {
        self.0.len() as u64 * 4
    }
    fn read32(&self, offset: u64) -> Result<u32, BusError> {
        Ok(self.0[offset as usize / 4].load(Ordering::Relaxed))
    }
    fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
        self.0[offset as usize / 4].store(value, Ordering::Relaxed);
        Ok(())
    }
    fn mapped(&self) -> Option<crate::bus::Mapped<'_>> {
        let base = std::ptr::NonNull::new(self.0.as_ptr().cast_mut().cast())?;
        // SAFETY: as above; 32-bit accesses are atomic.
        Some(unsafe { crate::bus::Mapped::new(base, self.size()) })
    }
}

#[test]
fn a_recalled_card_is_stopped_and_finished_transfers_are_kept() {
    for ring in [Ring::Chain, Ring::Credits] {
        let fake = Arc::new(Fake::default());
        let mut channel = fake.open(ring);
        let buffer = channel.space.allocate(128, Access::CardReads).unwrap();
        let first = channel.submit(&buffer, 0..64, 0).unwrap();
        let second = channel.submit(&buffer, 64..128, 0).unwrap();
        let started = fake.get(FIRST_DESCRIPTOR);
        fake.recalled.store(true, Ordering::Relaxed);
        let error = channel.submit(&buffer, 0..64, 0).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Recalled { .. })), "{ring}: {error}");
        fake.write_back(1);
        let error = channel.poll(second).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Recalled { .. })), "{ring}: {error}");
        let expected = format!("{ring} ring: 1 in flight, ");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(channel.poll(first).unwrap(), Poll::Ready, "{ring}");
        assert_eq!(fake.credits.load(Ordering::Relaxed), 0, "Run was cleared");
        assert_eq!(fake.get(FIRST_DESCRIPTOR), started, "the second transfer was not started");
        assert_eq!(channel.in_flight(), 0);
        assert!(matches!(channel.recover(), Err(EngineError::Recalled { .. })));
        channel.close().unwrap();
    }
}

/// After a failed register access, it is not known which descriptors the engine has: nothing is started until the channel is recovered.
#[test]
fn a_queued_job_that_cannot_be_started_fails_for_good() {
    for ring in [Ring::Chain, Ring::Credits] {
        let fake = Arc::new(Fake::default());
        let mut channel = fake.open(ring);
        let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
        let program = program(&channel, 2);
        let first = channel.submit(&buffer, 0..64, 0).unwrap();
        let second = channel.run(&program).unwrap();
        let started = fake.get(FIRST_DESCRIPTOR);
        fake.write_back(1);
        fake.gone.store(true, Ordering::Relaxed);
        let error = channel.poll(second).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Gone { ring: Some(_), .. })), "{ring}: {error:?}");
        fake.gone.store(false, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(channel.poll(first).unwrap(), Poll::Ready);
            let error = channel.poll(second).unwrap_err();
            assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{ring}: {error:?}");
            let error = channel.submit(&buffer, 0..64, 0).unwrap_err();
            assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{ring}: {error:?}");
        }
        assert_eq!(fake.get(FIRST_DESCRIPTOR), started);
        channel.recover().unwrap();
        let third = channel.submit(&buffer, 0..64, 0).unwrap();
        fake.write_back(1);
        assert_eq!(channel.poll(third).unwrap(), Poll::Ready);
        let error = channel.poll(second).unwrap_err();
        assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{ring}: {error:?}");
    }
}

#[test]
fn the_state_of_a_ring_has_the_first_descriptor_of_the_oldest_job() {
    for ring in [Ring::Chain, Ring::Credits] {
        let fake = Arc::new(Fake::default());
        let mut channel = fake.open(ring);
        let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
        let program = program(&channel, 2);
        let (slots, list) = (channel.ring_state().tail, program.data.start.list);
        let mut transfers = Transfers::new(Direction::H2C);
        transfers.add(&buffer, 0..32, 0).unwrap().add(&buffer, 32..64, 64).unwrap();
        let first = channel.submit(&buffer, 0..64, 0).unwrap();
        let jobs = [
            (first, 1, slots),
            (channel.run(&program).unwrap(), 2, list),
            (channel.start(&transfers).unwrap(), 2, slots + 32),
            (channel.run(&program).unwrap(), 2, list),
        ];
        for (ticket, descriptors, oldest) in jobs {
            // The credits ring starts to count again with each list.
            let state = channel.ring_state();
            assert_eq!(
                (state.oldest, state.posted, state.completed),
                (Some(oldest), state.completed + descriptors, state.completed)
            );
            fake.write_back(state.ends_with.unwrap() as u32);
            assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready, "{ring}");
        }
        assert_eq!(channel.ring_state().oldest, None);
    }
}

/// A doorbell that fails may still have rung: the job counts as failed even if the engine reports it, and those before it as finished.
#[test]
fn a_job_whose_doorbell_failed_does_not_finish() {
    /// Passes writes on, and reports an error for doorbells if the flag is set.
    #[derive(Debug)]
    struct FailingDoorbell(Arc<Fake>, AtomicBool);
    // SAFETY: not mapped.
    unsafe impl Bar for FailingDoorbell {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            self.0.read32(offset)
        }
        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            self.0.write32(offset, value)?;
            let is_doorbell = [CONTROL_W1S.into(), CREDITS].contains(&offset);
            match is_doorbell && self.1.load(Ordering::Relaxed) {
                true => Err(BusError::BadOffset { offset, size: 0 }),
                false => Ok(()),
            }
        }
    }

    for ring in [Ring::Chain, Ring::Credits] {
        let fake = Arc::new(Fake::default());
        let bar = Arc::new(FailingDoorbell(fake.clone(), AtomicBool::new(false)));
        let mut channel = fake.open_through(bar.clone(), ring);
        let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
        let submit = |channel: &mut Channel| channel.submit(&buffer, 0..64, 0);
        let (first, second) = (submit(&mut channel).unwrap(), submit(&mut channel).unwrap());
        bar.1.store(true, Ordering::Relaxed);
        match ring {
            // A poll starts the second chain.
            Ring::Chain => {
                fake.write_back(1);
                channel.poll(second).unwrap_err();
                fake.write_back(1);
                channel.poll(second).unwrap_err();
            }
            Ring::Credits => {
                submit(&mut channel).unwrap_err();
                fake.write_back(3);
                assert_eq!(channel.poll(second).unwrap(), Poll::Ready);
            }
        }
        assert_eq!(channel.poll(first).unwrap(), Poll::Ready, "{ring}");
        assert_eq!(channel.in_flight(), 1, "{ring}: the engine may still use the memory");
        channel.stop().unwrap();
        assert_eq!(channel.in_flight(), 0, "{ring}");
    }
}

/// Transfers and programs queued one behind another on a card with mapped registers: each is started by the poll that finds the previous
/// one finished. An error in the middle fails those after it, and none before it.
#[test]
fn chains_are_executed_in_order_at_any_depth() {
    const JOBS: usize = 250;
    for failing in [0, 1, 100, JOBS - 1, JOBS] {
        let (fake, bar) = (Arc::new(Fake::default()), Arc::new(MappedBar::new()));
        let mut channel = fake.open_through(bar.clone(), Ring::Chain);
        let buffer = channel.space.allocate(64, Access::CardReads).unwrap();
        let program = program(&channel, 3);
        let descriptors = |job: usize| if job % 7 == 3 { 3 } else { 1 };
        let mut submit = |job| match descriptors(job) {
            1 => channel.submit(&buffer, 0..64, 64 * job as u64).unwrap(),
            _ => channel.run(&program).unwrap(),
        };
        let tickets: Vec<_> = (0..JOBS).map(&mut submit).collect();
        for job in 0..failing {
            assert_eq!(channel.poll(tickets[JOBS - 1]).unwrap(), Poll::Pending);
            assert_eq!(channel.poll(tickets[job]).unwrap(), Poll::Pending);
            if descriptors(job) == 1 {
                let card = fake.descriptor(bar.address(FIRST_DESCRIPTOR))[4];
                assert_eq!(card as usize, 64 * job);
            }
            fake.write_word(bar.write_back(), descriptors(job));
            assert_eq!(channel.poll(tickets[job]).unwrap(), Poll::Ready, "job {job}");
        }
        if failing < JOBS {
            fake.write_word(bar.write_back(), 1 << 31);
            assert!(channel.poll(tickets[failing]).is_err());
        }
        for (job, &ticket) in tickets.iter().enumerate() {
            assert_eq!(
                channel.poll(ticket).is_ok_and(|poll| poll == Poll::Ready),
                job < failing,
                "job {job}"
            );
        }
    }
}

/// A completion just before the interrupt is enabled does not interrupt, so a sleeper must poll after enabling it, not before.
#[test]
fn a_completion_while_the_interrupt_is_enabled_costs_no_sleep() {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    /// Completes the transfer when the channel's interrupt is enabled, which is done by reading and clearing the status.
    #[derive(Debug)]
    struct AtLast(Arc<Fake>, AtomicBool);
    // SAFETY: nothing is mapped.
    unsafe impl Bar for AtLast {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read32(&self, offset: u64) -> Result<u32, BusError> {
            if offset == STATUS + 4 && self.1.load(Ordering::Relaxed) {
                self.0.write_back(1);
            }
            self.0.read32(offset)
        }
        fn write32(&self, offset: u64, value: u32) -> Result<(), BusError> {
            self.0.write32(offset, value)
        }
    }
    #[derive(Debug)]
    struct Silent(UnixStream);
    impl AsFd for Silent {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    impl Event for Silent {
        fn enable(&self) -> Result<(), BusError> {
            Ok(())
        }
        fn clear(&self) {}
    }
    let (silent, _other) = UnixStream::pair().unwrap();
    let fake = Arc::new(Fake::default());
    let bar = Arc::new(AtLast(fake.clone(), AtomicBool::new(false)));
    let context = ChannelContext { event: Some(Arc::new(Silent(silent))), ..fake.context(bar.clone()) };
    let options = ChannelOptions { ring: Some(Ring::Chain), wait: Wait::Interrupt, ..Default::default() };
    // SAFETY: nothing runs on this card.
    let mut channel = unsafe { Channel::open(context, options) }.unwrap();
    let small = program(&channel, 1);
    let ticket = channel.run(&small).unwrap();
    let late = channel.wait(ticket, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(late, WaitError::Deadline { .. }), "{late}");
    let sleeps = channel.stats().sleeps;
    assert!(sleeps > 0, "it slept");
    bar.1.store(true, Ordering::Relaxed);
    channel.wait(ticket, Duration::from_secs(5)).unwrap();
    assert_eq!((channel.stats().sleeps, channel.stats().missed), (sleeps, 0));
    // A completion that does not interrupt a sleep is found nevertheless, and counted as missed.
    bar.1.store(false, Ordering::Relaxed);
    for _ in 0..100 {
        let ticket = channel.run(&small).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(2));
                fake.write_back(1);
            });
            channel.wait(ticket, Duration::from_secs(5)).unwrap();
        });
        if channel.stats().missed > 0 {
            return;
        }
    }
    panic!("no interrupt was missed");
}

/// The statistics page is writable by other processes. Values from it are only displayed.
#[test]
fn job_numbers_do_not_depend_on_the_statistics() {
    let fake = Arc::new(Fake::default());
    fake.registers.lock().unwrap().insert(0, Identifier::new(Target::H2C, 0, false).0);
    let context = fake.context(fake.clone());
    let (write_back, space, counters) =
        (context.write_back.clone(), context.space.clone(), context.counters.clone());
    counters.set(Count::Submitted, u64::MAX - 1);
    let options = ChannelOptions { ring: Some(Ring::Chain), ..Default::default() };
    let memory = space.allocate(64, Access::CardReads).unwrap();
    for owner in 0..3 {
        let context = ChannelContext {
            write_back: write_back.clone(),
            space: space.clone(),
            counters: counters.clone(),
            ..fake.context(fake.clone())
        };
        // SAFETY: nothing runs on this card.
        let mut channel = unsafe { Channel::open(context, options) }.unwrap();
        for _ in 0..4 {
            let ticket = channel.submit(&memory, 0..64, 0).unwrap();
            fake.write_back(1);
            assert_eq!(channel.poll(ticket).unwrap(), Poll::Ready);
        }
        // Jobs of the previous owners are included.
        assert_eq!(channel.stats().submitted, 4 * (owner + 1));
        counters.set(Count::Submitted, u64::MAX - owner);
    }
}
