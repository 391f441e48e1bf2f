//! Orders to an emulated card from outside its process: what a test in a virtual machine tells the card that its host serves.
//!
//! Over a socket, or a serial line behind which one is, go lines of JSON: one request, one answer with the same `id`.
//!
//! | request | answer |
//! |---|---|
//! | `{"id":1,"body":"Options"}` | `{"id":1,"body":{"Ok":{"Options":{"profile":"F1",...}}}}` |
//! | `{"id":2,"body":{"Load":{"options":{"seed":7},"design":"Memory"}}}` | `{"id":2,"body":{"Ok":"Done"}}` |
//! | `{"id":3,"body":{"Inject":{"fault":"LinkDown"}}}` | `{"id":3,"body":{"Ok":"Done"}}` |
//! | `{"id":4,"body":{"Inject":{"fault":"BadMagic","on":{"direction":"H2C","index":9}}}}` | `{"id":4,"body":{"Err":"the card has no channel H2C 9"}}` |
//! | `{"id":5,"body":"Log"}` | `{"id":5,"body":{"Ok":{"Log":{"violations":[],"faults":[],"counters":{...},"struck":{}}}}}` |
//!
//! Options that a request leaves out have their default; durations are `{"secs":0,"nanos":1000}`. [`EmulatedCard::load`],
//! [`EmulatedCard::inject`] and [`EmulatedCard::violations`] say what the requests do.

use super::faults::Injection;
use super::log::lock;
use super::logic::Design;
use super::server::{listen_at, wake};
use super::{Counters, EmulatedCard, Fault, Options, Violation};
use crate::bus::dial::dial;
use crate::memory::Witness;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What can be asked for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The options as they are.
    Options,
    /// [`EmulatedCard::load`].
    Load {
        /// How the card is built; profile and reset must stay.
        options: Box<Options>,
        /// What lies behind the engine.
        design: Design,
    },
    /// [`EmulatedCard::inject`].
    Inject(Injection),
    /// What the card noticed.
    Log,
    /// The client took memory: device address and bytes ([`Witness::taken`]).
    Taken(u64, u64),
    /// The client released memory ([`Witness::released`]).
    Released(u64, u64),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It was done.
    Done,
    /// To [`Request::Options`].
    Options(Box<Options>),
    /// To [`Request::Log`].
    Log(Log),
}

/// What a card noticed since its image was loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Log {
    /// Rules that the client broke.
    pub violations: Vec<Violation>,
    /// Accesses to host memory that were refused.
    pub faults: Vec<Fault>,
    /// Work done.
    pub counters: Counters,
    /// How often each fault struck, by [name](super::faults::Kind::name).
    #[serde(default)]
    pub struck: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Numbered<T> {
    id: u64,
    body: T,
}

/// Takes orders for a card at a socket, from one client at a time. Dropping it ends that and removes the socket.
pub struct Control {
    path: PathBuf,
    door: Arc<Door>,
    thread: Option<JoinHandle<()>>,
}

struct Door {
    card: Arc<EmulatedCard>,
    listener: UnixListener,
    client: Mutex<Option<UnixStream>>,
    stopping: AtomicBool,
}

impl Control {
    /// Listens at `path`, for this user only. A socket that a dead process left there is replaced.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, or another process listens there.
    pub fn start(card: Arc<EmulatedCard>, path: &Path) -> io::Result<Self> {
        let (listener, path) = listen_at(path)?;
        let door = Door { card, listener, client: Mutex::new(None), stopping: AtomicBool::new(false) };
        let door = Arc::new(door);
        let thread = {
            let door = Arc::clone(&door);
            Builder::new().name("xdma control".into()).spawn(move || door.serve())?
        };
        Ok(Self { path, door, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.door.stopping.store(true, Ordering::SeqCst);
        wake(&self.door.listener);
        if let Some(client) = lock(&self.door.client).as_ref() {
            let _ = client.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Door {
    fn serve(&self) {
        while !self.stopping.load(Ordering::SeqCst) {
            let served = self.listener.accept().and_then(|(client, _)| self.talk(client));
            if let Err(error) = served {
                tracing::debug!("control connection ended: {error}");
            }
        }
    }

    fn talk(&self, mut client: UnixStream) -> io::Result<()> {
        *lock(&self.client) = Some(client.try_clone()?);
        for line in BufReader::new(client.try_clone()?).lines() {
            let line = line?;
            // A client that was killed leaves half a line behind.
            let Ok(Numbered { id, body }) = serde_json::from_str(&line) else {
                tracing::warn!("no request: {line:?}");
                continue;
            };
            send(&mut client, &Numbered { id, body: self.obey(body) })?;
        }
        Ok(())
    }

    fn obey(&self, request: Request) -> Result<Answer, String> {
        let card = &self.card;
        let done = |()| Answer::Done;
        match request {
            Request::Options => Ok(Answer::Options(Box::new(card.options()))),
            Request::Load { options, design } => {
                card.load(*options, design.build()).map(done).map_err(|error| error.to_string())
            }
            Request::Taken(address, len) => {
                card.witness().taken(address, len);
                Ok(Answer::Done)
            }
            Request::Released(address, len) => {
                card.witness().released(address, len);
                Ok(Answer::Done)
            }
            Request::Inject(injection) => card.inject(injection).map(done).map_err(|error| error.to_string()),
            Request::Log => Ok(Answer::Log(Log {
                violations: card.violations(),
                faults: card.faults(),
                counters: card.counters(),
                struck: card.struck(),
            })),
        }
    }
}

fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A way to a socket or serial line.
trait Line: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Line for T {}

/// Gives orders.
pub struct Client {
    line: BufReader<Box<dyn Line>>,
    id: u64,
    /// An answer did not come: nobody is there.
    broken: bool,
}

/// How long an answer may take. A serial line does not tell that nobody is there.
const ANSWER: Duration = Duration::from_secs(10);

impl Client {
    /// Goes to a socket, or to a device such as a serial line, which must be in raw mode.
    ///
    /// # Errors
    ///
    /// It is not there, nobody listens, or no permission.
    pub fn open(path: &Path) -> io::Result<Self> {
        let line: Box<dyn Line> = if std::fs::metadata(path)?.file_type().is_socket() {
            Box::new(dial(path, ANSWER)?)
        } else {
            Box::new(File::options().read(true).write(true).open(path)?)
        };
        // On a serial line an answer to somebody else may still be under way.
        let id = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Ok(Self { line: BufReader::new(line), id, broken: false })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    ///
    /// The line broke, no answer came within ten seconds now or earlier, or the card's own words of why it refused.
    pub fn ask(&mut self, request: Request) -> io::Result<Answer> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.id = self.id.wrapping_add(1);
        send(self.line.get_mut(), &Numbered { id: self.id, body: request })?;
        let mut line = String::new();
        loop {
            line.clear();
            self.await_answer()?;
            if self.line.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_str::<Numbered<Result<Answer, String>>>(&line) {
                Ok(answer) if answer.id == self.id => return answer.body.map_err(io::Error::other),
                _ => tracing::debug!("not for us: {line:?}"),
            }
        }
    }

    fn await_answer(&mut self) -> io::Result<()> {
        if !self.line.buffer().is_empty() {
            return Ok(());
        }
        let limit = Timespec { tv_sec: ANSWER.as_secs() as i64, tv_nsec: 0 };
        let mut entry = [PollFd::new(self.line.get_ref(), PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut entry, Some(&limit)))?;
        self.broken = ready == 0;
        if self.broken { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// The options as they are.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn options(&mut self) -> io::Result<Options> {
        match self.ask(Request::Options)? {
            Answer::Options(options) => Ok(*options),
            other => Err(io::Error::other(format!("{other:?} is no answer to that"))),
        }
    }

    /// What the card noticed.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn log(&mut self) -> io::Result<Log> {
        match self.ask(Request::Log)? {
            Answer::Log(log) => Ok(log),
            other => Err(io::Error::other(format!("{other:?} is no answer to that"))),
        }
    }
}

/// Tells the card what becomes of memory ([`attend`](crate::memory::attend)).
impl Witness for Mutex<Client> {
    fn taken(&self, address: u64, len: u64) {
        tell(self, Request::Taken(address, len));
    }

    fn released(&self, address: u64, len: u64) {
        tell(self, Request::Released(address, len));
    }
}

fn tell(client: &Mutex<Client>, request: Request) {
    if let Err(error) = lock(client).ask(request) {
        tracing::error!(%error, "the card was not told what becomes of memory, and may see rules broken that were not");
    }
}
