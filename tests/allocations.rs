//! Submitting and polling allocate nothing, once the channel has warmed up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma::channel::stream::ReceiverOptions;
use xdma::channel::{ChannelOptions, Poll, Pool, Ring, Transfers};
use xdma::memory::DmaMemory;
use xdma::regs::Direction;
use xdma_emulator::logic::{Loopback, Memory};
use xdma_emulator::{Options, Switches};
use xdma_instructions::Plain;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of the current thread's calls.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: our caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator while `what` runs a hundred times, after ten times that do not count.
fn calls(mut what: impl FnMut()) -> u64 {
    (0..10).for_each(|_| what());
    let before = CALLS.get();
    (0..100).for_each(|_| what());
    CALLS.get() - before
}

#[test]
fn the_counter_counts() {
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

/// Also for lists that are compared with themselves, since the card writes what they name.
#[test]
fn submitting_lists_of_several_pieces_allocates_nothing() {
    for direction in [Direction::H2C, Direction::C2H] {
        for ring in [Ring::Chain, Ring::Credits] {
            let mut plain = Plain::of(ring, direction);
            // Back to front, so that there is something to sort.
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

/// Memory of the caller's that is in several pieces for the card, from the first transfer on.
#[test]
fn submitting_scattered_memory_allocates_nothing() {
    for direction in [Direction::H2C, Direction::C2H] {
        let mut plain = Plain::of(Ring::Credits, direction);
        // Whole pages, and what is before and behind them.
        let vector = plain.space.register(vec![0u8; 100_000], plain.scalars.access()).unwrap();
        let mut pieces = 0;
        vector.pieces(0..100_000, &mut |_| pieces += 1).unwrap();
        assert!(pieces > 1);
        let before = CALLS.get();
        let ticket = plain.channel.submit(&vector, 0..100_000, 0).unwrap();
        assert_eq!(CALLS.get() - before, 0, "{direction}");
        plain.complete(pieces);
        assert_eq!(plain.channel.poll(ticket).unwrap(), Poll::Ready);
    }
}

/// The parts of a transfer that a pool spreads.
#[test]
fn submitting_to_a_pool_allocates_nothing() {
    let card = xdma_emulated_card::start(Options::default(), Arc::new(Memory::new()), CardOptions::default())
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
    let registers = card.register_bar();
    // Over a socket each doorbell is a message.
    let doorbells = calls(|| (0..2).for_each(|_| registers.write32(0x408c, 0).unwrap())) / 100;
    for _ in 0..100 {
        assert_eq!(submit(), doorbells);
    }
    assert!(pool.channels().all(|channel| channel.stats().submitted > 100));
}

#[test]
fn receiving_allocates_nothing() {
    let switches = Switches { stop_ends_idle_stream: true, ..Switches::default() };
    let options = Options { stream: true, switches, ..Options::default() };
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
        receiver.give_back(received).unwrap();
    };
    // Credits for a descriptor and for a buffer: over a socket each such write is a message.
    let registers = card.register_bar();
    let credits = || (0..2).for_each(|_| registers.write32(0x408c, 0).unwrap());
    let messages = calls(credits);
    assert_eq!(calls(receive), messages);
}
