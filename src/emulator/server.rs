//! The socket: who may talk to the card, one client at a time, client after client.
//!
//! Between the client and the `vfio_user` crate's server stand two threads that carry messages, checked by [`super::wire`].
//! They own both ends of every connection, so that a client can be refused, cut off, or outlived.

use super::backend::{self, Backend};
use super::log::lock;
use super::slot::Slot;
use super::wire::{self, Message, Verdict};
use crate::bus::dial::dial;
use std::fs::{self, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// How long a new client waits for one that is just going.
const GRACE: Duration = Duration::from_millis(250);

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
    free: Condvar,
}

/// The client that is served.
struct Session {
    client: UnixStream,
    server: UnixStream,
    carriers: [JoinHandle<()>; 2],
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
        let doors = Arc::new(Doors {
            outer,
            inner,
            inner_path,
            regions: backend::region_sizes(&slot.card().shared.options),
            errno: Arc::default(),
            stopping: AtomicBool::new(false),
            session: Mutex::new(None),
            free: Condvar::new(),
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
    match dial(path, GRACE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        // Somebody listens, and accepts nothing just now.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
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
        self.free.notify_all();
    }

    /// Runs the crate's server, connection after connection.
    fn serve(&self, slot: Arc<Slot>) {
        let Ok(inner) = self.inner.try_clone() else { return };
        let server = backend::server(OwnedFd::from(inner), &slot.card().shared.options);
        let mut backend = Backend::new(Arc::clone(&slot), Arc::clone(&self.errno));
        while !self.stopping() {
            match catch_unwind(AssertUnwindSafe(|| server.run(&mut backend))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) if !self.stopping() => tracing::warn!("connection ended: {error}"),
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
        self.free.notify_all();
    }

    /// Lets clients in, one at a time.
    fn admit(self: Arc<Self>) {
        while !self.stopping() {
            let admitted = match self.outer.accept() {
                _ if self.stopping() => return,
                Ok((client, _)) if self.is_free() => self.open(client),
                Ok((client, _)) => wire::refuse_client(client),
                Err(error) => Err(error),
            };
            if let Err(error) = admitted {
                tracing::debug!("client not admitted: {error}");
                // Such as too many open files: that does not pass by itself.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn is_free(&self) -> bool {
        let taken = |session: &mut Option<Session>| session.is_some() && !self.stopping();
        let waited = self.free.wait_timeout_while(lock(&self.session), GRACE, taken);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_none()
    }

    fn open(self: &Arc<Self>, client: UnixStream) -> io::Result<()> {
        let server = UnixStream::connect(&self.inner_path)?;
        let answers = Arc::new(Mutex::new(client.try_clone()?));
        let mut session = lock(&self.session);
        let commands = {
            let (mut client, mut server) = (client.try_clone()?, server.try_clone()?);
            let (answers, doors) = (Arc::clone(&answers), Arc::clone(self));
            Builder::new().name("xdma commands".into()).spawn(move || {
                if let Err(error) = doors.carry_commands(&mut client, &mut server, &answers) {
                    tracing::warn!("connection ended: {error}");
                }
                // What was sent is still carried out, then the server sees the end.
                let _ = server.shutdown(Shutdown::Write);
            })?
        };
        let replies = {
            let (mut server, client, doors) = (server.try_clone()?, client.try_clone()?, Arc::clone(self));
            Builder::new().name("xdma replies".into()).spawn(move || {
                // Either end may close at any time.
                let _ = doors.carry_replies(&mut server, &answers);
                let _ = client.shutdown(Shutdown::Both);
            })?
        };
        *session = Some(Session { client, server, carriers: [commands, replies] });
        if self.stopping() {
            session.iter().for_each(Session::cut);
        }
        Ok(())
    }

    /// Client to server, the first message being VERSION.
    fn carry_commands(
        &self,
        client: &mut UnixStream,
        server: &mut UnixStream,
        answers: &Mutex<UnixStream>,
    ) -> io::Result<()> {
        let mut greeted = false;
        while let Some(message) = Message::receive(client)? {
            greeted |= matches!(message.command(), Some(vfio_user::Command::Version));
            if !greeted {
                return Err(io::Error::other("a client that does not begin with its version"));
            }
            match message.check(&self.regions)? {
                Verdict::Forward => message.send(server)?,
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
            reply.send(&mut lock(client))?;
        }
        Ok(())
    }
}

impl Session {
    /// Ends both connections; whoever waits on them wakes up.
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Ends a blocking accept: Linux wakes it with EINVAL when its socket is shut down.
pub(super) fn wake(listener: &UnixListener) {
    if let Ok(socket) = listener.try_clone() {
        let _ = UnixStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both);
    }
}
