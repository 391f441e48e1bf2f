//! Orders to an emulated card from outside its process: what a test in a virtual machine tells the card that its host serves.
//!
//! Over a socket, or a serial line behind which one is, go lines of JSON: one request, one answer with the same `id`. A request has
//! at most 1 MiB. The card takes requests from up to 16 clients, one request after the other.
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
//!
//! [`EmulatedCard::load`]: super::EmulatedCard::load
//! [`EmulatedCard::inject`]: super::EmulatedCard::inject
//! [`EmulatedCard::violations`]: super::EmulatedCard::violations

mod server;

pub use server::Control;

use super::admission::timespec;
use super::faults::Injection;
use super::logic::Design;
use super::server::connect;
use super::{Counters, Fault, Options, Violation};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What can be asked for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// The options as they are.
    Options,
    /// [`EmulatedCard::load`](super::EmulatedCard::load).
    Load {
        /// How the card is built; profile and reset must stay.
        options: Box<Options>,
        /// What lies behind the engine.
        design: Design,
    },
    /// [`EmulatedCard::inject`](super::EmulatedCard::inject).
    Inject(Injection),
    /// What the card noticed.
    Log,
    /// The client took memory: device address and bytes ([`Witness::taken`](super::Witness::taken)).
    Taken(u64, u64),
    /// The client released memory ([`Witness::released`](super::Witness::released)).
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

/// A message as it is sent.
fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// A way to a socket or serial line, which does not block.
trait Line: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Line for T {}

/// A line for the log, in part.
fn shown(line: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&line[..line.len().min(200)]))
}

/// Gives orders.
pub struct Client {
    line: Box<dyn Line>,
    /// What arrived behind the last answer.
    received: Vec<u8>,
    id: u64,
    /// An answer did not come: nobody is there.
    broken: bool,
}

/// How long sending a request and its answer may take. A serial line does not tell that nobody is there.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of an answer at most: a full log has a few hundred thousand.
const LONGEST_ANSWER: usize = 16 << 20;

impl Client {
    /// Goes to a socket, or to a device such as a serial line, which must be in raw mode.
    ///
    /// # Errors
    ///
    /// It is not there, nobody listens, or no permission.
    pub fn open(path: &Path) -> io::Result<Self> {
        let line: Box<dyn Line> = if std::fs::metadata(path)?.file_type().is_socket() {
            Box::new(connect(path)?)
        } else {
            Box::new(File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?)
        };
        // On a serial line an answer to somebody else may still be under way.
        let id = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Ok(Self { line, received: Vec::new(), id, broken: false })
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
        // Whatever goes wrong, a later answer could be to this request.
        self.broken = true;
        let answer = self.exchange(&line(&Numbered { id: self.id, body: request })?)?;
        self.broken = false;
        answer.map_err(io::Error::other)
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Result<Answer, String>> {
        let end = Instant::now() + ANSWER;
        self.send(request, end)?;
        loop {
            let line = self.receive(end)?;
            match serde_json::from_slice::<Numbered<Result<Answer, String>>>(&line) {
                Ok(answer) if answer.id == self.id => return Ok(answer.body),
                _ => tracing::debug!("not for us: {}", shown(&line)),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], end: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.line.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) => self.retry(error, PollFlags::OUT, end)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, end: Instant) -> io::Result<Vec<u8>> {
        let (mut chunk, mut searched) = ([0; 4096], 0);
        loop {
            if let Some(at) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.received.drain(..=searched + at).collect());
            }
            searched = self.received.len();
            if searched > LONGEST_ANSWER {
                return Err(io::Error::other("an answer without an end"));
            }
            match self.line.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) => self.retry(error, PollFlags::IN, end)?,
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Waits until the line is ready, if it was not.
    fn retry(&self, error: io::Error, flags: PollFlags, end: Instant) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => return Ok(()),
            io::ErrorKind::WouldBlock => {}
            _ => return Err(error),
        }
        let mut entry = [PollFd::from_borrowed_fd(self.line.as_fd(), flags)];
        let left = || timespec(end.saturating_duration_since(Instant::now()));
        match retry_on_intr(|| poll(&mut entry, Some(&left())))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
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
