//! Submitting and polling do not allocate, once the channel has warmed up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{ChannelOptions, Poll, Pool, Ring, Transfers};
use xdma::memory::DmaMemory;
use xdma::regs::Direction;
use xdma::unstable::card::registers;
use xdma_emulator::logic::{Loopback, Memory};
use xdma_emulator::{EmulatorOptions, Switches};
use xdma_instructions::Plain;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of the calls of each thread.
struct Counting;

// SAFETY: all calls are forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the number of calls of the allocator while `job` runs a hundred times, after ten runs to warm up.
fn calls(mut job: impl FnMut()) -> u64 {
    (0..10).for_each(|_| job());
    let before = CALLS.get();
    (0..100).for_each(|_| job());
    CALLS.get() - before
}

#[test]
fn calls_of_the_allocator_are_counted() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 200);
}

#[test]
fn running_and_polling_a_program_allocates_nothing() {
    for ring in [Ring::Chain, Ring::Credits] {
        let mut plain = Plain::new(ring);
        let program = plain.program(100);
        let run = || {
            let ticket = plain.channel.run(&program).unwrap();
            assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Pending);
            plain.complete(200);
            assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
        };
        assert_eq!(calls(run), 0, "{ring}");
    }
}

#[test]
fn submitting_and_polling_a_transfer_allocates_nothing() {
    for ring in [Ring::Chain, Ring::Credits] {
        let mut plain = Plain::new(ring);
        let submit = || {
            let ticket = plain.channel.submit(&plain.scalars, 64..4096, 0x1000).unwrap();
            assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Pending);
            plain.complete(1);
            assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
        };
        assert_eq!(calls(submit), 0, "{ring}");
    }
}

/// This includes C2H lists, which are checked for overlapping memory.
#[test]
fn submitting_lists_of_several_pieces_allocates_nothing() {
    for direction in [Direction::H2C, Direction::C2H] {
        for ring in [Ring::Chain, Ring::Credits] {
            let mut plain = Plain::of(ring, direction);
            // In reverse order, so that the check must sort them.
            let mut list = Transfers::new(direction);
            for at in (0..100u64).rev() {
                list.add(&plain.points, at * 1000..at * 1000 + 500, 0x1000 * at).unwrap();
            }
            let start = || {
                let ticket = plain.channel.start(&list).unwrap();
                assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Pending);
                plain.complete(100);
                assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
            };
            assert_eq!(calls(start), 0, "{direction}, {ring}");
        }
    }
}

/// Registered memory consists of several pieces for the card. Already the first transfer allocates nothing.
#[test]
fn submitting_scattered_memory_allocates_nothing() {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut plain = Plain::of(Ring::Credits, direction);
        // Whole pages, and the parts before and after them.
        let vector = plain.space.register(vec![0u8; 100_000], plain.scalars.access()).unwrap();
        let mut list = Transfers::new(direction);
        list.add(&vector, 0..100_000, 0).unwrap();
        let descriptors = list.descriptors();
        assert!(descriptors > 1);
        drop(list);
        let before = CALLS.get();
        let ticket = plain.channel.submit(&vector, 0..100_000, 0).unwrap();
        assert_eq!(CALLS.get() - before, 0, "{direction}");
        plain.complete(descriptors as u32);
        assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
    }
}

#[test]
fn submitting_to_a_pool_allocates_nothing() {
    let card = xdma_emulated_card::start(
        EmulatorOptions::default(),
        Arc::new(Memory::new()),
        CardOptions::default(),
    )
    .unwrap();
    let options = ChannelOptions { ring: Some(Ring::Credits), ..ChannelOptions::default() };
    let open = |index| card.channel(Direction::H2C, index, options).unwrap();
    let mut pool = Pool::new(vec![open(0), open(1)]).unwrap();
    let buffer = card.allocate(400_000, Direction::H2C).unwrap();
    let mut submit = || {
        let before = CALLS.get();
        let ticket = pool.submit(&buffer, 0..400_000, 0).unwrap();
        let calls = CALLS.get() - before;
        pool.wait(ticket, Duration::from_secs(20)).unwrap();
        calls
    };
    submit();
    let registers = registers(&card);
    // Over a socket, each doorbell allocates a message.
    let doorbells = calls(|| (0..2).for_each(|_| registers.write32(0x408c, 0).unwrap())) / 100;
    for _ in 0..100 {
        assert_eq!(submit(), doorbells);
    }
    assert!(pool.channels().all(|channel| channel.stats().submitted > 100));
}

#[test]
fn receiving_allocates_nothing() {
    let switches = Switches { stop_ends_idle_stream: true.into(), ..Switches::default() };
    let options = EmulatorOptions::default().with_streams().with_switches(switches);
    let card = xdma_emulated_card::start(options, Arc::new(Loopback::new()), CardOptions::default()).unwrap();
    let mut sender = card.stream_h2c(0, ChannelOptions::default()).unwrap();
    let mut receiver = card.stream_c2h(0, ReceiverOptions::default()).unwrap();
    let buffer = card.allocate(100, Direction::H2C).unwrap();
    let receive = || {
        sender.send(&buffer, 0..100).unwrap();
        let received = loop {
            if let Some(received) = receiver.poll().unwrap() {
                break received;
            }
        };
        receiver.read(&received, 0, &mut [0; 100]).unwrap();
        receiver.recycle(received).unwrap();
    };
    // A packet takes two writes of credits, one for the descriptor and one for the buffer. Over a socket, each write allocates a
    // message.
    let registers = registers(&card);
    let credits = || (0..2).for_each(|_| registers.write32(0x408c, 0).unwrap());
    let messages = calls(credits);
    assert_eq!(calls(receive), messages);
}
