//! The emulated card: an XDMA device served over vfio-user, for tests, examples, and QEMU guests.
//!
//! It models what a driver can see: configuration space, BARs, MSI-X, the register map with its aliases, and engines that
//! fetch descriptors from the client's memory, move data to and from a [custom logic](logic::Logic), and report.
//! It shares nothing with the driver but the register map and the descriptor's layout, so that a mistake in one is
//! not repeated in the other. What no manual decides is a [switch](Switches); what silicon would punish in ways nobody has
//! documented is kept as a [`Violation`], and answered as gently as can be:
//!
//! | rule broken | what the card does |
//! |---|---|
//! | descriptor not aligned to 32 bytes | reads it where it lies |
//! | block of adjacent descriptors across 4 KiB | wraps the request inside the page (or see [`Switches::aligned_fetch`]) |
//! | Stop inside a block | ends the list there |
//! | length 0 | counts the descriptor as done |
//! | reserved bits set | ignores them |
//! | access that is not an aligned 32-bit word | reads all ones, drops what is written |
//! | more than 1023 credits | keeps 1023 |
//! | Run set while busy | loses it: the channel must be idle first |
//! | first descriptor's address written while running | uses it from the next Run on |
//! | fetch with bus mastering off | holds the request until bus mastering is on or Run falls |
//! | memory released, or unmapped, that an engine uses | goes on; an unmapping waits for the access |
//!
//! What no client can bring about, such as a link that goes down, is caused by [`EmulatedCard::inject`].
//!
//! ```
//! use std::sync::Arc;
//! use xdma_emulator::{EmulatedCard, Options, logic::Memory};
//!
//! # fn main() -> Result<(), xdma_emulator::Error> {
//! let card = EmulatedCard::start(Options::default(), Arc::new(Memory::new()))?;
//! println!("{}", card.socket().display());
//! assert!(card.violations().is_empty());
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod admission;
mod axi_timeout;
mod bell;
mod card;
mod channel;
mod command;
mod config_space;
pub mod control;
mod device;
mod engine;
pub mod faults;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod guest;
mod irq;
mod link;
mod log;
pub mod logic;
mod mapping;
mod options;
mod pace;
mod perf;
mod registers;
mod server;
mod slot;
mod transfer;
mod wakeup;
mod watch;
mod wire;

pub use log::{ChannelId, Counters, Fault, Purpose, Refusal, Rule, Violation};
pub use options::{Latency, Options, Profile, Switches, UnknownProfile};
pub use watch::Witness;

use card::Card;
use faults::{Injection, Kind, UnknownChannel};
use logic::Logic;
use server::Service;
use slot::Slot;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::{fmt, io};
use xdma_regs::{Direction, MAX_CHANNELS};

/// Why a card could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More channels than XDMA has.
    #[error("XDMA has at most {MAX_CHANNELS} channels in each direction, not {h2c} and {c2h}")]
    Channels {
        /// Host-to-card channels asked for.
        h2c: usize,
        /// Card-to-host channels asked for.
        c2h: usize,
    },
    /// The socket's path is taken by a process that listens there.
    #[error("{} is taken: another process serves there; stop it, or choose another path", .0.display())]
    Taken(PathBuf),
    /// The socket could not be made.
    #[error("cannot serve at {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image is of another PCI function.
    #[error("an image keeps the function: its profile, and whether it can be reset; start another card")]
    OtherFunction,
    /// The plan of faults names a channel that the card does not have.
    #[error("the plan of faults: {0}")]
    Faults(#[from] UnknownChannel),
    /// No thread could be started.
    #[error("cannot start the card's threads")]
    Threads(#[source] io::Error),
}

/// A card served by threads of this process. Dropping it ends them, also while a client is connected, and removes the
/// socket.
pub struct EmulatedCard {
    // Dropped first: what serves the card.
    service: Option<Service>,
    slot: Arc<Slot>,
}

impl EmulatedCard {
    /// Serves a card behind a socket (mode 0600) in a directory of its own (mode 0700).
    pub fn start(options: Options, logic: Arc<dyn Logic>) -> Result<Self, Error> {
        Self::serve(options, logic, None)
    }

    /// Serves a card at `path`. A socket that a dead process left there is replaced.
    pub fn start_at(options: Options, logic: Arc<dyn Logic>, path: &Path) -> Result<Self, Error> {
        Self::serve(options, logic, Some(path))
    }

    fn serve(options: Options, logic: Arc<dyn Logic>, path: Option<&Path>) -> Result<Self, Error> {
        check_channels(&options)?;
        let slot = Arc::new(Slot::new(Card::start(options, logic).map_err(Error::Threads)?));
        let service = Service::start(Arc::clone(&slot), path).map_err(|source| {
            let path = path.map_or_else(std::env::temp_dir, Path::to_path_buf);
            match source.kind() {
                io::ErrorKind::AddrInUse => Error::Taken(path),
                _ => Error::Socket { path, source },
            }
        })?;
        slot.card().leave_by(service.leave());
        Ok(Self { service: Some(service), slot })
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        self.service.as_ref().map_or(Path::new(""), Service::path)
    }

    /// Removes the socket, once the only client is connected.
    #[doc(hidden)]
    pub fn hide(&self) {
        if let Some(service) = &self.service {
            service.hide();
        }
    }

    /// Makes something go wrong, now or at the next occasion.
    ///
    /// # Errors
    ///
    /// The card has no such channel.
    pub fn inject(&self, injection: impl Into<Injection>) -> Result<(), UnknownChannel> {
        let (card, injection) = (self.slot.card(), injection.into());
        if let Some(id) = injection.on
            && !card.channels().iter().any(|channel| channel.id == id)
        {
            return Err(UnknownChannel(id));
        }
        // Nobody may come near a card whose link is down: these wait for no access.
        match injection.fault {
            fault @ (Kind::LinkDown | Kind::LinkUp | Kind::ProcessGone) if injection.after == 0 => {
                card.shared.faults.note(fault);
                card.suffer(fault);
            }
            _ => card.shared.faults.add(injection),
        }
        Ok(())
    }

    /// How often each fault struck, by [name](faults::Kind::name), since the card was made or its image loaded.
    pub fn struck(&self) -> BTreeMap<String, u64> {
        self.slot.card().shared.faults.struck()
    }

    /// Replaces what is behind the function, as loading an image into the FPGA does where its link stays up: channels, switches
    /// and logic are new, the client's memory and configuration space stay, the log starts anew. A real card wants to be
    /// idle then; here, whatever runs is cut off.
    ///
    /// # Errors
    ///
    /// [`Error::Channels`]; [`Error::OtherFunction`] if profile or reset differ; [`Error::Threads`].
    pub fn load(&self, options: Options, logic: Arc<dyn Logic>) -> Result<(), Error> {
        check_channels(&options)?;
        self.slot.load(options, logic)
    }

    /// The rules that the client broke, the first 1024.
    pub fn violations(&self) -> Vec<Violation> {
        self.slot.card().shared.log.violations()
    }

    /// The accesses to host memory that were refused, the first 1024.
    pub fn faults(&self) -> Vec<Fault> {
        self.slot.card().shared.log.faults()
    }

    /// Work done so far.
    pub fn counters(&self) -> Counters {
        self.slot.card().shared.log.counters()
    }

    /// Learns what becomes of the client's memory, from a client that tells.
    pub fn witness(&self) -> Witness {
        Witness(self.slot.card().shared.guest.watch.clone())
    }

    /// The options it was started with, or those of its image.
    pub fn options(&self) -> Options {
        self.slot.card().shared.options.clone()
    }
}

fn check_channels(options: &Options) -> Result<(), Error> {
    let (h2c, c2h) = (options.h2c_channels, options.c2h_channels);
    if h2c.max(c2h) > MAX_CHANNELS {
        return Err(Error::Channels { h2c, c2h });
    }
    let count = |direction| if direction == Direction::H2C { h2c } else { c2h };
    let mut named = options.faults.faults.iter().filter_map(|injection| injection.on);
    match named.find(|id| id.index >= count(id.direction)) {
        Some(id) => Err(UnknownChannel(id).into()),
        None => Ok(()),
    }
}

impl fmt::Debug for EmulatedCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedCard").field("socket", &self.socket()).finish_non_exhaustive()
    }
}

impl Drop for EmulatedCard {
    fn drop(&mut self) {
        // A register write may be driving an engine: that ends first.
        self.slot.card().halt();
        self.service = None;
    }
}

/// Serves a card at `path`, client after client, until `stop` gets a message or loses its sender.
///
/// Between clients the card stays as it is, as a real one would, but for the gone client's memory and interrupts; bus
/// mastering is off, as the kernel leaves it.
pub fn serve(
    options: Options,
    logic: Arc<dyn Logic>,
    path: &Path,
    stop: &mpsc::Receiver<()>,
) -> Result<(), Error> {
    let _card = EmulatedCard::start_at(options, logic, path)?;
    // A message and a lost sender mean the same.
    let _ = stop.recv();
    Ok(())
}
