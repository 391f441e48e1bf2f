//! `xdma emulate`.

use crate::card::LogicName;
use crate::failure::Failure;
use crate::{number, output};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use xdma_emulator::control::Control;
use xdma_emulator::faults::Plan;
use xdma_emulator::logic::{Logic, MsmOptions};
use xdma_emulator::{EmulatedCard, Latency, Options, Profile};

#[derive(Args)]
pub struct Emulate {
    /// Where to listen.
    #[arg(long)]
    socket: PathBuf,
    /// Where to listen for orders, as JSON lines (see the documentation of `xdma_emulator::control`).
    #[arg(long)]
    control: Option<PathBuf>,
    /// Which card: f1 or alveo.
    #[arg(long, default_value = "f1")]
    profile: Profile,
    /// The function can be reset.
    #[arg(long)]
    function_reset: bool,
    /// What lies behind the engine.
    #[arg(long, value_enum, default_value = "msm")]
    logic: LogicName,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Finish what a register write starts before the write is answered.
    #[arg(long, conflicts_with_all = ["link_rate", "fetch_time", "completion_time"])]
    synchronous: bool,
    /// What goes wrong: a plan (see the documentation of `xdma_emulator::faults`).
    #[arg(long, value_name = "PLAN.toml", conflicts_with = "chaos")]
    faults: Option<PathBuf>,
    /// What goes wrong, drawn from a seed. The plan is printed, for `--faults`.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    #[command(flatten)]
    pace: Pace,
}

/// How quick the card is. All of it is time of this machine, which has other things to do.
#[derive(Args)]
#[command(next_help_heading = "Pace")]
struct Pace {
    /// Bytes a second that the link moves at most in each direction, such as 12G; as fast as this machine copies unless named.
    #[arg(long, value_name = "BYTES", value_parser = link_rate)]
    link_rate: Option<NonZeroU64>,
    /// Pairs a second that the core of the MSM design's functional model takes; as fast as they come unless named.
    #[arg(long, value_name = "PAIRS", value_parser = core_rate)]
    core_rate: Option<f64>,
    /// Microseconds that a descriptor fetch takes at most; each takes a random time.
    #[arg(long, value_name = "MICROSECONDS", default_value = "1", value_parser = microseconds)]
    fetch_time: Duration,
    /// Microseconds at most from the last byte of a descriptor with the Completed bit to its count; each takes a random time.
    #[arg(long, value_name = "MICROSECONDS", default_value = "1", value_parser = microseconds)]
    completion_time: Duration,
}

fn link_rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(number::parse(text)?).ok_or_else(|| "a link that moves nothing is no link".into())
}

fn core_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("`{text}` is no number of pairs, such as 1e6"))
}

fn microseconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|time: &f64| (0.0..=1e6).contains(time));
    let time = time.ok_or_else(|| format!("`{text}` is no number of microseconds from 0 to 1e6"))?;
    Ok(Duration::from_secs_f64(time / 1e6))
}

impl Emulate {
    pub fn run(&self, json: bool) -> Result<()> {
        let (interrupted, wait) = mpsc::channel();
        ctrlc::set_handler(move || {
            // The main thread is gone only when the process ends anyway.
            let _ = interrupted.send(());
        })
        .context("cannot handle signals")?;
        let options = self.options()?;
        let card = Arc::new(EmulatedCard::start_at(options.clone(), self.build()?, &self.socket)?);
        let control = self.control.as_deref().map(|path| {
            Control::start(Arc::clone(&card), path)
                .with_context(|| format!("no orders at {}", path.display()))
        });
        let _control = control.transpose()?;
        output::line(&self.describe(&options, card.socket(), json))?;
        wait.recv().context("the signal handler is gone")?;
        for (fault, times) in card.struck() {
            eprintln!("{fault} struck {times} times");
        }
        for violation in card.violations() {
            eprintln!("a client broke a rule: {violation}");
        }
        Ok(())
    }

    fn options(&self) -> Result<Options> {
        let Pace { link_rate, fetch_time, completion_time, .. } = self.pace;
        Ok(Options {
            profile: self.profile,
            function_reset: self.function_reset,
            seed: self.seed,
            synchronous: self.synchronous,
            stream: self.logic.is_stream(),
            link_rate,
            latency: Latency { fetch: fetch_time, completion: completion_time },
            faults: self.plan()?,
            ..Options::default()
        })
    }

    fn build(&self) -> Result<Arc<dyn Logic>> {
        let pairs_per_second = self.pace.core_rate;
        if pairs_per_second.is_some() && self.logic != LogicName::Msm {
            return Err(Failure::Usage(
                "--core-rate is for --logic msm: nothing else takes pairs at a pace".into(),
            )
            .into());
        }
        Ok(self.logic.build_with(MsmOptions { pairs_per_second, ..MsmOptions::default() }))
    }

    fn plan(&self) -> Result<Plan> {
        match (&self.faults, self.chaos) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("no plan in {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is no plan of faults", path.display()))
            }
            (None, Some(seed)) => {
                let plan = Plan::chaos(seed);
                eprint!("# the plan of seed {seed}\n{}", toml::to_string(&plan)?);
                Ok(plan)
            }
            (None, None) => Ok(Plan::default()),
        }
    }

    fn describe(&self, options: &Options, socket: &Path, json: bool) -> String {
        // QEMU and other programs may run in another directory.
        let path = std::path::absolute(socket).unwrap_or_else(|_| socket.into());
        let qemu = qemu_arguments(&path);
        let logic = self.logic.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let Options { profile, seed, synchronous, link_rate, latency, faults, .. } = options;
        if json {
            let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
            return json!({
                "profile": profile.to_string(),
                "logic": logic,
                "seed": seed,
                "synchronous": synchronous,
                "link_rate": link_rate,
                "core_rate": self.pace.core_rate,
                "fetch_time_us": microseconds(latency.fetch),
                "completion_time_us": microseconds(latency.completion),
                "faults": faults,
                "socket": path,
                "control": self.control,
                "qemu": qemu,
            })
            .to_string();
        }
        let card = quoted(&format!("unix:{}", path.display()));
        let qemu: Vec<_> = qemu.iter().map(|argument| quoted(argument)).collect();
        let faults = match faults.faults.len() {
            0 => "none".into(),
            count => format!("{count} planned"),
        };
        format!(
            "an emulated {profile} card listens at {}; stop it with Ctrl-C\n  \
             logic {logic}, seed {seed}, faults: {faults}\n  {}\n  \
             xdma info --card {card}\n\
             QEMU 10.1 or later attaches it with (the guest's memory has to be shared; size it as you like):\n  {}",
            path.display(),
            self.pace.describe(*synchronous),
            qemu.chunks(2).map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" \\\n  ")
        )
    }
}

impl Pace {
    fn describe(&self, synchronous: bool) -> String {
        let core = self.core_rate.map(|rate| format!("; core: {rate} pairs/s")).unwrap_or_default();
        if synchronous {
            return format!("pace: nothing takes time{core}");
        }
        let link = self.link_rate.map_or("as fast as this machine copies".into(), |rate| {
            format!("at most {} in each direction", number::rate(rate.get() as f64))
        });
        let (fetch, completion) = (self.fetch_time, self.completion_time);
        format!("pace: link {link}; fetch up to {fetch:?}, completion up to {completion:?}{core}")
    }
}

/// The arguments that give a guest the card, in pairs. The card reaches the guest's memory through its file.
fn qemu_arguments(socket: &Path) -> Vec<String> {
    let device = json!({ "driver": "vfio-user-pci", "socket": { "type": "unix", "path": socket } });
    [
        "-m",
        "2G",
        "-object",
        "memory-backend-memfd,id=mem,size=2G,share=on",
        "-machine",
        "q35,memory-backend=mem",
        "-device",
        &device.to_string(),
    ]
    .map(String::from)
    .into()
}

/// As a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:".contains(c);
    if argument.chars().all(plain) {
        argument.into()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_back_what_was_meant() {
        for text in ["-m", "unix:/tmp/card.sock", "it's {\"a\": 1} $HOME", ""] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn the_device_is_json_and_memory_is_shared() {
        let arguments = qemu_arguments(Path::new("/tmp/a \"b\".sock"));
        let device: serde_json::Value = serde_json::from_str(arguments.last().unwrap()).unwrap();
        assert_eq!(device["socket"]["path"], "/tmp/a \"b\".sock");
        assert!(arguments[3].contains("share=on"));
    }
}
