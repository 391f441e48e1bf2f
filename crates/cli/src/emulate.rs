//! The command `xdma emulate`.

use crate::card::LogicName;
use crate::failure::Failure;
use crate::output::quoted;
use crate::{file, number, output};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use xdma_emulated_card::find_description;
use xdma_emulator::control::ControlServer;
use xdma_emulator::faults::Plan;
use xdma_emulator::logic::{Logic, MsmModelOptions};
use xdma_emulator::{CardFile, EmulatedCard, EmulatorOptions, Latency, Switches};

#[derive(Args)]
pub struct Emulate {
    /// Path of the vfio-user socket to create.
    #[arg(long)]
    socket: PathBuf,
    /// Path of a socket that accepts control commands as JSON lines (see the documentation of `xdma_emulator::control`).
    #[arg(long)]
    control: Option<PathBuf>,
    /// The card to emulate: a shipped description (f1, f2, alveo, msi, eight-vectors, 7-series, streams, c2h-only, three-and-one), or a
    /// file as `xdma survey` writes it.
    #[arg(long, default_value = "f1", value_name = "NAME|FILE.toml", value_parser = find_description)]
    like: CardFile,
    /// Give the card a function-level reset.
    #[arg(long)]
    function_reset: bool,
    /// Change a switch of the card, such as stop_clears_run=true (see the documentation of `xdma_card_file::Switches`). Can be
    /// repeated.
    #[arg(long = "switch", value_name = "NAME=VALUE", value_parser = switch)]
    switches: Vec<Switches>,
    /// The user logic [default: that of the description].
    #[arg(long, value_enum)]
    logic: Option<LogicName>,
    /// Seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Answer a register write only when everything that it starts is finished.
    #[arg(long, conflicts_with_all = ["link_rate", "fetch_time", "completion_time"])]
    synchronous: bool,
    /// Faults to inject: a plan (see the documentation of `xdma_emulator::faults`).
    #[arg(long, value_name = "PLAN.toml", conflicts_with = "chaos")]
    faults: Option<PathBuf>,
    /// Faults to inject: a random plan from this seed. The plan is printed, for use with --faults.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    #[command(flatten)]
    timing: Timing,
}

/// Timing of the card, in real time, so a busy host makes it less accurate.
#[derive(Args)]
#[command(next_help_heading = "Timing")]
struct Timing {
    /// Maximum rate of the link in each direction, in bytes per second, such as 12G [default: as fast as this machine copies].
    #[arg(long, value_name = "BYTES", value_parser = link_rate)]
    link_rate: Option<NonZeroU64>,
    /// Rate at which the functional model of the MSM design consumes pairs, in pairs per second [default: unlimited].
    #[arg(long, value_name = "PAIRS", value_parser = core_rate)]
    core_rate: Option<f64>,
    /// Maximum duration of a descriptor fetch; each fetch takes a random time up to this.
    #[arg(long, value_name = "MICROSECONDS", default_value = "1", value_parser = microseconds)]
    fetch_time: Duration,
    /// Maximum time from the last byte of a descriptor with the Completed bit to the update of the completed count; random for each
    /// descriptor.
    #[arg(long, value_name = "MICROSECONDS", default_value = "1", value_parser = microseconds)]
    completion_time: Duration,
}

/// Parses one switch. The value is TOML.
fn switch(text: &str) -> Result<Switches, String> {
    toml::from_str(text).map_err(|error| format!("`{text}` is not a switch: {}", error.message()))
}

fn link_rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(number::parse(text)?).ok_or_else(|| "the rate must be greater than 0".into())
}

fn core_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| {
        format!("`{text}` is not a rate: use a positive number of pairs per second, such as 1e6")
    })
}

fn microseconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().filter(|time: &f64| (0.0..=1e6).contains(time));
    let time = time.ok_or_else(|| format!("`{text}` is not a number of microseconds from 0 to 1e6"))?;
    Ok(Duration::from_secs_f64(time / 1e6))
}

impl Emulate {
    pub fn run(&self, json: bool) -> Result<()> {
        let (interrupted, wait) = mpsc::channel();
        ctrlc::set_handler(move || {
            // Sending fails only if the main thread has ended, and with it the process.
            let _ = interrupted.send(());
        })
        .context("cannot install the signal handler")?;
        let options = self.options()?;
        let card = Arc::new(EmulatedCard::start_at(options.clone(), self.build()?, &self.socket)?);
        let control = self.control.as_deref().map(|path| {
            ControlServer::start(Arc::clone(&card), path)
                .with_context(|| format!("cannot create the control socket {}", path.display()))
        });
        let _control = control.transpose()?;
        output::line(&self.describe(&options, card.socket(), json))?;
        wait.recv().context("the signal handler is gone")?;
        for (fault, times) in card.injected_faults() {
            eprintln!("fault {fault} was injected {times} times");
        }
        for violation in card.violations() {
            eprintln!("protocol violation by a client: {violation}");
        }
        Ok(())
    }

    /// Returns the user logic: the one requested, or that of the description.
    fn logic(&self) -> LogicName {
        self.logic.unwrap_or_else(|| LogicName::of(&self.like))
    }

    /// Returns the description of the card, with the options that change it.
    fn card(&self) -> CardFile {
        let mut card = self.like.clone();
        card.function.reset |= self.function_reset;
        for switches in &self.switches {
            card.switches = switches.over(card.switches);
        }
        self.logic.map_or(card.clone(), |logic| logic.behind(card))
    }

    fn options(&self) -> Result<EmulatorOptions> {
        let Timing { link_rate, fetch_time, completion_time, .. } = self.timing;
        Ok(EmulatorOptions {
            seed: self.seed,
            synchronous: self.synchronous,
            link_rate,
            latency: Latency { fetch: fetch_time, completion: completion_time },
            faults: self.plan()?,
            ..EmulatorOptions::like(self.card())
        })
    }

    fn build(&self) -> Result<Arc<dyn Logic>> {
        let pairs_per_second = self.timing.core_rate;
        let logic = self.logic();
        if pairs_per_second.is_some() && logic != LogicName::Msm {
            return Err(Failure::Usage("--core-rate applies only to --logic msm".into()).into());
        }
        let options = MsmModelOptions { pairs_per_second, ..MsmModelOptions::default() };
        Ok(logic.build(&self.card(), options))
    }

    fn plan(&self) -> Result<Plan> {
        match (&self.faults, self.chaos) {
            (Some(path), _) => {
                let text = fs::read_to_string(path).map_err(file::cannot("read the fault plan", path))?;
                toml::from_str(&text).with_context(|| format!("{} is not a fault plan", path.display()))
            }
            (None, Some(seed)) => {
                let plan = Plan::chaos(seed);
                eprint!("# fault plan for seed {seed}\n{}", toml::to_string(&plan)?);
                Ok(plan)
            }
            (None, None) => Ok(Plan::default()),
        }
    }

    fn describe(&self, options: &EmulatorOptions, socket: &Path, json: bool) -> String {
        // An absolute path, because QEMU and other programs may run in another directory.
        let path = std::path::absolute(socket).unwrap_or_else(|_| socket.into());
        let qemu = qemu_arguments(&path);
        let logic =
            self.logic().to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        let EmulatorOptions { card: description, seed, synchronous, link_rate, latency, faults, .. } =
            options;
        if json {
            let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
            return json!({
                "name": description.name,
                "switches": description.switches,
                "logic": logic,
                "seed": seed,
                "synchronous": synchronous,
                "link_rate": link_rate,
                "core_rate": self.timing.core_rate,
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
            "serving an emulated card at {}; stop it with Ctrl-C\n  \
             {}\n  logic {logic}, seed {seed}, faults: {faults}\n  {}\n  \
             xdma info --card {card}\n\
             To attach it to QEMU 10.1 or later, use these options (guest memory must be shared, and may have another size):\n  {}",
            path.display(),
            description.name,
            self.timing.describe(*synchronous),
            qemu.chunks(2).map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" \\\n  ")
        )
    }
}

impl Timing {
    fn describe(&self, synchronous: bool) -> String {
        let core = self.core_rate.map(|rate| format!("; core {rate} pairs/s")).unwrap_or_default();
        if synchronous {
            return format!("timing: synchronous, no delays{core}");
        }
        let link = self.link_rate.map_or("as fast as this machine copies".into(), |rate| {
            format!("at most {} in each direction", number::rate(rate.get() as f64))
        });
        let (fetch, completion) = (self.fetch_time, self.completion_time);
        format!("timing: link {link}; fetch up to {fetch:?}, completion up to {completion:?}{core}")
    }
}

/// Returns the QEMU arguments that attach the card to a guest, in pairs. Guest memory is a shared file, so that the card's process can
/// map it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_arguments_survive_a_shell() {
        for text in ["-m", "unix:/tmp/card.sock", "it's {\"a\": 1} $HOME", ""] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn the_qemu_device_is_json_and_memory_is_shared() {
        let arguments = qemu_arguments(Path::new("/tmp/a \"b\".sock"));
        let device: serde_json::Value = serde_json::from_str(arguments.last().unwrap()).unwrap();
        assert_eq!(device["socket"]["path"], "/tmp/a \"b\".sock");
        assert!(arguments[3].contains("share=on"));
    }
}
