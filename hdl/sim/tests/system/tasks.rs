//! Task and result queues, labels, abort, reset and interrupts.

use crate::bench::{Bench, Pairs};
use xdma_regs::msm::*;
use xdma_rtl::Variant;

#[test]
fn tasks_back_to_back_keep_order_labels_and_modes() {
    let mut bench = Bench::new(Variant::Small);
    let tasks = [(Pairs::random(301, 1), Mode::empty()), (Pairs::random(77, 2), Mode::MONTGOMERY)];
    bench.wait(ENGINE_READY, 1);
    bench.set(LABEL, 0xffff_ffff);
    for (pairs, mode) in &tasks {
        bench.push(pairs.scalars.len(), *mode);
    }
    assert_eq!(bench.get(PENDING_TASKS), 2);
    assert_eq!(bench.get(ENGINE_READY), 0);
    assert_eq!(bench.get(STATUS), (Status::BUSY | Status::TASKS_FULL).bits());
    assert_eq!(bench.get(ERRORS), 0);
    bench.push(1, Mode::empty());
    assert_eq!(bench.get(ERRORS), Errors::OVERRUN.bits());
    for (pairs, mode) in &tasks {
        bench.feed(pairs, *mode);
    }
    bench.wait(PENDING_RESULTS, 2);
    for (label, (pairs, _)) in [0xffff_ffff, 0].into_iter().zip(&tasks) {
        assert_eq!(bench.result(), (pairs.sum(), label));
    }
    assert_eq!(bench.get(TASK_LABEL), 1);
    bench.set(POP_RESULT, 1);
    assert_eq!(bench.get(ERRORS), (Errors::OVERRUN | Errors::UNDERRUN).bits());
}

#[test]
fn a_full_result_queue_holds_back_the_core() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(3, 3);
    for _ in 0..3 {
        bench.wait(ENGINE_READY, 1);
        bench.push(3, Mode::empty());
        bench.feed(&pairs, Mode::empty());
    }
    bench.wait(PENDING_RESULTS, 2);
    bench.master.idle(100_000);
    assert_eq!((bench.get(PENDING_TASKS), bench.get(FINAL_ACCUMULATION)), (1, 0));
    for label in 0..3 {
        assert_eq!(bench.result(), (pairs.sum(), label));
    }
    assert_eq!(bench.get(PENDING_TASKS), 0);
}

#[test]
fn data_may_arrive_before_its_task() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(9, 4);
    bench.feed(&pairs, Mode::MONTGOMERY);
    assert!(bench.master.finish(1000));
    assert_eq!((bench.get(SCALARS_IN_FIFO), bench.get(POINTS_IN_FIFO)), (10, 9));
    assert_eq!((bench.get(FREE_SCALARS), bench.get(FREE_POINTS)), (1014, 1015));
    bench.push(9, Mode::MONTGOMERY);
    assert_eq!(bench.result().0, pairs.sum());
    for register in [PUSHED_SCALARS, PUSHED_POINTS, CONSUMED_SCALARS, CONSUMED_POINTS] {
        assert_eq!(bench.get64(register), 9);
    }
    assert_eq!((bench.get(HIGH_WATER_SCALARS), bench.get(HIGH_WATER_POINTS)), (10, 9));
}

#[test]
fn abort_drops_tasks_and_keeps_results() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(9, 12);
    bench.push(9, Mode::empty());
    bench.feed(&pairs, Mode::empty());
    bench.wait(RESULT_VALID, 1);
    bench.push(1000, Mode::empty());
    bench.push(1000, Mode::empty());
    bench.feed(&pairs, Mode::empty());
    bench.wait(ELEMENTS_LEFT, 991);
    bench.set(CTRL, Ctrl::ABORT.bits());
    assert_eq!((bench.get(PENDING_TASKS), bench.get(PENDING_RESULTS)), (0, 1));
    assert_eq!(
        bench.get(SCALARS_IN_FIFO),
        0,
        "the second half of a beat is dropped with the task that consumed the first"
    );
    assert_eq!(bench.get(ELEMENTS_LEFT), 0);
    assert_eq!(bench.result().0, pairs.sum());
    assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum());
}

/// The next task is correct regardless of the core's state at the abort.
#[test]
fn abort_at_any_time() {
    for variant in [Variant::Small, Variant::Halved] {
        let mut bench = Bench::new(variant);
        let (long, short) = (Pairs::random(100, 13), Pairs::random(3, 14));
        for delay in [0, 1, 2, 3, 5, 40, 333, 1201, 3000, 3400, 4101, 9000, 15_000, 30_011] {
            bench.push(100, Mode::MONTGOMERY);
            bench.feed(&long, Mode::MONTGOMERY);
            bench.master.idle(delay);
            assert_eq!(bench.get(PENDING_RESULTS), 0, "the reduction takes longer than {delay}");
            bench.abort_and_flush();
            assert_eq!(bench.run(&short, Mode::empty()), short.sum(), "{variant:?}, after {delay}");
            assert_eq!(bench.get(PENDING_RESULTS), 0);
        }
    }
}

#[test]
fn soft_reset_restores_the_power_up_state() {
    let mut bench = Bench::new(Variant::Small);
    fn registers(bench: &mut Bench) -> Vec<u32> {
        let stable = |r: &u32| *r < CYCLES || *r > CYCLES + 4;
        (0..0x300).step_by(4).filter(stable).map(|r| bench.get(r)).collect()
    }
    let fresh = registers(&mut bench);
    let pairs = Pairs::random(7, 15);
    bench.set(IRQ_ENABLE, 3);
    bench.set(WATCHDOG, 77);
    bench.run(&pairs, Mode::empty());
    bench.push(7, Mode::MONTGOMERY);
    bench.feed(&pairs, Mode::MONTGOMERY);
    bench.wait(RESULT_VALID, 1);
    bench.write(0, &[0; 64]);
    assert_ne!(registers(&mut bench), fresh);
    bench.set(CTRL, Ctrl::SOFT_RESET.bits());
    assert_eq!(registers(&mut bench), fresh);
    assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum());
    // Also while a task runs, with additions in flight.
    for delay in [10, 500, 3000, 10_000] {
        bench.push(7, Mode::empty());
        bench.feed(&pairs, Mode::empty());
        bench.master.idle(delay);
        bench.set(CTRL, Ctrl::SOFT_RESET.bits());
        assert!(bench.master.finish(1000));
        bench.set(CTRL, Ctrl::SOFT_RESET.bits());
        assert_eq!(bench.run(&pairs, Mode::empty()), pairs.sum());
    }
}

#[test]
fn identity_registers() {
    let mut bench = Bench::new(Variant::Full);
    assert_eq!(bench.get(IMAGE_ID), IMAGE_ID_VALUE);
    assert_eq!(bench.get(IMAGE_PARAMETERS), 0x0011_0c10);
    assert_eq!(bench.get(EXTENSION_ID), EXTENSION_ID_VALUE);
    assert_eq!(bench.get(EXTENSION_VERSION), 0x0001_0000);
    assert_eq!(bench.get(BUILD), 0x0001_140d);
    assert_eq!((bench.get(SCALAR_DEPTH), bench.get(POINT_DEPTH)), (1024, 1024));
    assert_eq!((bench.get(CLOCK_KHZ), bench.get(QUEUE_DEPTH)), (250_000, 0x0202));
    for unused in [0x010, 0x148, 0x2f0, 0x1000, 0x8000_0000] {
        bench.set(unused, u32::MAX);
        assert_eq!(bench.get(unused), 0);
    }
    for pairs in [0, bench.get(MAX_ELEMENTS) + 1] {
        bench.set(ERRORS, u32::MAX);
        bench.push(pairs as usize, Mode::empty());
        assert_eq!((bench.get(ERRORS), bench.get(PENDING_TASKS)), (Errors::OVERRUN.bits(), 0));
    }
    let before = bench.master.cycles();
    let first = bench.get64(CYCLES);
    bench.master.idle(1000);
    let (second, after) = (bench.get64(CYCLES), bench.master.cycles());
    assert!((1000..=after - before).contains(&(second - first)));
}

#[test]
fn a_result_raises_the_interrupt_until_it_is_acknowledged() {
    let mut bench = Bench::new(Variant::Small);
    let pairs = Pairs::random(2, 16);
    bench.run(&pairs, Mode::empty());
    assert!(!bench.master.irq(), "the interrupt is not enabled");
    assert_eq!(bench.get(IRQ_STATUS), Irq::RESULT.bits());
    bench.set(IRQ_STATUS, Irq::RESULT.bits());
    bench.set(IRQ_ENABLE, Irq::RESULT.bits());
    bench.push(2, Mode::empty());
    bench.feed(&pairs, Mode::empty());
    let mut clocks = 0;
    while !bench.master.irq() {
        clocks += bench.master.run(100_000);
        assert!(clocks < 1_000_000, "no interrupt");
    }
    assert_eq!(bench.get(RESULT_VALID), 1);
    bench.set(IRQ_STATUS, Irq::RESULT.bits());
    assert!(!bench.master.irq());
}
