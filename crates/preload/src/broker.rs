//! The connections to the broker. Each thread that makes calls has its own.

use crate::window::Shared;
use crate::{cancel, errno, real, startup, table};
use libc::{c_int, c_void};
use std::cell::Cell;
use std::fs::File;
use std::mem::offset_of;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use xdma_chardev::{Operation, Reply, Request};

/// The lowest file descriptor for connections, and for the driver's files. Programs rarely use file descriptors in this range.
pub const LOWEST: c_int = 500;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Incremented in a child process, and when the program replaces a connection's file descriptor. Connections of earlier
/// generations are not used.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static BROKER: OnceLock<Option<Vec<u8>>> = OnceLock::new();

/// The file descriptors in a reply.
type Files = [Option<File>; 3];

/// A thread's connection.
struct Connection {
    socket: c_int,
    /// `None` if the broker shares no memory.
    shared: Option<Shared>,
    id: u64,
    generation: u32,
}

thread_local! {
    /// Empty while a request is in progress. A signal handler that makes a call in the meantime uses a connection of its own.
    static CONNECTION: Cell<Option<Box<Connection>>> = const { Cell::new(None) };
}

/// Invalidates the connections of all threads, in a child process or when the program has replaced a connection's file
/// descriptor.
pub fn invalidate() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The program may have replaced the file descriptor with one of its own.
        if table::is_internal_with(self.socket, self.id) {
            table::clear(self.socket);
            // SAFETY: the socket belongs to this library.
            cancel::disabled(|| unsafe { real::close(self.socket) });
        }
    }
}

impl Connection {
    #[cold]
    fn new() -> Result<Box<Self>, c_int> {
        let path = BROKER.get_or_init(|| Some(std::env::var_os("XDMA_BROKER")?.into_encoded_bytes()));
        let path = path.as_deref().ok_or(libc::ENOENT)?;
        // SAFETY: plain system calls.
        unsafe {
            let socket = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
            if socket < 0 {
                return Err(errno::get());
            }
            // If no file descriptor in that range is free, keep the low one.
            let moved = real::fcntl(socket, libc::F_DUPFD_CLOEXEC, LOWEST as usize as *mut c_void);
            let socket = if moved >= 0 {
                real::close(socket);
                moved
            } else {
                socket
            };
            let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
            table::set_internal(socket, id);
            let generation = GENERATION.load(Ordering::Relaxed);
            let mut this = Self { socket, shared: None, id, generation };
            // A process that has changed its root directory cannot reach the path. After the broker has exited, any process can
            // listen at the second address.
            if this.connect(&[path])? || this.connect(&[b"\0", path])? && this.is_with_broker() {
                this.share()?;
                return Ok(Box::new(this));
            }
            // The broker has exited, so the card is no longer available.
            Err(libc::ENODEV)
        }
    }

    /// Connects to the address that `parts` form together. Returns false if nothing listens there.
    fn connect(&self, parts: &[&[u8]]) -> Result<bool, c_int> {
        // SAFETY: a zeroed address is valid.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length >= address.sun_path.len() {
            return Err(libc::ENAMETOOLONG);
        }
        for (to, from) in address.sun_path.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from as libc::c_char;
        }
        let length = (offset_of!(libc::sockaddr_un, sun_path) + length) as libc::socklen_t;
        loop {
            // SAFETY: a plain system call; the address is valid for the call.
            match unsafe { libc::connect(self.socket, (&raw const address).cast(), length) } {
                0 => return Ok(true),
                _ if errno::get() == libc::EINTR => {}
                _ => return Ok(false),
            }
        }
    }

    /// Returns whether the other side is the broker that `xdma run` has started.
    fn is_with_broker(&self) -> bool {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of_val(&peer) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        // SAFETY: a plain system call; the pointers are valid for the call.
        let result =
            unsafe { libc::getsockopt(self.socket, level, option, (&raw mut peer).cast(), &raw mut length) };
        result == 0 && peer.pid > 0 && peer.pid as u64 == startup::broker_process()
    }

    /// Requests shared memory from the broker.
    fn share(&mut self) -> Result<(), c_int> {
        let (result, files) = self.call_over_socket(&Request::new(Operation::Share, 0))?;
        if result == 0
            && let [Some(slot), Some(h2c), Some(c2h)] = &files
        {
            // The broker waits for requests in the slot from now on.
            self.shared = Some(Shared::new(slot, [h2c, c2h]).ok_or(libc::ENOMEM)?);
        }
        Ok(())
    }

    /// Executes a request whose reply has no file descriptor.
    #[inline(always)]
    fn call(&self, request: Request) -> Result<i64, c_int> {
        match &self.shared {
            Some(shared) => shared.call(&request, self.socket),
            None => {
                let copy = request;
                let result = self.call_without_sharing(&copy)?;
                Ok(result)
            }
        }
    }

    #[inline(never)]
    fn call_without_sharing(&self, request: &Request) -> Result<i64, c_int> {
        cancel::disabled(|| self.call_over_socket(request)).map(|(result, _)| result)
    }

    /// Executes a request whose reply may have a file descriptor.
    fn call_for_descriptor(&self, request: &Request) -> Result<(i64, Option<c_int>), c_int> {
        let (result, [file, ..]) = match &self.shared {
            None => self.call_over_socket(request)?,
            Some(shared) => match shared.call(request, self.socket)? {
                error if error < 0 => return Ok((error, None)),
                _ => self.receive().map_err(|_| libc::ENODEV)?,
            },
        };
        Ok((result, file.map(IntoRawFd::into_raw_fd)))
    }

    /// Sends a request and waits for the reply. A signal cancels the request if its handler does not restart system calls.
    fn call_over_socket(&self, request: &Request) -> Result<(i64, Files), c_int> {
        self.send(request)?;
        let mut cancelled = false;
        loop {
            match self.receive() {
                Ok(reply) => return Ok(reply),
                Err(libc::EINTR) if !cancelled => {
                    cancelled = true;
                    self.send(&Request::new(Operation::Cancel, request.file))?;
                }
                Err(libc::EINTR) => {}
                Err(_) => return Err(libc::ENODEV),
            }
        }
    }

    fn send(&self, request: &Request) -> Result<(), c_int> {
        let bytes = request.to_bytes();
        // SAFETY: the buffer is valid for the call.
        let send =
            || unsafe { libc::send(self.socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        loop {
            match send() {
                sent if sent == bytes.len() as isize => return Ok(()),
                -1 if errno::get() == libc::EINTR => {}
                _ => return Err(libc::ENODEV),
            }
        }
    }

    fn receive(&self) -> Result<(i64, Files), c_int> {
        let mut bytes = [0u8; Reply::BYTES];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // Enough space for the file descriptors, aligned for their header.
        let mut control = [0u64; 4];
        let mut files = Files::default();
        // SAFETY: all pointers are valid for the call. The received file descriptors belong to nothing else.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control);
            let received = libc::recvmsg(self.socket, &raw mut message, libc::MSG_CMSG_CLOEXEC);
            if received < 0 {
                return Err(errno::get());
            }
            if let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_ref()
                && (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS)
            {
                let length = header.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<c_int>();
                for (at, file) in files.iter_mut().enumerate().take(length / size_of::<c_int>()) {
                    *file = Some(File::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            let reply = Reply::from_bytes(&bytes[..received as usize]).ok_or(libc::EIO)?;
            Ok((reply.result, files))
        }
    }
}

/// Executes a request whose reply has no file descriptor. Returns the result.
#[inline(always)]
pub fn call(request: Request) -> Result<i64, c_int> {
    // Without `with_connection`, whose closure prevents inlining all of this in the caller.
    let Ok(place) = CONNECTION.try_with(std::ptr::from_ref) else {
        let copy = request;
        let result = call_of_exiting_thread(&copy)?;
        return Ok(result);
    };
    // SAFETY: the variable lives until its thread ends.
    let place = unsafe { &*place };
    let connection = take(place)?;
    let result = connection.call(request)?;
    place.set(Some(connection));
    Ok(result)
}

/// Executes a request of a thread whose connection was already destroyed.
#[cold]
#[inline(never)]
fn call_of_exiting_thread(request: &Request) -> Result<i64, c_int> {
    cancel::disabled(Connection::new)?.call(*request)
}

/// Takes this thread's connection, or opens a new one.
#[inline(always)]
fn take(place: &Cell<Option<Box<Connection>>>) -> Result<Box<Connection>, c_int> {
    let generation = GENERATION.load(Ordering::Relaxed);
    match place.take() {
        Some(connection) if connection.generation == generation => Ok(connection),
        _ => {
            let connection = cancel::disabled(Connection::new)?;
            Ok(connection)
        }
    }
}

/// Executes a request. Returns the result, and the file descriptor in the reply, if any.
pub fn call_for_descriptor(request: &Request) -> Result<(i64, Option<c_int>), c_int> {
    with_connection(|connection| connection.call_for_descriptor(request))
}

/// Passes this thread's connection to `body`. If `body` fails, the connection is closed.
fn with_connection<R>(body: impl Fn(&Connection) -> Result<R, c_int>) -> Result<R, c_int> {
    let call = |place: &Cell<Option<Box<Connection>>>| {
        let connection = take(place)?;
        let result = body(&connection)?;
        place.set(Some(connection));
        Ok(result)
    };
    // While a thread exits, its connection may already have been destroyed.
    CONNECTION.try_with(call).unwrap_or_else(|_| call(&Cell::new(None)))
}
