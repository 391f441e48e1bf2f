/// The remedy for an error, for programs that react to errors automatically. The error's text gives the same advice in detail,
/// for people.
///
/// Every error of an operation has a method `remedy`. Errors of parsing (a card name, a mode) and of reading statistics have none:
/// their text says what to correct.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::{sync::Arc, time::Duration};
/// # use xdma::card::CardOptions;
/// # use xdma_emulator::{EmulatorOptions, logic::Memory};
/// use xdma::Remedy;
/// use xdma::regs::Direction;
///
/// # let card = xdma_emulated_card::start(EmulatorOptions::default(), Arc::new(Memory::new()), CardOptions::default())?;
/// let mut channel = card.h2c(0)?;
/// let buffer = card.allocate(4096, Direction::H2C)?;
/// # let limit = Duration::from_secs(5);
/// let ticket = loop {
///     match channel.submit(&buffer, 0..4096, 0) {
///         Ok(ticket) => break ticket,
///         Err(error) => match error.remedy() {
///             Remedy::TryAgain => std::thread::yield_now(),
///             Remedy::Recover => channel.recover()?,
///             _ => return Err(error.into()), // needs a person, or another card
///         },
///     }
/// };
/// channel.wait(ticket, limit)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// The request is invalid, and repeating it fails again. The text states what to change.
    Correct,
    /// A resource is in use or full, and nothing was started. Poll or wait for earlier work, or close what holds the resource,
    /// then try again.
    TryAgain,
    /// The work is still in flight. Wait again, or stop the channel.
    WaitAgain,
    /// The work was lost. Recover the object that failed (a channel, a pool, a stream or an MSM client), then submit the work
    /// again.
    Recover,
    /// An engine does not stop. Reset the card.
    Reset,
    /// The card cannot be reached. Close it, and open it again once it is available.
    Reopen,
    /// The kernel is taking the card away. Close the card.
    Close,
    /// The host needs to be prepared: permissions, limits, hugepages, or the card's driver. `vfio-setup doctor` lists what is
    /// missing.
    PrepareHost,
    /// The card does not have what was requested. Open the card or the channel with other options, or use another card.
    Unsupported,
}
