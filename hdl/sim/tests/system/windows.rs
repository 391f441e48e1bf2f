//! Responses of the AXI port.

use crate::bench::{Bench, TIMEOUT};
use xdma_regs::msm::*;
use xdma_rtl::{Burst, Model, Response, Variant};

#[test]
fn windows_respond_as_the_map_specifies() {
    let mut bench = Bench::new(Variant::Stub);
    assert_eq!(bench.write(SCALAR_WINDOW + 32, &[0; 64]), Response::SlaveError);
    assert_eq!(bench.write(POINT_WINDOW, &[0; 65]), Response::SlaveError);
    assert_eq!(bench.write(RESULT_WINDOW, &[0; 64]), Response::SlaveError);
    assert_eq!(bench.get(ERRORS), Errors::STROBE.bits());
    bench.set(ERRORS, u32::MAX);
    for address in [0, SCALAR_WINDOW - 64, 0x3000_0000, 0x6000_0000, 1 << 40, u64::MAX - 63] {
        assert_eq!(bench.write(address, &[0; 64]), Response::DecodeError, "{address:#x}");
    }
    assert_eq!(bench.get(ERRORS), Errors::DECODE.bits());
    bench.set(ERRORS, u32::MAX);
    assert_eq!(bench.get(ERRORS), 0);
    assert_eq!(bench.read(SCALAR_WINDOW, Burst::Increment, 128).0, Response::DecodeError);
    assert_eq!(bench.get(ERRORS), Errors::DECODE.bits());
    assert_eq!(bench.get(REFUSED_WRITES), 9, "reads do not count");
    bench.set(CTRL, Ctrl::SOFT_RESET.bits());
    assert_eq!(bench.get(REFUSED_WRITES), 0);
    assert_eq!(bench.read(RESULT_WINDOW, Burst::Increment, 128), (Response::Okay, vec![0; 128]));
    assert_eq!(
        bench.read(RESULT_WINDOW + 0xf00_0000, Burst::Increment, 4096),
        (Response::Okay, vec![0; 4096])
    );
    // Window addresses alias.
    bench.set(CTRL, Ctrl::FLUSH.bits());
    assert_eq!(bench.write(SCALAR_WINDOW + WINDOW_SIZE - 64, &[0; 64]), Response::Okay);
    assert_eq!(bench.get(SCALARS_IN_FIFO), 2);
}

#[test]
fn scratch_memory_accepts_any_bytes_wraps_and_survives_a_reset() {
    let mut bench = Bench::new(Variant::Stub);
    let bytes: Vec<u8> = (0..200).collect();
    let end = SCRATCH_WINDOW + SCRATCH_SIZE;
    assert_eq!(bench.write(end - 64, &[0x77; 64]), Response::Okay);
    assert_eq!(bench.write(end + 2 * SCRATCH_SIZE - 50, &bytes[..50]), Response::Okay);
    assert_eq!(bench.write(SCRATCH_WINDOW, &bytes[50..]), Response::Okay);
    bench.set(CTRL, Ctrl::SOFT_RESET.bits());
    assert_eq!(bench.read(end - 51, Burst::Increment, 51).1, [&[0x77], &bytes[..50]].concat());
    assert_eq!(bench.read(SCRATCH_WINDOW, Burst::Increment, 150).1, bytes[50..]);
    let page: Vec<u8> = (0..4096).map(|i| (i * 7 + i / 256) as u8).collect();
    assert_eq!(bench.write(SCRATCH_WINDOW + 0x3000, &page), Response::Okay);
    assert_eq!(bench.read(SCRATCH_WINDOW + 0x3003, Burst::Increment, 4000).1, page[3..4003]);
    // After a fixed burst, the last beat remains.
    let tag = bench.master.write(0, SCRATCH_WINDOW, Burst::Fixed, &page[..256]);
    assert!(bench.master.finish(TIMEOUT));
    assert_eq!(bench.master.written(tag), Some(Response::Okay));
    assert_eq!(bench.read(SCRATCH_WINDOW, Burst::Increment, 64).1, page[192..256]);
    assert_eq!(bench.read(SCRATCH_WINDOW + 64, Burst::Increment, 64).1, bytes[114..178]);
    assert_eq!(bench.read(SCRATCH_WINDOW, Burst::Fixed, 128).1, [&page[192..256], &page[192..256]].concat());
    assert_eq!(bench.get(ERRORS), 0);
}

/// Strobe and WLAST of each beat.
type Beats = &'static [(u64, bool)];

/// Sends a burst as a faulty master would, and returns its response.
fn send_burst(model: &mut Model, address: u64, [len, size, burst]: [u8; 3], beats: Beats) -> u8 {
    let ports = &mut model.ports;
    (ports.awaddr, ports.awlen, ports.awsize, ports.awburst, ports.awid) = (address, len, size, burst, 9);
    ports.awvalid = 1;
    let mut beats = beats.iter();
    let mut load = |model: &mut Model| match beats.next() {
        Some((strobe, last)) => {
            (model.ports.wstrb, model.ports.wlast, model.ports.wvalid) = (*strobe, *last as u8, 1);
        }
        None => model.ports.wvalid = 0,
    };
    load(model);
    for _ in 0..1000 {
        model.step();
        if model.ports.awready != 0 {
            model.ports.awvalid = 0;
        }
        if model.ports.wvalid & model.ports.wready != 0 {
            load(model);
        }
        if model.ports.bvalid != 0 {
            assert_eq!(model.ports.bid, 9);
            return model.ports.bresp;
        }
    }
    panic!("no B");
}

#[test]
fn invalid_bursts_get_an_error_and_are_counted() {
    const ALL: u64 = u64::MAX;
    let two: Beats = &[(ALL, false), (ALL, true)];
    // AxLEN, AxSIZE and AxBURST; the beats; the error; the number of beats that remain in the FIFO.
    let (none, strobe, wlast) = (Errors::empty(), Errors::STROBE, Errors::WLAST);
    let case = |what, shape, beats: Beats, errors, pushed| (what, shape, beats, errors, pushed);
    let cases = [
        case("whole", [1, 6, 1], two, none, 2),
        case("fixed", [1, 6, 0], two, none, 2),
        case("wrap", [1, 6, 2], two, strobe, 0),
        case("narrow", [1, 5, 1], two, strobe, 0),
        case("strobe hole", [2, 6, 1], &[(ALL, false), (ALL - 2, false), (ALL, true)], strobe, 1),
        case("no strobes", [0, 6, 1], &[(0, true)], strobe, 0),
        case("short", [3, 6, 1], two, wlast, 2),
        case("long", [0, 6, 1], &[(ALL, false), (ALL, false), (ALL, true)], wlast, 1),
        case("valid again", [0, 6, 1], &[(ALL, true)], none, 1),
    ];
    let mut bench = Bench::new(Variant::Stub);
    let mut refused = 0;
    for (what, shape, beats, errors, pushed) in cases {
        let response = send_burst(bench.master.model(), POINT_WINDOW, shape, beats);
        assert_eq!(response, if errors.is_empty() { 0 } else { 2 }, "{what}");
        assert_eq!(bench.get(ERRORS), errors.bits(), "{what}");
        assert_eq!(bench.get(POINTS_IN_FIFO), pushed, "{what}");
        refused += !errors.is_empty() as u32;
        assert_eq!(bench.get(REFUSED_WRITES), refused, "{what}");
        bench.set(ERRORS, u32::MAX);
        bench.set(CTRL, Ctrl::FLUSH.bits());
    }
    assert_eq!(bench.get(IRQ_STATUS), Irq::ERROR.bits());
}

#[test]
fn data_waits_for_its_address() {
    let mut model = Model::new(Variant::Stub);
    (model.ports.wvalid, model.ports.wlast) = (1, 1);
    for _ in 0..20 {
        model.step();
        assert_eq!(model.ports.bvalid, 0);
    }
    (model.ports.awvalid, model.ports.awaddr, model.ports.awid) = (1, POINT_WINDOW, 4);
    // The first of the beats accepted so far belongs to this burst.
    model.step();
    (model.ports.awvalid, model.ports.wvalid) = (0, 0);
    let completed = (0..20).any(|_| {
        model.step();
        model.ports.bvalid != 0 && model.ports.bid == 4 && model.ports.bresp == 0
    });
    assert!(completed);
}

#[test]
fn responses_wait_until_the_master_is_ready() {
    let mut bench = Bench::new(Variant::Stub);
    let model = bench.master.model();
    model.ports.bready = 0;
    (model.ports.awvalid, model.ports.awaddr, model.ports.awlen) = (1, SCRATCH_WINDOW, 0);
    (model.ports.wvalid, model.ports.wlast) = (1, 1);
    let (mut addresses, mut beats) = (0, 0);
    for _ in 0..200 {
        model.step();
        addresses += model.ports.awready as u32;
        beats += model.ports.wready as u32;
        assert!(model.ports.wr_full != 0 || addresses < 30, "wr_full rises before the queue is full");
    }
    // Two bursts have their responses in the B skid buffer. Behind them wait 32 queued addresses, and two beats in the W skid
    // buffer.
    assert_eq!((addresses, beats), (34, 4));
    (model.ports.awvalid, model.ports.wvalid, model.ports.bready) = (0, 0, 1);
    let mut responses = 0;
    for _ in 0..20 {
        model.step();
        responses += model.ports.bvalid as u32;
    }
    assert_eq!(responses, 4, "one B per complete burst");
}

/// Needs `cargo test -p xdma-rtl --features test-designs,trace`. GTKWave can read the file.
#[cfg(feature = "trace")]
#[test]
fn a_trace_is_written() {
    let path = std::env::temp_dir().join(format!("xdma-rtl-{}.fst", std::process::id()));
    let mut bench = Bench::new(Variant::Stub);
    assert!(bench.master.model().trace(&path, 0));
    bench.write(SCRATCH_WINDOW, &[1; 4096]);
    drop(bench);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // An FST file starts with a header block of 329 bytes.
    assert!(bytes.len() > 1000 && bytes[..9] == [0, 0, 0, 0, 0, 0, 0, 1, 73], "{} bytes", bytes.len());
}
