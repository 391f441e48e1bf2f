//! Clients that violate the protocol.

use crate::support::{Bench, NO_PYTHON, check, python};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

#[test]
fn a_stream_socket_cannot_connect() {
    let bench = Bench::memory();
    // A stream socket cannot connect to a packet socket.
    assert!(UnixStream::connect(bench.broker()).is_err());
    bench.shell("test -c /dev/xdma0_user");
}

#[test]
fn the_broker_survives_garbage_and_disconnected_clients() {
    if python().is_none() {
        return println!("{NO_PYTHON}");
    }
    let bench = Bench::memory();
    let path = bench.broker().display();
    bench.python(&format!(
        "
import ctypes, errno, mmap, os, random, socket, struct
random.seed(1)
def futex(memory):
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.CDLL(None).syscall(202, ctypes.c_void_p(address), 1, 64)
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect('{path}')
    return s
for length in [0, 1, 47, 49, 4096]:
    s = connect(); s.send(bytes(length)); s.close()
for round in range(300):
    s = connect(); s.send(os.urandom(48)); s.close()
# Valid operations with random arguments: unknown files, unmapped addresses, huge lengths.
s = connect(); s.settimeout(20)
for round in range(2000):
    operation = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 9])
    words = [random.choice([0, 1, 2, 32, 36, 2**63, 2**64 - 1, random.getrandbits(64)]) for _ in range(5)]
    s.send(struct.pack('<II5Q', operation, random.getrandbits(32), *words))
    if operation != 9:
        data, rights, _, _ = s.recvmsg(64, 64)
        assert len(data) == 16
        for _, _, fds in rights:
            [os.close(fd) for fd in struct.unpack('i' * (len(fds) // 4), fds)]
# A client that overwrites the memory it shares with the broker, and truncates it or punches holes into it.
s = connect(); s.settimeout(20)
s.send(struct.pack('<II5Q', 11, 0, 0, 0, 0, 0, 0))
data, rights, _, _ = s.recvmsg(64, 64)
files = struct.unpack('3i', rights[0][2])
slot = mmap.mmap(files[0], 4096)
windows = [mmap.mmap(fd, 1 << 20) for fd in files[1:]]
for fd in files:
    try: os.ftruncate(fd, 0); assert False
    except OSError: pass
for round in range(3000):
    operation = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    words = [random.choice([0, 1, 2, 32, 36, 2**63, 2**64 - 1, random.getrandbits(64)]) for _ in range(5)]
    slot[8:56] = struct.pack('<II5Q', operation, random.getrandbits(32), *words)
    slot[4:8] = random.randbytes(4)
    slot[0:4] = random.choice([struct.pack('<I', 1), random.randbytes(4)])
    futex(slot)
    windows[0][:8] = random.randbytes(8)
# It leaves while the broker waits for it.
s.close()
# More clients with shared memory than the broker serves.
sharing = [connect() for _ in range(80)]
results = []
for s in sharing:
    s.send(struct.pack('<II5Q', 11, 0, 0, 0, 0, 0, 0))
    data, rights, _, _ = s.recvmsg(64, 64)
    results.append(struct.unpack('<q8x', data)[0])
    [os.close(fd) for _, _, fds in rights for fd in struct.unpack('3i', fds)]
assert results.count(0) >= 32 and -errno.ENOSPC in results, results
# Many connections that send nothing.
idle = [connect() for _ in range(100)]
",
    ));
    bench.shell(
        "head -c 4096 /dev/urandom >in; cat in >/dev/xdma0_h2c_0; head -c 4096 </dev/xdma0_c2h_0 | cmp - in",
    );
    bench.check_closed();
}

#[test]
fn a_program_without_a_broker_gets_an_error() {
    let bench = Bench::memory();
    let mut command = bench.command("sh");
    command.env("XDMA_BROKER", "/nowhere").args(["-c", "! cat /dev/xdma0_user"]);
    check(command.output().unwrap());
}

#[test]
fn other_files_work_as_before() {
    let bench = Bench::memory();
    let mut file = File::create(bench.folder.path().join("file")).unwrap();
    file.write_all(b"text").unwrap();
    drop(OwnedFd::from(file));
    assert_eq!(bench.shell("cat file; cp file copy; cat <copy; mkdir -p a/b; ls a"), "texttextb\n");
}
