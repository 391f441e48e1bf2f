//! Debian's `fio`: writes go to the `h2c` files and reads to the `c2h` files, so a second run verifies the data.
//!
//! A character device has no size. `fio` therefore counts `--size` from position 0; `--io_size` is the number of bytes of a job.

use crate::support::{Bench, check, is_installed};
use std::process::Output;

const NO_FIO: &str = "skipped: fio is not installed; run: sudo apt-get install -y fio";
const MIB: u64 = 1 << 20;

/// Prints why a test is skipped, if `fio` is not installed.
fn is_missing() -> bool {
    let missing = !is_installed("fio");
    if missing {
        println!("{NO_FIO}");
    }
    missing
}

/// Runs `fio` with the given options, separated by blanks.
fn fio(bench: &Bench, options: &str) -> Output {
    let common = ["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--output-format=json"];
    bench
        .command("timeout")
        .args(["100", "fio"])
        .args(common)
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

/// Runs `fio`, which must succeed and transfer this number of bytes.
fn transfer(bench: &Bench, options: &str, bytes: u64) {
    let report = check(fio(bench, options));
    let counts = report.lines().filter_map(|line| line.trim().strip_prefix("\"io_bytes\" : "));
    let sum: u64 = counts.map(|count| count.trim_end_matches(',').parse::<u64>().unwrap()).sum();
    assert_eq!(sum, bytes, "{options}");
}

/// Writes with one run and verifies with another.
fn write_and_verify(bench: &Bench, jobs: impl Fn(&str) -> String, bytes: u64) {
    transfer(bench, &format!("--rw=write --do_verify=0 {}", jobs("h2c")), bytes);
    transfer(bench, &format!("--rw=read {}", jobs("c2h")), bytes);
}

/// Returns a job for each of the four channels. Each uses a region of its own.
fn on_all_channels(kind: &str, options: &str) -> String {
    let job = |channel| {
        let file = format!("--filename=/dev/xdma0_{kind}_{channel}");
        format!("--name=on-{channel} {file} --offset={}m {options}", channel * 64)
    };
    (0..4).map(job).collect::<Vec<_>>().join(" ")
}

#[test]
fn processes_use_all_channels() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    let one = "--ioengine=psync --bs=64k --size=1g --io_size=4m";
    write_and_verify(&bench, |kind| on_all_channels(kind, one), 16 * MIB);
    // Two jobs per channel.
    let two = format!("{one} --numjobs=2 --offset_increment=16m");
    write_and_verify(&bench, |kind| on_all_channels(kind, &two), 32 * MIB);
    bench.check_closed();
}

#[test]
fn threads_use_all_channels() {
    if is_missing() {
        return;
    }
    let threads =
        "--thread --ioengine=psync --numjobs=2 --offset_increment=16m --bs=16k --size=1g --io_size=4m";
    for bench in Bench::all_with_memory() {
        write_and_verify(&bench, |kind| on_all_channels(kind, threads), 32 * MIB);
        bench.check_closed();
    }
}

#[test]
fn blocks_of_many_sizes_and_random_blocks() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    let sizes = "--ioengine=psync --bsrange=512-256k --verify_interval=512 --size=4m";
    let job = |kind: &str| format!("--name=one --filename=/dev/xdma0_{kind}_2 {sizes}");
    write_and_verify(&bench, job, 4 * MIB);
    let job =
        |kind: &str| format!("--name=one --filename=/dev/xdma0_{kind}_1 --ioengine=psync --bs=4k --size=2m");
    transfer(&bench, &format!("--rw=randwrite --do_verify=0 {}", job("h2c")), 2 * MIB);
    transfer(&bench, &format!("--rw=randread {}", job("c2h")), 2 * MIB);
    // The verification phase of a write job also compares the order of the writes. It counts the writes as well as its reads.
    // On character devices, it does not end if the region does not start at 0.
    let job =
        |kind: &str| format!("--name=one --filename=/dev/xdma0_{kind}_3 --ioengine=psync --bs=64k --size=4m");
    transfer(&bench, &format!("--rw=write --do_verify=0 {}", job("h2c")), 4 * MIB);
    transfer(&bench, &format!("--rw=write --verify_only {}", job("c2h")), 8 * MIB);
}

/// Writes and reads in the same run, on different channels.
#[test]
fn writers_and_readers_run_together() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    let common = "--ioengine=psync --bs=64k --size=1g --io_size=4m";
    let first = format!("--name=first --filename=/dev/xdma0_h2c_0 --rw=write --do_verify=0 {common}");
    transfer(&bench, &first, 4 * MIB);
    let both = format!(
        "--name=writer --filename=/dev/xdma0_h2c_1 --offset=64m --rw=write --do_verify=0 {common}
         --name=reader --filename=/dev/xdma0_c2h_0 --rw=read --numjobs=3 {common}"
    );
    transfer(&bench, &both, 16 * MIB);
}

/// The engines that make system calls through the C library, and the kinds of memory.
#[test]
fn engines_and_buffers() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    for engine in ["psync", "pvsync", "pvsync2"] {
        for memory in ["malloc", "mmap", "mmapshared", "shm"] {
            let options = format!("--ioengine={engine} --mem={memory} --bs=32k --size=1m --direct=1");
            write_and_verify(
                &bench,
                |kind| format!("--name=one --filename=/dev/xdma0_{kind}_0 {options}"),
                MIB,
            );
        }
    }
    // These engines do not seek between adjacent blocks, so with the kernel module too, such blocks overwrite each other. They
    // seek if blocks are not adjacent.
    for engine in ["sync", "vsync"] {
        let job = |kind: &str| {
            format!(
                "--name=one --filename=/dev/xdma0_{kind}_1 --ioengine={engine} --bs=16k --size=2m --io_size=1m"
            )
        };
        transfer(&bench, &format!("--rw=write:16k --do_verify=0 {}", job("h2c")), MIB);
        transfer(&bench, &format!("--rw=read:16k {}", job("c2h")), MIB);
    }
}

/// The tests above depend on this: `fio` finds wrong data.
#[test]
fn wrong_data_is_found() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    let job = |kind: &str| {
        format!("--name=one --filename=/dev/xdma0_{kind}_0 --ioengine=psync --bs=64k --offset=1m --size=2m")
    };
    write_and_verify(&bench, job, MIB);
    bench.shell("printf wrong | dd of=/dev/xdma0_h2c_2 bs=5 seek=1500001 oflag=seek_bytes conv=notrunc");
    let output = fio(&bench, &format!("--rw=read {}", job("c2h")));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("crc32c: verify failed"), "{errors}");
}

/// Transfers in the wrong direction fail, and so do engines that bypass the C library.
#[test]
fn unsupported_uses_fail() {
    if is_missing() {
        return;
    }
    let bench = Bench::memory();
    for options in [
        "--rw=write --filename=/dev/xdma0_c2h_0 --ioengine=psync",
        "--rw=read --filename=/dev/xdma0_h2c_0 --ioengine=psync",
        "--rw=write --filename=/dev/xdma0_h2c_0 --ioengine=libaio",
        "--rw=write --filename=/dev/xdma0_h2c_0 --ioengine=posixaio",
        "--rw=write --filename=/dev/xdma0_h2c_0 --ioengine=io_uring",
    ] {
        let output = fio(&bench, &format!("--name=one --bs=4k --size=64k --do_verify=0 {options}"));
        assert!(!output.status.success(), "{options}");
    }
}
