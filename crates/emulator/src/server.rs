//! The socket: who may talk to the card, one client at a time, client after client.
//!
//! One thread serves the client that has the card: it receives a message, has the [`Device`] carry it out, and sends the reply,
//! so that messages take effect in the order in which they were sent.
//!
//! | thread | waits for | at most |
//! |---|---|---|
//! | `xdma door` | clients that want to be admitted | see [`admission`](super::admission) |
//! | `xdma server` | a client that was admitted | until the service ends |
//! | | the client's next message | until its connection ends |
//! | | the rest of a message | 5 s, then the client is cut off |
//! | | space for a reply | 5 s, then the client is cut off |
//! | | the card to carry a message out | as long as the card takes |
//!
//! What a client had sent before it was gone, or cut off, is still carried out, for [`DRAIN`].

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

/// How long what a client has sent is still carried out once it takes no replies any more.
const DRAIN: Duration = Duration::from_secs(1);

/// A card being served. Dropping it ends that, whatever a client does.
pub(super) struct Service {
    path: PathBuf,
    doors: Arc<Doors>,
    threads: Vec<JoinHandle<()>>,
    /// Holds the socket where no path was asked for.
    directory: Option<TempDir>,
}

/// What the threads share.
struct Doors {
    listener: UnixListener,
    stopping: AtomicBool,
    /// The client that has the card.
    client: Mutex<Option<Arc<UnixStream>>>,
    /// Wakes the thread that admits clients: the card is free, or everything ends.
    wakeup: Wakeup,
}

/// A client that has the card from now on.
struct Admitted {
    client: Arc<UnixStream>,
    greeting: Message,
}

impl Service {
    /// Serves the card in `slot` at `path`, or in a directory of its own.
    pub fn start(slot: Arc<Slot>, path: Option<&Path>) -> io::Result<Self> {
        let (directory, (listener, path)) = match path {
            Some(path) => (None, listen_at(path)?),
            None => {
                let directory = private("xdma-").tempdir()?;
                let listening = listen(directory.path())?;
                (Some(directory), listening)
            }
        };
        listener.set_nonblocking(true)?;
        let doors = Arc::new(Doors {
            listener,
            stopping: AtomicBool::new(false),
            client: Mutex::new(None),
            wakeup: Wakeup::new()?,
        });
        let mut service = Self { path, doors, threads: Vec::new(), directory };
        let (admit, admitted) = channel();
        service.spawn("xdma server", move |doors| doors.serve(&Device::new(slot), &admitted))?;
        service.spawn("xdma door", move |doors| doors.admit(&admit))?;
        Ok(service)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce(Arc<Doors>) + Send + 'static) -> io::Result<()> {
        let doors = Arc::clone(&self.doors);
        self.threads.push(Builder::new().name(name.into()).spawn(move || run(doors))?);
        Ok(())
    }

    /// What ends the service, as if its process had died.
    pub fn leave(&self) -> Box<dyn Fn() + Send + Sync> {
        let doors = Arc::clone(&self.doors);
        Box::new(move || doors.stop())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the socket: nobody is let in any more, and a process that is killed leaves nothing behind.
    pub fn hide(&self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = &self.directory {
            let _ = fs::remove_dir(directory.path());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.doors.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Directories for this user only, whatever the umask.
fn private(prefix: &str) -> tempfile::Builder<'_, '_> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    builder
}

/// Listens at a socket, for this user only, in a directory that is private.
fn listen(directory: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let path = directory.join("card");
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok((listener, path))
}

/// Listens at `path`. The socket is made beside it and renamed when it listens, so that it is never seen before, or with other
/// permissions.
pub(super) fn listen_at(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let explained = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), format!("there is no directory {}", parent.display()))
        }
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

/// Makes room for a socket: one that nobody listens to any more is removed, and nothing else ever.
fn clear(path: &Path) -> io::Result<()> {
    let is_other = |found: fs::Metadata| !found.file_type().is_socket();
    // To connect to a file is refused like to a socket that was left behind.
    if fs::symlink_metadata(path).is_ok_and(is_other) {
        let text = "something that is no socket is there, and stays; choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // The queue of a process that does not look after it is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// Connects at once, or fails with [`io::ErrorKind::WouldBlock`]: a full queue would be waited for without end. The stream does
/// not block either.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The standard library's kind for a path that is too long.
    let address =
        SocketAddrUnix::new(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

impl Doors {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        shut(&self.listener);
        if let Some(client) = lock(&self.client).as_ref() {
            cut(client);
        }
        self.wakeup.wake();
    }

    /// Lets clients in, one at a time. The server ends when this does.
    fn admit(&self, admit: &Sender<Admitted>) {
        let mut admission = Admission::new(&self.listener, &self.wakeup);
        while !self.stopping() {
            admission.wait();
            if self.is_free()
                && let Some((client, greeting)) = admission.next()
                && let Err(error) = self.open(client, greeting, admit)
            {
                tracing::debug!("client not admitted: {error}");
            }
            admission.refuse_late();
        }
    }

    fn is_free(&self) -> bool {
        !self.stopping() && lock(&self.client).is_none()
    }

    /// Gives the card to a client.
    fn open(&self, client: UnixStream, greeting: Message, admit: &Sender<Admitted>) -> io::Result<()> {
        wire::limit_waits(&client)?;
        let client = Arc::new(client);
        *lock(&self.client) = Some(Arc::clone(&client));
        if self.stopping() {
            cut(&client);
        }
        admit.send(Admitted { client, greeting }).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Serves those who are admitted, one after the other.
    fn serve(&self, device: &Device, admitted: &Receiver<Admitted>) {
        for Admitted { client, greeting } in admitted {
            match catch_unwind(AssertUnwindSafe(|| self.converse(&client, greeting, device))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("connection ended: {error}"),
                Err(_) => tracing::error!("the card panicked over a message; its connection is closed"),
            }
            cut(&client);
            device.disconnect();
            *lock(&self.client) = None;
            self.wakeup.wake();
        }
    }

    /// Carries out what a client sends, from its greeting on, until its connection ends.
    fn converse(&self, client: &UnixStream, greeting: Message, device: &Device) -> io::Result<()> {
        let mut next = Some(greeting);
        while let Some(message) = next
            && !self.stopping()
        {
            if let Some(reply) = device.answer(message)?
                && let Err(error) = reply.send(client)
            {
                tracing::debug!("no more replies: {error}");
                return self.drain(client, device);
            }
            next = Message::receive(client)?;
        }
        Ok(())
    }

    /// Carries out what a client had sent, such as writes without replies, when there is nobody to take replies.
    fn drain(&self, client: &UnixStream, device: &Device) -> io::Result<()> {
        // What has arrived can still be received, and then comes the end.
        cut(client);
        let end = Instant::now() + DRAIN;
        while !self.stopping()
            && Instant::now() < end
            && let Some(message) = Message::receive(client)?
        {
            device.answer(message)?;
        }
        Ok(())
    }
}

/// Ends a connection, and wakes any thread that is blocked on it.
fn cut(client: &UnixStream) {
    let _ = client.shutdown(Shutdown::Both);
}

/// Lets nobody connect any more.
pub(super) fn shut(listener: &UnixListener) {
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}
