//! Every shipped description of a card: the driver identifies the card, and uses all of its channels and interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use xdma::card::{Card, CardError, CardOptions, InterruptError, InterruptKind, Interrupts, Source};
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{ChannelOptions, OpenError, Ring, Wait};
use xdma::regs::{Direction, REGISTER_SPACE};
use xdma_emulated_card::{connect, described, start};
use xdma_emulator::card_file::{Holds, Intx, SHIPPED, Setting};
use xdma_emulator::logic::{AxiResponse, Burst, Logic, Loopback, Memory, Shell};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};
use xdma_testkit::bench::{LIMIT, assert_few_missed, pattern};

/// Time to wait for an interrupt that should not arrive.
const A_WHILE: Duration = Duration::from_millis(50);

fn shipped() -> impl Iterator<Item = CardFile> {
    SHIPPED.into_iter().map(|(name, _)| CardFile::shipped(name).unwrap())
}

/// The shipped cards with memory-mapped channels.
fn with_memory() -> impl Iterator<Item = CardFile> {
    shipped().filter(|card| !card.is_stream())
}

fn open(card: &CardFile) -> (Card, Arc<Memory>) {
    let memory = Arc::new(Memory::of(card));
    let options = described(card, CardOptions::default());
    (start(EmulatorOptions::like(card.clone()), memory.clone(), options).unwrap(), memory)
}

/// Memory that counts reads of the user BARs and of the AXI port.
#[derive(Default)]
struct Watched {
    memory: Memory,
    reads: AtomicUsize,
}

impl Watched {
    fn count(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }
}

impl Logic for Watched {
    fn attach(&self, shell: Arc<dyn Shell>) {
        self.memory.attach(shell);
    }

    fn write(
        &self,
        channel: usize,
        address: u64,
        burst: Burst,
        data: &vm_memory::VolatileSlice,
    ) -> AxiResponse {
        self.memory.write(channel, address, burst, data)
    }

    fn read(
        &self,
        channel: usize,
        address: u64,
        burst: Burst,
        data: &vm_memory::VolatileSlice,
    ) -> AxiResponse {
        self.count();
        self.memory.read(channel, address, burst, data)
    }

    fn user_read(&self, bar: usize, offset: u64) -> u32 {
        self.count();
        self.memory.user_read(bar, offset)
    }

    fn user_write(&self, bar: usize, offset: u64, value: u32) {
        self.memory.user_write(bar, offset, value);
    }

    fn reset(&self) {
        self.memory.reset();
    }
}

#[test]
fn every_card_is_identified_without_reading_another_bar() {
    for card in shipped() {
        let logic = Arc::new(Watched::default());
        let emulated = EmulatedCard::start(EmulatorOptions::like(card.clone()), logic.clone()).unwrap();
        let opened = connect(&emulated, CardOptions::default()).unwrap();
        let report = opened.report().unwrap();
        assert_eq!(Some(report.register_bar), card.register_bar(), "{}", card.name);
        assert_eq!((report.vendor, report.device), (card.function.vendor, card.function.device));
        assert_eq!(report.count(Direction::H2C), card.channels.h2c);
        assert_eq!(report.count(Direction::C2H), card.channels.c2h);
        assert_eq!(report.data_width, card.core.data_width / 8);
        assert!(report.channels.iter().all(|channel| channel.identifier.is_stream() == card.is_stream()));
        let (now, best) = report.link.unwrap();
        let link = card.function.link;
        assert_eq!((now.generation, now.lanes), (link.generation.into(), link.lanes.into()));
        assert_eq!((best.generation, best.lanes), (link.max_generation.into(), link.max_lanes.into()));
        assert_eq!(logic.reads.load(Ordering::Relaxed), 0, "{}: another BAR was read", card.name);
    }
}

/// Without MSI-X, and with two BARs that are large enough for the core's registers, no BAR is read, and the error lists the
/// candidates.
#[test]
fn a_bar_that_nothing_points_to_is_not_read() {
    let mut card = CardFile::alveo();
    (card.function.msix, card.bars[0].size) = (None, 32 << 20);
    let logic = Arc::new(Watched::default());
    let emulated = EmulatedCard::start(EmulatorOptions::like(card), logic.clone()).unwrap();
    let error = connect(&emulated, CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::NotXdma { .. }));
    let text = error.to_string();
    assert!(text.contains("BAR0 (32768 KiB), BAR1 (64 KiB)") && text.contains("register BAR"), "{text}");
    assert_eq!(logic.reads.load(Ordering::Relaxed), 0);
    let options = CardOptions { register_bar: Some(1), ..CardOptions::default() };
    assert_eq!(connect(&emulated, options).unwrap().report().unwrap().register_bar, 1);
}

/// Moves data through one channel, and checks it in the card's memory.
fn transfer(card: &Card, memory: &Memory, direction: Direction, channel: usize, options: ChannelOptions) {
    let data = pattern(50_000, channel as u64);
    let mut channel = card.channel(direction, channel, options).unwrap();
    let mut buffer = card.allocate(50_000, direction).unwrap();
    let mut seen = vec![0; data.len()];
    match direction {
        Direction::H2C => {
            buffer.write(0, &data).unwrap();
            channel.transfer(&buffer, 0..50_000, 0x1001, LIMIT).unwrap();
            memory.peek(0x1001, &mut seen);
        }
        Direction::C2H => {
            memory.poke(0x2003, &data);
            channel.transfer(&buffer, 0..50_000, 0x2003, LIMIT).unwrap();
            buffer.read(0, &mut seen).unwrap();
        }
    }
    assert!(seen == data, "{direction} {options:?}");
    if channel.options().wait == Wait::Interrupt {
        assert_few_missed([&channel]);
    }
}

#[test]
fn every_memory_mapped_channel_moves_data_in_every_way() {
    for description in with_memory() {
        let (card, memory) = open(&description);
        for channel in card.report().unwrap().channels {
            for ring in [Ring::Chain, Ring::Credits] {
                for wait in Wait::ALL {
                    let options = ChannelOptions { ring: Some(ring), wait, ..ChannelOptions::default() };
                    transfer(&card, &memory, channel.direction, channel.index, options);
                }
            }
        }
    }
}

#[test]
fn every_stream_channel_moves_packets() {
    for description in shipped().filter(CardFile::is_stream) {
        let options = described(&description, CardOptions::default());
        let streams = EmulatorOptions::like(description.clone());
        let card = start(streams, Arc::new(Loopback::new()), options).unwrap();
        for channel in 0..description.channels.h2c.min(description.channels.c2h) {
            let mut sender = card.stream_h2c(channel, ChannelOptions::default()).unwrap();
            let mut receiver = card.stream_c2h(channel, ReceiverOptions::default()).unwrap();
            for len in [1, 64, 1000] {
                let data = pattern(len, 3);
                let mut buffer = card.allocate(len as u64, Direction::H2C).unwrap();
                buffer.write(0, &data).unwrap();
                sender.send(&buffer, 0..len as u64).unwrap();
                let received = receiver.wait(LIMIT).unwrap();
                // With narrow buffers, lengths are rounded up to the width of the data path.
                let expected = match description.switches.narrow_stream_buffers.or(false) {
                    true => (len as u64).next_multiple_of(description.beat()),
                    false => len as u64,
                };
                assert_eq!(received.len() as u64, expected, "{}", description.name);
                let mut seen = vec![0; len];
                receiver.read(&received, 0, &mut seen).unwrap();
                assert!(seen == data, "{}", description.name);
                receiver.recycle(received).unwrap();
            }
        }
    }
}

/// Returns a card for each way of delivering interrupts, and the mode that the driver should report for it.
fn cards_by_interrupts() -> Vec<(CardFile, Interrupts)> {
    let card = |name: &str| CardFile::shipped(name).unwrap();
    let (mut line, mut none) = (card("msi"), card("msi"));
    (line.function.msi_vectors, line.function.intx) = (0, Intx::C);
    (none.function.msi_vectors, none.function.intx) = (0, Intx::None);
    // User registers, for the interrupt lines.
    for card in [&mut line, &mut none] {
        card.bars = CardFile::alveo().bars;
    }
    let mut message = card("msi");
    message.bars = CardFile::alveo().bars;
    let shared = |kind, vectors| Interrupts::Shared { kind, vectors };
    vec![
        (card("f1"), Interrupts::PerSource),
        (card("7-series"), Interrupts::PerSource),
        (card("f2"), Interrupts::PerSource),
        (card("eight-vectors"), shared(InterruptKind::Msix, 8)),
        (message, shared(InterruptKind::Msi, 1)),
        (line, shared(InterruptKind::Intx, 1)),
        (none, Interrupts::None),
    ]
}

fn open_described(card: &CardFile) -> Card {
    let options = described(card, CardOptions::default());
    start(EmulatorOptions::like(card.clone()), Arc::new(Memory::of(card)), options).unwrap()
}

#[test]
fn the_report_states_how_interrupts_are_delivered() {
    for (description, expected) in cards_by_interrupts() {
        let report = open_described(&description).report().unwrap();
        assert_eq!(report.interrupts, expected);
        assert!(report.to_string().contains(&format!("interrupts: {expected}")), "{report}");
    }
}

/// All lines fire many times, alone and together, and each wakes its own waiter whenever it is raised.
#[test]
fn user_lines_interrupt_on_every_kind_of_vector() {
    for (description, mode) in cards_by_interrupts() {
        let card = open_described(&description);
        let user = card.user().unwrap();
        let raise = |lines: u32| user.write(Memory::USER_IRQ as u32, lines).unwrap();
        if mode == Interrupts::None {
            assert!(matches!(card.interrupt(Source::User(0)), Err(InterruptError::NoVectors)));
            continue;
        }
        // F2 has 16 interrupts in all.
        let count = if card.report().unwrap().interrupt_bar.is_some() { 14 } else { 16 };
        let lines: Vec<_> = (0..count).map(|line| card.interrupt(Source::User(line)).unwrap()).collect();
        let beyond = card.interrupt(Source::User(count)).unwrap_err();
        assert!(matches!(beyond, InterruptError::NoSource(_)), "{mode}: {beyond}");
        for round in 0..40u32 {
            let raised = if round % 4 == 0 { 0xffff } else { 1 << (round % count as u32) };
            raise(raised);
            for (number, line) in lines.iter().enumerate() {
                if raised >> number & 1 != 0 {
                    assert!(line.wait(LIMIT).unwrap() > 0, "{mode}: line {number} in round {round}");
                }
            }
            raise(0);
        }
        // A line that was waited for before it fell may have fired once more.
        lines.iter().for_each(|line| _ = line.take());
        for line in &lines {
            assert_eq!(line.wait(A_WHILE / 10).unwrap(), 0, "{mode}: nothing is raised");
        }
    }
}

#[test]
fn a_channel_that_sleeps_wakes_on_every_kind_of_vector() {
    for (description, mode) in cards_by_interrupts() {
        let card = open_described(&description);
        for wait in [Wait::default(), Wait::Interrupt] {
            let options = ChannelOptions { wait, ..ChannelOptions::default() };
            let mut channels: Vec<_> = [Direction::H2C, Direction::C2H]
                .map(|direction| {
                    (card.channel(direction, 0, options).unwrap(), card.allocate(4096, direction).unwrap())
                })
                .into();
            for (channel, buffer) in &mut channels {
                for _ in 0..50 {
                    channel.transfer(buffer, 0..4096, 0, LIMIT).unwrap();
                }
            }
            let used = if mode == Interrupts::None { Wait::SpinThenYield } else { wait };
            assert!(channels.iter().all(|(channel, _)| channel.options().wait == used), "{mode}");
            assert_few_missed(channels.iter().map(|(channel, _)| channel));
        }
    }
}

#[test]
fn interrupts_work_again_after_a_reset_on_every_kind_of_vector() {
    for (mut description, mode) in cards_by_interrupts() {
        description.function.reset = true;
        let card = open_described(&description);
        if mode == Interrupts::None {
            continue;
        }
        let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
        let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
        let buffer = card.allocate(64, Direction::H2C).unwrap();
        channel.transfer(&buffer, 0..64, 0, LIMIT).unwrap();
        card.reset().unwrap();
        channel.recover().unwrap();
        for _ in 0..10 {
            channel.transfer(&buffer, 0..64, 0, LIMIT).unwrap();
        }
        assert_few_missed([&channel]);
    }
}

#[test]
fn an_absent_channel_is_absent_in_every_wait_mode() {
    for (description, _) in cards_by_interrupts() {
        let card = open_described(&description);
        let absent = description.channels.h2c;
        for wait in Wait::ALL.into_iter().filter(|_| absent < 4) {
            let options = ChannelOptions { wait, ..ChannelOptions::default() };
            let error = card.channel(Direction::H2C, absent, options).unwrap_err();
            assert!(matches!(error, OpenError::NoChannel { .. }), "{wait}: {error}");
        }
    }
}

/// Handles of one line share its interrupts: that one took the last does not keep the other from being woken.
#[test]
fn two_handles_of_a_line_on_every_kind_of_vector() {
    for (description, mode) in cards_by_interrupts().into_iter().filter(|(_, mode)| *mode != Interrupts::None)
    {
        let card = open_described(&description);
        let user = card.user().unwrap();
        let raise = |lines: u32| user.write(Memory::USER_IRQ as u32, lines).unwrap();
        let handles = [0, 1].map(|_| card.interrupt(Source::User(2)).unwrap());
        for round in 0..6 {
            raise(1 << 2);
            assert!(handles[round % 2].wait(LIMIT).unwrap() > 0, "{mode}: round {round}");
            raise(0);
        }
    }
}

/// A BAR that the user names and that reads all ones is the wrong one, not a sign that the card is gone.
#[test]
fn a_named_bar_of_all_ones_is_not_the_register_bar() {
    let mut card = CardFile::f1();
    card.bars[1].holds = Setting::Unknown;
    let emulated = EmulatedCard::start(EmulatorOptions::like(card), Arc::new(Memory::new())).unwrap();
    let options = CardOptions { register_bar: Some(1), ..CardOptions::default() };
    let error = connect(&emulated, options).err().unwrap();
    assert!(matches!(error, CardError::NotXdma { .. }), "{error}");
}

/// The core's registers are out of reach of safe code, also by way of the options.
#[test]
fn the_register_bar_cannot_be_the_user_bar() {
    for description in shipped() {
        let emulated =
            EmulatedCard::start(EmulatorOptions::like(description.clone()), Arc::new(Memory::new())).unwrap();
        let register_bar = description.register_bar();
        let options = CardOptions { register_bar, user_bar: register_bar, ..CardOptions::default() };
        let error = connect(&emulated, options).err().unwrap();
        assert!(matches!(error, CardError::UserBarHasRegisters(_)), "{error}");
        assert_eq!(error.remedy(), xdma::Remedy::Correct);
    }
}

#[test]
fn no_combination_of_options_makes_registers_of_xdma_user_registers() {
    let bars = [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(usize::MAX)];
    let mut opened = 0;
    for description in shipped() {
        let emulated =
            EmulatedCard::start(EmulatorOptions::like(description.clone()), Arc::new(Memory::new())).unwrap();
        for (register_bar, user_bar) in bars.iter().flat_map(|of| bars.map(|user| (*of, user))) {
            let options = CardOptions { register_bar, user_bar, ..CardOptions::default() };
            let Ok(card) = connect(&emulated, options) else { continue };
            let Ok(user) = card.user() else { continue };
            opened += 1;
            for block in (0..REGISTER_SPACE as u32).step_by(0x1000) {
                let is_xdma = user.read(block).is_ok_and(|id| id >> 20 == 0x1fc);
                assert!(!is_xdma, "{}: {options:?} reaches the registers at {block:#x}", description.name);
            }
            // Offsets have 32 bits, so no end of a larger BAR can be passed.
            let Ok(end) = u32::try_from(user.size()) else { continue };
            assert!(user.write(end, 0).is_err() && user.read(end - 1).is_err(), "{options:?}");
        }
    }
    assert!(opened > 2 * SHIPPED.len(), "{opened} cards with user registers");
}

/// The shell's interrupt block as a process without the driver sees it: enable mask, and vector numbers of lines 0 to 15.
fn shell_block(card: &Card) -> [u32; 5] {
    let bar = xdma::unstable::card::bar(card, 2).unwrap();
    [0x2004, 0x2080, 0x2084, 0x2088, 0x208c].map(|register| bar.read32(register).unwrap())
}

const SHELL_RESET: [u32; 5] = [0; 5];
const SHELL_ROUTED: [u32; 5] = [0xffff, 0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c];

#[test]
fn on_f2_the_shells_block_is_set_up_with_the_interrupts_and_reset_with_the_card() {
    let options = EmulatorOptions::like(CardFile::f2());
    let emulated = EmulatedCard::start(options, Arc::new(Memory::new())).unwrap();
    let card = connect(&emulated, CardOptions::default()).unwrap();
    let report = card.report().unwrap();
    assert_eq!((report.register_bar, report.user_bar, report.user_offset), (0, Some(0), 0x1_0000));
    assert_eq!(report.interrupt_bar, Some(2));
    assert_eq!(shell_block(&card), SHELL_RESET, "nothing is enabled before the first interrupt is requested");
    let line = card.interrupt(Source::User(3)).unwrap();
    assert_eq!(shell_block(&card), SHELL_ROUTED);
    let raise = |lines: u32| card.user().unwrap().write(Memory::USER_IRQ as u32, lines).unwrap();
    raise(1 << 3);
    assert_eq!(line.wait(LIMIT).unwrap(), 1);
    raise(0);
    // A function reset also resets the block.
    card.reset().unwrap();
    assert_eq!(shell_block(&card), SHELL_ROUTED);
    drop(line);
    let line = card.interrupt(Source::User(3)).unwrap();
    raise(1 << 3);
    assert_eq!(line.wait(LIMIT).unwrap(), 1);
    drop((line, card));
    let options = CardOptions { as_found: true, ..CardOptions::default() };
    assert_eq!(shell_block(&connect(&emulated, options).unwrap()), SHELL_RESET);
    assert_eq!(emulated.violations(), []);
}

/// An image of F2 without an engine: only the shell's block answers, whose channels move no data.
#[test]
fn on_f2_the_shells_block_is_not_taken_for_an_engine() {
    let mut card = CardFile::f2();
    // The custom logic has registers in BAR0, and the block is the only XDMA in the card.
    (card.bars[0].holds, card.bars[0].user_offset) = (Holds::User.into(), None);
    (card.bars[1].holds, card.bars[2].holds) = (Holds::Registers.into(), Setting::Unknown);
    let emulated = EmulatedCard::start(EmulatorOptions::like(card), Arc::new(Memory::new())).unwrap();
    let error = connect(&emulated, CardOptions::default()).unwrap_err();
    assert!(matches!(error, CardError::NotXdma { .. }));
    let text = error.to_string();
    for part in [
        "AWS F2",
        "BAR0 reads 0x00000000",
        "BAR2 reads 0x1fc20006",
        "only delivers interrupts",
        "--register-bar",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // As the message says: a shell whose XDMA core moves data can be used by naming its BAR.
    let options = CardOptions { register_bar: Some(2), ..CardOptions::default() };
    let report = connect(&emulated, options).unwrap().report().unwrap();
    assert_eq!((report.register_bar, report.user_bar, report.interrupt_bar), (2, Some(0), None));
}

/// F1 and F2 images can have the same identifiers. The BARs tell them apart.
#[test]
fn f1_and_f2_are_told_apart_by_their_bars() {
    for (card, registers) in [(CardFile::f1(), 2), (CardFile::f2(), 0)] {
        assert_eq!((card.function.vendor, card.function.device), (0x1d0f, 0xf001));
        let emulated = EmulatedCard::start(EmulatorOptions::like(card), Arc::new(Memory::new())).unwrap();
        let report = connect(&emulated, CardOptions::default()).unwrap().report().unwrap();
        assert_eq!(report.register_bar, registers);
        assert_eq!(report.interrupt_bar.is_some(), registers == 0);
    }
}

/// On F2, the engine's registers share a BAR with the user logic's, and the shell's block has a BAR of its own. Safe code reaches
/// neither as user registers.
#[test]
fn on_f2_user_registers_are_only_those_behind_the_engine() {
    let emulated =
        EmulatedCard::start(EmulatorOptions::like(CardFile::f2()), Arc::new(Memory::new())).unwrap();
    let refused = |register_bar, user_bar| {
        let options = CardOptions { register_bar, user_bar, ..CardOptions::default() };
        let error = connect(&emulated, options).unwrap_err();
        assert!(matches!(error, CardError::UserBarHasRegisters(_)), "{register_bar:?} {user_bar:?}: {error}");
    };
    for register_bar in [None, Some(0)] {
        refused(register_bar, Some(0));
        refused(register_bar, Some(2));
    }
    // The engine in BAR0 would be the user BAR.
    refused(Some(2), None);
    refused(Some(2), Some(0));
    let card = connect(&emulated, CardOptions::default()).unwrap();
    let user = card.user().unwrap();
    let size = (64 << 20) - (64 << 10);
    assert_eq!(user.size(), size);
    user.write(0x10, 7).unwrap();
    assert_eq!(user.read(0x10).unwrap(), 7);
    let whole = xdma::unstable::card::bar(&card, 0).unwrap();
    assert_eq!((whole.read32(0x1_0010).unwrap(), whole.read32(0x10).unwrap()), (7, 0));
    for outside in [size as u32, u32::MAX - 3, !0xffff] {
        user.read(outside).unwrap_err();
        user.write(outside, 1).unwrap_err();
    }
}

/// What `vfio-setup f2-interrupts` does for the kernel module, on the emulated block. The conformance tests of the emulated card show
/// that the module's interrupts then arrive.
#[test]
fn the_helper_for_the_kernel_module_sets_up_the_shells_block() {
    use xdma::unstable::card::{F2_SHELL_BAR, ShellInterrupts, bar};
    let emulated =
        EmulatedCard::start(EmulatorOptions::like(CardFile::f2()), Arc::new(Memory::new())).unwrap();
    let card = connect(&emulated, CardOptions { as_found: true, ..CardOptions::default() }).unwrap();
    assert!(ShellInterrupts::find(bar(&card, 4).unwrap()).unwrap().is_none(), "only BAR2 has the block");
    let shell = ShellInterrupts::find(bar(&card, F2_SHELL_BAR).unwrap()).unwrap().unwrap();
    assert!(!shell.is_enabled().unwrap());
    shell.enable().unwrap();
    assert_eq!((shell.is_enabled().unwrap(), shell_block(&card)), (true, SHELL_ROUTED));
    shell.reset().unwrap();
    assert_eq!((shell.is_enabled().unwrap(), shell_block(&card)), (false, SHELL_RESET));
}
