//! `xdma run` with programs of Debian (`dd`, `fio`, and Python with numpy), and with the C programs of `crates/preload/tests/programs`.

use std::path::Path;
use std::process::Command;
use xdma::regs::Direction;
use xdma_emulator::EmulatorOptions;
use xdma_emulator::logic::Design;
use xdma_testkit::bench::{Bench, works};

/// Runs a program under `xdma run`, through the broker and with `--exclusive`. Afterwards, transfers at low card addresses show that the
/// card is in its original state.
fn run(bench: &Bench, program: &[&str]) {
    for mode in MODES {
        run_in(mode, bench, program);
        works(&bench.open());
    }
}

/// The environment variable that contains the size of the BAR with the XDMA registers.
const BAR_SIZE: &str = "XDMA_TEST_BAR_SIZE";

const MODES: [&[&str]; 2] = [&[], &["--exclusive"]];

fn run_in(mode: &[&str], bench: &Bench, program: &[&str]) {
    let mut run = Command::new("xdma");
    run.args(["run", "--timeout", "2", "--card", &bench.name().to_string()]).args(mode).arg("--");
    let output = run.args(program).env(BAR_SIZE, register_bar_size(bench).to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{mode:?} {program:?}: {text}");
}

fn register_bar_size(bench: &Bench) -> u64 {
    let card = bench.options().card;
    card.bars.iter().find(|bar| Some(bar.index) == card.register_bar()).expect("the card has registers").size
}

/// Returns whether the host that built this file system has a program.
fn is_installed(program: &str) -> bool {
    let installed = Path::new("/usr/bin").join(program).exists();
    if !installed {
        println!(
            "skipped: the host has no /usr/bin/{program}; run: sudo apt-get install -y fio python3-numpy"
        );
    }
    installed
}

#[test]
fn each_call_behaves_as_with_the_kernel_module() {
    let bench = Bench::memory(EmulatorOptions::default());
    for name in [
        "open",
        "position",
        "zero",
        "range",
        "fault",
        "lengths",
        "others",
        "vectors",
        "ioctls",
        "perf",
        "aperture",
        "offline",
        "registers",
        "info",
        "descriptors",
        "closed",
        "events",
    ] {
        run(&bench, &["calls", name]);
    }
    run(&bench, &["stdio"]);
    // With `--exclusive`, the card stays with the parent.
    run_in(&[], &bench, &["calls", "exec"]);
}

#[test]
fn packets_keep_their_boundaries() {
    for mode in MODES {
        let bench = Bench::new(EmulatorOptions::default().with_streams(), Design::Loopback);
        run_in(mode, &bench, &["packets"]);
        drop(bench.open());
    }
}

#[test]
fn dd_moves_data() {
    if !is_installed("dd") {
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let (from, to) = ("/tmp/dd-in", "/tmp/dd-out");
    for seed in [3u32, 5] {
        let data: Vec<u8> = (0..3_000_001u32).map(|at| ((at ^ (at >> 9)) * seed) as u8).collect();
        std::fs::write(from, &data).unwrap();
        let size = "bs=3000001";
        run(&bench, &["dd", &format!("if={from}"), "of=/dev/xdma0_h2c_1", size, "iflag=fullblock", "seek=9"]);
        run(&bench, &["dd", "if=/dev/xdma0_c2h_0", &format!("of={to}"), size, "count=1", "skip=9"]);
        assert!(std::fs::read(to).unwrap() == data);
    }
}

#[test]
fn fio_verifies_all_channels() {
    if !is_installed("fio") {
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let channels = bench.open().report().unwrap().count(Direction::H2C);
    let common = "--verify=crc32c --verify_fatal=1 --verify_state_save=0 --thread --ioengine=psync";
    for (kind, direction) in [("h2c", "--rw=write --do_verify=0"), ("c2h", "--rw=read")] {
        let each = format!("{direction} --bs=64k --size=1g --io_size=1m --numjobs=2 --offset_increment=16m");
        let job = |channel| {
            let offset = 64 * (channel + 1);
            format!("--name=on-{channel} --filename=/dev/xdma0_{kind}_{channel} --offset={offset}m {each}")
        };
        let jobs: Vec<_> = (0..channels).map(job).collect();
        run(&bench, &format!("fio {common} {}", jobs.join(" ")).split_whitespace().collect::<Vec<_>>());
    }
}

#[test]
fn python_and_numpy_use_the_files() {
    if !is_installed("python3") {
        return;
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let bar = bench.open().report().unwrap().register_bar;
    let resource = format!("/sys/bus/pci/devices/{}/resource{bar}", bench.name());
    run(&bench, &["python3", "-c", PROGRAM, &resource, &register_bar_size(&bench).to_string()]);
}

const PROGRAM: &str = "
import mmap, os, sys, numpy
w, r = os.open('/dev/xdma0_h2c_0', os.O_RDWR), os.open('/dev/xdma0_c2h_0', os.O_RDWR)
data = os.urandom(2 << 20)
for attempt in range(3):
    assert os.pwrite(w, data, 0x1003) == len(data) and os.pread(r, len(data), 0x1003) == data
numbers = numpy.arange(1 << 18, dtype='<u8') * 0x9e3779b97f4a7c15
with open('/dev/xdma0_h2c_0', 'r+b', buffering=0) as file:
    file.seek(8 << 20)
    numbers.tofile(file)
back = numpy.fromfile('/dev/xdma0_c2h_0', dtype='<u8', count=1 << 18, offset=8 << 20)
assert (back == numbers).all()
control = os.open('/dev/xdma0_control', os.O_RDWR)
registers = numpy.frombuffer(mmap.mmap(control, 4096), '<u4')
assert registers[0] >> 16 == 0x1fc0 and os.pread(control, 4, 0) == registers[0].tobytes()
bar = numpy.memmap(sys.argv[1], dtype='<u4', mode='r+')
assert bar[0] == registers[0] and bar.nbytes == int(sys.argv[2])
";
