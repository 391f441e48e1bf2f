//! The socket: who may talk to the card, one client at a time, client after client.
//!
//! Between the client and the `vfio_user` crate's server stand two threads that carry messages, checked by [`super::wire`].
//! They own both ends of every connection, so that a client can be refused, cut off, or outlived.
//!
//! | thread | waits for | at most |
//! |---|---|---|
//! | `xdma server` | the client's next message | until its connection ends |
//! | | the thread of replies to take one | as long as that takes |
//! | `xdma door` | clients that want to be admitted | see [`admission`](super::admission) |
//! | `xdma commands` | the client's next message | until its connection ends |
//! | | the rest of a message, space for a refusal | 5 s each |
//! | | the server to take a message | as long as the server takes for those before it |
//! | `xdma replies` | space for a reply to the client | 5 s, then the client is cut off |
//! | | replies to a client that is gone | [`DRAIN`], then the server is cut off too |

use super::admission::Admission;
use super::backend::{self, Backend};
use super::log::lock;
use super::slot::Slot;
use super::wakeup::Wakeup;
use super::wire::{self, Message, Verdict};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
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
    /// Holds the inner socket, and the outer one where no path was asked for.
    directory: TempDir,
}

/// What the threads share.
struct Doors {
    outer: UnixListener,
    inner: UnixListener,
    inner_path: PathBuf,
    regions: Vec<u64>,
    /// Of the last error that the card returned.
    errno: Arc<AtomicI32>,
    stopping: AtomicBool,
    session: Mutex<Option<Session>>,
    /// Wakes the thread that admits clients: the card is free, or everything ends.
    wakeup: Wakeup,
}

/// The client that is served.
struct Session {
    ends: Ends,
    carriers: [JoinHandle<()>; 2],
}

/// Connections to a client, and to the server on its behalf.
struct Ends {
    client: UnixStream,
    server: UnixStream,
}

impl Service {
    /// Serves the card in `slot` at `path`, or in a directory of its own.
    pub fn start(slot: Arc<Slot>, path: Option<&Path>) -> io::Result<Self> {
        // The directory is private, so the inner socket is nobody else's.
        let directory = private("xdma-").tempdir()?;
        let inner_path = directory.path().join("inner");
        let inner = UnixListener::bind(&inner_path)?;
        let (outer, path) = match path {
            None => listen(directory.path())?,
            Some(path) => listen_at(path)?,
        };
        outer.set_nonblocking(true)?;
        let doors = Arc::new(Doors {
            outer,
            inner,
            inner_path,
            regions: backend::region_sizes(&slot.card().shared.options),
            errno: Arc::default(),
            stopping: AtomicBool::new(false),
            session: Mutex::new(None),
            wakeup: Wakeup::new()?,
        });
        let mut service = Self { path, doors, threads: Vec::new(), directory };
        service.spawn("xdma server", move |doors| doors.serve(slot))?;
        service.spawn("xdma door", |doors| doors.admit())?;
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

    /// Removes the sockets: nobody is let in any more, and a process that is killed leaves nothing behind.
    pub fn hide(&self) {
        let _ = fs::remove_dir_all(self.directory.path());
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
        for listener in [&self.outer, &self.inner] {
            wake(listener);
        }
        if let Some(session) = lock(&self.session).as_ref() {
            session.cut();
        }
        self.wakeup.wake();
    }

    /// Runs the crate's server, connection after connection.
    fn serve(&self, slot: Arc<Slot>) {
        let Ok(inner) = self.inner.try_clone() else { return };
        let server = backend::server(OwnedFd::from(inner), &slot.card().shared.options);
        let mut backend = Backend::new(Arc::clone(&slot), Arc::clone(&self.errno));
        while !self.stopping() {
            match catch_unwind(AssertUnwindSafe(|| server.run(&mut backend))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !self.stopping() => {
                    tracing::warn!("connection ended: {error}");
                    // Such as too many open files: that does not pass by itself.
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(Err(_)) => {}
                Err(_) => tracing::error!("the vfio-user server panicked; its connection is closed"),
            }
            slot.card().disconnect();
            self.release();
        }
    }

    /// Ends the session, and then lets the next client in.
    fn release(&self) {
        let session = lock(&self.session).take();
        if let Some(session) = session {
            session.cut();
            for carrier in session.carriers {
                let _ = carrier.join();
            }
        }
        self.wakeup.wake();
    }

    /// Lets clients in, one at a time.
    fn admit(self: Arc<Self>) {
        let mut admission = Admission::new(&self.outer, &self.wakeup, &self.regions);
        while !self.stopping() {
            admission.wait();
            if self.is_free()
                && let Some((client, greeting)) = admission.next()
                && let Err(error) = self.open(client, greeting)
            {
                tracing::debug!("client not admitted: {error}");
            }
            admission.refuse_late();
        }
    }

    fn is_free(&self) -> bool {
        !self.stopping() && lock(&self.session).is_none()
    }

    fn open(self: &Arc<Self>, client: UnixStream, greeting: Message) -> io::Result<()> {
        wire::limit_waits(&client)?;
        let mut session = lock(&self.session);
        let server = UnixStream::connect(&self.inner_path)?;
        *session = Some(self.start(client, server, greeting)?);
        if self.stopping() {
            session.iter().for_each(Session::cut);
        }
        Ok(())
    }

    /// Starts the threads that carry messages, or none of them.
    fn start(
        self: &Arc<Self>,
        client: UnixStream,
        server: UnixStream,
        greeting: Message,
    ) -> io::Result<Session> {
        let ends = Ends { client, server };
        let answers = Arc::new(Mutex::new(ends.client.try_clone()?));
        let commands = {
            let (doors, answers, mut ends) = (Arc::clone(self), Arc::clone(&answers), ends.try_clone()?);
            Builder::new().name("xdma commands".into()).spawn(move || {
                if let Err(error) = doors.carry_commands(&mut ends, &greeting, &answers) {
                    tracing::warn!("connection ended: {error}");
                }
                // What was sent is still carried out, then the server sees the end.
                let _ = ends.server.shutdown(Shutdown::Write);
            })?
        };
        let replies = {
            let (doors, copy) = (Arc::clone(self), ends.try_clone());
            let carry = |mut ends: Ends| {
                Builder::new().name("xdma replies".into()).spawn(move || {
                    // Either end may close at any time.
                    if let Err(error) = doors.carry_replies(&mut ends.server, &answers) {
                        tracing::debug!("no more replies: {error}");
                        drain(&mut ends);
                    }
                    // The server must not wait for somebody to take its replies.
                    ends.cut();
                })
            };
            copy.and_then(carry).inspect_err(|_| ends.cut())?
        };
        Ok(Session { ends, carriers: [commands, replies] })
    }

    /// Client to server, from the greeting on.
    fn carry_commands(
        &self,
        ends: &mut Ends,
        greeting: &Message,
        answers: &Mutex<UnixStream>,
    ) -> io::Result<()> {
        greeting.forward(&mut ends.server)?;
        while let Some(message) = Message::receive(&mut ends.client)? {
            match message.check(&self.regions)? {
                Verdict::Forward => message.forward(&mut ends.server)?,
                Verdict::Refuse(errno) => message.refuse(&mut lock(answers), errno)?,
            }
        }
        Ok(())
    }

    /// Server to client. The crate's server does not say which error it reports, so that is filled in.
    fn carry_replies(&self, server: &mut UnixStream, client: &Mutex<UnixStream>) -> io::Result<()> {
        while let Some(mut reply) = Message::receive(server)? {
            if reply.is_vague() {
                reply.set_errno(self.errno.load(Ordering::SeqCst));
            }
            reply.reply(&mut lock(client))?;
        }
        Ok(())
    }
}

impl Session {
    fn cut(&self) {
        self.ends.cut();
    }
}

impl Ends {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { client: self.client.try_clone()?, server: self.server.try_clone()? })
    }

    /// Ends both connections; whoever waits on them wakes up.
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Lets the server carry out what the client had sent, such as writes without replies, when there is nobody to take its replies.
fn drain(ends: &mut Ends) {
    let _ = ends.client.shutdown(Shutdown::Both);
    let (end, mut replies) = (Instant::now() + DRAIN, [0; 4096]);
    if ends.server.set_read_timeout(Some(DRAIN)).is_err() {
        return;
    }
    while Instant::now() < end && ends.server.read(&mut replies).is_ok_and(|n| n > 0) {}
}

/// Ends a blocking accept: Linux wakes it with EINVAL when its socket is shut down.
pub(super) fn wake(listener: &UnixListener) {
    if let Ok(socket) = listener.try_clone() {
        let _ = UnixStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both);
    }
}
