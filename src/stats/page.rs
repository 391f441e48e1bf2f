//! The statistics page of a card, which other processes of the same user can read.
//!
//! Each open card has a page: a memfd named `xdma-statistics:LOCATION`, found under `/proc/PID/fd`. Only the process that created
//! it can write it, through its own mapping; it cannot be resized, and it disappears with that process. A [`Reader`] treats its
//! contents as untrusted bytes.

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
/// Prefix of the name of a page's file, followed by the card's location.
const NAME: &str = "xdma-statistics:";
/// Number of words of the header: magic, version, process ID, and from [`LOCATION`] on the card's location, ended by a zero byte.
const HEADER_WORDS: usize = 32;
const PROCESS: usize = 2;
const LOCATION: usize = 8;
const WORDS: usize = HEADER_WORDS + 2 * MAX_CHANNELS * CHANNEL_WORDS + CLIENT_WORDS;
/// Number of words for the statistics of the user logic's client.
pub(crate) const CLIENT_WORDS: usize = 16;
const CLIENT: usize = WORDS - CLIENT_WORDS;

/// The statistics page of a card that this process has opened.
#[derive(Debug)]
pub(crate) struct Page(Arc<SharedWords>);

impl Page {
    /// Creates the statistics page for the card at `location`. If no shared page is available, the page is private to this
    /// process.
    pub fn new(location: &str) -> std::io::Result<Self> {
        let words = SharedWords::create(&format!("{NAME}{location}"), WORDS).or_else(|error| {
            tracing::warn!(%error, "cannot create a memory file: this card's statistics are not visible to other processes");
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
        // Written last: a page with the magic number is complete.
        header[0].store(MAGIC, Ordering::Release);
        Ok(Self(words))
    }

    /// Returns the counters of channel `number`: H2C first, then C2H.
    pub fn channel(&self, number: usize) -> Counters {
        Counters::new(SharedBlock::new(&self.0, HEADER_WORDS + number * CHANNEL_WORDS))
    }

    /// Returns the counters of the user logic's client.
    pub fn client(&self) -> SharedBlock<CLIENT_WORDS> {
        SharedBlock::new(&self.0, CLIENT)
    }
}

/// Why a statistics page could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The process does not exist or has ended.
    #[error("there is no process {process}")]
    NoProcess {
        /// Its ID.
        process: u32,
    },
    /// The process or its file cannot be opened.
    #[error(
        "cannot read the statistics of process {process}: run this as root, or as the same user if that process has no capabilities"
    )]
    Open {
        /// The process ID.
        process: u32,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file is not a statistics page.
    #[error("file descriptor {file} of process {process} is not a statistics page: {reason}")]
    Invalid {
        /// The process ID.
        process: u32,
        /// The file descriptor in that process.
        file: u32,
        /// Why it is not a valid page.
        reason: String,
    },
}

/// Statistics of one channel.
#[derive(Clone, Debug)]
pub struct ChannelReading {
    /// The channel's direction.
    pub direction: Direction,
    /// The channel's number.
    pub index: usize,
    /// Its counters.
    pub stats: Stats,
    /// The latencies of its jobs.
    pub latencies: Latencies,
}

/// A reader for the statistics of a card that is open in this or another process.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use xdma::card::CardOptions;
/// use xdma::stats::Reader;
/// use xdma_emulator::{EmulatorOptions, logic::Memory};
///
/// let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// for reader in Reader::of_process(std::process::id())? {
///     let reader = reader?;
///     println!("{}", reader.location());
///     for channel in reader.channels() {
///         println!("{} {}: {} bytes", channel.direction, channel.index, channel.stats.bytes);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    words: ForeignWords,
    path: PathBuf,
    inode: u64,
    process: u32,
    location: String,
}

impl Reader {
    /// Returns a reader for each card that a process has open. A file that is named like a statistics page but is not a valid one
    /// is returned as an error in the list.
    ///
    /// # Errors
    ///
    /// [`PageError::NoProcess`]; [`PageError::Open`] if this user may not inspect the process.
    pub fn of_process(process: u32) -> Result<Vec<Result<Self, PageError>>, PageError> {
        let open = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => PageError::NoProcess { process },
            _ => PageError::Open { process, source },
        };
        let mut found = vec![];
        for entry in fs::read_dir(format!("/proc/{process}/fd")).map_err(open)? {
            let path = entry.map_err(open)?.path();
            // The name is taken from the link, so that no other files are opened.
            let link = fs::read_link(&path).unwrap_or_default();
            let named = link.to_string_lossy().starts_with(&format!("/memfd:{NAME}"));
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let (true, Some(number)) = (named, number) {
                match Self::open(process, number, path) {
                    // A process that was forked and did not call `exec` has a copy of its parent's descriptor.
                    Ok(reader) if !reader.is_of(process) => {}
                    other => found.push(other),
                }
            }
        }
        Ok(found)
    }

    /// Returns readers for the cards that all processes of this user have open. Processes that may not be inspected are omitted.
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
        let strange = |reason: String| PageError::Invalid { process, file: number, reason };
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
                "its layout has version {theirs}, but this program supports version {VERSION}"
            )));
        }
        let bytes: Vec<u8> = header[LOCATION..].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let location = String::from_utf8_lossy(name).escape_debug().to_string();
        Ok(Self { words, path, inode, process: header[PROCESS] as u32, location })
    }

    /// Returns whether `process` created the page. The page has the creator's ID in its own PID namespace, which may differ from
    /// its ID in ours.
    fn is_of(&self, process: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        self.process == process || ids.split_whitespace().any(|id| id.parse() == Ok(self.process))
    }

    /// Returns the ID of the process in its own PID namespace.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Returns the location of the card. Characters that are not printable are escaped.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Returns whether both readers read the same page.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.inode, self.process) == (other.inode, other.process)
    }

    /// Returns whether the process still has the card open.
    pub fn is_open(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode)
    }

    /// Returns the statistics of all channels, H2C first. Those of unused channels are zero.
    pub fn channels(&self) -> Vec<ChannelReading> {
        let reading = |number: usize| {
            let start = HEADER_WORDS + number * CHANNEL_WORDS;
            let words = self.words.read(start..start + CHANNEL_WORDS);
            let direction = if number < MAX_CHANNELS { Direction::H2C } else { Direction::C2H };
            let (stats, latencies) = (Stats::decode(&words), Latencies::decode(&words));
            ChannelReading { direction, index: number % MAX_CHANNELS, stats, latencies }
        };
        (0..2 * MAX_CHANNELS).map(reading).collect()
    }

    /// Returns the counters of the user logic's client.
    pub(crate) fn client(&self) -> Vec<u64> {
        self.words.read(CLIENT..WORDS)
    }
}
