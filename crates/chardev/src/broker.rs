//! The broker: serves a card's device files to any number of processes.

use crate::client::Client;
use crate::device::Device;
use crate::files::Files;
use crate::wire::{Operation, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recv, sendmsg, socket_with,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The environment variable that contains the path of the broker's socket.
pub const BROKER_VARIABLE: &str = "XDMA_BROKER";
/// The environment variable that contains the broker's process ID. Clients permit this process to access their memory.
pub const BROKER_PID_VARIABLE: &str = "XDMA_BROKER_PID";

/// Maximum number of connections. Each client thread that makes calls has its own.
const MAX_CONNECTIONS: usize = 1024;
/// File descriptors for all of these, and for the card.
const MAX_DESCRIPTORS: u64 = 8192;
/// Interval at which the broker removes closed files and checks whether to stop.
const CHECK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Serves a card's device files on a Unix socket until it is dropped.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    path: PathBuf,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    connections: AtomicUsize,
    stop: AtomicBool,
}

impl Broker {
    /// Creates the socket at `path` and serves `device`.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket or the broker's thread cannot be created.
    pub fn start(device: Device, path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, 64)?;
        raise_file_limit();
        let shared = Arc::new(Shared {
            files: Files::new(device),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let acceptor = thread::Builder::new().name("broker".into());
        let acceptor = acceptor.spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
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

impl Shared {
    fn accept(self: &Arc<Self>, listener: &OwnedFd) {
        thread::scope(|scope| {
            while !self.stop.load(Ordering::Relaxed) {
                // A signal that interrupts the wait is harmless: the loop continues.
                let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&CHECK));
                self.files.sweep();
                let connection = match accept_with(listener, SocketFlags::CLOEXEC) {
                    Ok(connection) => connection,
                    Err(Errno::AGAIN) => continue,
                    Err(error) => {
                        // Without a pause, a lack of file descriptors would keep this thread busy.
                        tracing::warn!(%error, "a client could not be accepted");
                        thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                };
                if self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                    tracing::warn!(
                        "a client was refused: {MAX_CONNECTIONS} client threads are already connected"
                    );
                    continue;
                }
                let Ok(peer) = socket_peercred(&connection) else { continue };
                self.connections.fetch_add(1, Ordering::Relaxed);
                let serve = thread::Builder::new().name("client".into());
                let served = serve.spawn_scoped(scope, move || {
                    self.serve(&Client::new(connection, peer.pid));
                    self.connections.fetch_sub(1, Ordering::Relaxed);
                });
                if let Err(error) = served {
                    tracing::warn!(%error, "a client was refused: no thread could be started");
                    self.connections.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// Answers a client's requests until it disconnects.
    fn serve(&self, client: &Client) {
        while !self.stop.load(Ordering::Relaxed) {
            match poll(&mut [PollFd::new(&client.connection, PollFlags::IN)], Some(&CHECK)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return,
            }
            let mut bytes = [0; Request::BYTES + 1];
            let length = match recv(&client.connection, &mut bytes, RecvFlags::empty()) {
                Ok((0, _)) | Err(_) => return,
                Ok((length, _)) => length,
            };
            let Some(request) = Request::from_bytes(&bytes[..length]) else {
                tracing::warn!(process = ?client.process, "a client sent an invalid request");
                return;
            };
            // The request to cancel has already completed.
            if request.operation == Operation::Cancel {
                continue;
            }
            client.begin();
            if self.answer(client, &request).is_err() {
                return;
            }
        }
    }

    fn answer(&self, client: &Client, request: &Request) -> Result<(), Errno> {
        let (result, descriptor) = match request.operation {
            Operation::Open => match self.files.open(request) {
                Ok(descriptor) => (Ok(0), Some(descriptor)),
                Err(errno) => (Err(errno), None),
            },
            Operation::Map => match self.files.map(request) {
                Ok((descriptor, offset)) => (Ok(offset), Some(descriptor)),
                Err(errno) => (Err(errno), None),
            },
            Operation::Check => (self.files.check(request).map(|node| self.files.size(node)), None),
            _ => (self.files.call(client, request), None),
        };
        let result = result.map_or_else(|errno| -i64::from(errno.raw_os_error()), |value| value as i64);
        let reply = Reply { result }.to_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        if !descriptors.is_empty() {
            rights.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        // A client that does not receive its replies is disconnected.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&client.connection, &[IoSlice::new(&reply)], &mut rights, flags).map(drop)
    }
}

/// Allows as many open files as the limits above need, if the system does.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(MAX_DESCRIPTORS, |maximum| maximum.min(MAX_DESCRIPTORS));
    if limit.current.is_some_and(|soft| soft < current) {
        // If it fails, clients are refused sooner.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}
