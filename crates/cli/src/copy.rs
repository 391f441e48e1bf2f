//! The commands `xdma read` and `xdma write`.

use crate::card::{CardArgs, Subject};
use crate::copier::{Copier, Digests, compare, progress, whole_blocks};
use crate::failure::Failure;
use crate::file;
use crate::interrupt::Interrupt;
use crate::number::{self, seconds};
use crate::output;
use crate::packets::{self, PacketStream, Reception};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::io::{self, IsTerminal, Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use xdma::card::{Card, CardOptions};
use xdma::channel::{Channel, InvalidTransfer, Pool};
use xdma::regs::Direction;

/// File name that means standard input or output.
const PIPE: &str = "-";

/// Hint about the addresses of the emulated card.
const HINT: &str = " (this emulated card has 1 MiB of memory at 0x50000000, repeated up to 0x60000000; with --logic memory it has 64 GiB)";

/// Time without data after which the old data of a stream counts as discarded.
const QUIET: Duration = Duration::from_millis(100);

/// Error for a stream of unknown length.
const UNKNOWN_LENGTH: &str =
    "--receive needs the number of bytes to send: use a regular file, or set --length";

/// The options that both commands have.
#[derive(Args)]
struct CopyArgs {
    #[command(flatten)]
    card: CardArgs,
    /// Card address of the first byte, of any alignment.
    #[arg(
        long,
        value_parser = number::parse,
        required = false,
        required_unless_present = "stream",
        default_value_if("stream", "true", "0"),
        conflicts_with = "stream"
    )]
    address: u64,
    /// Use an AXI-Stream channel, which transfers packets and has no addresses.
    #[arg(long)]
    stream: bool,
    /// Channels to use, such as 0,1; the data is distributed over all of them.
    #[arg(long, value_delimiter = ',', default_value = "0", value_parser = channel)]
    channels: Vec<usize>,
    /// Size of each buffer in bytes: up to 1G, or 64M with --stream; rounded up to a multiple of 64K.
    #[arg(long, value_parser = buffer, default_value = "4M")]
    buffer: u64,
    /// Time limit for the transfer of a buffer.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

#[derive(Args)]
pub struct Write {
    #[command(flatten)]
    common: CopyArgs,
    /// Input file; - for standard input.
    file: PathBuf,
    /// Number of bytes to write, for inputs such as /dev/urandom; by default the whole file. A shorter input is an error.
    #[arg(long, value_parser = number::parse)]
    length: Option<u64>,
    /// Read everything back afterwards and compare it. Memory that is smaller than its address window, and repeats in it, passes
    /// as long as the data fits into the memory.
    #[arg(long, conflicts_with = "stream")]
    verify: bool,
    /// Size of each packet in bytes; by default the whole file is one packet.
    #[arg(long, value_name = "BYTES", value_parser = positive, conflicts_with = "address")]
    packet: Option<u64>,
    /// With --stream: at the same time, receive the same number of packets from the C2H channel of the same number, and write them
    /// to this file (- for standard output). Data of an earlier program in the stream is discarded first. The received data is
    /// compared with the sent data.
    #[arg(long, value_name = "OUT", conflicts_with = "address")]
    receive: Option<PathBuf>,
    /// With --receive: do not compare, for user logic that answers with other data.
    #[arg(long, requires = "receive")]
    no_compare: bool,
    /// With --receive: do not discard data that is already in the stream.
    #[arg(long, requires = "receive")]
    keep_old: bool,
}

#[derive(Args)]
pub struct Read {
    #[command(flatten)]
    common: CopyArgs,
    /// Output file; - for standard output, in which case the report is the last line of standard error.
    #[arg(default_value = PIPE)]
    file: PathBuf,
    /// Number of bytes to read.
    #[arg(
        long,
        value_parser = number::parse,
        required = false,
        required_unless_present = "stream",
        default_value_if("stream", "true", "0"),
        conflicts_with = "stream"
    )]
    length: u64,
    /// Number of packets to receive.
    #[arg(long, value_name = "COUNT", value_parser = count, conflicts_with = "address", default_value = "1")]
    packets: usize,
    /// With --stream: first discard received data, such as that of an earlier program, until none has arrived for this time
    /// (0.1 if no value is given). A packet that is being received may be discarded in part.
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
        check_pipe(self.is_piped())?;
        let (input, size) = open_input(&self.file)?;
        let length = self.length.unwrap_or(u64::MAX);
        size.map_or(Ok(()), |size| self.check_end(size))?;
        let size = size.map(|size| size.min(length)).or(self.length);
        self.common.check(size.unwrap_or(0))?;
        let interrupt = Interrupt::install()?;
        let card = self.common.open()?;
        if self.common.stream {
            return self.send_packets(&card, &interrupt, input.take(length), size, json);
        }
        let mut pool = self.common.pool(&card, Direction::H2C)?;
        let mut back = if self.verify { Some(self.common.pool(&card, Direction::C2H)?) } else { None };
        let copier = self.common.copier(&card, &interrupt, size);
        let (begin, bar) = (Instant::now(), progress("writing", size));
        let (bytes, digests) = copier.send(&mut pool, self.common.address, input.take(length), &bar)?;
        self.check_end(bytes)?;
        let seconds = begin.elapsed().as_secs_f64();
        bar.finish_and_clear();
        if let Some(back) = &mut back {
            self.verify(&copier, back, bytes, digests)?;
        }
        let outcome = CopyOutcome {
            common: &self.common,
            card: self.common.card.subject(&card)?,
            pool: &pool,
            bytes,
            seconds,
            verified: Some(self.verify),
        };
        output::line(&outcome.describe(json))
    }

    /// Fails if the input has fewer bytes than `--length`.
    fn check_end(&self, bytes: u64) -> Result<()> {
        let length = self.length.unwrap_or(0);
        ensure!(
            bytes >= length,
            "{} ends after {bytes} of {length} bytes; use a longer input or a lower --length",
            self.file.display()
        );
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
                let size = size.ok_or_else(|| Failure::Usage(UNKNOWN_LENGTH.into()))?;
                let count = size.div_ceil(packet).try_into()?;
                let discard = if self.keep_old { None } else { Some(QUIET) };
                let reception = Reception { packets: count, discard, sink: sink(path) };
                let (sent, received) = packets.exchange(input, packet, reception, !self.no_compare, &bar)?;
                (sent, Some(received))
            }
        };
        self.check_end(sent.lengths.iter().sum())?;
        bar.finish_and_clear();
        let card = self.common.card.subject(card)?;
        report(self.is_piped(), &packets::describe(&card, &sent, received.as_ref(), json))
    }

    /// Returns whether data is written to standard output.
    pub fn is_piped(&self) -> bool {
        self.receive.as_deref() == Some(Path::new(PIPE))
    }

    fn verify(&self, copier: &Copier<'_>, pool: &mut Pool, bytes: u64, digests: Digests) -> Result<()> {
        let (bar, address) = (progress("reading back", Some(bytes)), self.common.address);
        copier.fetch(pool, address, bytes, compare(address, digests, copier.hint), &bar)?;
        bar.finish_and_clear();
        Ok(())
    }
}

impl Read {
    pub fn run(&self, json: bool) -> Result<()> {
        check_pipe(self.is_piped())?;
        self.common.check(self.length)?;
        let interrupt = Interrupt::install()?;
        let card = self.common.open()?;
        if self.common.stream {
            return self.receive_packets(&card, &interrupt, json);
        }
        let mut pool = self.common.pool(&card, Direction::C2H)?;
        let copier = self.common.copier(&card, &interrupt, Some(self.length));
        let (begin, bar) = (Instant::now(), progress("reading", Some(self.length)));
        copier.fetch(&mut pool, self.common.address, self.length, sink(&self.file), &bar)?;
        if self.length == 0 {
            sink(&self.file)(&[])?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let outcome = CopyOutcome {
            common: &self.common,
            card: self.common.card.subject(&card)?,
            pool: &pool,
            bytes: self.length,
            seconds,
            verified: None,
        };
        report(self.is_piped(), &outcome.describe(json))
    }

    fn receive_packets(&self, card: &Card, interrupt: &Interrupt, json: bool) -> Result<()> {
        let packets = self.common.packets(card, interrupt)?;
        let bar = progress("receiving", None);
        let reception = Reception { packets: self.packets, discard: self.discard, sink: sink(&self.file) };
        let received = packets.receive(reception, &bar)?;
        bar.finish_and_clear();
        let card = self.common.card.subject(card)?;
        report(self.is_piped(), &packets::describe(&card, &received, None, json))
    }

    /// Returns whether the data is written to standard output.
    pub fn is_piped(&self) -> bool {
        self.file == Path::new(PIPE)
    }
}

/// Fails if data would be written to a terminal.
fn check_pipe(is_piped: bool) -> Result<()> {
    if is_piped && stdout().is_terminal() {
        let text = "the data would be written to the terminal; name a file, or pipe it, as in `| xxd`";
        return Err(Failure::Usage(text.into()).into());
    }
    Ok(())
}

/// Returns a function that writes data to `path`. The file is created on the first call, so an earlier file is not truncated before
/// there is data.
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

/// Prints the report of a command: to standard output, or to standard error if standard output carries the data.
fn report(piped: bool, text: &str) -> Result<()> {
    if piped {
        eprintln!("{text}");
        return Ok(());
    }
    output::line(text)
}

impl CopyArgs {
    /// Checks what can be checked before a card is opened.
    fn check(&self, length: u64) -> Result<()> {
        let address = self.address;
        if address.checked_add(length).is_none() {
            return Err(InvalidTransfer::CardAddress { address, len: length }.into());
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
        // An engine that waits for its stream does not become idle, so a long wait for it would only delay the end.
        let mut options = CardOptions::default();
        if self.stream {
            options.idle_limit = Duration::from_secs(1);
        }
        self.card.open_with(options)
    }

    fn packets<'a>(&self, card: &'a Card, interrupt: &'a Interrupt) -> Result<PacketStream<'a>> {
        let [channel] = self.channels[..] else {
            let text = "--stream needs exactly one channel, because packets have an order";
            return Err(Failure::Usage(text.into()).into());
        };
        let (buffer, limit) = (whole_blocks(self.buffer.min(packets::MAX_BUFFER)), self.timeout);
        Ok(PacketStream { card, interrupt, channel, buffer, limit, failed: AtomicBool::new(false) })
    }

    fn pool(&self, card: &Card, direction: Direction) -> Result<Pool> {
        let open = |&channel: &usize| match direction {
            Direction::H2C => card.h2c(channel),
            Direction::C2H => card.c2h(channel),
        };
        let channels = self.channels.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Pool::new(channels)?)
    }

    /// Creates a copier. If the size of the data is known, its buffers are not larger than the data.
    fn copier<'a>(&self, card: &'a Card, interrupt: &'a Interrupt, size: Option<u64>) -> Copier<'a> {
        let buffer = whole_blocks(self.buffer.min(size.unwrap_or(u64::MAX)));
        let (limit, hint) = (self.timeout, if self.card.is_emulated_msm() { HINT } else { "" });
        Copier { card, interrupt, buffer, limit, hint }
    }
}

/// The outcome of a copy between the host and card addresses.
struct CopyOutcome<'a> {
    common: &'a CopyArgs,
    card: Subject,
    pool: &'a Pool,
    bytes: u64,
    seconds: f64,
    verified: Option<bool>,
}

impl CopyOutcome<'_> {
    fn describe(&self, json: bool) -> String {
        let Self { common, card, pool, bytes, seconds, verified } = self;
        let rate = *bytes as f64 / seconds;
        let rings: Vec<_> = pool.channels().map(|channel| channel.ring().to_string()).collect();
        if json {
            return json!({
                "card": card.name,
                "emulated": card.emulated,
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
            "{verb} {} at {:#x} in {:.1} ms ({}) over {} channel {}{}{}",
            number::bytes(*bytes),
            common.address,
            seconds * 1e3,
            number::rate(rate),
            pool.direction(),
            channels.join(", "),
            match verified {
                Some(true) => "; verified",
                Some(false) => "; not verified",
                None => "",
            },
            card.note()
        )
    }
}

/// Opens the input. Returns its size if it is a regular file.
fn open_input(path: &Path) -> Result<(Box<dyn io::Read + Send>, Option<u64>)> {
    if path == Path::new(PIPE) {
        return Ok((Box::new(stdin()), None));
    }
    let file = file::open(path)?;
    let metadata = file.metadata().map_err(file::cannot("read", path))?;
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn open_output(path: &Path) -> Result<Box<dyn io::Write + Send>> {
    if path == Path::new(PIPE) {
        return Ok(Box::new(stdout()));
    }
    Ok(Box::new(file::create(path)?))
}

fn positive(text: &str) -> Result<u64, String> {
    number::parse(text).and_then(|value| if value > 0 { Ok(value) } else { Err("must be at least 1".into()) })
}

fn buffer(text: &str) -> Result<u64, String> {
    let bytes = positive(text)?;
    if bytes <= 1 << 30 { Ok(bytes) } else { Err(format!("`{text}` is larger than 1G")) }
}

fn channel(text: &str) -> Result<usize, String> {
    let bad = || format!("`{text}` is not the number of a channel; list several as in 0,1");
    text.parse().map_err(|_| bad())
}

fn count(text: &str) -> Result<usize, String> {
    positive(text)?.try_into().map_err(|_| format!("`{text}` is too large"))
}
