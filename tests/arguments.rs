//! Extreme numbers for every public function that accepts a number: each call succeeds or returns an error, without a panic or
//! overflow.
//!
//! `cargo xtask test --full release` also runs these tests in a release build with overflow checks.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardOptions, Source};
use xdma::channel::stream::{Discard, ReceiverOptions};
use xdma::channel::{ChannelOptions, InvalidTransfer, Pool, SubmitError, Transfers, Wait};
use xdma::memory::{DmaMemory, HugePages, MemoryError, PageSize};
use xdma::msm::{Msm, MsmOptions, MsmSubmitError, Points, ScalarForm, Scalars};
use xdma::regs::{self, Direction, Identifier, Target, config, irq, map};
use xdma::unstable::bus::Bus;
use xdma::unstable::card::registers;
use xdma::unstable::descriptor::{Adjacency, Descriptor, End, Flags, List, Segment};
use xdma_emulator::logic::{Design, Loopback, Memory};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions};

const EXTREME: [u64; 22] = [
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

/// Returns all ranges between these numbers, including reversed ones.
fn ranges() -> impl Iterator<Item = Range<u64>> {
    EXTREME.into_iter().flat_map(|start| EXTREME.into_iter().map(move |end| start..end))
}

fn is_inside(range: &Range<u64>, len: u64) -> bool {
    range.start < range.end && range.end <= len
}

fn sizes(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn with_memory() -> Card {
    let options = EmulatorOptions::default();
    xdma_emulated_card::start(options, Arc::new(Memory::new()), CardOptions::default()).unwrap()
}

fn with_msm() -> Card {
    xdma_emulated_card::start_like(CardFile::f1(), CardOptions::default()).unwrap()
}

/// Checks the ranges and addresses that a list of transfers accepts.
fn check_transfers(memory: &impl DmaMemory, direction: Direction) {
    for range in ranges() {
        let inside = is_inside(&range, memory.byte_len());
        for card in EXTREME {
            let mut transfers = Transfers::new(direction);
            let fits = inside && card.checked_add(range.end - range.start).is_some();
            assert_eq!(transfers.add(memory, range.clone(), card).is_ok(), fits, "{range:?} at {card:#x}");
            assert_eq!(transfers.bytes(), if fits { range.end - range.start } else { 0 }, "{range:?}");
            assert_eq!(transfers.descriptors() > 0, fits, "{range:?} at {card:#x}");
        }
    }
}

#[test]
fn memory_rejects_ranges_out_of_bounds() {
    let card = with_memory();
    let mut buffer = card.allocate(LEN, Direction::H2C).unwrap();
    let sink = card.allocate(LEN, Direction::C2H).unwrap();
    for offset in EXTREME {
        assert_eq!(buffer.write(offset, &[1u8; 2]).is_ok(), offset <= LEN - 2, "{offset:#x}");
        assert_eq!(sink.read(offset, &mut [0u8; 2]).is_ok(), offset <= LEN - 2, "{offset:#x}");
        assert_eq!(buffer.write::<u64>(offset, &[]).is_ok(), offset <= LEN, "{offset:#x}");
    }
    check_transfers(&buffer, Direction::H2C);
    check_transfers(&sink, Direction::C2H);
    let registered = card.register(vec![7u64; 512], Direction::C2H).unwrap();
    for first in EXTREME {
        let read = registered.read(first as usize, &mut [0; 2]);
        assert_eq!(read.is_ok(), first <= 510, "{first:#x}");
    }
    check_transfers(&registered, Direction::C2H);
    let (mut channel, mut slice) = (card.c2h(0).unwrap(), vec![0u32; 1024]);
    channel
        .scope(LIMIT, |scope| -> Result<(), Box<dyn Error>> {
            check_transfers(&*scope.borrow_mut(&mut slice)?, Direction::C2H);
            Ok(())
        })
        .unwrap();
}

#[test]
fn impossible_allocations_are_refused() {
    let card = with_memory();
    let msm = with_msm();
    for len in EXTREME.into_iter().filter(|&len| !(1..1 << 32).contains(&len)) {
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
    for node in EXTREME {
        for pages in
            [HugePages::Prefer, HugePages::Require(PageSize::Base), HugePages::Require(PageSize::Huge1G)]
        {
            let options = CardOptions { node: Some(node as u32), pages, ..CardOptions::default() };
            let card = xdma_emulated_card::start(EmulatorOptions::default(), Design::Memory.build(), options)
                .unwrap();
            let _ = card.allocate(LEN, Direction::H2C);
        }
    }
}

#[test]
fn channels_reject_invalid_ranges_and_addresses() {
    let card = with_memory();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let mut channel = card.h2c(0).unwrap();
    let mut pool = Pool::new(vec![card.h2c(1).unwrap(), card.h2c(2).unwrap()]).unwrap();
    for range in ranges() {
        for address in EXTREME {
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
fn card_and_channel_options_accept_or_reject_any_number() {
    let card = with_memory();
    for number in EXTREME {
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
    // With the longest limit, the wait still ends as soon as the transfer does.
    let options = ChannelOptions { wait: Wait::Interrupt, ..ChannelOptions::default() };
    let mut channel = card.channel(Direction::H2C, 0, options).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    channel.transfer(&source, 0..LEN, 0, Duration::MAX).unwrap();
    drop((channel, source, card));
    for bar in EXTREME {
        let bar = bar as usize;
        for options in [
            CardOptions { register_bar: Some(bar), ..CardOptions::default() },
            CardOptions { user_bar: Some(bar), ..CardOptions::default() },
            CardOptions { node: Some(bar as u32), idle_limit: Duration::MAX, ..CardOptions::default() },
        ] {
            let _ = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), options);
        }
    }
}

#[test]
fn receiver_options_accept_or_reject_any_number() {
    let streams = EmulatorOptions::default().with_streams();
    let emulated = EmulatedCard::start(streams, Arc::new(Loopback::new())).unwrap();
    let card = xdma_emulated_card::connect(&emulated, CardOptions::default()).unwrap();
    let mut packet = card.allocate(64, Direction::H2C).unwrap();
    packet.write(0, &[3u8; 64]).unwrap();
    for number in EXTREME {
        for (buffers, bytes) in [(number as usize, 64), (4, number as u32)] {
            let extreme = Discard { quiet: Duration::ZERO, limit: Duration::from_secs(number) };
            let options = ReceiverOptions {
                buffers,
                bytes,
                max_posted: 0,
                discard: Some(extreme),
                ..ReceiverOptions::default()
            };
            let Ok(receiver) = card.stream_c2h(0, options) else { continue };
            assert!((1..=256).contains(&buffers) && bytes % 64 == 0 && bytes > 0, "{buffers} of {bytes}");
            receiver.close().unwrap();
        }
    }
    let mut sender = card.stream_h2c(0, ChannelOptions::default()).unwrap();
    let options = ReceiverOptions { buffers: 2, bytes: 64, max_posted: 1, ..ReceiverOptions::default() };
    let mut receiver = card.stream_c2h(0, options).unwrap();
    for range in ranges().filter(|range| !is_inside(range, 64)) {
        assert!(sender.send(&packet, range.clone()).is_err() && sender.send_part(&packet, range).is_err());
    }
    let ticket = sender.send(&packet, 0..64).unwrap();
    let received = receiver.wait(Duration::MAX).unwrap();
    sender.wait(ticket, LIMIT).unwrap();
    for offset in EXTREME {
        let read = receiver.read(&received, offset as usize, &mut [0; 2]);
        assert_eq!(read.is_ok(), offset <= 62, "{offset:#x}");
    }
    receiver.set_max_posted(0).unwrap();
    receiver.recycle(received).unwrap();
}

#[test]
fn msm_ranges_are_checked_against_the_elements() {
    const COUNT: usize = 100;
    let card = with_msm();
    let mut msm = Msm::open(&card, MsmOptions::default()).unwrap();
    let points =
        [Points::allocate(&card, COUNT).unwrap(), Points::register(&card, vec![[0u8; 64]; COUNT]).unwrap()];
    let scalars = [
        Scalars::allocate(&card, COUNT, ScalarForm::Canonical).unwrap(),
        Scalars::register(&card, vec![[0u8; 32]; COUNT], ScalarForm::Canonical).unwrap(),
    ];
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
    for pairs in EXTREME.into_iter().filter(|&pairs| pairs > 1 << 28) {
        let started = msm.start(pairs as u32, ScalarForm::Canonical);
        assert!(
            pairs as u32 <= msm.design().max_pairs || matches!(started, Err(MsmSubmitError::TooMany { .. }))
        );
        let _ = msm.recover();
    }
    for label in EXTREME {
        msm.set_label(label as u32);
        let ticket = msm.submit(&msm.prepare_range(&points[0], 0..0, &scalars[0], 0..0).unwrap()).unwrap();
        assert_eq!(msm.wait(ticket, Duration::MAX).unwrap().label, label as u32);
    }
    drop(msm);
    for number in EXTREME {
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
fn register_offsets_outside_a_bar_are_refused() {
    let card = with_msm();
    let (user, bar) = (card.user().unwrap(), registers(&card));
    for offset in EXTREME {
        let aligned = offset.is_multiple_of(4);
        let inside = |size: u64| aligned && offset.checked_add(4).is_some_and(|end| end <= size);
        assert_eq!(bar.read32(offset).is_ok(), inside(bar.size()), "{offset:#x}");
        assert!(inside(bar.size()) || bar.write32(offset, 0).is_err());
        let register = offset as u32;
        assert!(offset > u32::MAX.into() || user.read(register).is_ok() == inside(user.size()));
    }
    let emulated = EmulatedCard::start(EmulatorOptions::default(), Design::Memory.build()).unwrap();
    let bus = xdma::unstable::bus::vfio_user::VfioUser::connect(emulated.socket()).unwrap();
    for number in EXTREME {
        let _ = bus.bar(number as usize);
        for width in [0, 1, 2, 3, 4, 8, 255] {
            let _ = bus.config_read(number as u16, width);
            let _ = bus.config_write(number as u16, width, 0).is_err();
        }
    }
}

#[test]
fn pure_functions_accept_any_number() {
    for number in EXTREME {
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
        // The descriptors with the highest possible addresses.
        let list = List::new(u64::MAX - 63, 2, End::Stop, Adjacency::Blocks);
        assert_eq!(list.descriptor(0, segment, flags).next, u64::MAX - 31);
    }
}

#[test]
fn impossible_descriptor_lists_are_refused() {
    let list = |base, len| std::panic::catch_unwind(|| List::new(base, len, End::Closed, Adjacency::Blocks));
    for base in EXTREME {
        for len in EXTREME {
            let end = (len as u128).checked_mul(32).map(|bytes| bytes + u128::from(base));
            let fits = base.is_multiple_of(32) && len > 0 && end.is_some_and(|end| end <= 1 << 64);
            let Ok(list) = list(base, len as usize) else {
                assert!(!fits, "{len} from {base:#x}");
                continue;
            };
            assert!(fits, "{len} from {base:#x}");
            let segment = Segment { source: 0, destination: 0, length: 1 };
            for index in EXTREME {
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
fn percentiles_accept_any_share() {
    let card = with_memory();
    let mut channel = card.h2c(0).unwrap();
    let source = card.allocate(LEN, Direction::H2C).unwrap();
    let shares = [f64::NAN, f64::INFINITY, -f64::INFINITY, -1.0, 0.0, 0.5, 1.0, 1e300, f64::MIN_POSITIVE];
    assert!(
        shares.iter().all(|&share| channel.latencies().is_none_or(|all| all.percentile(share).is_none()))
    );
    channel.transfer(&source, 0..LEN, 0, LIMIT).unwrap();
    // A build without statistics has no latencies.
    if let Some(latencies) = channel.latencies() {
        let some = latencies.count() > 0;
        assert!(shares.iter().all(|&share| latencies.percentile(share).is_some() == some));
        assert_eq!(latencies.since(&latencies).count(), 0);
    }
    let error = channel.submit(&source, Range { start: 1, end: 0 }, 0).unwrap_err();
    let is_empty = matches!(error, SubmitError::Invalid(InvalidTransfer::Memory(MemoryError::Empty)));
    assert!(is_empty || matches!(error, SubmitError::Empty), "{error}");
}
