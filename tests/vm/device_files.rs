//! `xdma run` with a program that uses the kernel module's device files. The program is this test itself.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, works};
use xdma_testkit::process;

/// The role of the process that uses the device files.
const ROLE: &str = "device files";
/// The environment variable that contains the path of the sysfs file of the BAR with the XDMA registers.
const RESOURCE: &str = "XDMA_TEST_RESOURCE";

fn open(name: &str) -> File {
    let path = format!("/dev/xdma0_{name}");
    OpenOptions::new().read(true).write(true).open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Moves data and reads registers, as programs for the kernel module do.
fn use_files() {
    let data: Vec<u8> = (0..3_000_001u32).map(|at| (at * 7 + (at >> 12)) as u8).collect();
    for (number, length) in [1, 4096, 65_536, 3_000_001].into_iter().enumerate() {
        let (at, mut back) = (0x1003 + ((number as u64) << 24), vec![0; length]);
        assert_eq!(open(&format!("h2c_{}", number % 2)).write_at(&data[..length], at).unwrap(), length);
        assert_eq!(open("c2h_0").read_at(&mut back, at).unwrap(), length);
        assert!(back == data[..length], "{length}");
    }
    let (control, mut word) = (open("control"), [0; 4]);
    control.read_exact_at(&mut word, 0).unwrap();
    assert_eq!(u32::from_le_bytes(word) >> 16, 0x1fc0);
    // SAFETY: no other code accesses these registers.
    let map = unsafe { memmap2::MmapOptions::new().len(4096).map_mut(&control).unwrap() };
    // SAFETY: the address is that of a register in the mapping.
    let mapped = unsafe { map.as_ptr().cast::<u32>().read_volatile() };
    assert_eq!(mapped.to_le_bytes(), word);
    // SAFETY: as above. A mapping of this length is rejected.
    let error = unsafe { memmap2::MmapOptions::new().len(1 << 20).map_mut(&control).unwrap_err() };
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

/// Maps the file of a BAR in sysfs, and the BAR behind the registers, which contains the card's memory on some cards.
fn use_bars() {
    let resource = std::env::var(RESOURCE).unwrap();
    for path in [resource.clone(), format!("{resource}_wc")] {
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(file.metadata().unwrap().is_file() && file.metadata().unwrap().len() == 65_536, "{path}");
        // `numpy.memmap` finds the size in this way.
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 65_536);
        assert_eq!(file.read_at(&mut [0; 4], 0).unwrap_err().raw_os_error(), Some(libc::EIO));
        // SAFETY: no other code accesses these registers.
        let map = unsafe { memmap2::MmapOptions::new().map_mut(&file).unwrap() };
        assert_eq!(map.len(), 65_536);
        // SAFETY: the address is that of a register in the mapping.
        assert_eq!(unsafe { map.as_ptr().cast::<u32>().read_volatile() } >> 16, 0x1fc0, "{path}");
    }
    let (folder, bar) = resource.rsplit_once("resource").unwrap();
    let behind = bar.parse::<u32>().unwrap() + 1..6;
    if !behind.into_iter().any(|bar| Path::new(&format!("{folder}resource{bar}")).exists()) {
        assert!(!Path::new("/dev/xdma0_bypass").exists());
        return;
    }
    let bypass = open("bypass");
    let word = 0x1234_5678u32;
    assert_eq!(open("h2c_0").write_at(&word.to_le_bytes(), 1 << 20).unwrap(), 4);
    // SAFETY: no other code accesses this memory of the card.
    let map = unsafe { memmap2::MmapOptions::new().offset(1 << 20).len(4096).map_mut(&bypass).unwrap() };
    // SAFETY: the address is in the mapping.
    assert_eq!(unsafe { map.as_ptr().cast::<u32>().read_volatile() }, word);
}

#[test]
fn a_program_for_the_kernel_module_runs_unchanged() {
    if process::is(ROLE) {
        use_files();
        return use_bars();
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let register_bar = bench.open().report().unwrap().register_bar;
    let resource = format!("/sys/bus/pci/devices/{}/resource{register_bar}", bench.name());
    let test = "device_files::a_program_for_the_kernel_module_runs_unchanged";
    let mut run = Command::new("xdma");
    run.args(["run", "--card", &bench.name().to_string(), "--"]).arg(std::env::current_exe().unwrap());
    run.args(["--exact", test, "--nocapture"]).env(process::ROLE, ROLE).env(RESOURCE, resource);
    let output = run.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    // The card is in its original state.
    works(&bench.open());
}
