//! The driver on the simulated F2 image: the engine, the shell's counters, and what the shell can do to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma::card::{Card, CardError, CardOptions, Source};
use xdma::channel::{Channel, ChannelOptions, CloseError, EngineError, Ring, Transfers, Wait};
use xdma::memory::Buffer;
use xdma::regs::{Direction, msm};
use xdma_emulated_card::connect;
use xdma_emulator::logic::{AxiResponse, Burst, InImage, Logic, Memory, PCIS_ID, Shell};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

const LIMIT: Duration = Duration::from_secs(60);

fn start(logic: Arc<dyn Logic>) -> EmulatedCard {
    EmulatedCard::start(EmulatorOptions::like(CardFile::f2()), logic).unwrap()
}

fn open(emulated: &EmulatedCard) -> Card {
    let options = CardOptions { idle_limit: Duration::from_millis(500), ..CardOptions::default() };
    connect(emulated, options).unwrap()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed * 77) as u8).collect()
}

/// Sends bytes to a card address and reads them back.
fn round_trip(card: &Card, address: u64, len: usize) {
    let data = pattern(len, len);
    let mut source = card.allocate(len as u64 + 64, Direction::H2C).unwrap();
    let sink = card.allocate(len as u64 + 64, Direction::C2H).unwrap();
    let at = len % 61;
    source.write(at as u64, &data).unwrap();
    let range = at as u64..(at + len) as u64;
    card.h2c(0).unwrap().transfer(&source, range.clone(), address, LIMIT).unwrap();
    card.c2h(0).unwrap().transfer(&sink, range.clone(), address, LIMIT).unwrap();
    let mut back = vec![0; len];
    sink.read(range.start, &mut back).unwrap();
    assert!(back == data, "{len} bytes at {address:#x}");
}

/// Asserts that the shell refused nothing.
fn assert_no_errors(emulated: &EmulatedCard) {
    let metrics = emulated.shell_metrics().unwrap();
    let bad: Vec<_> = metrics
        .iter()
        .filter(|(name, count)| (name.contains("error") || name.contains("timeout")) && **count > 0)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(emulated.violations(), []);
    assert_eq!(emulated.dma_faults(), []);
}

#[test]
fn transfers_of_any_alignment_keep_the_shells_rules() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    for (address, len) in
        [(0x1000, 4096), (0x2003, 1), (0x3fff, 2), (0x4ffd, 4099), (0x1_0000_0040, 70_000), (7, 777)]
    {
        round_trip(&card, address, len);
    }
    let metrics = emulated.shell_metrics().unwrap();
    assert!(metrics["pcim-read-count"] > 20_000 && metrics["pcim-write-count"] > 19_000, "{metrics:?}");
    assert_no_errors(&emulated);
}

#[test]
fn bar_4_and_the_engine_reach_the_same_addresses() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let bar = xdma::unstable::card::bar(&card, 4).unwrap();
    let mut source = card.allocate(4096, Direction::H2C).unwrap();
    source.write(0, &pattern(4096, 1)).unwrap();
    card.h2c(0).unwrap().transfer(&source, 0..4096, 0x5000, LIMIT).unwrap();
    for at in [0, 4, 64, 4092] {
        let expected = u32::from_le_bytes(pattern(4096, 1)[at..at + 4].try_into().unwrap());
        assert_eq!(bar.read32(0x5000 + at as u64).unwrap(), expected, "{at}");
    }
    bar.write32(0x5008, 0x1234_5678).unwrap();
    let sink = card.allocate(4096, Direction::C2H).unwrap();
    card.c2h(0).unwrap().transfer(&sink, 0..4096, 0x5000, LIMIT).unwrap();
    let mut back = [0; 16];
    sink.read(0, &mut back).unwrap();
    let expected = pattern(16, 1);
    assert_eq!(
        (&back[..8], &back[8..12], &back[12..]),
        (&expected[..8], &[0x78, 0x56, 0x34, 0x12][..], &expected[12..])
    );
    assert_no_errors(&emulated);
}

#[test]
fn a_function_reset_leaves_a_working_engine() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    for round in 0..3 {
        round_trip(&card, 0x1000, 5000 + round);
        card.reset().unwrap();
    }
    round_trip(&card, 0x1000, 5000);
    assert_no_errors(&emulated);
}

/// Loads another image, after which everything works.
fn load_again(emulated: &EmulatedCard) {
    emulated.load(EmulatorOptions::like(CardFile::f2()), Arc::new(Memory::new())).unwrap();
    round_trip(&open(emulated), 0x1000, 5000);
    assert_no_errors(emulated);
}

/// Closes a channel that may still be busy. The card may still use the memory of its transfer, so that memory is never reused.
fn close_in_quarantine(channel: Channel, least: u64) {
    let closed = channel.close();
    assert!(matches!(closed, Err(CloseError::Quarantined { bytes, .. }) if bytes >= least), "{closed:?}");
}

#[test]
fn a_dead_pcim_is_reported_and_another_image_revives_it() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    round_trip(&card, 0x1000, 5000);
    emulated.kill_pcim();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    let error = h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
    let error = h2c.recover().unwrap_err();
    assert!(matches!(error, EngineError::Hung { .. }), "{error}");
    assert!(error.to_string().contains("reset the card, and load its image again"), "{error}");
    drop(source);
    close_in_quarantine(h2c, 4096);
    drop(card);
    load_again(&emulated);
}

/// The engine waits for the responses until the end of the reset, which takes 3 ms on a card, and seconds in simulation. Then it is idle,
/// and its registers work. Only the next transfer shows that the port is still dead, since no register of the engine does.
#[test]
fn a_reset_ends_though_pcim_is_dead() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    emulated.kill_pcim();
    h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    card.reset().unwrap();
    card.user().unwrap().write(0x10, 7).unwrap();
    assert_eq!(card.user().unwrap().read(0x10).unwrap(), 7);
    h2c.recover().unwrap();
    h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    drop(source);
    close_in_quarantine(h2c, 4096);
    drop(card);

    // Opening a card with an engine that is busy resets it.
    let card = open(&emulated);
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    let error = h2c.recover().unwrap_err();
    assert!(error.to_string().contains("load its image again"), "{error}");
    drop(source);
    close_in_quarantine(h2c, 4096);
    drop(card);
    load_again(&emulated);
}

/// Up to 40 microseconds instead of 2, for one in eight requests.
#[test]
fn latency_spikes_of_the_shell_cost_only_time() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    emulated.set_pcim_spikes(Duration::from_micros(40));
    for (address, len) in [(0x1000, 64), (0x2003, 4099), (0x1_0000_0040, 20_000)] {
        round_trip(&card, address, len);
    }
    // A wait that ends during a spike loses nothing: the transfer finishes, and can be waited for again.
    emulated.set_pcim_spikes(Duration::from_millis(1));
    let mut source = card.allocate(40_000, Direction::H2C).unwrap();
    source.write(0, &pattern(40_000, 3)).unwrap();
    let (mut h2c, mut c2h) = (card.h2c(0).unwrap(), card.c2h(0).unwrap());
    let ticket = h2c.submit(&source, 0..40_000, 0x8000).unwrap();
    let error = h2c.wait(ticket, Duration::from_millis(1)).unwrap_err();
    assert!(error.to_string().contains("not finished within 1ms"), "{error}");
    h2c.wait(ticket, LIMIT).unwrap();
    emulated.set_pcim_spikes(Duration::ZERO);
    let sink = card.allocate(40_000, Direction::C2H).unwrap();
    c2h.transfer(&sink, 0..40_000, 0x8000, LIMIT).unwrap();
    let mut back = vec![0; 40_000];
    sink.read(0, &mut back).unwrap();
    assert!(back == pattern(40_000, 3));
    assert_no_errors(&emulated);
}

/// After 8 microseconds without an answer to an access to BAR0, the shell answers all of them itself, with all ones.
#[test]
fn an_ocl_time_out_is_reported_until_an_image_is_loaded() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    round_trip(&card, 0x1000, 5000);
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let mut h2c = card.h2c(0).unwrap();
    emulated.hang_user_registers();
    card.user().unwrap().write(0x10, 7).unwrap();
    assert_eq!(card.user().unwrap().read(0x14).unwrap(), u32::MAX);
    let metrics = emulated.shell_metrics().unwrap();
    let values = ["ocl-slave-timeout", "ocl-slave-timeout-addr", "ocl-slave-timeout-count"];
    assert_eq!(values.map(|name| metrics[name]), [1, 0x1_0012, 2], "a write, then a read");

    // The doorbell is lost, and the driver notices it.
    let error = h2c.transfer(&source, 0..4096, 0, Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error.engine(), Some(EngineError::Gone { .. })), "{error}");
    assert!(matches!(h2c.recover(), Err(EngineError::Gone { .. })));
    assert!(matches!(card.reset(), Err(CardError::Gone { .. })), "a reset does not revive the port");
    drop(source);
    close_in_quarantine(h2c, 4096);
    drop(card);
    let error = connect(&emulated, CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::ShellTimeout), "{error}");
    for part in ["BAR0", "8 microseconds", "ocl-slave-timeout=1", "fpga-load-local-image"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    load_again(&emulated);
}

/// Memory that on request does not answer accesses through BAR4, or those of the engine.
#[derive(Default)]
struct Silent {
    memory: Memory,
    pcis: AtomicBool,
    engine: AtomicBool,
    /// Whether an access was not answered.
    refused: AtomicBool,
}

impl Silent {
    fn answers(&self, channel: usize) -> bool {
        let silent = if channel == PCIS_ID { &self.pcis } else { &self.engine };
        let answers = !silent.load(Ordering::Relaxed);
        self.refused.fetch_or(!answers, Ordering::Relaxed);
        answers
    }
}

impl Logic for Silent {
    fn attach(&self, shell: Arc<dyn Shell>) {
        self.memory.attach(shell);
    }

    fn write(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        match self.answers(channel) {
            true => self.memory.write(channel, address, burst, data),
            false => AxiResponse::Wait,
        }
    }

    fn read(&self, channel: usize, address: u64, burst: Burst, data: &VolatileSlice) -> AxiResponse {
        match self.answers(channel) {
            true => self.memory.read(channel, address, burst, data),
            false => AxiResponse::Wait,
        }
    }

    fn user_read(&self, bar: usize, offset: u64) -> u32 {
        self.memory.user_read(bar, offset)
    }

    fn user_write(&self, bar: usize, offset: u64, value: u32) {
        self.memory.user_write(bar, offset, value);
    }

    fn reset(&self) {
        self.memory.reset();
    }
}

/// BAR4 and the engine reach the card's memory on separate paths.
#[test]
fn a_pcis_time_out_does_not_concern_the_engine() {
    let logic = Arc::new(Silent::default());
    let emulated = start(logic.clone());
    let card = open(&emulated);
    let bar = xdma::unstable::card::bar(&card, 4).unwrap();
    bar.write32(0x5000, 0x1234_5678).unwrap();
    assert_eq!(bar.read32(0x5000).unwrap(), 0x1234_5678);
    logic.pcis.store(true, Ordering::Relaxed);
    assert_eq!(bar.read32(0x5000).unwrap(), u32::MAX);
    logic.pcis.store(false, Ordering::Relaxed);
    bar.write32(0x5000, 0).unwrap();
    assert_eq!(bar.read32(0x5000).unwrap(), u32::MAX, "the port stays dead");
    let metrics = emulated.shell_metrics().unwrap();
    let values = ["dma-pcis-timeout", "dma-pcis-timeout-addr", "dma-pcis-timeout-count"];
    assert_eq!(values.map(|name| metrics[name]), [1, 0x5001, 3]);
    assert_eq!((metrics["ocl-slave-timeout"], metrics["pcim-axi-protocol-error"]), (0, 0));
    round_trip(&card, 0x6000, 5000);
    let mut seen = [0; 4];
    logic.memory.peek(0x5000, &mut seen);
    assert_eq!(u32::from_le_bytes(seen), 0x1234_5678, "the write did not reach the memory");
    drop((bar, card));
    load_again(&emulated);
}

/// A chain of 40 blocks. With credits, the engine would fetch each descriptor on its own, which takes a million clocks.
#[test]
fn a_long_chain_runs_repeatedly() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let options = ChannelOptions { ring: Some(Ring::Chain), ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let mut source = card.allocate(2500 * 32, Direction::H2C).unwrap();
    let sink = card.allocate(2500 * 32, Direction::C2H).unwrap();
    let mut pieces = Transfers::new(Direction::H2C);
    for at in 0..2500 {
        pieces.add(&source, at * 32..at * 32 + 32, (2499 - at) * 32).unwrap();
    }
    let program = h2c.program(&pieces).unwrap();
    for round in 0..2 {
        let data = pattern(2500 * 32, round);
        source.write(0, &data).unwrap();
        let ticket = h2c.run(&program).unwrap();
        h2c.wait(ticket, LIMIT).unwrap();
        card.c2h(0).unwrap().transfer(&sink, 0..2500 * 32, 0, LIMIT).unwrap();
        let mut back = vec![0; 2500 * 32];
        sink.read(0, &mut back).unwrap();
        assert!(back.chunks(32).eq(data.rchunks(32)), "round {round}");
    }
    assert_no_errors(&emulated);
}

/// Sets a user line of [`Memory`].
fn set_line(card: &Card, line: usize, level: bool) {
    card.user().unwrap().write(Memory::USER_IRQ as u32, u32::from(level) << line).unwrap();
}

/// Checks that most interrupts of a channel end its sleep. A few can be late on a busy machine.
fn transfer_with_interrupts(channel: &mut Channel, buffer: &Buffer) {
    let before = channel.stats();
    (0..8).for_each(|_| channel.transfer(buffer, 0..4096, 0x1000, LIMIT).unwrap());
    let after = channel.stats();
    let (sleeps, missed) = (after.sleeps - before.sleeps, after.missed - before.missed);
    assert!(sleeps > 0 && missed * 2 <= sleeps, "{missed} of {sleeps} interrupts missed");
}

/// All sources are masked while the card is recovered, and a reset also clears the shell's block.
#[test]
fn a_recovery_keeps_the_interrupts_that_are_waited_for() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    let line = card.interrupt(Source::User(3)).unwrap();
    for reset in [false, true, false] {
        scope(|threads| {
            let waiter = threads.spawn(|| line.wait(LIMIT).unwrap());
            sleep(Duration::from_millis(20));
            if reset { card.reset() } else { card.recover() }.unwrap();
            set_line(&card, 3, true);
            assert_eq!(waiter.join().unwrap(), 1, "reset: {reset}");
            set_line(&card, 3, false);
        });
        h2c.recover().unwrap();
        transfer_with_interrupts(&mut h2c, &source);
    }
    // A line without an owner stays masked.
    drop(line);
    card.recover().unwrap();
    set_line(&card, 3, true);
    let other = card.interrupt(Source::User(4)).unwrap();
    assert_eq!(other.wait(Duration::from_millis(20)).unwrap(), 0);
    assert_no_errors(&emulated);
}

#[test]
fn no_interrupt_is_lost_while_another_thread_recovers_the_card() {
    let emulated = start(Arc::new(Memory::new()));
    let card = open(&emulated);
    let done = AtomicBool::new(false);
    let recoveries = scope(|threads| {
        let recover = threads.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                card.recover().unwrap();
                count += 1;
            }
            count
        });
        for round in 0..60 {
            // Each round has a new owner. Some of them enable their source while the card is being recovered.
            let line = card.interrupt(Source::User(round % 3)).unwrap();
            for _ in 0..3 {
                set_line(&card, round % 3, true);
                assert!(line.wait(LIMIT).unwrap() >= 1, "round {round}");
                set_line(&card, round % 3, false);
            }
        }
        done.store(true, Ordering::Relaxed);
        recover.join().unwrap()
    });
    assert!(recoveries > 10, "{recoveries}");
    round_trip(&card, 0x1000, 5000);
    assert_no_errors(&emulated);
}

/// The design does not answer for some time. A recovery in that time waits for the engine, and ends the wait for the channel.
#[test]
fn a_recovery_ends_the_wait_for_a_channel_that_is_stalled() {
    let logic = Arc::new(Silent::default());
    let emulated = start(logic.clone());
    let card = connect(&emulated, CardOptions { idle_limit: LIMIT, ..CardOptions::default() }).unwrap();
    let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut h2c = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(4096, Direction::H2C).unwrap();
    logic.engine.store(true, Ordering::Relaxed);
    let ticket = h2c.submit(&source, 0..4096, 0x1000).unwrap();
    scope(|threads| {
        let waiter = threads.spawn(|| h2c.wait(ticket, LIMIT));
        while !logic.refused.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1));
        }
        let recover = threads.spawn(|| card.recover());
        sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished(), "the wait ended while the engine was stalled: {:?}", waiter.join());
        logic.engine.store(false, Ordering::Relaxed);
        recover.join().unwrap().unwrap();
        let begin = Instant::now();
        // The engine may finish the transfer before it stops.
        match waiter.join().unwrap() {
            Ok(()) => {}
            Err(error) => assert!(matches!(error.engine(), Some(EngineError::Reset { .. })), "{error}"),
        }
        assert!(begin.elapsed() < LIMIT / 4, "{:?}", begin.elapsed());
    });
    h2c.recover().unwrap();
    transfer_with_interrupts(&mut h2c, &source);
    drop(h2c);
    round_trip(&card, 0x1000, 5000);
    assert_no_errors(&emulated);
}

/// All of `cl_f2`: the registers behind the engine's, and the scratch window through the engine and through BAR4.
#[test]
fn the_design_in_the_image_answers() {
    let emulated = start(Arc::new(InImage));
    let card = open(&emulated);
    let user = card.user().unwrap();
    assert_eq!(user.read(msm::EXTENSION_ID).unwrap(), msm::EXTENSION_ID_VALUE);
    round_trip(&card, msm::SCRATCH_WINDOW + 4096, 3000);
    let bar = xdma::unstable::card::bar(&card, 4).unwrap();
    bar.write32(msm::SCRATCH_WINDOW, 0xabcd_ef01).unwrap();
    bar.write32(msm::SCRATCH_WINDOW + 68, 7).unwrap();
    assert_eq!(bar.read32(msm::SCRATCH_WINDOW).unwrap(), 0xabcd_ef01);
    assert_eq!(bar.read32(msm::SCRATCH_WINDOW + 68).unwrap(), 7);
    card.reset().unwrap();
    assert_eq!(card.user().unwrap().read(msm::EXTENSION_ID).unwrap(), msm::EXTENSION_ID_VALUE);
    round_trip(&card, msm::SCRATCH_WINDOW, 64);
    assert_no_errors(&emulated);
}

/// The cards that differ from the shipped one in one fact on which sources disagree.
fn contradictions() -> Vec<(&'static str, CardFile)> {
    let with = |change: fn(&mut CardFile)| {
        let mut card = CardFile::f2();
        change(&mut card);
        card
    };
    vec![
        ("64 reads under way", with(|card| card.shell.outstanding_reads = 64.into())),
        ("8 reads under way", with(|card| card.shell.outstanding_reads = 8.into())),
        ("one read for each ID", with(|card| card.shell.one_read_per_id = true.into())),
        ("masked lines are acknowledged", with(|card| card.shell.ack_masked = true.into())),
        ("128 bytes reported", with(|card| card.shell.reported_payload = 128.into())),
        ("512 bytes reported", with(|card| card.shell.reported_payload = 512.into())),
        ("1024 bytes reported", with(|card| card.shell.reported_payload = 1024.into())),
        ("payloads of 128 bytes", with(|card| card.function.max_payload = 128)),
        ("payloads of 512 bytes", with(|card| card.function.max_payload = 512)),
        ("no function-level reset", with(|card| card.function.reset = false)),
    ]
}

#[test]
fn the_driver_works_whichever_of_the_contradicting_sources_is_right() {
    for (what, description) in contradictions() {
        println!("{what}");
        let options = EmulatorOptions::like(description.clone());
        let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
        let card = open(&emulated);
        for (address, len) in [(0x1000, 64), (0x2003, 4099), (0x1_0000_0040, 40_000)] {
            round_trip(&card, address, len);
        }
        let line = card.interrupt(Source::User(3)).unwrap();
        for _ in 0..3 {
            card.user().unwrap().write(Memory::USER_IRQ as u32, 1 << 3).unwrap();
            assert_eq!(line.wait(LIMIT).unwrap(), 1);
            card.user().unwrap().write(Memory::USER_IRQ as u32, 0).unwrap();
        }
        drop(line);
        assert_eq!(card.reset().is_ok(), description.function.reset, "{what}");
        round_trip(&card, 0x1000, 5000);
        assert_no_errors(&emulated);
    }
}
