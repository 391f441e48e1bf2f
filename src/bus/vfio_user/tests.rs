//! The client against processes that are no cards, and one that harms what it was given.

use super::*;
use crate::memory::{DmaSpace, HugePages, PageSize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

fn error(path: &Path) -> BusError {
    VfioUser::connect(path).expect_err("there is no card")
}

/// A socket with a full backlog, and what fills it.
fn full(path: &Path) -> (Socket, Vec<Socket>) {
    let stream = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let (listener, address) = (stream(), SockAddr::unix(path).unwrap());
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut waiting = vec![];
    loop {
        let next = stream();
        next.set_nonblocking(true).unwrap();
        if next.connect(&address).is_err() {
            return (listener, waiting);
        }
        waiting.push(next);
    }
}

#[test]
fn a_process_that_accepts_nothing_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card");
    let (_listener, waiting) = full(&path);
    assert!(!waiting.is_empty());
    let begin = Instant::now();
    let error = error(&path);
    assert!(matches!(error, BusError::NotAccepting { .. }), "{error}");
    assert!(begin.elapsed() >= GREETING && begin.elapsed() < 5 * GREETING, "{:?}", begin.elapsed());
    assert!(error.to_string().contains("start it again"), "{error}");
}

#[test]
fn what_is_not_a_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("file"), []).unwrap();
    let fifo = std::ffi::CString::new(path("fifo").to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    drop(UnixListener::bind(path("left")).unwrap());
    let begin = Instant::now();
    for (name, expected) in [
        ("file", "a regular file"),
        ("fifo", "a FIFO"),
        (".", "a directory"),
        ("datagram", "another type"),
        ("left", "nothing listens"),
    ] {
        let error = error(&path(name));
        assert!(matches!(error, BusError::NotACard { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(error(Path::new("/dev/null")), BusError::NotACard { .. }));
    assert!(matches!(error(&path("missing")), BusError::NotFound { .. }));
    assert!(matches!(error(&path(&"long".repeat(50))), BusError::NotFound { .. }));
    assert!(begin.elapsed() < GREETING);
}

/// A card in another process that agrees to everything, and the files that it was sent.
fn foreign() -> (Arc<VfioUser>, Receiver<File>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (send, files) = channel();
    thread::spawn(move || {
        loop {
            let (mut bytes, mut fds) = ([0u8; 256], [0; 1]);
            let mut parts = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
            // SAFETY: the part is as long as said, and lives until the call returns.
            let Ok((len, count)) = (unsafe { far.recv_with_fds(&mut parts, &mut fds) }) else { return };
            if len == 0 {
                return;
            }
            if count == 1 {
                // SAFETY: it was just received, and is nobody else's.
                let _ = send.send(unsafe { File::from_raw_fd(fds[0]) });
            }
            let header = wire::Header::from_bytes(bytes[..wire::HEADER].try_into().unwrap());
            let reply = wire::Header { flags: wire::REPLY, size: wire::HEADER as u32, ..header };
            let _ = io::Write::write_all(&mut &far, &reply.to_bytes());
        }
    });
    let link = Link::new(near, DEADLINE).unwrap();
    let description = Description {
        kind: "vfio-user",
        location: "a test".into(),
        bars: [0; BARS],
        vectors: 0,
        resettable: false,
        registers_by_system_call: true,
        page_sizes: PAGE_BYTES,
        iova_bits: 47,
        node: None,
        notes: vec![],
    };
    let shared = Arc::new(Shared { link: Mutex::new(link) });
    (Arc::new(VfioUser { shared, description, max_fds: 1, is_foreign: true }), files)
}

/// What a process can do to a file that it was sent: change its length, write to it, map it writable.
fn can_harm(file: &File) -> [bool; 3] {
    let len = file.metadata().unwrap().len();
    [
        file.set_len(0).is_ok() || file.set_len(2 * len).is_ok(),
        io::Write::write(&mut &*file, &[1]).is_ok(),
        memmap2::MmapOptions::new().map_raw(file).is_ok(),
    ]
}

#[test]
fn another_process_cannot_shorten_memory_nor_write_what_it_may_read() {
    let (card, files) = foreign();
    let space = DmaSpace::new(card, HugePages::Prefer, None, None);
    let mut reads = space.allocate(4096, Access::CardReads).unwrap();
    let file = files.recv().unwrap();
    assert_eq!(can_harm(&file), [false; 3]);
    reads.write(0, &[7u8; 4096]).unwrap();
    let writes = space.allocate(4096, Access::CardWrites).unwrap();
    let file = files.recv().unwrap();
    assert_eq!(can_harm(&file), [false, true, true]);
    // A hole in hugepages would be SIGBUS at the next touch. In small pages it is zeros.
    assert_eq!(writes.page(), PageSize::Base);
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the file is open; fallocate takes numbers.
    assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), punch, 0, 2 << 20) }, 0);
    let mut bytes = [1u8; 4096];
    writes.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4096]);
}
