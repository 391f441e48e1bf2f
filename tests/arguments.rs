//! Wild numbers for every public function that takes one: an error, and neither a panic nor another element than was asked for.
//!
//! `cargo xtask test --full release` runs this in a release build too, with overflow checks.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use xdma::bus::Bus;
use xdma::card::{Card, CardOptions, Source};
use xdma::channel::stream::{Discard, ReceiverOptions};
use xdma::channel::{ChannelOptions, EngineError, Pool, Transfers, Wait};
use xdma::descriptor::{Adjacency, Descriptor, End, Flags, List, Segment};
use xdma::memory::{DmaMemory, HugePages, MemoryError, PageSize};
use xdma::msm::{Msm, MsmError, MsmOptions, Points, ScalarForm, Scalars};
use xdma::regs::{self, Direction, Identifier, Target, config, irq, map};
use xdma_emulator::logic::{Design, Loopback, Memory};
use xdma_emulator::{EmulatedCard, Options, Profile};

const WILD: [u64; 22] = [
    0,
    1,
    2,
    31,
    63,
    64,
    4095,
    4096,
    (1 << 28) - 1,
    1 << 28,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    (1 << 32) + 1,
    1 << 47,
    1 << 58,
    (1 << 58) + 1,
    1 << 59,
    1 << 63,
    u64::MAX - 31,
    u64::MAX - 1,
    u64::MAX,
];
const LEN: u64 = 4096;
const LIMIT: Duration = Duration::from_secs(20);

/// All ranges of wild numbers, reversed ones too.
fn ranges() -> impl Iterator<Item = Range<u64>> {
    WILD.into_iter().flat_map(|start| WILD.into_iter().map(move |end| start..end))
}

fn is_inside(range: &Range<u64>, len: u64) -> bool {
    range.start < range.end && range.end <= len
}

fn sizes(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn with_memory() -> Card {
    let options = Options { stream: false, ..Options::default() };
    xdma_emulated_card::start(options, Arc::new(Memory::new()), CardOptions::default()).unwrap()
}

fn with_msm() -> Card {
    xdma_emulated_card::start_msm(Profile::F1, CardOptions::default()).unwrap()
}

/// A buffer, a vector, and both from the view of a list of transfers.
fn check_memory(memory: &impl DmaMemory, direction: Direction) {
    for range in ranges() {
        let (mut bytes, inside) = (0, is_inside(&range, memory.byte_len()));
        let pieces = memory.pieces(range.clone(), &mut |piece| bytes += piece.len());
        assert_eq!(pieces.is_ok(), inside, "{range:?}");
        assert_eq!(bytes, if inside { range.end - range.start } else { 0 }, "{range:?}");
        assert!(memory.piece(range.clone()).is_none_or(|piece| piece.len() == bytes), "{range:?}");
        for card in WILD {
            let mut transfers = Transfers::new(direction);
            let fits = inside && card.checked_add(range.end - range.start).is_some();
            assert_eq!(transfers.add(memory, range.clone(), card).is_ok(), fits, "{range:?} at {card:#x}");
            assert_eq!(transfers.bytes() > 0, fits);
            assert!(transfers.lengths(card as usize).count() <= transfers.descriptors());
        }
    }
}

#[test]
fn memory_refuses_what_it_does_not_have() {
    let card = with_memory();
    let mut buffer = card.allocate(LEN, Direction::H2C).unwrap();
    let sink = card.allocate(LEN, Direction::C2H).unwrap();
    for offset in WILD {
        assert_eq!(buffer.write(offset, &[1u8; 2]).is_ok(), offset <= LEN - 2, "{offset:#x}");
        assert_eq!(sink.read(offset, &mut [0u8; 2]).is_ok(), offset <= LEN - 2, "{offset:#x}");
        assert_eq!(buffer.write::<u64>(offset, &[]).is_ok(), offset <= LEN, "{offset:#x}");
    }
    check_memory(&buffer, Direction::H2C);
    check_memory(&sink, Direction::C2H);
    let registered = card.register(vec![7u64; 512], Direction::C2H).unwrap();
    for first in WILD {
        let read = registered.read(first as usize, &mut [0; 2]);
        assert_eq!(read.is_ok(), first <= 510, "{first:#x}");
    }
    check_memory(&registered, Direction::C2H);
    let (mut channel, mut slice) = (card.c2h(0).unwrap(), vec![0u32; 1024]);
    channel
        .scope(LIMIT, |scope| -> Result<(), EngineError> {
            check_memory(&*scope.lend_mut(&mut slice)?, Direction::C2H);
            Ok(())
        })
        .unwrap();
}

#[test]
fn nothing_allocates_more_than_there_is() {
    let card = with_memory();
    let msm = with_msm();
    for len in WILD.into_iter().filter(|&len| !(1..1 << 32).contains(&len)) {
        if len < 1 << 47 && len > 0 {
            continue;
        }
        for direction in [Direction::H2C, Direction::C2H] {
            assert!(card.allocate(len, direction).is_err(), "{len:#x}");
        }
        let points = Points::allocate(&msm, len as usize);
        assert_eq!(points.is_ok(), len == 0, "{len:#x}");
        let scalars = Scalars::allocate(&msm, len as usize, ScalarForm::Canonical);
        assert_eq!(scalars.is_ok(), len == 0, "{len:#x}");
    }
    for node in WILD {
        for pages in
            [HugePages::Prefer, HugePages::Require(PageSize::Base), HugePages::Require(PageSize::Huge1G)]
        {
            let options = CardOptions { node: Some(node as u32), pages, ..CardOptions::default() };
            let card =
                xdma_emulated_card::start(Options::default(), Design::Memory.build(), options).unwrap();
            let _ = card.allocate(LEN, Direction::H2C);
        }
    }
}

#[test]
fn channels_start_nothing_that_is_not_there() {
    let card = with_memory();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let mut channel = card.h2c(0).unwrap();
    let mut pool = Pool::new(vec![card.h2c(1).unwrap(), card.h2c(2).unwrap()]).unwrap();
    for range in ranges() {
        for address in WILD {
            let fits = is_inside(&range, LEN) && address.checked_add(range.end - range.start).is_some();
            if fits {
                continue;
            }
            assert!(channel.submit(&source, range.clone(), address).is_err(), "{range:?} at {address:#x}");
            assert!(pool.submit(&source, range.clone(), address).is_err(), "{range:?} at {address:#x}");
        }
    }
    assert_eq!(channel.in_flight(), 0);
    channel.transfer(&source, 0..LEN, 0, Duration::MAX).unwrap();
    pool.transfer(&source, 0..LEN, 0, Duration::MAX).unwrap();
}

#[test]
fn options_of_any_size_open_or_are_refused() {
    let card = with_memory();
    for number in WILD {
        let number = number as usize;
        let options = ChannelOptions { slots: number, ..ChannelOptions::default() };
        let channel = card.channel(Direction::H2C, number, options);
        assert_eq!(channel.is_ok(), number < 4, "{number:#x}");
        assert!(card.c2h(number).is_ok() == (number < 4) && card.stream_h2c(number, options).is_err());
        for source in [Source::User(number), Source::Channel(Direction::H2C, number)] {
            let most = if matches!(source, Source::User(_)) { 16 } else { 4 };
            assert_eq!(card.interrupt(source).is_ok(), number < most, "{source}");
        }
    }
    // All of a time: the wait ends as soon as the transfer does.
    let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    channel.transfer(&source, 0..LEN, 0, Duration::MAX).unwrap();
    drop((channel, source, card));
    for bar in WILD {
        let bar = bar as usize;
        for options in [
            CardOptions { register_bar: Some(bar), ..CardOptions::default() },
            CardOptions { user_bar: Some(bar), ..CardOptions::default() },
            CardOptions { node: Some(bar as u32), idle_limit: Duration::MAX, ..CardOptions::default() },
        ] {
            let _ = xdma_emulated_card::start(Options::default(), Arc::new(Memory::new()), options);
        }
    }
}

#[test]
fn receivers_of_any_size_open_or_are_refused() {
    let streams = Options { stream: true, ..Options::default() };
    let emulated = EmulatedCard::start(streams, Arc::new(Loopback::new())).unwrap();
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let mut packet = card.allocate(64, Direction::H2C).unwrap();
    packet.write(0, &[3u8; 64]).unwrap();
    for number in WILD {
        for (buffers, bytes) in [(number as usize, 64), (4, number as u32)] {
            let wild = Discard { quiet: Duration::ZERO, limit: Duration::from_secs(number) };
            let options = ReceiverOptions {
                buffers,
                bytes,
                ahead: 0,
                discard: Some(wild),
                ..ReceiverOptions::default()
            };
            let Ok(receiver) = card.stream_c2h(0, options) else { continue };
            assert!((1..=256).contains(&buffers) && bytes % 64 == 0 && bytes > 0, "{buffers} of {bytes}");
            receiver.close().unwrap();
        }
    }
    let mut sender = card.stream_h2c(0, ChannelOptions::default()).unwrap();
    let options = ReceiverOptions { buffers: 2, bytes: 64, ahead: 1, ..ReceiverOptions::default() };
    let mut receiver = card.stream_c2h(0, options).unwrap();
    for range in ranges().filter(|range| !is_inside(range, 64)) {
        assert!(sender.send(&packet, range.clone()).is_err() && sender.send_part(&packet, range).is_err());
    }
    let ticket = sender.send(&packet, 0..64).unwrap();
    let received = receiver.wait(Duration::MAX).unwrap();
    sender.wait(ticket, LIMIT).unwrap();
    for offset in WILD {
        let read = receiver.read(&received, offset as usize, &mut [0; 2]);
        assert_eq!(read.is_ok(), offset <= 62, "{offset:#x}");
    }
    receiver.set_ahead(0).unwrap();
    receiver.give_back(received).unwrap();
}

#[test]
fn msm_ranges_stay_in_their_elements() {
    const COUNT: usize = 100;
    let card = with_msm();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points =
        [Points::allocate(&card, COUNT), Points::register(&card, vec![[0; 64]; COUNT])].map(Result::unwrap);
    let scalars = [
        Scalars::allocate(&card, COUNT, ScalarForm::Canonical),
        Scalars::register(&card, vec![[0; 32]; COUNT], ScalarForm::Canonical),
    ]
    .map(Result::unwrap);
    let near = [0, 1, 99, 100, 101, 1 << 57, (1 << 58) + 1, (1 << 58) + 50, (1 << 59) + 3, u64::MAX];
    let near = near.into_iter().flat_map(|start| near.into_iter().map(move |end| start..end));
    for range in ranges().chain(near) {
        let (inside, elements) = (is_inside(&range, COUNT as u64), sizes(&range));
        for (points, scalars) in points.iter().zip(&scalars) {
            let mut transfers = Transfers::new(Direction::H2C);
            assert_eq!(points.add_to(&mut transfers, elements.clone()).is_ok(), inside, "{range:?}");
            let bytes = if inside { 64 * (range.end - range.start) } else { 0 };
            assert_eq!(transfers.bytes(), bytes, "{range:?}");
            let mut transfers = Transfers::new(Direction::H2C);
            let added = scalars.add_to(&mut transfers, elements.clone());
            assert!(inside || added.is_err(), "{range:?}");
            if added.is_ok() {
                assert_eq!(
                    transfers.bytes(),
                    (32 * (range.end - range.start)).next_multiple_of(64),
                    "{range:?}"
                );
            }
            let whole = 0..COUNT;
            let job = msm.prepare_range(points, elements.clone(), scalars, whole.clone());
            assert_eq!(job.is_ok(), elements == whole, "{range:?}");
            let job = msm.prepare_range(points, elements.clone(), scalars, elements.clone());
            assert!(job.is_err() || range.start <= range.end && range.end <= COUNT as u64, "{range:?}");
        }
    }
    for pairs in WILD.into_iter().filter(|&pairs| pairs > 1 << 28) {
        let started = msm.start(pairs as u32, ScalarForm::Canonical);
        assert!(pairs as u32 <= msm.design().max_pairs || matches!(started, Err(MsmError::TooMany { .. })));
        let _ = msm.recover();
    }
    for label in WILD {
        msm.set_label(label as u32);
        let ticket = msm.submit(&msm.prepare_range(&points[0], 0..0, &scalars[0], 0..0).unwrap()).unwrap();
        assert_eq!(msm.wait(ticket, Duration::MAX).unwrap().label, label as u32);
    }
    drop(msm);
    for number in WILD {
        let (channel, chunk) = (number as usize, Some(number as u32));
        for options in [
            MsmOptions { h2c: channel, ..MsmOptions::default() },
            MsmOptions { c2h: channel, ..MsmOptions::default() },
            MsmOptions { chunk, ..MsmOptions::default() },
        ] {
            let Ok(msm) = Msm::open(&card, options) else { continue };
            assert!(channel < 4 || msm.chunk() <= msm.design().scalar_depth);
        }
    }
}

#[test]
fn registers_outside_of_their_bar_are_refused() {
    let card = with_msm();
    let (user, bar) = (card.user().unwrap(), card.register_bar());
    for offset in WILD {
        let aligned = offset.is_multiple_of(4);
        let inside = |size: u64| aligned && offset.checked_add(4).is_some_and(|end| end <= size);
        assert_eq!(bar.read32(offset).is_ok(), inside(bar.size()), "{offset:#x}");
        assert!(inside(bar.size()) || bar.write32(offset, 0).is_err());
        let register = offset as u32;
        assert!(offset > u32::MAX.into() || user.read(register).is_ok() == inside(user.size()));
    }
    let emulated = EmulatedCard::start(Options::default(), Design::Memory.build()).unwrap();
    let bus = xdma::bus::vfio_user::VfioUser::connect(emulated.socket()).unwrap();
    for number in WILD {
        let _ = bus.bar(number as usize);
        for width in [0, 1, 2, 3, 4, 8, 255] {
            let _ = bus.config_read(number as u16, width);
            let _ = bus.config_write(number as u16, width, 0).is_err();
        }
    }
}

#[test]
fn pure_functions_take_any_number() {
    for number in WILD {
        let (small, size, byte) = (number as u32, number as usize, number as u8);
        for direction in [Direction::H2C, Direction::C2H] {
            assert_eq!(regs::common_bit(direction, size) != 0, size < 4);
        }
        assert!(Target::C2HSgdma.base(size) < 0x8000);
        assert!(Identifier(small).is(Target::H2C, size) <= (size < 16));
        let _ = Identifier::new(Target::H2C, size, true);
        assert!(config::size_bytes(small).is_power_of_two() && config::data_width_bytes(small) <= 64);
        let _ = irq::pack_vectors([byte; 4]);
        let blocks = map::Block::of_core(size, size);
        assert!(blocks.len() <= 2 * 8 + 3);
        let fields = blocks.iter().flat_map(|block| block.registers).flat_map(|register| register.fields);
        assert!(fields.into_iter().all(|field| field.of(small) <= small || field.flag));
        let empty = map::Field { name: "", mask: 0, flag: false, bytes: None };
        assert_eq!(empty.of(small), 0);
        let segment = Segment { source: number, destination: number, length: small };
        let flags = Flags::from_bits_retain(small);
        let descriptor = Descriptor {
            flags,
            next_adjacent: byte,
            length: small,
            source: number,
            destination: number,
            next: number,
        };
        let known = Descriptor::from_words(descriptor.to_words()).unwrap();
        assert_eq!((known.source, known.next, descriptor.to_quads()[1]), (number, number, number));
        // The last descriptors that there can be.
        let list = List::new(u64::MAX - 63, 2, End::Stop, Adjacency::Blocks);
        assert_eq!(list.descriptor(0, segment, flags).next, u64::MAX - 31);
    }
}

#[test]
fn lists_that_cannot_be_are_refused_when_they_are_made() {
    let list = |base, len| std::panic::catch_unwind(|| List::new(base, len, End::Closed, Adjacency::Blocks));
    for base in WILD {
        for len in WILD {
            let end = (len as u128).checked_mul(32).map(|bytes| bytes + u128::from(base));
            let fits = base.is_multiple_of(32) && len > 0 && end.is_some_and(|end| end <= 1 << 64);
            let Ok(list) = list(base, len as usize) else {
                assert!(!fits, "{len} from {base:#x}");
                continue;
            };
            assert!(fits, "{len} from {base:#x}");
            let segment = Segment { source: 0, destination: 0, length: 1 };
            for index in WILD {
                let made = std::panic::catch_unwind(|| {
                    (list.address(index as usize), list.descriptor(index as usize, segment, Flags::empty()))
                });
                assert_eq!(made.is_ok(), index < len, "{index} of {len}");
                assert!(made.is_err() || made.is_ok_and(|made| made.0 >= base && made.1.next >= base));
            }
        }
    }
}

#[test]
fn shares_and_counts_are_any_number() {
    let card = with_memory();
    let mut channel = card.h2c(0).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let shares = [f64::NAN, f64::INFINITY, -f64::INFINITY, -1.0, 0.0, 0.5, 1.0, 1e300, f64::MIN_POSITIVE];
    assert!(
        shares.iter().all(|&share| channel.latencies().is_none_or(|all| all.percentile(share).is_none()))
    );
    channel.transfer(&source, 0..LEN, 0, LIMIT).unwrap();
    // A build that counts nothing has none.
    if let Some(latencies) = channel.latencies() {
        let some = latencies.count() > 0;
        assert!(shares.iter().all(|&share| latencies.percentile(share).is_some() == some));
        assert_eq!(latencies.since(&latencies).count(), 0);
    }
    let error = channel.submit(&source, Range { start: 1, end: 0 }, 0).unwrap_err();
    let is_empty = matches!(&error, EngineError::Memory(error) if matches!(**error, MemoryError::Empty));
    assert!(is_empty || matches!(error, EngineError::Empty), "{error}");
}
