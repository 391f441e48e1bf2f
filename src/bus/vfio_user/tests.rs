//! The client against servers that are not cards, and against one that tampers with the memory files it receives.

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

/// Creates a socket with a full backlog. Returns it together with the connections that fill it.
fn full_listener(path: &Path) -> (Socket, Vec<Socket>) {
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
fn connecting_to_a_server_that_does_not_accept_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card");
    let (_listener, waiting) = full_listener(&path);
    assert!(!waiting.is_empty());
    let begin = Instant::now();
    let error = error(&path);
    assert!(matches!(error, BusError::NotAccepting { .. }), "{error}");
    let took = begin.elapsed();
    assert!(took >= CONNECT_TIMEOUT && took < 5 * CONNECT_TIMEOUT, "{took:?}");
    assert!(error.to_string().contains("restart it"), "{error}");
}

#[test]
fn the_error_names_the_type_of_another_file() {
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
        ("left", "nothing is listening"),
    ] {
        let error = error(&path(name));
        assert!(matches!(error, BusError::NotACard { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(error(Path::new("/dev/null")), BusError::NotACard { .. }));
    assert!(matches!(error(&path("missing")), BusError::NotFound { .. }));
    assert!(matches!(error(&path(&"long".repeat(50))), BusError::NotFound { .. }));
    assert!(begin.elapsed() < CONNECT_TIMEOUT);
}

/// Connects to a server that accepts every request and counts as another process. Returns the files that it receives.
fn other_process() -> (Arc<VfioUser>, Receiver<File>) {
    let (near, far) = UnixStream::pair().unwrap();
    let (send, files) = channel();
    thread::spawn(move || {
        loop {
            let (mut bytes, mut fds) = ([0u8; 256], [0; 1]);
            let mut parts = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
            // SAFETY: the part has the length given, and lives until the call returns.
            let Ok((len, count)) = (unsafe { far.recv_with_fds(&mut parts, &mut fds) }) else { return };
            if len == 0 {
                return;
            }
            if count == 1 {
                // SAFETY: the descriptor was just received, and nothing else owns it.
                let _ = send.send(unsafe { File::from_raw_fd(fds[0]) });
            }
            let header = wire::Header::from_bytes(bytes[..wire::HEADER].try_into().unwrap());
            let reply = wire::Header { flags: wire::REPLY, size: wire::HEADER as u32, ..header };
            let _ = io::Write::write_all(&mut &far, &reply.to_bytes());
        }
    });
    let connection = Connection::new(near, DEADLINE).unwrap();
    let description = Description {
        kind: "vfio-user",
        location: "a test".into(),
        bars: [0; BARS],
        vectors: 0,
        msi_vectors: 0,
        intx: false,
        resettable: false,
        registers_by_system_call: true,
        page_sizes: PAGE_BYTES,
        iova_bits: 47,
        node: None,
        notes: vec![],
    };
    let shared = Arc::new(Shared { connection: Mutex::new(connection) });
    (Arc::new(VfioUser { shared, description, max_fds: 1, is_other_process: true }), files)
}

/// Returns whether a process that received the file can resize it, write to it, and map it writable.
fn permitted(file: &File) -> [bool; 3] {
    let len = file.metadata().unwrap().len();
    [
        file.set_len(0).is_ok() || file.set_len(2 * len).is_ok(),
        io::Write::write(&mut &*file, &[1]).is_ok(),
        memmap2::MmapOptions::new().map_raw(file).is_ok(),
    ]
}

#[test]
fn another_process_cannot_shrink_memory_or_write_what_it_may_only_read() {
    let (card, files) = other_process();
    let space = DmaSpace::new(card, HugePages::Prefer, None, None);
    let mut reads = space.allocate(4096, Access::CardReads).unwrap();
    let file = files.recv().unwrap();
    assert_eq!(permitted(&file), [false; 3]);
    reads.write(0, &[7u8; 4096]).unwrap();
    let writes = space.allocate(4096, Access::CardWrites).unwrap();
    let file = files.recv().unwrap();
    assert_eq!(permitted(&file), [false, true, true]);
    // An access to a hole in hugepages could raise SIGBUS. A hole in small pages reads as zeros.
    assert_eq!(writes.page(), PageSize::Base);
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the file is open, and fallocate takes only integers.
    assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), punch, 0, 2 << 20) }, 0);
    let mut bytes = [1u8; 4096];
    writes.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4096]);
}
