//! `xdma emulate`.

use crate::card::LogicName;
use crate::output;
use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use xdma::emulator::control::Control;
use xdma::emulator::faults::Plan;
use xdma::emulator::{EmulatedCard, Options, Profile};

#[derive(Args)]
pub struct Emulate {
    /// Where to listen.
    #[arg(long)]
    socket: PathBuf,
    /// Where to listen for orders, as JSON lines (see the documentation of `xdma::emulator::control`).
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
    #[arg(long)]
    synchronous: bool,
    /// What goes wrong: a plan (see the documentation of `xdma::emulator::faults`).
    #[arg(long, value_name = "PLAN.toml", conflicts_with = "chaos")]
    faults: Option<PathBuf>,
    /// What goes wrong, drawn from a seed. The plan is printed, for `--faults`.
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
}

impl Emulate {
    pub fn run(&self, json: bool) -> Result<()> {
        let (interrupted, wait) = mpsc::channel();
        ctrlc::set_handler(move || {
            // The main thread is gone only when the process ends anyway.
            let _ = interrupted.send(());
        })
        .context("cannot handle signals")?;
        let options = Options {
            profile: self.profile,
            function_reset: self.function_reset,
            seed: self.seed,
            synchronous: self.synchronous,
            stream: self.logic.is_stream(),
            faults: self.plan()?,
            ..Options::default()
        };
        let card = Arc::new(EmulatedCard::start_at(options, self.logic.build(), &self.socket)?);
        let control = self.control.as_deref().map(|path| {
            Control::start(Arc::clone(&card), path)
                .with_context(|| format!("no orders at {}", path.display()))
        });
        let _control = control.transpose()?;
        output::line(&self.describe(card.socket(), json));
        wait.recv().context("the signal handler is gone")?;
        for (fault, times) in card.struck() {
            eprintln!("{fault} struck {times} times");
        }
        for violation in card.violations() {
            eprintln!("a client broke a rule: {violation}");
        }
        Ok(())
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

    fn describe(&self, socket: &Path, json: bool) -> String {
        // QEMU and other programs may run in another directory.
        let path = std::path::absolute(socket).unwrap_or_else(|_| socket.into());
        let qemu = qemu_arguments(&path);
        if json {
            let profile = self.profile.to_string();
            return json!({ "profile": profile, "socket": path, "qemu": qemu }).to_string();
        }
        let card = quoted(&format!("unix:{}", path.display()));
        let qemu: Vec<_> = qemu.iter().map(|argument| quoted(argument)).collect();
        format!(
            "an emulated {} card listens at {}; stop it with Ctrl-C\n  \
             xdma info --card {card}\n\
             QEMU 10.1 or later attaches it with (the guest's memory has to be shared; size it as you like):\n  {}",
            self.profile,
            path.display(),
            qemu.chunks(2).map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" \\\n  ")
        )
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
