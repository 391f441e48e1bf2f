//! The statistics page: what a card's channels count, where other processes of the same user find it.
//!
//! Each open card has a page: a memfd named `xdma-statistics:LOCATION`, found under `/proc/PID/fd`. Only the process that created it
//! can write it, through its own mapping; it cannot be resized, and it disappears with that process. A [`Reader`] treats its contents
//! as untrusted bytes.

use super::channel::{CHANNEL_WORDS, Counters, Latencies, Stats};
use crate::memory::{ForeignWords, SharedBlock, SharedWords};
use crate::regs::{Direction, MAX_CHANNELS};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// "XDMASTAT", the first word of a page.
const MAGIC: u64 = u64::from_le_bytes(*b"XDMASTAT");
/// Version of the layout, the second word.
const VERSION: u64 = 3;
/// What a page's file is called, before the card's location.
const NAME: &str = "xdma-statistics:";
/// Words of the header: magic, version, process; the location from [`LOCATION`] on, ended by a zero byte.
const HEADER_WORDS: usize = 32;
const PROCESS: usize = 2;
const LOCATION: usize = 8;
const WORDS: usize = HEADER_WORDS + 2 * MAX_CHANNELS * CHANNEL_WORDS + CLIENT_WORDS;
/// Words of the block of what drives the user logic.
pub(crate) const CLIENT_WORDS: usize = 16;
const CLIENT: usize = WORDS - CLIENT_WORDS;

/// A card's page, as the one who writes it has it.
#[derive(Debug)]
pub(crate) struct Page(Arc<SharedWords>);

impl Page {
    /// Creates the statistics page for the card at `location`. If no shared page is available, the page is private to this process.
    pub fn new(location: &str) -> std::io::Result<Self> {
        let words = SharedWords::create(&format!("{NAME}{location}"), WORDS).or_else(|error| {
            tracing::warn!(%error, "no memory file: other processes cannot see this card's statistics");
            SharedWords::private(WORDS)
        })?;
        let words = Arc::new(words);
        let header = SharedBlock::<HEADER_WORDS>::new(&words, 0);
        let mut bytes = [0; 8 * (HEADER_WORDS - LOCATION)];
        let len = location.len().min(bytes.len() - 1);
        bytes[..len].copy_from_slice(&location.as_bytes()[..len]);
        for (at, chunk) in bytes.as_chunks::<8>().0.iter().enumerate() {
            header[LOCATION + at].store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        header[PROCESS].store(std::process::id().into(), Ordering::Relaxed);
        header[1].store(VERSION, Ordering::Relaxed);
        // Last: a page with its magic is whole.
        header[0].store(MAGIC, Ordering::Release);
        Ok(Self(words))
    }

    /// Where a channel counts.
    pub fn channel(&self, number: usize) -> Counters {
        Counters::new(SharedBlock::new(&self.0, HEADER_WORDS + number * CHANNEL_WORDS))
    }

    /// Where the client of the user logic counts.
    pub fn client(&self) -> SharedBlock<CLIENT_WORDS> {
        SharedBlock::new(&self.0, CLIENT)
    }
}

/// Why a statistics page could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// There is no such process, or it ended.
    #[error("there is no process {process}")]
    NoProcess {
        /// Its number.
        process: u32,
    },
    /// The process or its file cannot be looked at.
    #[error(
        "cannot read the statistics of process {process}: it must be an unprivileged process of the same user"
    )]
    Open {
        /// The process.
        process: u32,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// It is no such page.
    #[error("file descriptor {file} of process {process} is not a statistics page: {reason}")]
    Strange {
        /// The process.
        process: u32,
        /// Number of the descriptor.
        file: u32,
        /// What is wrong with it.
        reason: String,
    },
}

/// Statistics of one channel.
#[derive(Clone, Debug)]
pub struct ChannelReading {
    /// Its direction.
    pub direction: Direction,
    /// Its number.
    pub index: usize,
    /// What it counted.
    pub stats: Stats,
    /// How long its jobs took.
    pub latencies: Latencies,
}

/// A page of another process, or of this one.
#[derive(Debug)]
pub struct Reader {
    words: ForeignWords,
    path: PathBuf,
    inode: u64,
    process: u32,
    location: String,
}

impl Reader {
    /// The cards that a process has open. A file that is called like a page and is none is an error in its place.
    ///
    /// # Errors
    ///
    /// [`PageError::NoProcess`]; [`PageError::Open`] when it may not be looked at.
    pub fn of_process(process: u32) -> Result<Vec<Result<Self, PageError>>, PageError> {
        let open = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => PageError::NoProcess { process },
            _ => PageError::Open { process, source },
        };
        let mut found = vec![];
        for entry in fs::read_dir(format!("/proc/{process}/fd")).map_err(open)? {
            let path = entry.map_err(open)?.path();
            // The name comes from the link: files of others are not asked.
            let link = fs::read_link(&path).unwrap_or_default();
            let named = link.to_string_lossy().starts_with(&format!("/memfd:{NAME}"));
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let (true, Some(number)) = (named, number) {
                match Self::open(process, number, path) {
                    // The copy of a process that was forked and has not replaced itself: its parent's.
                    Ok(reader) if !reader.is_of(process) => {}
                    other => found.push(other),
                }
            }
        }
        Ok(found)
    }

    /// The cards that all processes of this user have open; processes that may not be looked at are left out.
    pub fn all() -> Vec<Result<Self, PageError>> {
        let Ok(me) = fs::metadata("/proc/self") else { return vec![] };
        let Ok(entries) = fs::read_dir("/proc") else { return vec![] };
        let mine = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|of| of.uid() == me.uid()));
        let mut processes: Vec<u32> =
            mine.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        processes.sort_unstable();
        processes.into_iter().filter_map(|process| Self::of_process(process).ok()).flatten().collect()
    }

    fn open(process: u32, number: u32, path: PathBuf) -> Result<Self, PageError> {
        let strange = |reason: String| PageError::Strange { process, file: number, reason };
        let file: File = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(|source| PageError::Open { process, source })?;
        let inode = file.metadata().map_err(|error| strange(error.to_string()))?.ino();
        let words = ForeignWords::map(&file, WORDS).map_err(|error| strange(error.to_string()))?;
        let header = words.read(0..HEADER_WORDS);
        if header[0] != MAGIC {
            return Err(strange("wrong magic number".into()));
        }
        if header[1] != VERSION {
            let theirs = header[1];
            return Err(strange(format!(
                "its layout is version {theirs}, this program reads version {VERSION}"
            )));
        }
        let bytes: Vec<u8> = header[LOCATION..].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let location = String::from_utf8_lossy(name).escape_debug().to_string();
        Ok(Self { words, path, inode, process: header[PROCESS] as u32, location })
    }

    /// Whether a process wrote it, by the number that the process has for us or for itself.
    fn is_of(&self, process: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        self.process == process || numbers.split_whitespace().any(|number| number.parse() == Ok(self.process))
    }

    /// The process, by the number that it has for itself.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Where the card is, with escapes for what is not to be printed.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Whether both read the same page.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.inode, self.process) == (other.inode, other.process)
    }

    /// Whether the process still has the card open.
    pub fn is_open(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode)
    }

    /// All channels, H2C first; those that were never used have only zeros.
    pub fn channels(&self) -> Vec<ChannelReading> {
        let reading = |number: usize| {
            let start = HEADER_WORDS + number * CHANNEL_WORDS;
            let words = self.words.read(start..start + CHANNEL_WORDS);
            let direction = if number < MAX_CHANNELS { Direction::H2C } else { Direction::C2H };
            let (stats, latencies) = (Stats::of(&words), Latencies::of(&words));
            ChannelReading { direction, index: number % MAX_CHANNELS, stats, latencies }
        };
        (0..2 * MAX_CHANNELS).map(reading).collect()
    }

    /// What the client of the user logic counted.
    pub(crate) fn client(&self) -> Vec<u64> {
        self.words.read(CLIENT..WORDS)
    }
}
