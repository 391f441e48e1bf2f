//! The configuration of a card, including the behaviour that no manual specifies.

use super::faults::Plan;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;
use xdma_regs::MAX_CHANNELS;

/// The card to model: its identifiers, BARs and MSI-X vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// The application function of an AWS F1 card (1d0f:f001): user registers in BAR0 and BAR1, XDMA in BAR2 with 33 MSI-X
    /// vectors, the AXI port in BAR4 (AWS "FPGA PCIe Memory Address Map").
    F1,
    /// A Xilinx endpoint as `xdma.ko` supports it (10ee:903f): user registers in BAR0 (1 MiB), XDMA in BAR1 (64 KiB, 32 vectors),
    /// both 32-bit. If a card has two BARs and the second one is XDMA, the first one is the user BAR (`libxdma.c`, `map_bars`).
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

/// The error returned when a name does not match any [`Profile`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0:?}; valid profiles are f1 and alveo")]
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

/// Options of an emulated card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EmulatorOptions {
    /// The identifiers and BARs.
    pub profile: Profile,
    /// Whether the function can be reset, both through DevCap's FLR bit and by the vfio device reset.
    pub function_reset: bool,
    /// The seed for all randomness: where descriptor fetches split, and latencies.
    pub seed: u64,
    /// Whether a register write is answered only after the work that it starts has finished, unless the custom logic makes the
    /// engine wait.
    pub synchronous: bool,
    /// Behaviour that no manual specifies.
    pub switches: Switches,
    /// The number of host-to-card channels, 0 to 4.
    pub h2c_channels: usize,
    /// The number of card-to-host channels, 0 to 4.
    pub c2h_channels: usize,
    /// Whether the channels are AXI-Stream instead of memory-mapped.
    pub stream: bool,
    /// Upper limits of the random delays. Ignored if `synchronous` is set.
    pub latency: Latency,
    /// The maximum payload rate of the link in bytes per second, for each direction and shared by all its channels. Ignored if
    /// `synchronous` is set. Default `None`: as fast as the host copies.
    pub link_rate: Option<NonZeroU64>,
    /// The time after which the shell around the custom logic ends an unanswered AXI transaction of a memory-mapped channel.
    ///
    /// Written data is then lost, reads return all ones, and the transfer completes as if it had succeeded. For the next 4 ms,
    /// all further transactions end immediately in the same way (AWS "Shell Interface Specification"; which response XDMA sees is
    /// unverified). The AWS F1 shell waits 5 s. Default `None`: the engine waits forever, as without a shell.
    pub axi_timeout: Option<Duration>,
    /// Faults to inject. Default: none.
    pub faults: Plan,
}

impl Default for EmulatorOptions {
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
    /// The delay of a descriptor fetch.
    pub fetch: Duration,
    /// The delay from the last byte of a descriptor that has the Completed bit to the update of the completed count.
    pub completion: Duration,
}

impl Latency {
    /// No delays.
    pub const NONE: Self = Self { fetch: Duration::ZERO, completion: Duration::ZERO };
}

impl Default for Latency {
    fn default() -> Self {
        Self { fetch: Duration::from_micros(1), completion: Duration::from_micros(1) }
    }
}

/// Behaviour that neither PG195 nor a published measurement determines. A driver must work with every setting.
///
/// The defaults are the most likely behaviour, judging by the wording of PG195 or by the drivers in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Whether memory-mapped channels count credits. If not, the credit register reads 0 and missing credits never hold back a
    /// fetch. Default true.
    pub mm_credits: bool,
    /// Whether BUSY reads 1 while the engine waits for credits or for a halted fetch to resume. Default false: BUSY means that
    /// descriptors or requests are outstanding (PG344, "Initial Debug of the XDMA").
    pub busy_without_credits: bool,
    /// The delay from the write-back of the descriptor with Stop to the fall of BUSY. Default zero: BUSY falls before the
    /// write-back.
    pub busy_lag: Duration,
    /// Whether a descriptor with Stop clears the Run bit. Default false: Run stays as software left it.
    pub stop_clears_run: bool,
    /// Whether an error whose `ie` bit is clear stops the engine. Default false: the engine continues as if nothing had happened.
    /// A bad magic number and a refused fetch stop it in any case.
    pub unlogged_errors_stop: bool,
    /// Whether an error that stops the engine writes back the count with bit 31 set. Default false, as observed on hardware for a
    /// refused fetch.
    pub error_write_back: bool,
    /// Whether descriptor requests end at multiples of the maximum read request size, so that a block of adjacent descriptors may cross
    /// 4 KiB, which PG195 forbids. The AWS F1 kernel driver relies on this. Default false: such a request wraps inside its page. In both
    /// cases the card records a [`Violation`](super::Violation).
    pub aligned_fetch: bool,
    /// Whether clearing Run ends a C2H stream descriptor that has not received any data. Default false: BUSY stays set until data
    /// arrives.
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
    fn profile_names_round_trip() {
        for profile in [Profile::F1, Profile::Alveo] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        let error = "f2".parse::<Profile>().unwrap_err();
        assert_eq!(error.to_string(), "unknown profile \"f2\"; valid profiles are f1 and alveo");
    }
}
