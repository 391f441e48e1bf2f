//! `xdma read` and `xdma write`.

use crate::card::CardArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::number::{self, seconds};
use crate::output;
use crate::packets::{self, Incoming, Packets};
use crate::stream::{Digests, Stream, compare, progress, whole_blocks};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardOptions};
use xdma::channel::{Channel, EngineError, IDLE_LIMIT, Pool};
use xdma::regs::Direction;

/// Stands for standard input or output.
const PIPE: &str = "-";

/// For those who try an address on the emulated card.
const HINT: &str = " (this emulated card has 1 MiB of memory at 0x50000000, again and again up to 0x60000000; with --logic memory it has 64 GiB)";

/// How long a loop has nothing to say before anything is sent.
const QUIET: Duration = Duration::from_millis(100);

/// Why packets cannot be received that are not counted.
const UNKNOWN: &str = "--receive has to know how much is sent: send a file, or say how much with --length";

#[derive(Args)]
struct Common {
    #[command(flatten)]
    card: CardArgs,
    /// Card address of the first byte; any alignment.
    #[arg(
        long,
        value_parser = number::parse,
        required = false,
        required_unless_present = "stream",
        default_value_if("stream", "true", "0"),
        conflicts_with = "stream"
    )]
    address: u64,
    /// The channel is an AXI-Stream one: packets, no addresses.
    #[arg(long)]
    stream: bool,
    /// Channels to spread the data over, such as 0,1.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    channels: Vec<usize>,
    /// Bytes of each of the two buffers, up to 1G, or 64M with --stream; whole blocks of 64 KiB are taken.
    #[arg(long, value_parser = buffer, default_value = "4M")]
    buffer: u64,
    /// Seconds that the card may take for a buffer.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

#[derive(Args)]
pub struct Write {
    #[command(flatten)]
    common: Common,
    /// What to write; - for standard input.
    file: PathBuf,
    /// Bytes, where not all of the file: for /dev/urandom and the like. It is an error if there are fewer.
    #[arg(long, value_parser = number::parse)]
    length: Option<u64>,
    /// Read everything back when it is written, and compare. Memory that is smaller than its window and repeats in it passes as
    /// long as the data fits into it.
    #[arg(long, conflicts_with = "stream")]
    verify: bool,
    /// Bytes of each packet; without it, the whole file is one.
    #[arg(long, value_name = "BYTES", value_parser = positive, conflicts_with = "address")]
    packet: Option<u64>,
    /// With --stream: receive as many packets as are sent, at the same time and from the channel of the same number, into this
    /// file; - for standard output. What an earlier program left in the stream is dropped first, and what comes back is compared
    /// with what is sent.
    #[arg(long, value_name = "OUT", conflicts_with = "address")]
    receive: Option<PathBuf>,
    /// With --receive: the user logic answers something else than it is sent.
    #[arg(long, requires = "receive")]
    no_compare: bool,
    /// With --receive: drop nothing that the stream has already.
    #[arg(long, requires = "receive")]
    keep_old: bool,
}

#[derive(Args)]
pub struct Read {
    #[command(flatten)]
    common: Common,
    /// Where to put it; - for standard output. What was done is then told on standard error, as its last line.
    #[arg(default_value = PIPE)]
    file: PathBuf,
    /// Bytes.
    #[arg(
        long,
        value_parser = number::parse,
        required = false,
        required_unless_present = "stream",
        default_value_if("stream", "true", "0"),
        conflicts_with = "stream"
    )]
    length: u64,
    /// How many packets.
    #[arg(long, value_name = "COUNT", value_parser = count, conflicts_with = "address", default_value = "1")]
    packets: usize,
    /// With --stream: drop what comes until nothing has come for so many seconds, such as what an earlier program left. A packet
    /// that is under way is cut.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0.1",
        conflicts_with = "address"
    )]
    discard: Option<Duration>,
}

impl Write {
    pub fn run(&self, json: bool) -> Result<()> {
        let (input, size) = open_input(&self.file)?;
        let length = self.length.unwrap_or(u64::MAX);
        size.map_or(Ok(()), |size| self.check_end(size))?;
        let size = size.map(|size| size.min(length)).or(self.length);
        self.common.check(size.unwrap_or(0))?;
        let interrupt = Interrupt::listen()?;
        let card = self.common.open()?;
        if self.common.stream {
            return self.send_packets(&card, &interrupt, input.take(length), size, json);
        }
        let mut pool = self.common.pool(&card, Direction::H2C)?;
        let mut back = if self.verify { Some(self.common.pool(&card, Direction::C2H)?) } else { None };
        let stream = self.common.stream(&card, &interrupt, size);
        let (begin, bar) = (Instant::now(), progress("writing", size));
        let (bytes, digests) = stream.send(&mut pool, self.common.address, input.take(length), &bar)?;
        self.check_end(bytes)?;
        let seconds = begin.elapsed().as_secs_f64();
        bar.finish_and_clear();
        if let Some(back) = &mut back {
            self.verify(&stream, back, bytes, digests)?;
        }
        let moved = Moved { common: &self.common, pool: &pool, bytes, seconds, verified: Some(self.verify) };
        output::line(&moved.describe(json))
    }

    /// Fails if the input ends before what was asked for.
    fn check_end(&self, bytes: u64) -> Result<()> {
        let length = self.length.unwrap_or(0);
        ensure!(bytes >= length, "{} ends after {bytes} of {length} bytes", self.file.display());
        Ok(())
    }

    fn send_packets(
        &self,
        card: &Card,
        interrupt: &Interrupt,
        input: impl io::Read + Send + 'static,
        size: Option<u64>,
        json: bool,
    ) -> Result<()> {
        let packets = self.common.packets(card, interrupt)?;
        let (bar, packet) = (progress("sending", size), self.packet.unwrap_or(u64::MAX));
        let (sent, received) = match &self.receive {
            None => {
                let mut sent = packets.send(input, packet, &bar)?;
                sent.compared = Some(false);
                (sent, None)
            }
            Some(path) => {
                let size = size.ok_or_else(|| Failure::Usage(UNKNOWN.into()))?;
                let count = size.div_ceil(packet).try_into()?;
                let discard = if self.keep_old { None } else { Some(QUIET) };
                let into = Incoming { packets: count, discard, sink: sink(path) };
                let (sent, received) = packets.exchange(input, packet, into, !self.no_compare, &bar)?;
                (sent, Some(received))
            }
        };
        self.check_end(sent.lengths.iter().sum())?;
        bar.finish_and_clear();
        let card = self.common.card.card.to_string();
        tell(self.is_piped(), &packets::describe(&card, &sent, received.as_ref(), json))
    }

    /// Whether data goes to standard output.
    pub fn is_piped(&self) -> bool {
        self.receive.as_deref() == Some(Path::new(PIPE))
    }

    fn verify(&self, stream: &Stream<'_>, pool: &mut Pool, bytes: u64, digests: Digests) -> Result<()> {
        let (bar, address) = (progress("reading back", Some(bytes)), self.common.address);
        stream.fetch(pool, address, bytes, compare(address, digests, stream.hint), &bar)?;
        bar.finish_and_clear();
        Ok(())
    }
}

impl Read {
    pub fn run(&self, json: bool) -> Result<()> {
        self.common.check(self.length)?;
        let interrupt = Interrupt::listen()?;
        let card = self.common.open()?;
        if self.common.stream {
            return self.receive_packets(&card, &interrupt, json);
        }
        let mut pool = self.common.pool(&card, Direction::C2H)?;
        let stream = self.common.stream(&card, &interrupt, Some(self.length));
        let (begin, bar) = (Instant::now(), progress("reading", Some(self.length)));
        stream.fetch(&mut pool, self.common.address, self.length, sink(&self.file), &bar)?;
        if self.length == 0 {
            sink(&self.file)(&[])?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let moved = Moved { common: &self.common, pool: &pool, bytes: self.length, seconds, verified: None };
        tell(self.is_piped(), &moved.describe(json))
    }

    fn receive_packets(&self, card: &Card, interrupt: &Interrupt, json: bool) -> Result<()> {
        let packets = self.common.packets(card, interrupt)?;
        let bar = progress("receiving", None);
        let into = Incoming { packets: self.packets, discard: self.discard, sink: sink(&self.file) };
        let received = packets.receive(into, &bar)?;
        bar.finish_and_clear();
        let card = self.common.card.card.to_string();
        tell(self.is_piped(), &packets::describe(&card, &received, None, json))
    }

    /// Whether the data goes to standard output.
    pub fn is_piped(&self) -> bool {
        self.file == Path::new(PIPE)
    }
}

/// What takes the data. The file is made when the first of it is there: until then an earlier one stays what it is.
fn sink(path: &Path) -> impl FnMut(&[u8]) -> Result<()> + Send + 'static {
    let (path, mut file) = (path.to_owned(), None);
    move |bytes| {
        let out = match &mut file {
            Some(out) => out,
            None => file.insert(open_output(&path)?),
        };
        out.write_all(bytes).and_then(|()| out.flush()).map_err(output::failed)
    }
}

/// Says what was done where the data does not go.
fn tell(piped: bool, text: &str) -> Result<()> {
    if piped {
        eprintln!("{text}");
        return Ok(());
    }
    output::line(text)
}

impl Common {
    /// What no card can do, before a card is looked for.
    fn check(&self, length: u64) -> Result<()> {
        let address = self.address;
        if address.checked_add(length).is_none() {
            return Err(EngineError::CardAddress { address, len: length }.into());
        }
        let mut channels = self.channels.clone();
        channels.sort_unstable();
        channels.dedup();
        if channels.len() < self.channels.len() {
            return Err(Failure::Usage("--channels names a channel twice".into()).into());
        }
        Ok(())
    }

    fn open(&self) -> Result<Card> {
        // An engine that waits for its stream does not become idle: nobody is to wait for long who wants to end it.
        let idle_limit = if self.stream { Duration::from_secs(1) } else { IDLE_LIMIT };
        self.card.open_with(CardOptions { idle_limit, ..CardOptions::default() })
    }

    fn packets<'a>(&self, card: &'a Card, interrupt: &'a Interrupt) -> Result<Packets<'a>> {
        let [channel] = self.channels[..] else {
            return Err(Failure::Usage("--stream takes one channel: packets have an order".into()).into());
        };
        let (buffer, limit) = (whole_blocks(self.buffer.min(packets::MOST)), self.timeout);
        Ok(Packets { card, interrupt, channel, buffer, limit, failed: AtomicBool::new(false) })
    }

    fn pool(&self, card: &Card, direction: Direction) -> Result<Pool> {
        let open = |&channel: &usize| match direction {
            Direction::H2C => card.h2c(channel),
            Direction::C2H => card.c2h(channel),
        };
        let channels = self.channels.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Pool::new(channels)?)
    }

    /// No larger buffers than there is data, where that is known.
    fn stream<'a>(&self, card: &'a Card, interrupt: &'a Interrupt, size: Option<u64>) -> Stream<'a> {
        let buffer = whole_blocks(self.buffer.min(size.unwrap_or(u64::MAX)));
        let (limit, hint) = (self.timeout, if self.card.is_emulated_msm() { HINT } else { "" });
        Stream { card, interrupt, buffer, limit, hint }
    }
}

/// What was done.
struct Moved<'a> {
    common: &'a Common,
    pool: &'a Pool,
    bytes: u64,
    seconds: f64,
    verified: Option<bool>,
}

impl Moved<'_> {
    fn describe(&self, json: bool) -> String {
        let Self { common, pool, bytes, seconds, verified } = self;
        let rate = *bytes as f64 / seconds;
        let rings: Vec<_> = pool.channels().map(|channel| channel.ring().to_string()).collect();
        if json {
            return json!({
                "card": common.card.card.to_string(),
                "direction": pool.direction().to_string(),
                "address": common.address,
                "bytes": bytes,
                "seconds": seconds,
                "bytes_per_second": rate,
                "channels": common.channels,
                "rings": rings,
                "descriptors": pool.channels().map(|channel| channel.stats().descriptors).sum::<u64>(),
                "doorbells": pool.channels().map(|channel| channel.stats().doorbells).sum::<u64>(),
                "verified": verified.filter(|&verified| verified),
            })
            .to_string();
        }
        let verb = if pool.direction() == Direction::H2C { "wrote" } else { "read" };
        let channels: Vec<_> = pool.channels().map(Channel::index).map(|at| at.to_string()).collect();
        format!(
            "{verb} {} at {:#x} in {:.1} ms ({}) over {} channel {}{}",
            number::bytes(*bytes),
            common.address,
            seconds * 1e3,
            number::rate(rate),
            pool.direction(),
            channels.join(", "),
            match verified {
                Some(true) => "; the same came back",
                Some(false) => "; not compared",
                None => "",
            }
        )
    }
}

/// The input, and its size if it is a file.
fn open_input(path: &Path) -> Result<(Box<dyn io::Read + Send>, Option<u64>)> {
    if path == Path::new(PIPE) {
        return Ok((Box::new(stdin()), None));
    }
    let open = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok((file, metadata))
    };
    let (file, metadata) = open().with_context(|| format!("cannot read {}", path.display()))?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn open_output(path: &Path) -> Result<Box<dyn io::Write + Send>> {
    if path == Path::new(PIPE) {
        return Ok(Box::new(stdout()));
    }
    Ok(Box::new(output::create(path)?))
}

fn positive(text: &str) -> Result<u64, String> {
    number::parse(text).and_then(|value| if value > 0 { Ok(value) } else { Err("0 are none".into()) })
}

fn buffer(text: &str) -> Result<u64, String> {
    let bytes = positive(text)?;
    if bytes <= 1 << 30 { Ok(bytes) } else { Err(format!("`{text}` is more than 1G")) }
}

fn count(text: &str) -> Result<usize, String> {
    positive(text)?.try_into().map_err(|_| format!("`{text}` are too many"))
}
