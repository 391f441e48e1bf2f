//! An emulated card: an XDMA device served over vfio-user, for tests, examples and QEMU guests.
//!
//! It models everything that a driver can observe: configuration space, BARs, MSI-X, the register map with its aliases, and
//! engines that fetch descriptors from the client's memory, move data to and from a [custom logic](logic::Logic), and report
//! completion. The driver and the emulator share only the register map and the descriptor layout, so a mistake in one is not
//! repeated in the other.
//!
//! Behaviour that the manuals leave open is selected by a [switch](Switches). Where the consequences on silicon are undocumented,
//! the card records a [`Violation`] and continues as gracefully as it can:
//!
//! | broken rule | behaviour of the card |
//! |---|---|
//! | descriptor not aligned to 32 bytes | reads it at its unaligned address |
//! | block of adjacent descriptors across 4 KiB | ends requests at multiples of the read request size (see [`Switches::aligned_fetch`]) |
//! | Stop inside a block | ends the list there |
//! | length 0 | counts the descriptor as done |
//! | reserved bits set | ignores them |
//! | access that is not an aligned 32-bit word | reads or writes only the bytes accessed, as AXI byte enables select them |
//! | more than 1023 credits | keeps 1023 |
//! | Run set while busy | ignores it: the channel must be idle first |
//! | Run set while idle, but Run is already set | ignores it: Run must be cleared first |
//! | first descriptor's address written while running | uses it from the next Run on |
//! | fetch with bus mastering off | holds the request until bus mastering is on or Run falls |
//! | Run set in an F2 shell's interrupt block | the channel stays busy until Run is cleared |
//! | memory released or unmapped while an engine uses it | continues; an unmap waits for the access to finish |
//!
//! Events that no client can cause, such as a link going down, are injected with [`EmulatedCard::inject`].
//!
//! ```
//! use std::sync::Arc;
//! use xdma_emulator::{EmulatedCard, EmulatorOptions, logic::Memory};
//!
//! # fn main() -> Result<(), xdma_emulator::Error> {
//! let card = EmulatedCard::start(EmulatorOptions::default(), Arc::new(Memory::new()))?;
//! println!("{}", card.socket().display());
//! assert!(card.violations().is_empty());
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

mod admission;
mod axi_timeout;
mod card;
#[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
mod card_bus;
mod channel;
#[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
mod clock;
mod command;
mod config_space;
pub mod control;
mod device;
mod engine;
#[cfg(feature = "rtl-f2")]
mod f2;
pub mod faults;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
mod guest;
mod interrupt_block;
mod irq;
mod link;
mod log;
pub mod logic;
mod mapping;
mod memory_tracker;
mod notifier;
mod options;
mod perf;
mod registers;
#[cfg(feature = "rtl-dma")]
mod rtl_dma;
mod server;
#[cfg(any(feature = "rtl-f2", feature = "rtl-dma"))]
mod simulated_engine;
mod slot;
mod throttle;
mod transfer;
mod wakeup;
mod wire;

pub use log::{CardCounters, ChannelId, DmaFault, DmaFaultReason, Purpose, Rule, Violation};
pub use memory_tracker::ReleaseObserver;
pub use options::{EmulatorOptions, Latency};
pub use xdma_card_file as card_file;
pub use xdma_card_file::{CardFile, Switches};

use card::CardModel;
use faults::{Injection, Kind, UnknownChannel};
use logic::Logic;
use server::Service;
use slot::Slot;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fmt, io};
use xdma_regs::Direction;

/// An error that prevents a card from starting or from loading an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The description of the card is invalid.
    #[error("invalid description of the card: {0}")]
    Card(#[from] xdma_card_file::Error),
    /// Another process already listens at the socket's path.
    #[error("{} is in use: another process is listening there; stop it or choose another path", .0.display())]
    PathInUse(PathBuf),
    /// The socket could not be created.
    #[error("cannot listen at {}: {source}", path.display())]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
    /// The image belongs to a different PCI function.
    #[error(
        "an image cannot change the PCI function: its identifiers, capabilities and BARs must stay the same; start another card for this image"
    )]
    FunctionMismatch,
    /// The fault plan names a channel that the card does not have.
    #[error("invalid fault plan: {0}")]
    FaultPlan(#[from] UnknownChannel),
    /// There is no model of the DMA engine with these channels.
    #[cfg(feature = "rtl-dma")]
    #[error(
        "the simulated DMA engine has only memory-mapped channels, and only 4 + 4, 1 + 1, 1 + 3 or 3 + 1 of them (H2C + C2H); this card has {} + {}, {:?}",
        .0.h2c, .0.c2h, .0.interface
    )]
    Engine(xdma_card_file::Channels),
    /// A thread could not be started.
    #[error("cannot start the card's threads")]
    Threads(#[source] io::Error),
}

/// A card served by threads of this process.
///
/// Dropping it stops the threads, even while a client is connected, and removes the socket.
pub struct EmulatedCard {
    // Declared first so that serving stops before the card is dropped.
    service: Option<Service>,
    slot: Arc<Slot>,
}

impl EmulatedCard {
    /// Starts a card and serves it on a socket (mode 0600) in a new private directory (mode 0700).
    ///
    /// With the feature `rtl-f2`, a card like `f2` has the simulated image, with 1 + 1 channels. With `rtl-f2-shapes`, it has 4 + 4 if the
    /// description says so and the image does not contain the design. The engine replaces the core, the switches and the alignments in the
    /// description. Delays have no effect. Channel faults are injected only if they affect buses or interrupt messages.
    pub fn start(options: EmulatorOptions, logic: Arc<dyn Logic>) -> Result<Self, Error> {
        Self::serve(options, logic, None)
    }

    /// Starts a card and serves it on a socket at `path`. Replaces a stale socket left behind by a dead process.
    pub fn start_at(options: EmulatorOptions, logic: Arc<dyn Logic>, path: &Path) -> Result<Self, Error> {
        Self::serve(options, logic, Some(path))
    }

    /// Like [`EmulatedCard::start`], but with the DMA engine of `hdl/rtl/dma` instead of the model of the XDMA core, simulated cycle by
    /// cycle. The engine replaces the core, the switches and the alignments in the description of the card. Delays have no effect. The
    /// card has MSI-X only.
    ///
    /// Only those faults of channels are injected that affect buses and messages: bad completions (all as SLVERR), lost writes, descriptors
    /// without their magic numbers (always the two of a beat), AXI errors, hangs, and lost interrupts.
    ///
    /// # Errors
    ///
    /// As [`EmulatedCard::start`], and [`Error::Engine`].
    #[cfg(feature = "rtl-dma")]
    pub fn start_rtl_dma(mut options: EmulatorOptions, logic: Arc<dyn Logic>) -> Result<Self, Error> {
        check_options(&options)?;
        let channels = [options.card.channels.h2c, options.card.channels.c2h];
        options.card = simulated_engine::describe(options.card, channels);
        Self::serve_card(CardModel::start_rtl_dma(options, logic)?, None)
    }

    fn serve(options: EmulatorOptions, logic: Arc<dyn Logic>, path: Option<&Path>) -> Result<Self, Error> {
        check_options(&options)?;
        Self::serve_card(CardModel::start(options, logic).map_err(Error::Threads)?, path)
    }

    /// Returns the metrics of the F2 shell by the names that AWS's tool prints (`fpga-describe-local-image --metrics`), if the card has
    /// such a shell. The values without `-count` and `-addr` in their names are flags.
    #[cfg(feature = "rtl-f2")]
    pub fn shell_metrics(&self) -> Option<BTreeMap<String, u64>> {
        self.slot.card().f2.as_ref().map(|image| image.metrics())
    }

    /// Kills the PCIM port of an F2 shell, as a time-out of 8 microseconds does: it answers nothing until another image is
    /// [loaded](Self::load). Other cards do not have it.
    #[cfg(feature = "rtl-f2")]
    pub fn kill_pcim(&self) {
        if let Some(image) = &self.slot.card().f2 {
            image.kill_pcim();
        }
    }

    /// Makes one in eight requests of the PCIM port of an F2 shell take up to `longest` longer. One microsecond is 250 clocks of the
    /// simulated image. It has no effect on other cards.
    #[cfg(feature = "rtl-f2")]
    pub fn set_pcim_spikes(&self, longest: Duration) {
        if let Some(image) = &self.slot.card().f2 {
            image.set_pcim_spikes(longest);
        }
    }

    /// Makes the logic behind the engine of an F2 card stop answering accesses to its registers, until another image is
    /// [loaded](Self::load). The shell's time-out of 8 microseconds then expires. It has no effect on other cards or on
    /// [`InImage`](logic::InImage).
    #[cfg(feature = "rtl-f2")]
    pub fn hang_user_registers(&self) {
        if let Some(image) = &self.slot.card().f2 {
            image.hang_user_registers();
        }
    }

    fn serve_card(card: CardModel, path: Option<&Path>) -> Result<Self, Error> {
        let slot = Arc::new(Slot::new(card));
        let service = Service::start(Arc::clone(&slot), path).map_err(|source| {
            let path = path.map_or_else(std::env::temp_dir, Path::to_path_buf);
            match source.kind() {
                io::ErrorKind::AddrInUse => Error::PathInUse(path),
                _ => Error::Socket { path, source },
            }
        })?;
        slot.card().set_shutdown(service.shutdown_handle());
        Ok(Self { service: Some(service), slot })
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> &Path {
        self.service.as_ref().map_or(Path::new(""), Service::path)
    }

    /// Removes the socket from the file system. Call this once the only client is connected.
    #[doc(hidden)]
    pub fn unlink_socket(&self) {
        if let Some(service) = &self.service {
            service.unlink_socket();
        }
    }

    /// Injects a fault: immediately, or the next time its injection point is reached.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownChannel`] if the card does not have the channel that the injection names.
    pub fn inject(&self, injection: impl Into<Injection>) -> Result<(), UnknownChannel> {
        let (card, injection) = (self.slot.card(), injection.into());
        if let Some(id) = injection.on
            && !has_channel(&card.shared.options, id)
        {
            return Err(UnknownChannel(id));
        }
        // These faults must take effect even if no access follows, since a client may not touch a card whose link is down.
        match injection.fault {
            fault @ (Kind::LinkDown | Kind::LinkUp | Kind::ProcessGone) if injection.after == 0 => {
                card.shared.faults.record_injected(fault);
                card.apply_fault(fault);
            }
            _ => card.shared.faults.add(injection),
        }
        Ok(())
    }

    /// Returns how often each fault was injected, by [name](faults::Kind::name), since the card was started or its image loaded.
    pub fn injected_faults(&self) -> BTreeMap<String, u64> {
        self.slot.card().shared.faults.injected()
    }

    /// Replaces the design behind the PCI function, as loading an image into the FPGA does while the link stays up.
    ///
    /// Channels, switches and logic are replaced and the log is cleared; the client's memory maps and configuration space are
    /// kept. A real card must be idle at that point; here, running transfers are aborted.
    ///
    /// # Errors
    ///
    /// - [`Error::Card`] or [`Error::FaultPlan`] if `options` are invalid.
    /// - [`Error::FunctionMismatch`] if the PCI function or its BARs differ.
    /// - [`Error::Threads`] if the channel threads cannot be started.
    pub fn load(&self, options: EmulatorOptions, logic: Arc<dyn Logic>) -> Result<(), Error> {
        check_options(&options)?;
        self.slot.load(options, logic)
    }

    /// Loads an image as seen by a driver that stays bound. The link is down for `time`: all registers and configuration space read
    /// all ones, and writes are lost. Afterwards the new design runs, and configuration space has its reset values, so BARs, bus
    /// mastering and interrupts must be set up again. (The AWS SDK removes and rescans the function for this:
    /// `fpga_pci_rescan_slot_app_pfs`.)
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn reprogram(
        &self,
        options: EmulatorOptions,
        logic: Arc<dyn Logic>,
        time: Duration,
    ) -> Result<(), Error> {
        check_options(&options)?;
        self.slot.check_function(&options)?;
        self.slot.card().set_link(false);
        std::thread::sleep(time);
        let loaded = self.load(options, logic);
        self.slot.card().set_link(true);
        loaded
    }

    /// Returns the first 1024 rule violations by the client.
    pub fn violations(&self) -> Vec<Violation> {
        self.slot.card().shared.log.violations()
    }

    /// Returns the first 1024 accesses to host memory that were refused.
    pub fn dma_faults(&self) -> Vec<DmaFault> {
        self.slot.card().shared.log.dma_faults()
    }

    /// Returns the work counters.
    pub fn counters(&self) -> CardCounters {
        self.slot.card().shared.log.counters()
    }

    /// Returns a handle through which a client reports its memory allocations and releases.
    pub fn observer(&self) -> ReleaseObserver {
        ReleaseObserver(self.slot.card().shared.guest.tracker.clone())
    }

    /// Returns the options of the card: those it was started with, or those of the last image loaded.
    pub fn options(&self) -> EmulatorOptions {
        self.slot.card().shared.options.clone()
    }
}

fn check_options(options: &EmulatorOptions) -> Result<(), Error> {
    options.card.check()?;
    let mut named = options.faults.faults.iter().filter_map(|injection| injection.on);
    match named.find(|&id| !has_channel(options, id)) {
        Some(id) => Err(UnknownChannel(id).into()),
        None => Ok(()),
    }
}

fn has_channel(options: &EmulatorOptions, id: ChannelId) -> bool {
    let channels = options.card.channels;
    id.index < if id.direction == Direction::H2C { channels.h2c } else { channels.c2h }
}

impl fmt::Debug for EmulatedCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedCard").field("socket", &self.socket()).finish_non_exhaustive()
    }
}

impl Drop for EmulatedCard {
    fn drop(&mut self) {
        // A register write may be driving an engine; stop that first.
        self.slot.card().halt();
        self.service = None;
    }
}

/// Serves a card at `path` to one client after another, until `stop` receives a message or its sender is dropped.
///
/// As with a real card, the card's state survives a change of clients. Only the maps and interrupts of the previous client are
/// dropped, and bus mastering is turned off, as the kernel does when a device is closed.
pub fn serve(
    options: EmulatorOptions,
    logic: Arc<dyn Logic>,
    path: &Path,
    stop: &mpsc::Receiver<()>,
) -> Result<(), Error> {
    let _card = EmulatedCard::start_at(options, logic, path)?;
    // A message and a dropped sender both mean stop.
    let _ = stop.recv();
    Ok(())
}
