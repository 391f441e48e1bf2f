//! The simulated MSM design as the emulated card's logic, with several writes in progress.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;
use xdma::regs::msm::*;
use xdma_emulator::logic::{AxiResponse, Burst, Logic, PCIS_ID, Rtl, Shell, Variant};

const PAGE: usize = 4096;

/// Counts the progress notifications of the design.
#[derive(Default)]
struct CountingShell(Mutex<usize>);

impl Shell for CountingShell {
    fn progress(&self) {
        *self.0.lock().unwrap() += 1;
    }

    fn user_irq(&self, _: usize, _: bool) {}
}

fn design() -> (Rtl, Arc<CountingShell>) {
    let (design, shell) = (Rtl::new(Variant::Stub), Arc::new(CountingShell::default()));
    design.attach(shell.clone());
    (design, shell)
}

fn write(design: &Rtl, channel: usize, address: u64, byte: u8) -> AxiResponse {
    let mut page = [byte; PAGE];
    design.write(channel, address, Burst::Increment, &VolatileSlice::from(&mut page[..]))
}

/// Repeats a call while it returns `Wait`, and returns its final response.
fn until_ready(mut call: impl FnMut() -> AxiResponse) -> AxiResponse {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match call() {
            AxiResponse::Wait => assert!(Instant::now() < end, "no response within a minute"),
            response => return response,
        }
        std::thread::yield_now();
    }
}

#[test]
fn thirty_two_writes_are_accepted_and_the_next_one_waits_for_a_response() {
    let (design, shell) = design();
    // 16 bursts fill the 1,024-point FIFO, since nothing consumes them.
    for _ in 0..32 {
        assert_eq!(write(&design, 0, POINT_WINDOW, 1), AxiResponse::Accepted);
    }
    for _ in 0..16 {
        assert_eq!(until_ready(|| design.response(0)), AxiResponse::Okay(0));
    }
    for _ in 0..16 {
        assert_eq!(until_ready(|| write(&design, 0, POINT_WINDOW, 1)), AxiResponse::Accepted);
    }
    assert_eq!(write(&design, 0, POINT_WINDOW, 1), AxiResponse::Wait);
    assert_eq!(
        write(&design, 1, SCRATCH_WINDOW, 2),
        AxiResponse::Wait,
        "the limit is shared by all channels"
    );
    assert_eq!(design.response(0), AxiResponse::Wait);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(design.response(0), AxiResponse::Wait);
    // The design stops accepting addresses when its queue of 32 is nearly full, as on F1.
    let most = design.most_outstanding();
    assert!((24..=32).contains(&most), "{most} outstanding");
    let before = *shell.0.lock().unwrap();
    design.user_write(0, u64::from(CTRL), Ctrl::FLUSH.bits());
    for _ in 0..32 {
        assert_eq!(
            until_ready(|| {
                // The second half fills the FIFO again.
                if design.user_read(0, u64::from(POINTS_IN_FIFO)) == 1024 {
                    design.user_write(0, u64::from(CTRL), Ctrl::FLUSH.bits());
                }
                design.response(0)
            }),
            AxiResponse::Okay(0)
        );
    }
    assert!(*shell.0.lock().unwrap() > before, "the shell is notified of progress");
    assert_eq!(until_ready(|| write(&design, 1, SCRATCH_WINDOW, 2)), AxiResponse::Accepted);
}

#[test]
fn error_responses_arrive_in_order_and_on_their_own_channel() {
    let (design, _) = design();
    let at = [SCRATCH_WINDOW, RESULT_WINDOW, SCRATCH_WINDOW + 4096, 0x6000_0000, SCRATCH_WINDOW + 8192];
    for (number, address) in at.into_iter().enumerate() {
        assert_eq!(write(&design, 2, address, number as u8), AxiResponse::Accepted);
        assert_eq!(write(&design, PCIS_ID, SCRATCH_WINDOW + 0x8000, 9), AxiResponse::Accepted);
    }
    let responses: Vec<_> = (0..5).map(|_| until_ready(|| design.response(2))).collect();
    let (okay, slave, decode) = (AxiResponse::Okay(0), AxiResponse::SlaveError, AxiResponse::DecodeError);
    assert_eq!(responses, [okay, slave, okay, decode, okay]);
    assert!((0..5).all(|_| until_ready(|| design.response(PCIS_ID)) == okay));
    assert_eq!(design.user_read(0, u64::from(REFUSED_WRITES)), 2);
    assert!(design.most_outstanding() > 1);
    let mut page = [0; PAGE];
    let view = VolatileSlice::from(&mut page[..]);
    assert_eq!(design.read(0, SCRATCH_WINDOW + 4096, Burst::Increment, &view), AxiResponse::Okay(PAGE));
    assert_eq!(page, [2; PAGE]);
}

#[test]
fn discarded_and_reset_writes_get_no_response() {
    let (design, _) = design();
    (0..4).for_each(|_| assert_eq!(write(&design, 0, RESULT_WINDOW, 1), AxiResponse::Accepted));
    design.discard_responses(0);
    assert_eq!(write(&design, 0, SCRATCH_WINDOW, 1), AxiResponse::Accepted);
    assert_eq!(
        until_ready(|| design.response(0)),
        AxiResponse::Okay(0),
        "its own response, not an error of an earlier write"
    );
    for _ in 0..20 {
        assert_eq!(write(&design, 0, POINT_WINDOW, 1), AxiResponse::Accepted);
    }
    design.reset();
    for _ in 0..32 {
        assert_eq!(write(&design, 0, SCRATCH_WINDOW, 1), AxiResponse::Accepted, "nothing is outstanding");
    }
    assert!((0..32).all(|_| until_ready(|| design.response(0)) == AxiResponse::Okay(0)));
    assert_eq!(design.user_read(0, u64::from(POINTS_IN_FIFO)), 0);
}
