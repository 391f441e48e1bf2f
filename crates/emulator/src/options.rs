//! What a card is made of, and how it decides what no manual decides.

use super::faults::Plan;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;
use xdma_regs::MAX_CHANNELS;

/// Which card is modelled: its identifiers, BARs and MSI-X vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The application function of an AWS F1 card (1d0f:f001): user registers in BAR0 and BAR1, XDMA in BAR2 with 33 MSI-X
    /// vectors, the AXI port in BAR4 (AWS "FPGA PCIe Memory Address Map").
    F1,
    /// A Xilinx endpoint as `xdma.ko` knows it (10ee:903f): user registers in BAR0 (1 MiB), XDMA in BAR1 (64 KiB, 32
    /// vectors), both 32-bit. With two BARs of which the second is XDMA, the first is the user BAR (`libxdma.c`,
    /// `map_bars`).
    Alveo,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F1 => "f1",
            Self::Alveo => "alveo",
        })
    }
}

/// The name is not that of a [`Profile`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no emulated card is called {0:?}; there are f1 and alveo")]
pub struct UnknownProfile(String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "f1" => Ok(Self::F1),
            "alveo" => Ok(Self::Alveo),
            _ => Err(UnknownProfile(name.to_owned())),
        }
    }
}

/// How the card is built and set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Identifiers and BARs.
    pub profile: Profile,
    /// Whether the function can be reset: DevCap's FLR bit and the device's reset.
    pub function_reset: bool,
    /// Seed of everything random: where descriptor fetches split, and latencies.
    pub seed: u64,
    /// Finish what a register write starts before that write is answered, as far as the logic does not wait.
    pub synchronous: bool,
    /// What no manual decides.
    pub switches: Switches,
    /// Host-to-card channels, 0 to 4.
    pub h2c_channels: usize,
    /// Card-to-host channels, 0 to 4.
    pub c2h_channels: usize,
    /// AXI-Stream channels instead of memory-mapped ones.
    pub stream: bool,
    /// How long things take at most; each time is random up to its limit. Nothing takes time when synchronous.
    pub latency: Latency,
    /// Bytes a second that the link moves at most in each direction: payload, of all channels together. Nothing takes time when
    /// synchronous. Default `None`: as fast as the host copies.
    pub link_rate: Option<NonZeroU64>,
    /// After how long the shell around the logic ends an AXI transaction of a memory-mapped channel that the logic does not
    /// answer. Written data then vanishes and reads give all ones, the transfer ends as if it had succeeded, and for 4 ms
    /// all further transactions end at once, likewise (AWS "Shell Interface Specification"; which response XDMA sees is
    /// unverified). AWS' shell of F1 waits 5 s. Default `None`: the engine waits for ever, as without a shell.
    pub axi_timeout: Option<Duration>,
    /// What goes wrong. Default: nothing.
    pub faults: Plan,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::F1,
            function_reset: false,
            seed: 1,
            synchronous: false,
            switches: Switches::default(),
            h2c_channels: MAX_CHANNELS,
            c2h_channels: MAX_CHANNELS,
            stream: false,
            latency: Latency::default(),
            link_rate: None,
            axi_timeout: None,
            faults: Plan::default(),
        }
    }
}

/// Upper limits of random delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Of a descriptor fetch.
    pub fetch: Duration,
    /// Between the last byte of a descriptor with the Completed bit and its count.
    pub completion: Duration,
}

impl Latency {
    /// No delay.
    pub const NONE: Self = Self { fetch: Duration::ZERO, completion: Duration::ZERO };
}

impl Default for Latency {
    fn default() -> Self {
        Self { fetch: Duration::from_micros(1), completion: Duration::from_micros(1) }
    }
}

/// What neither PG195 nor a published measurement decides. A driver must work under each value.
///
/// The defaults are what is most likely, by PG195's wording or by what drivers in use rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Memory-mapped channels count credits. Otherwise the credit register reads 0 and fetch is never held back by it.
    /// Default true.
    pub mm_credits: bool,
    /// BUSY reads 1 while the engine waits for credits or a halted fetch to go on. Default false: BUSY means descriptors
    /// or requests outstanding (PG344, "Initial Debug of the XDMA").
    pub busy_without_credits: bool,
    /// BUSY falls this long after the write-back of the descriptor with Stop. Default zero: before the write-back.
    pub busy_lag: Duration,
    /// A descriptor with Stop clears the Run bit. Default false: it stays as software left it.
    pub stop_clears_run: bool,
    /// An error whose `ie` bit is off stops the engine. Default false: it goes on as if nothing had happened; a bad
    /// magic number and a refused fetch stop it in any case.
    pub unlogged_errors_stop: bool,
    /// An error that stops the engine writes the count back with bit 31. Default false, as seen on hardware for a refused
    /// fetch.
    pub error_write_back: bool,
    /// Descriptor requests end at multiples of the maximum read request, so that a block across 4 KiB is followed as
    /// if it were legal; AWS' kernel driver of F1 needs that. Default false: such a request wraps inside its page.
    /// Either way it is a [`Violation`](super::Violation).
    pub aligned_fetch: bool,
    /// Clearing Run ends a C2H stream descriptor that has received nothing. Default false: BUSY stays until data comes.
    pub stop_ends_idle_stream: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            mm_credits: true,
            busy_without_credits: false,
            busy_lag: Duration::ZERO,
            stop_clears_run: false,
            unlogged_errors_stop: false,
            error_write_back: false,
            aligned_fetch: false,
            stop_ends_idle_stream: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_parsed_as_they_are_printed() {
        for profile in [Profile::F1, Profile::Alveo] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "f2".parse::<Profile>().unwrap_err();
        assert_eq!(error.to_string(), "no emulated card is called \"f2\"; there are f1 and alveo");
    }
}
