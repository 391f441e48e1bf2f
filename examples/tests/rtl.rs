//! The emulated card with the simulated design behind it: several writes under way at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma::regs::msm::*;
use xdma_emulator::logic::{Answer, Burst, Logic, PCIS_ID, Rtl, Shell, Variant};

const PAGE: usize = 4096;

/// What the design tells its shell.
#[derive(Default)]
struct Told(Mutex<usize>);

impl Shell for Told {
    fn progress(&self) {
        *self.0.lock().unwrap() += 1;
    }

    fn user_irq(&self, _: usize, _: bool) {}
}

fn design() -> (Rtl, Arc<Told>) {
    let (design, told) = (Rtl::new(Variant::Stub), Arc::new(Told::default()));
    design.attach(told.clone());
    (design, told)
}

fn write(design: &Rtl, channel: usize, address: u64, byte: u8) -> Answer {
    let mut page = [byte; PAGE];
    design.write(channel, address, Burst::Increment, &VolatileSlice::from(&mut page[..]))
}

/// What `what` says once it does not say Wait.
fn patiently(mut what: impl FnMut() -> Answer) -> Answer {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match what() {
            Answer::Wait => assert!(Instant::now() < end, "no answer in a minute"),
            answer => return answer,
        }
        std::thread::yield_now();
    }
}

#[test]
fn thirty_two_writes_are_taken_and_the_next_waits_for_a_response() {
    let (design, told) = design();
    // 17 bursts fill the FIFO of 1,024 points and one more; nobody takes them.
    for _ in 0..32 {
        assert_eq!(write(&design, 0, POINT_WINDOW, 1), Answer::Accepted);
    }
    for _ in 0..16 {
        assert_eq!(patiently(|| design.response(0)), Answer::Okay(0));
    }
    for _ in 0..16 {
        assert_eq!(patiently(|| write(&design, 0, POINT_WINDOW, 1)), Answer::Accepted);
    }
    assert_eq!(write(&design, 0, POINT_WINDOW, 1), Answer::Wait);
    assert_eq!(write(&design, 1, SCRATCH_WINDOW, 2), Answer::Wait, "the limit is that of all channels");
    assert_eq!(design.response(0), Answer::Wait);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(design.response(0), Answer::Wait);
    // Addresses stop when the design's queue of 32 is nearly full, as on F1.
    let most = design.most_outstanding();
    assert!((24..=32).contains(&most), "{most} under way");
    let before = *told.0.lock().unwrap();
    design.user_write(0, u64::from(CTRL), Ctrl::FLUSH.bits());
    for _ in 0..32 {
        assert_eq!(
            patiently(|| {
                // The second half fills the FIFO again.
                if design.user_read(0, u64::from(POINTS_IN_FIFO)) == 1024 {
                    design.user_write(0, u64::from(CTRL), Ctrl::FLUSH.bits());
                }
                design.response(0)
            }),
            Answer::Okay(0)
        );
    }
    assert!(*told.0.lock().unwrap() > before, "who waits is told");
    assert_eq!(patiently(|| write(&design, 1, SCRATCH_WINDOW, 2)), Answer::Accepted);
}

#[test]
fn errors_come_in_their_place_and_to_their_channel() {
    let (design, _) = design();
    let at = [SCRATCH_WINDOW, RESULT_WINDOW, SCRATCH_WINDOW + 4096, 0x6000_0000, SCRATCH_WINDOW + 8192];
    for (number, address) in at.into_iter().enumerate() {
        assert_eq!(write(&design, 2, address, number as u8), Answer::Accepted);
        assert_eq!(write(&design, PCIS_ID, SCRATCH_WINDOW + 0x8000, 9), Answer::Accepted);
    }
    let answers: Vec<_> = (0..5).map(|_| patiently(|| design.response(2))).collect();
    let (okay, slave, decode) = (Answer::Okay(0), Answer::SlaveError, Answer::DecodeError);
    assert_eq!(answers, [okay, slave, okay, decode, okay]);
    assert!((0..5).all(|_| patiently(|| design.response(PCIS_ID)) == okay));
    assert_eq!(design.user_read(0, u64::from(REFUSED_WRITES)), 2);
    assert!(design.most_outstanding() > 1);
    let mut page = [0; PAGE];
    let view = VolatileSlice::from(&mut page[..]);
    assert_eq!(design.read(0, SCRATCH_WINDOW + 4096, Burst::Increment, &view), Answer::Okay(PAGE));
    assert_eq!(page, [2; PAGE]);
}

#[test]
fn what_is_forgotten_or_reset_is_never_answered() {
    let (design, _) = design();
    (0..4).for_each(|_| assert_eq!(write(&design, 0, RESULT_WINDOW, 1), Answer::Accepted));
    design.forget(0);
    assert_eq!(write(&design, 0, SCRATCH_WINDOW, 1), Answer::Accepted);
    assert_eq!(
        patiently(|| design.response(0)),
        Answer::Okay(0),
        "its own response, no error of those before"
    );
    for _ in 0..20 {
        assert_eq!(write(&design, 0, POINT_WINDOW, 1), Answer::Accepted);
    }
    design.reset();
    for _ in 0..32 {
        assert_eq!(write(&design, 0, SCRATCH_WINDOW, 1), Answer::Accepted, "nothing is under way");
    }
    assert!((0..32).all(|_| patiently(|| design.response(0)) == Answer::Okay(0)));
    assert_eq!(design.user_read(0, u64::from(POINTS_IN_FIFO)), 0);
}
