//! The broker: serves a card's device files to any number of processes.

use crate::client::{Client, Shared};
use crate::device::Device;
use crate::files::{Files, Recent, has_hung_up};
#[cfg(target_arch = "x86_64")]
use crate::rseq;
use crate::slot::Slot;
use crate::wire::{Operation, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, chmod};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, UCred, accept_with, bind, listen, socket_with,
};
use rustix::process::{Pid, Resource, Rlimit, geteuid, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The environment variable that contains the path of the broker's socket.
pub const BROKER_VARIABLE: &str = "XDMA_BROKER";
/// The environment variable that contains the broker's process ID. Clients permit this process to access their memory.
pub const BROKER_PID_VARIABLE: &str = "XDMA_BROKER_PID";

/// Maximum number of connections. Each client thread that makes calls has its own.
const MAX_CONNECTIONS: usize = 8192;
/// Maximum number of connections with shared memory. Each needs two windows.
const MAX_SHARING: usize = 64;
/// Number of file descriptors for all of these, and for the card.
const MAX_DESCRIPTORS: u64 = 16384;
/// Interval at which the broker removes closed files and checks whether to stop.
const CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Serves a card's device files on a Unix socket until it is dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<State>,
    path: PathBuf,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    files: Files,
    /// The process of each connection.
    connections: Mutex<Vec<Pid>>,
    sharing: Mutex<Vec<Arc<Entry>>>,
    stop: AtomicBool,
}

/// A client that sleeps on shared memory.
#[derive(Debug)]
struct Entry {
    slot: Arc<Slot>,
    connection: Arc<OwnedFd>,
    closed: AtomicBool,
}

/// Removes the entry of a client when its thread ends.
struct Sharing<'a> {
    broker: &'a State,
    entry: Arc<Entry>,
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        self.broker.sharing_entries().retain(|entry| !Arc::ptr_eq(entry, &self.entry));
    }
}

impl Broker {
    /// Creates the socket at `path` and serves `device`.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket or the broker's thread cannot be created.
    pub fn start(device: Device, path: &Path) -> io::Result<Self> {
        // The second name is for processes that have changed their root directory, and so cannot reach the path.
        let abstract_name = SocketAddrUnix::new_abstract_name(path.as_os_str().as_bytes())?;
        let listeners = [listen_at(&SocketAddrUnix::new(path)?)?, listen_at(&abstract_name)?];
        // A process that changes its user keeps its access, see `admits`.
        chmod(path, Mode::RWXU | Mode::RWXG | Mode::RWXO)?;
        raise_file_limit();
        let shared = Arc::new(State {
            files: Files::new(device),
            connections: Mutex::default(),
            sharing: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let acceptor = thread::Builder::new().name("broker".into());
        let acceptor = acceptor.spawn({
            let shared = shared.clone();
            move || shared.accept(&listeners)
        })?;
        Ok(Self { shared, path: path.into(), acceptor: Some(acceptor) })
    }

    /// Returns the path of the socket, for [`BROKER_VARIABLE`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of open files.
    pub fn open_files(&self) -> usize {
        self.shared.files.count()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.files.cancel_all();
        if let Some(acceptor) = self.acceptor.take() {
            // If the thread panicked, its message is already printed.
            let _ = acceptor.join();
        }
        // The socket may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Creates a socket that listens at an address.
fn listen_at(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, address)?;
    listen(&listener, 64)?;
    Ok(listener)
}

impl State {
    fn accept(self: &Arc<Self>, listeners: &[OwnedFd; 2]) {
        thread::scope(|scope| {
            while !self.is_stopping() {
                let mut ready = listeners.each_ref().map(|listener| PollFd::new(listener, PollFlags::IN));
                // A signal that interrupts the wait is harmless: the loop continues.
                let _ = poll(&mut ready, Some(&CHECK));
                self.files.sweep();
                self.wake_closed();
                let accepted = match accept_with(&listeners[0], SocketFlags::CLOEXEC) {
                    Err(Errno::AGAIN) => accept_with(&listeners[1], SocketFlags::CLOEXEC),
                    accepted => accepted,
                };
                let connection = match accepted {
                    Ok(connection) => connection,
                    Err(Errno::AGAIN) => continue,
                    Err(error) => {
                        // Without a pause, a lack of file descriptors would keep this thread busy.
                        tracing::warn!(%error, "a client could not be accepted");
                        thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                };
                let Ok(peer) = socket_peercred(&connection) else { continue };
                if !self.admits(&peer) {
                    continue;
                }
                self.connections().push(peer.pid);
                let serve = thread::Builder::new().name("client".into());
                let served = serve.spawn_scoped(scope, move || {
                    #[cfg(target_arch = "x86_64")]
                    rseq::unregister();
                    self.serve(&Client::new(connection, peer.pid));
                    self.remove(peer.pid);
                });
                if let Err(error) = served {
                    tracing::warn!(%error, "a client was refused: no thread could be started");
                    self.remove(peer.pid);
                }
            }
            while !self.connections().is_empty() {
                self.wake_closed();
                thread::sleep(Duration::from_millis(1));
            }
        });
    }

    /// Returns whether to serve a new connection: from a process of this user or the administrator, or from one that was
    /// admitted before it changed its user.
    fn admits(&self, peer: &UCred) -> bool {
        let connections = self.connections();
        if connections.len() >= MAX_CONNECTIONS {
            tracing::warn!("a client was refused: {MAX_CONNECTIONS} client threads are already connected");
            return false;
        }
        let admitted = peer.uid.is_root() || peer.uid == geteuid() || connections.contains(&peer.pid);
        if !admitted {
            tracing::warn!(process = ?peer.pid, user = peer.uid.as_raw(), "a client of another user was refused");
        }
        admitted
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a connection of a process.
    fn remove(&self, process: Pid) {
        let mut connections = self.connections();
        if let Some(at) = connections.iter().position(|other| *other == process) {
            connections.swap_remove(at);
        }
    }

    /// Answers a client's requests until it disconnects.
    fn serve(&self, client: &Client) {
        while !self.is_stopping() {
            let request = match client.next() {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(errno) => return warn_of(client, errno),
            };
            if request.operation == Operation::Share {
                match self.share(client) {
                    Ok(Some((sharing, shared))) => {
                        return self.serve_shared(client, &sharing.entry, &shared.slot);
                    }
                    Ok(None) => continue,
                    Err(_) => return,
                }
            }
            // The request to cancel has already completed.
            if request.operation != Operation::Cancel
                && self.answer(client, &mut Recent::default(), request).is_err()
            {
                return;
            }
        }
    }

    /// Answers the requests in a client's slot until it disconnects.
    fn serve_shared(&self, client: &Client, entry: &Entry, slot: &Slot) {
        let mut recent = Recent::default();
        loop {
            // Before the checks, so that a wake-up after them is noticed.
            let seen = slot.turn();
            if self.is_stopping() || entry.closed.load(Ordering::Relaxed) {
                return;
            }
            let answered = match slot.next(seen) {
                Some(Ok(request)) => self.answer(client, &mut recent, request),
                Some(Err(errno)) => return warn_of(client, errno),
                None => Ok(()),
            };
            if answered.is_err() {
                return;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Executes a request and sends the reply. The shortest path, that of a transfer, is inlined as a whole.
    #[inline(always)]
    fn answer(&self, client: &Client, recent: &mut Recent, request: Request) -> Result<(), Errno> {
        client.begin(&request);
        if request.operation.is_transfer() {
            let result = self.files.transfer_again(recent, client, &request);
            return client.reply(result.map_or_else(failed, |value| value as i64));
        }
        // Take the address of a copy only, so that a transfer does not store the request in memory first.
        let copy = request;
        self.answer_other(client, &copy)
    }

    #[inline(never)]
    fn answer_other(&self, client: &Client, request: &Request) -> Result<(), Errno> {
        let result = match request.operation {
            Operation::Open | Operation::Map => return self.answer_with_descriptor(client, request),
            Operation::Check => self.files.check(request).map(|node| self.files.size(node)),
            _ => self.files.call(client, request),
        };
        client.reply(result.map_or_else(failed, |value| value as i64))
    }

    #[cold]
    fn answer_with_descriptor(&self, client: &Client, request: &Request) -> Result<(), Errno> {
        let result = match request.operation {
            Operation::Open => self.files.open(request).map(|descriptor| (descriptor, 0)),
            _ => self.files.map(request),
        };
        match result {
            Ok((descriptor, value)) => client.reply_with(value as i64, &[descriptor.as_fd()]),
            Err(errno) => client.reply(failed(errno)),
        }
    }

    /// Gives a client shared memory. If none is left, replies with an error, and the client continues without shared memory.
    fn share<'a>(&self, client: &'a Client) -> Result<Option<(Sharing<'_>, &'a Shared)>, Errno> {
        match self.sharing(client) {
            Ok((sharing, shared, slot)) => {
                let [h2c, c2h] = &shared.windows;
                client.reply_with(0, &[slot.as_fd(), h2c.file().as_fd(), c2h.file().as_fd()])?;
                Ok(Some((sharing, client.share(shared))))
            }
            Err(errno) => client.reply(failed(errno)).map(|()| None),
        }
    }

    fn sharing(&self, client: &Client) -> Result<(Sharing<'_>, Shared, File), Errno> {
        let mut entries = self.sharing_entries();
        if entries.len() >= MAX_SHARING {
            return Err(Errno::NOSPC);
        }
        let (slot, file) = Slot::create().map_err(|_| Errno::NOMEM)?;
        let slot = Arc::new(slot);
        let windows = self.files.windows()?;
        let entry = Arc::new(Entry {
            slot: slot.clone(),
            connection: client.connection.clone(),
            closed: AtomicBool::new(false),
        });
        entries.push(entry.clone());
        Ok((Sharing { broker: self, entry }, Shared { slot, windows }, file))
    }

    fn sharing_entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.sharing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the threads whose client has disconnected, or all threads if the broker stops. They sleep on a futex, so the end
    /// of the connection does not wake them.
    fn wake_closed(&self) {
        let stop = self.is_stopping();
        for entry in self.sharing_entries().iter().filter(|entry| stop || has_hung_up(&entry.connection)) {
            entry.closed.store(true, Ordering::Relaxed);
            entry.slot.wake();
        }
    }
}

/// Reports a client that violates the protocol.
fn warn_of(client: &Client, errno: Errno) {
    if errno == Errno::PROTO {
        tracing::warn!(process = ?client.process, "a client sent an invalid request");
    }
}

fn failed(errno: Errno) -> i64 {
    -i64::from(errno.raw_os_error())
}

/// Raises the limit of open files to what the limits above need, if the system permits it.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(MAX_DESCRIPTORS, |maximum| maximum.min(MAX_DESCRIPTORS));
    if limit.current.is_some_and(|soft| soft < current) {
        // If it fails, clients are refused sooner.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}
