//! The vfio-user socket: serves one client at a time.
//!
//! One thread serves the client that has the card. It receives a message, lets the [`Device`] execute it, and sends the reply, so
//! messages take effect in the order in which they were sent.
//!
//! | thread | waits for | limit |
//! |---|---|---|
//! | `xdma listener` | clients to admit | see [`admission`](super::admission) |
//! | `xdma server` | an admitted client | until the service ends |
//! | | the client's next message | until its connection ends |
//! | | the rest of a message | 5 s, then the client is disconnected |
//! | | space for a reply | 5 s, then the client is disconnected |
//! | | the card to execute a message | none |
//!
//! Messages that a client sent before it left or was disconnected are still executed, for up to [`DRAIN`].

use super::admission::Admission;
use super::device::Device;
use super::log::lock;
use super::slot::Slot;
use super::wakeup::Wakeup;
use super::wire::{self, Message};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time limit for executing the messages of a client that no longer receives replies.
const DRAIN: Duration = Duration::from_secs(1);

/// A running service. Dropping it ends the service, regardless of what the client is doing.
pub(super) struct Service {
    path: PathBuf,
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
    /// The directory of the socket, if the caller did not specify a path.
    directory: Option<TempDir>,
}

/// The state shared by the threads.
struct Listener {
    socket: UnixListener,
    stopping: AtomicBool,
    /// The client that has the card.
    client: Mutex<Option<Arc<UnixStream>>>,
    /// Wakes the listener thread when the card becomes free or the service ends.
    wakeup: Wakeup,
}

/// A client that was just admitted.
struct Admitted {
    client: Arc<UnixStream>,
    version: Message,
}

impl Service {
    /// Serves the card in `slot` at `path`, or in a new private directory.
    pub fn start(slot: Arc<Slot>, path: Option<&Path>) -> io::Result<Self> {
        let (directory, (socket, path)) = match path {
            Some(path) => (None, listen_at(path)?),
            None => {
                let directory = private("xdma-").tempdir().map_err(|error| {
                    let remedy = "set TMPDIR to an existing directory that this user may write to";
                    io::Error::new(error.kind(), format!("{error}; {remedy}"))
                })?;
                let listening = listen(directory.path())?;
                (Some(directory), listening)
            }
        };
        socket.set_nonblocking(true)?;
        let listener = Arc::new(Listener {
            socket,
            stopping: AtomicBool::new(false),
            client: Mutex::new(None),
            wakeup: Wakeup::new()?,
        });
        let mut service = Self { path, listener, threads: Vec::new(), directory };
        let (admit, admitted) = channel();
        service.spawn("xdma server", move |listener| listener.serve(&Device::new(slot), &admitted))?;
        service.spawn("xdma listener", move |listener| listener.admit(&admit))?;
        Ok(service)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(Arc<Listener>) + Send + 'static) -> io::Result<()> {
        let listener = Arc::clone(&self.listener);
        self.threads.push(Builder::new().name(name.into()).spawn(move || run(listener))?);
        Ok(())
    }

    /// Returns a function that ends the service as if its process had died.
    pub fn shutdown_handle(&self) -> Box<dyn Fn() + Send + Sync> {
        let listener = Arc::clone(&self.listener);
        Box::new(move || listener.stop())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket: no further client can connect, and a killed process leaves no files behind.
    pub fn unlink_socket(&self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory.path());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listener.stop();
        for thread in self.threads.drain(..) {
            // A panic has already been reported by its thread.
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns a builder for directories that only this user can access, regardless of the umask.
fn private(prefix: &str) -> tempfile::Builder<'_, '_> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    builder
}

/// Listens on a socket that only this user can access, in a private directory.
fn listen(directory: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let path = directory.join("card");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok((listener, path))
}

/// Listens at `path`. Creates the socket in a temporary directory next to `path` and renames it once it is listening, so it never
/// appears at `path` before, nor with other permissions.
pub(super) fn listen_at(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let explained = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            let parent = parent.display();
            let text = format!("the directory {parent} does not exist; create it, or choose another path");
            io::Error::new(error.kind(), text)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            io::Error::new(error.kind(), format!("{error}; choose a directory that this user may write to"))
        }
        io::ErrorKind::NotADirectory => io::Error::new(
            error.kind(),
            format!("{} is not a directory; choose another path", parent.display()),
        ),
        io::ErrorKind::InvalidInput => {
            io::Error::new(error.kind(), "the path is too long for a socket; choose a shorter one")
        }
        _ => error,
    };
    let beside = private(".xdma-").tempdir_in(parent).map_err(explained)?;
    let (listener, made) = listen(beside.path()).map_err(explained)?;
    clear(path).map_err(explained)?;
    fs::rename(made, path)?;
    Ok((listener, path.to_path_buf()))
}

/// Removes a stale socket, on which no process listens, and nothing else.
fn clear(path: &Path) -> io::Result<()> {
    let is_other = |found: fs::Metadata| !found.file_type().is_socket();
    // Connecting to a regular file fails with the same error as connecting to a stale socket.
    if fs::symlink_metadata(path).is_ok_and(is_other) {
        let text = "the path exists and is not a socket; choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // The listening process does not accept connections, and its queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// Connects without blocking: fails with [`io::ErrorKind::WouldBlock`] if the listener's queue is full. The stream is
/// non-blocking too.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The standard library uses this error kind for a path that is too long.
    let address =
        SocketAddrUnix::new(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

impl Listener {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        shut(&self.socket);
        if let Some(client) = lock(&self.client).as_ref() {
            cut(client);
        }
        self.wakeup.wake();
    }

    /// Admits clients, one at a time. The serving thread ends when this function returns.
    fn admit(&self, admit: &Sender<Admitted>) {
        let mut admission = Admission::new(&self.socket, &self.wakeup);
        while !self.stopping() {
            admission.wait();
            if self.is_free()
                && let Some((client, version)) = admission.next()
                && let Err(error) = self.open(client, version, admit)
            {
                tracing::debug!("client not admitted: {error}");
            }
            admission.expire();
        }
    }

    fn is_free(&self) -> bool {
        !self.stopping() && lock(&self.client).is_none()
    }

    /// Assigns the card to a client.
    fn open(&self, client: UnixStream, version: Message, admit: &Sender<Admitted>) -> io::Result<()> {
        wire::set_timeouts(&client)?;
        let client = Arc::new(client);
        *lock(&self.client) = Some(Arc::clone(&client));
        if self.stopping() {
            cut(&client);
        }
        admit.send(Admitted { client, version }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Serves the admitted clients, one after the other.
    fn serve(&self, device: &Device, admitted: &Receiver<Admitted>) {
        for Admitted { client, version } in admitted {
            match catch_unwind(AssertUnwindSafe(|| self.converse(&client, version, device))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("connection ended: {error}"),
                Err(_) => tracing::error!("panic while executing a message; closing the connection"),
            }
            cut(&client);
            device.disconnect();
            *lock(&self.client) = None;
            self.wakeup.wake();
        }
    }

    /// Executes a client's messages, starting with VERSION, until its connection ends.
    fn converse(&self, client: &UnixStream, version: Message, device: &Device) -> io::Result<()> {
        let mut next = Some(version);
        let mut greeted = false;
        while let Some(message) = next
            && !self.stopping()
        {
            if std::mem::replace(&mut greeted, true) && message.is_version() {
                return Err(wire::malformed("a second VERSION"));
            }
            if let Some(reply) = device.handle(message)?
                && let Err(error) = reply.send(client)
            {
                tracing::debug!("cannot send replies any more: {error}");
                return self.drain(client, device);
            }
            next = Message::receive(client)?;
        }
        Ok(())
    }

    /// Executes the messages already sent by a client, such as writes without replies, after it stopped receiving replies.
    fn drain(&self, client: &UnixStream, device: &Device) -> io::Result<()> {
        // Data that has arrived can still be read after the shutdown, followed by end of file.
        cut(client);
        let end = Instant::now() + DRAIN;
        while !self.stopping()
            && Instant::now() < end
            && let Some(message) = Message::receive(client)?
        {
            device.handle(message)?;
        }
        Ok(())
    }
}

/// Ends a connection, and wakes any thread that is blocked on it.
fn cut(client: &UnixStream) {
    let _ = client.shutdown(Shutdown::Both);
}

/// Stops accepting connections.
pub(super) fn shut(listener: &UnixListener) {
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}
