//! `xdma run` with a program that uses the kernel module's device files. The program is this test itself.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use xdma::memory::CallerMemory;
use xdma_emulator::EmulatorOptions;
use xdma_testkit::bench::{Bench, works};
use xdma_testkit::process;

/// The role of the process that uses the device files.
const ROLE: &str = "device files";
/// The environment variable that contains the path of the sysfs file of the BAR with the XDMA registers.
const RESOURCE: &str = "XDMA_TEST_RESOURCE";
/// The environment variable that contains the size of that BAR.
const BAR_SIZE: &str = "XDMA_TEST_BAR_SIZE";
/// The environment variable that says whether the card has a bypass BAR: `true` or `false`.
const BYPASS: &str = "XDMA_TEST_BYPASS";

fn bar_size() -> u64 {
    std::env::var(BAR_SIZE).unwrap().parse().unwrap()
}

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
    let beyond = bar_size() as usize + 4096;
    // SAFETY: as above. A mapping of this length is rejected.
    let error = unsafe { memmap2::MmapOptions::new().len(beyond).map_mut(&control).unwrap_err() };
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

/// Maps the file of a BAR in sysfs, and the BAR behind the registers, which contains the card's memory on some cards.
fn use_bars() {
    let (resource, size) = (std::env::var(RESOURCE).unwrap(), bar_size());
    for path in [resource.clone(), format!("{resource}_wc")] {
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(file.metadata().unwrap().is_file() && file.metadata().unwrap().len() == size, "{path}");
        // `numpy.memmap` finds the size in this way.
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), size);
        assert_eq!(file.read_at(&mut [0; 4], 0).unwrap_err().raw_os_error(), Some(libc::EIO));
        // SAFETY: no other code accesses these registers.
        let map = unsafe { memmap2::MmapOptions::new().map_mut(&file).unwrap() };
        assert_eq!(map.len() as u64, size);
        // SAFETY: the address is that of a register in the mapping.
        assert_eq!(unsafe { map.as_ptr().cast::<u32>().read_volatile() } >> 16, 0x1fc0, "{path}");
    }
    if std::env::var(BYPASS).unwrap() == "false" {
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

/// Buffers that are freed, allocated again and changed between transfers, in eight threads: the card must never read or write
/// pages that the program no longer has at an address.
fn use_allocations() {
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            scope.spawn(move || {
                let (h2c, c2h) = (open(&format!("h2c_{}", thread % 2)), open(&format!("c2h_{}", thread % 2)));
                for round in 0..24u64 {
                    let length = [4096, 65_536, 300_000, 1 << 20][(round % 4) as usize];
                    let at = (thread + 1) << 28 | (round % 3) << 21;
                    let mut data: Vec<u8> = Vec::with_capacity(length);
                    data.extend(
                        (0..length as u64).map(|at| (at ^ (at >> 9) ^ (round * 31) ^ (thread * 7)) as u8),
                    );
                    check_round_trip(&h2c, &c2h, &data, at);
                    // The same buffer with other pages, other data, and another size.
                    replace_pages(&mut data, round);
                    data.fill(round as u8);
                    check_round_trip(&h2c, &c2h, &data, at);
                    data.resize(length + 100_000, !round as u8);
                    check_round_trip(&h2c, &c2h, &data, at);
                }
            });
        }
    });
}

fn check_round_trip(h2c: &File, c2h: &File, data: &[u8], at: u64) {
    let mut back = vec![0x55; data.len()];
    assert_eq!(h2c.write_at(data, at).unwrap(), data.len());
    assert_eq!(c2h.read_at(&mut back, at).unwrap(), data.len());
    assert!(back == data, "{} bytes at {at:#x}", data.len());
}

/// Replaces the whole pages of a buffer, in one of several ways.
fn replace_pages(data: &mut [u8], way: u64) {
    let start = data.as_ptr().addr().next_multiple_of(4096) - data.as_ptr().addr();
    let pages = data.len().saturating_sub(start) / 4096 * 4096;
    if pages == 0 {
        return;
    }
    let at: *mut libc::c_void = data[start..].as_mut_ptr().cast();
    let (access, new) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the pages contain only bytes of `data`, and zeros are valid bytes.
    let result = unsafe {
        match way % 3 {
            0 if libc::madvise(at, pages, libc::MADV_DONTNEED) == 0 => at,
            1 => libc::mmap(at, pages, access, new | libc::MAP_FIXED, -1, 0),
            2 => {
                let other = libc::mmap(std::ptr::null_mut(), pages, access, new, -1, 0);
                libc::mremap(other, pages, pages, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, at)
            }
            _ => libc::MAP_FAILED,
        }
    };
    assert_eq!(result, at, "{}", std::io::Error::last_os_error());
}

/// A child process opens the card, as a daemon does. Buffers of its parent are its own too.
fn use_allocations_in_a_child() {
    let mut data = vec![7u8; 1 << 20];
    // SAFETY: the child only allocates, opens files and transfers data, which works after a fork.
    let child = unsafe { libc::fork() };
    if child != 0 {
        let mut status = 0;
        // SAFETY: the pointer is valid for the call.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        return assert_eq!(status, 0);
    }
    let (h2c, c2h) = (open("h2c_0"), open("c2h_0"));
    for round in 0..6 {
        check_round_trip(&h2c, &c2h, &data, 0);
        if round > 2 {
            replace_pages(&mut data, round);
        }
        data.fill(round as u8);
    }
    // SAFETY: the child ends without running the parent's code.
    unsafe { libc::exit(0) };
}

/// After a fork, the card reads the pages of the parent, and the child has its own.
fn fork_between_transfers() {
    let (h2c, c2h) = (open("h2c_0"), open("c2h_0"));
    let (mut data, mut back) = (vec![1u8; 1 << 20], vec![0; 1 << 20]);
    for _ in 0..3 {
        assert_eq!(h2c.write_at(&data, 0).unwrap(), data.len());
    }
    // SAFETY: the child calls only functions that are permitted after a fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        data.fill(2);
        let refused = h2c.write_at(&data, 0).is_err();
        // SAFETY: as above.
        unsafe { libc::_exit(if refused && data[4096] == 2 { 0 } else { 1 }) };
    }
    data.fill(3);
    assert_eq!(h2c.write_at(&data, 0).unwrap(), data.len());
    let mut status = 0;
    // SAFETY: the pointer is valid for the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(c2h.read_at(&mut back, 0).unwrap(), back.len());
    assert!(back == data);
}

/// Runs this test as a program under `xdma run`.
fn run(bench: &Bench, test: &str, options: &[&str]) -> String {
    let report = bench.open().report().unwrap();
    let (bars, register_bar) = (report.bus.bars, report.register_bar);
    let resource = format!("/sys/bus/pci/devices/{}/resource{register_bar}", bench.name());
    // On AWS F2, the BAR behind the registers belongs to the shell.
    let bypass = report.interrupt_bar.is_none() && bars[register_bar + 1..].iter().any(|&size| size > 0);
    let mut run = Command::new("xdma");
    run.args(["run", "--card", &bench.name().to_string()]).args(options).arg("--");
    run.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    run.env(process::ROLE, ROLE).env(RESOURCE, resource);
    run.env(BAR_SIZE, bars[register_bar].to_string()).env(BYPASS, bypass.to_string());
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    // The card is in its original state.
    works(&bench.open());
    text
}

#[test]
fn a_program_for_the_kernel_module_runs_unchanged() {
    if process::is(ROLE) {
        use_files();
        return use_bars();
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let test = "device_files::a_program_for_the_kernel_module_runs_unchanged";
    run(&bench, test, &[]);
    run(&bench, test, &["--exclusive"]);
}

#[test]
fn allocations_are_used_in_place_and_never_stale() {
    if process::is(ROLE) {
        use_allocations_in_a_child();
        use_allocations();
        return fork_between_transfers();
    }
    let bench = Bench::memory(EmulatorOptions::default());
    let test = "device_files::allocations_are_used_in_place_and_never_stale";
    let text = run(&bench, test, &["--exclusive", "--explain"]);
    // Without an IOMMU, the card cannot access the program's pages.
    if bench.open().report().unwrap().caller_memory == CallerMemory::Pinned {
        for call in ["pwrite in place", "pread in place"] {
            assert!(text.contains(call), "no {call}:\n{text}");
        }
    }
}
