//! The options of an emulated card.

use super::faults::Plan;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::num::NonZeroU64;
use std::time::Duration;
use xdma_card_file::{CardFile, Switches};

/// Options of an emulated card.
///
/// In JSON, all keys are optional, and unknown ones are refused. `switches` changes individual switches of the card:
///
/// ```
/// use xdma_emulator::EmulatorOptions;
///
/// let options: EmulatorOptions = serde_json::from_str(r#"{ "seed": 7, "switches": { "stop_clears_run": true } }"#)?;
/// assert!(options.card.switches.stop_clears_run.or(false));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Keys")]
pub struct EmulatorOptions {
    /// The card to emulate. Default: [`CardFile::f1`].
    pub card: CardFile,
    /// The seed for all randomness: where descriptor fetches split, and latencies.
    pub seed: u64,
    /// Whether a register write is answered only after the work that it starts has finished, unless the custom logic makes the
    /// engine wait.
    pub synchronous: bool,
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

/// The keys of the options in JSON.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    card: CardFile,
    switches: Switches,
    seed: u64,
    synchronous: bool,
    latency: Latency,
    link_rate: Option<NonZeroU64>,
    axi_timeout: Option<Duration>,
    faults: Plan,
}

impl Default for Keys {
    fn default() -> Self {
        let EmulatorOptions { card, seed, synchronous, latency, link_rate, axi_timeout, faults } =
            EmulatorOptions::default();
        let switches = Switches::default();
        Self { card, switches, seed, synchronous, latency, link_rate, axi_timeout, faults }
    }
}

impl From<Keys> for EmulatorOptions {
    fn from(keys: Keys) -> Self {
        let Keys { card, switches, seed, synchronous, latency, link_rate, axi_timeout, faults } = keys;
        Self { card, seed, synchronous, latency, link_rate, axi_timeout, faults }.with_switches(switches)
    }
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        Self::like(CardFile::f1())
    }
}

impl EmulatorOptions {
    /// Returns the default options for a card.
    pub fn like(card: CardFile) -> Self {
        Self {
            card,
            seed: 1,
            synchronous: false,
            latency: Latency::default(),
            link_rate: None,
            axi_timeout: None,
            faults: Plan::default(),
        }
    }

    /// Gives the card stream channels.
    #[must_use]
    pub fn with_streams(mut self) -> Self {
        self.card.set_streams();
        self
    }

    /// Sets the number of channels.
    #[must_use]
    pub fn with_channels(mut self, h2c: usize, c2h: usize) -> Self {
        self.card.set_channels(h2c, c2h);
        self
    }

    /// Sets whether the function can be reset, both through DevCap's FLR bit and by the vfio device reset.
    #[must_use]
    pub fn with_function_reset(mut self, reset: bool) -> Self {
        self.card.function.reset = reset;
        self
    }

    /// Returns the options with these keys of their JSON form replaced, and the others unchanged.
    ///
    /// # Errors
    ///
    /// If there is no such key, or a value is not valid for its key.
    pub fn with_changes(&self, changes: Map<String, Value>) -> serde_json::Result<Self> {
        let mut keys = match serde_json::to_value(self)? {
            Value::Object(keys) => keys,
            _ => unreachable!("options are an object"),
        };
        keys.extend(changes);
        serde_json::from_value(Value::Object(keys))
    }

    /// Sets the switches that are known in `switches`. The others keep their values.
    #[must_use]
    pub fn with_switches(mut self, switches: Switches) -> Self {
        self.card.switches = switches.over(self.card.switches);
        self
    }

    /// Sets whether memory-mapped channels count credits.
    #[must_use]
    pub fn with_credits(mut self, credits: bool) -> Self {
        self.card.channels.credits = credits.into();
        self
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

/// The behaviour of a card wherever its description may leave it open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub stream: bool,
    pub counts_credits: bool,
    pub busy_without_credits: bool,
    pub busy_lag: Duration,
    pub stop_clears_run: bool,
    pub unlogged_errors_stop: bool,
    pub error_write_back: bool,
    pub aligned_fetch: bool,
    pub stop_ends_idle_stream: bool,
    pub narrow_stream_buffers: bool,
    /// Width of the data path in bytes.
    pub beat: u64,
}

impl Behaviour {
    /// Replaces what is unknown by the defaults that the documentation of [`Switches`] states.
    pub fn of(card: &CardFile) -> Self {
        let switches = card.switches;
        Self {
            stream: card.is_stream(),
            counts_credits: card.is_stream() || card.channels.credits.or(true),
            busy_without_credits: switches.busy_without_credits.or(false),
            busy_lag: Duration::from_micros(switches.busy_lag_us.or(0).into()),
            stop_clears_run: switches.stop_clears_run.or(false),
            unlogged_errors_stop: switches.unlogged_errors_stop.or(false),
            error_write_back: switches.error_write_back.or(false),
            aligned_fetch: switches.aligned_fetch.or(true),
            stop_ends_idle_stream: switches.stop_ends_idle_stream.or(true),
            narrow_stream_buffers: switches.narrow_stream_buffers.or(false),
            beat: card.beat(),
        }
    }
}
