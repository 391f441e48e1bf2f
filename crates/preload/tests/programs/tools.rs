//! Tests with `dd`, `cat`, the shell, and Python.

use crate::support::{Bench, NO_PYTHON, python};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use xdma_emulated_card::emulator::faults::Kind;

#[test]
fn dd_moves_data_to_the_card_and_back() {
    let bench = Bench::memory();
    bench.shell(
        "head -c 5000001 /dev/urandom >in
         dd if=in of=/dev/xdma0_h2c_1 bs=5000001 iflag=fullblock
         dd if=/dev/xdma0_c2h_0 of=out bs=5000001 count=1
         cmp in out
         # Card addresses from skip and seek.
         dd if=in of=/dev/xdma0_h2c_0 bs=4096 count=1 seek=16 conv=notrunc
         dd if=/dev/xdma0_c2h_1 bs=4096 count=1 skip=16 of=out
         cmp -n 4096 in out",
    );
    bench.check_closed();
}

/// A call does not move the position, so each block goes to the same address. The kernel module does the same.
#[test]
fn all_blocks_of_dd_go_to_the_same_address() {
    let bench = Bench::memory();
    bench.shell(
        "head -c 16384 /dev/urandom >in
         dd if=in of=/dev/xdma0_h2c_0 bs=4096 count=4
         dd if=/dev/xdma0_c2h_0 bs=4096 count=1 of=out
         tail -c 4096 in | cmp - out",
    );
}

#[test]
fn the_shell_sees_character_devices() {
    let bench = Bench::memory();
    bench.shell(
        "test -c /dev/xdma0_user; test -r /dev/xdma0_h2c_0; test -w /dev/xdma0_h2c_3; test ! -e /dev/xdma0_h2c_4
         test ! -e /dev/xdma1_user; test ! -x /dev/xdma0_user
         test \"$(stat -c %F /dev/xdma0_control)\" = 'character special file'
         head -c 4096 /dev/urandom >in; cat in >/dev/xdma0_h2c_0
         head -c 4096 </dev/xdma0_c2h_0 | cmp - in
         # A file descriptor that a child inherits through exec.
         exec 5<>/dev/xdma0_c2h_0; head -c 4096 <&5 | cmp - in; sh -c 'head -c 4096 <&5 | cmp - in'",
    );
}

/// A program that has changed its root directory cannot reach the path of the broker's socket.
#[test]
fn a_changed_root_directory_does_not_matter() {
    if python().is_none() {
        return println!("{NO_PYTHON}");
    }
    let bench = Bench::memory();
    let text = bench.python(
        "
import os, threading
try: os.mkdir('root'); os.chroot('root')
except PermissionError: raise SystemExit(print('skipped: only the administrator can change the root directory'))
def use():
    h, c = os.open('/dev/xdma0_h2c_0', os.O_WRONLY), os.open('/dev/xdma0_c2h_0', os.O_RDONLY)
    print(os.pwrite(h, b'text', 0), os.pread(c, 4, 0), flush=True)
for number in range(2):
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
",
    );
    let expected = "4 b'text'\n4 b'text'\n";
    assert!(text == expected || text.starts_with("skipped"), "{text}");
    println!("{text}");
}

/// When the card is gone, waits for its user interrupts end.
#[test]
fn event_files_report_that_the_card_is_gone() {
    if python().is_none() {
        return println!("{NO_PYTHON}");
    }
    for bench in Bench::all_with_memory() {
        let program = "
import errno, os, select, threading
e = [os.open(f'/dev/xdma0_events_{number}', os.O_RDONLY) for number in range(2)]
def refused():
    try: os.read(e[0], 4)
    except OSError as error: print(errno.errorcode[error.errno], flush=True)
thread = threading.Thread(target=refused)
thread.start()
poll = select.poll()
poll.register(e[1], select.POLLIN)
print(poll.poll(100), flush=True)
hung_up = [event for _, event in poll.poll(5000)] == [select.POLLHUP]
# Two threads that print at the same time would mix their lines.
thread.join(5)
print(hung_up, flush=True)
";
        let mut program =
            bench.command(python().unwrap()).args(["-c", program]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "[]");
        bench.emulated.inject(Kind::LinkDown).unwrap();
        assert_eq!(lines.collect::<Vec<_>>(), ["ENODEV", "True"]);
        assert!(program.wait().unwrap().success());
    }
}

/// Other spellings of a path, paths that name an open file descriptor, and the flags with which `cp` opens files.
#[test]
fn other_paths_and_flags_work() {
    for bench in Bench::all_with_memory() {
        bench.shell(
            "head -c 4096 /dev/urandom >in; cp in /dev//xdma0_h2c_0; head -c 4096 //dev/./xdma0_c2h_0 | cmp - in
             head -c 4096 /dev/stdin </dev/xdma0_c2h_0 | cmp - in
             head -c 4096 /proc/self/fd/3 3</dev/xdma0_c2h_0 | cmp - in
             head -c 4096 /dev/urandom >in; tee <in /dev/fd/4 4>/dev/xdma0_h2c_0 | cmp - in
             head -c 4096 /dev/xdma0_c2h_0 | cmp - in
             ! ls /dev/xdma0_user/",
        );
        if python().is_some() {
            bench.python(
                "
import errno, os
def fails(flags):
    try: os.open('/dev/xdma0_user', flags)
    except OSError as error: return error.errno
assert fails(os.O_DIRECTORY) == errno.ENOTDIR and fails(os.O_CREAT | os.O_EXCL) == errno.EEXIST
",
            );
        }
        bench.check_closed();
    }
}

#[test]
fn relative_paths_and_listings_of_dev_work() {
    let bench = Bench::memory();
    let files = "xdma0_c2h_0 xdma0_c2h_1 xdma0_c2h_2 xdma0_c2h_3";
    bench.shell(&format!(
        "here=$PWD; head -c 4096 /dev/urandom >in
         cd /dev; dd if=$here/in of=xdma0_h2c_0 bs=4096 conv=notrunc; dd if=./xdma0_c2h_1 of=$here/out bs=4096 count=1
         cmp $here/in $here/out; test -c xdma0_user
         test \"$(echo xdma0_c2h_*)\" = '{files}'; cd $here
         test \"$(cd /dev; echo ./xdma0_use?)\" = ./xdma0_user
         ls /dev/xdma0_* >list; test $(wc -l <list) = 35
         test $(ls /dev | grep -c xdma0_events) = 16; test $(ls -l /dev/xdma0_control | cut -c 1) = c
         test $(find /dev -maxdepth 1 -name 'xdma0_h2c_*' -type c | wc -l) = 4
         # Other directories are listed as before.
         ls | grep -c in; test $(ls -a | grep -c xdma) = 0",
    ));
    if python().is_some() {
        bench.python(
            "
import glob, os
assert len([name for name in os.listdir('/dev') if name.startswith('xdma0_')]) == 35
assert sorted(glob.glob('/dev/xdma0_h2c_*')) == [f'/dev/xdma0_h2c_{n}' for n in range(4)]
dev = os.open('/dev', os.O_RDONLY | os.O_DIRECTORY)
w, r = os.open('xdma0_h2c_0', os.O_RDWR, dir_fd=dev), os.open('./xdma0_c2h_0', os.O_RDWR, dir_fd=dev)
assert os.pwrite(w, b'text', 9) == 4 and os.pread(r, 4, 9) == b'text'
assert os.stat('xdma0_user', dir_fd=dev).st_rdev & 0xff == 0
try:
    os.open('xdma0_user', os.O_RDWR)
    assert False
except FileNotFoundError:
    pass
# File actions that open device files.
before = len(os.listdir('/proc/self/fd'))
actions = [(os.POSIX_SPAWN_OPEN, 1, '/dev/xdma0_h2c_1', os.O_WRONLY, 0)]
child = os.posix_spawnp('printf', ['printf', 'spawned'], os.environ, file_actions=actions)
assert os.waitpid(child, 0)[1] == 0 and os.pread(r, 7, 0) == b'spawned'
assert len(os.listdir('/proc/self/fd')) == before
",
        );
    }
}

/// Programs whose standard streams are device files, and a shell whose built-in commands write to one.
#[test]
fn standard_streams_can_be_device_files() {
    let bench = Bench::memory();
    bench.shell(
        "seq 1 2000 | head -c 4096 >in; seq 1 2000 | head -c 4096 >/dev/xdma0_h2c_0
         head -c 4096 </dev/xdma0_c2h_0 | cmp - in
         printf 'one line of text' >/dev/xdma0_h2c_0; test \"$(head -c 16 </dev/xdma0_c2h_0)\" = 'one line of text'
         echo back",
    );
    let bash = |script: &str| {
        crate::support::check(bench.command("bash").args(["-e", "-c", script]).output().unwrap())
    };
    assert_eq!(
        bash("printf 'other text' >/dev/xdma0_h2c_0; head -c 10 </dev/xdma0_c2h_0; echo; echo after"),
        "other text\nafter\n"
    );
    bench.check_closed();
}

#[test]
fn cpp_streams_work() {
    let bench = Bench::memory();
    let program = bench.compile("streams.cpp");
    crate::support::check(bench.command(program).output().unwrap());
}

#[test]
fn python_uses_the_files() {
    if python().is_none() {
        return println!("{NO_PYTHON}");
    }
    let bench = Bench::memory();
    let text = bench.python(
        "
import errno, os, select, threading
w, r = os.open('/dev/xdma0_h2c_0', os.O_RDWR), os.open('/dev/xdma/card0/c2h1', os.O_RDONLY)
data = os.urandom(3 << 20)
assert os.pwrite(w, data, 0x1003) == len(data) and os.pread(r, len(data), 0x1003) == data
assert os.lseek(w, 0, os.SEEK_END) == 0xffffffff and os.lseek(w, 0x2000, os.SEEK_SET) == 0x2000
assert os.write(w, b'abcd' * 1024) == 4096 and os.lseek(w, 0, os.SEEK_CUR) == 0x2000
assert os.pread(r, 4096, 0x2000) == b'abcd' * 1024
assert select.select([r], [w], [], 0) == ([r], [w], [])
# A duplicate shares the position; a second open file has its own.
d, o = os.dup(w), os.open('/dev/xdma0_h2c_0', os.O_WRONLY)
os.lseek(d, 0x3000, os.SEEK_SET)
assert (os.lseek(w, 0, os.SEEK_CUR), os.lseek(o, 0, os.SEEK_CUR)) == (0x3000, 0)
# Vectors go to consecutive addresses.
assert os.pwritev(w, [b'x' * 4096, b'y' * 4096], 0x10000) == 8192
parts = [bytearray(100), bytearray(8092)]
assert os.preadv(r, parts, 0x10000) == 8192 and bytes(parts[0] + parts[1]) == b'x' * 4096 + b'y' * 4096
# A child process.
if not os.fork():
    os.pwrite(w, b'child', 0x9000)
    os._exit(0)
os.wait()
assert os.pread(r, 5, 0x9000) == b'child'
# File objects of the standard library.
with open('/dev/xdma0_c2h_0', 'rb', buffering=0) as f:
    f.seek(0x9000)
    assert f.read(5) == b'child'
# A child of `vfork` closes its descriptors; this process keeps its own.
import subprocess
subprocess.run(['true'], close_fds=True, check=True)
assert os.pwrite(w, b'after', 0x9000) == 5 and os.pread(r, 5, 0x9000) == b'after'
# Eight threads on all channels.
def work(number):
    w, r = os.open(f'/dev/xdma0_h2c_{number % 4}', os.O_WRONLY), os.open(f'/dev/xdma0_c2h_{number % 4}', os.O_RDONLY)
    for round in range(50):
        data, at = os.urandom(10000 + round), number << 24
        assert os.pwrite(w, data, at) == len(data) and os.pread(r, len(data), at) == data
    done.append(number)
done = []
threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(done))
",
    );
    assert_eq!(text.trim(), "8");
}

#[test]
fn c_library_streams_work() {
    let bench = Bench::memory();
    let program = bench.compile("stdio.c");
    crate::support::check(bench.command(program).output().unwrap());
}

#[test]
fn functions_that_search_directories_find_the_files() {
    let bench = Bench::memory();
    let program = bench.compile("listing.c");
    crate::support::check(bench.command(program).output().unwrap());
}
