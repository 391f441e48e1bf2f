//! `xdma run`: runs a program that uses the kernel module's device files.

use crate::card::{CardArgs, LogicName};
use crate::explain;
use crate::failure::Failure;
use crate::file;
use crate::run_folder::RunFolder;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use memchr::memmem;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, exit};
use std::thread;
use std::time::Duration;
use xdma::card::CardOptions;
use xdma_chardev::{
    BROKER_PID_VARIABLE, BROKER_VARIABLE, Broker, Device, DeviceOptions, EXCLUSIVE_VARIABLE,
    EXPLAIN_VARIABLE, Exclusive, has_interpreter,
};
use xdma_emulated_card::CardChoice;

/// The file name of the preload library.
const LIBRARY: &str = "libxdma_preload.so";
/// The context of an error of [`Device::new`].
const NOT_SERVED: &str = "the card cannot be served as device files";
/// The environment variable that names the preload library.
const LIBRARY_VARIABLE: &str = "XDMA_PRELOAD";
/// A marker that every Go program contains, in reverse, so that this program does not contain it.
const GO_REVERSED: &[u8] = b":fnidliub oG \xff";
/// Signals that the terminal also sends to the program.
const OF_TERMINAL: [i32; 2] = [SIGINT, SIGQUIT];
/// Signals that are forwarded to the program.
const FORWARDED: [i32; 4] = [SIGHUP, SIGTERM, SIGUSR1, SIGUSR2];

#[derive(Args)]
pub struct Run {
    /// The card: a PCI address, a vfio-user socket (unix:PATH), or an emulated card with 64 GiB of memory (f1, alveo, or a
    /// description). If no card is named and this machine has no XDMA card, the program uses an emulated card.
    #[arg(long, env = "XDMA_CARD", value_name = "BDF|unix:PATH|NAME|FILE.toml")]
    card: Option<CardChoice>,
    /// The user logic of an emulated card [default: memory, or the logic of a description with streams].
    #[arg(long, value_enum)]
    logic: Option<LogicName>,
    /// Timeout of a transfer in seconds, like the kernel module's parameters `h2c_timeout` and `c2h_timeout`; 0 means no
    /// timeout.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// Open the card in the program itself: the fewest instructions for each call, but only one process can use the card.
    #[arg(long)]
    exclusive: bool,
    /// At the end, print the calls that the program and its children made on device files, and what was not supported, to
    /// standard error.
    #[arg(long)]
    explain: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

impl Run {
    pub fn run(&self) -> Result<()> {
        let program = find_program(&self.command[0])?;
        check_program(&program)?;
        let library = find_library()?;
        let library =
            fs::canonicalize(&library).map_err(file::cannot("find the preload library", &library))?;
        if library.as_os_str().as_bytes().iter().any(|byte| b" :".contains(byte)) {
            let text = format!(
                "{} cannot be preloaded, because its path contains a blank or a colon; copy it elsewhere, and name it in \
                 {LIBRARY_VARIABLE}",
                library.display()
            );
            return Err(Failure::Usage(text).into());
        }
        let card = self.card()?;
        let folder = RunFolder::create().map_err(no_folder)?;
        if self.explain {
            folder.create_calls().map_err(no_folder)?;
        }
        let status = match self.exclusive {
            true => self.run_exclusively(&card, &folder, &program, &library)?,
            false => self.run_with_broker(&card, &folder, &program, &library)?,
        };
        if self.explain {
            eprint!("{}", explain::report(&folder.calls()));
        }
        drop(folder);
        // Report termination by a signal as a shell does.
        exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
    }

    fn options(&self) -> DeviceOptions {
        let timeout = Duration::from_secs(self.timeout);
        DeviceOptions { h2c_timeout: timeout, c2h_timeout: timeout }
    }

    /// Runs the program with a broker in this process.
    fn run_with_broker(
        &self,
        card: &CardArgs,
        folder: &RunFolder,
        program: &Path,
        library: &Path,
    ) -> Result<ExitStatus> {
        let device = Device::new(card.open()?, self.options()).context(NOT_SERVED)?;
        let broker = folder.broker().and_then(|path| Broker::start(device, &path));
        let broker = broker.context("cannot start the broker")?;
        let process = std::process::id().to_string();
        let variables = [(BROKER_VARIABLE, broker.path().into()), (BROKER_PID_VARIABLE, process.into())];
        self.start(program, library, folder, &variables)
    }

    /// Runs the program, which opens the card itself.
    fn run_exclusively(
        &self,
        card: &CardArgs,
        folder: &RunFolder,
        program: &Path,
        library: &Path,
    ) -> Result<ExitStatus> {
        let (name, _emulated) = card.serve(&folder.card())?;
        let open = || {
            let card =
                name.open(CardOptions::default()).with_context(|| format!("cannot open card {name}"))?;
            Device::new(card, self.options()).context(NOT_SERVED)
        };
        let exclusive = Exclusive::new(name.clone(), &open()?, self.options(), folder.lock());
        let variables = [(EXCLUSIVE_VARIABLE, exclusive.to_string().into())];
        let status = self.start(program, library, folder, &variables)?;
        // A program that was killed has left the card as it was. Opening it restores its state, unless a child process that the
        // program has left behind uses the card now.
        if let Err(error) = open() {
            tracing::warn!(%error, "the card's state could not be restored");
        }
        Ok(status)
    }

    /// Returns the card to use.
    fn card(&self) -> Result<CardArgs> {
        let choice = CardChoice::or_emulated(self.card.as_ref())?;
        if self.card.is_none() {
            eprintln!("xdma: no card was named; the program uses an emulated card");
        }
        let emulated = choice.emulated().is_some_and(|card| !card.is_stream());
        let logic = self.logic.or(emulated.then_some(LogicName::Memory));
        Ok(CardArgs::new(choice, logic))
    }

    /// Runs the program and waits until it exits. Termination signals are forwarded to it.
    fn start(
        &self,
        program: &Path,
        library: &Path,
        folder: &RunFolder,
        variables: &[(&str, OsString)],
    ) -> Result<ExitStatus> {
        let mut command = Command::new(program);
        command.arg0(&self.command[0]).args(&self.command[1..]);
        let mut preload = library.as_os_str().to_owned();
        if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        // This command may itself be run by a program under `xdma run`.
        for variable in [BROKER_VARIABLE, BROKER_PID_VARIABLE, EXCLUSIVE_VARIABLE, EXPLAIN_VARIABLE] {
            command.env_remove(variable);
        }
        command.env("LD_PRELOAD", preload).envs(variables.iter().map(|(name, value)| (name, value)));
        if self.explain {
            command.env(EXPLAIN_VARIABLE, folder.calls());
        }
        // Before the program starts, so that no signal ends this process without the broker's cleanup.
        let handled = OF_TERMINAL.into_iter().chain(FORWARDED).filter(|signal| !is_ignored(*signal));
        let signals = Signals::new(handled).context("cannot handle signals")?;
        let child = command.spawn().map_err(file::cannot("start", program))?;
        wait(child, signals)
    }
}

/// Returns the error for a temporary directory that cannot be created.
fn no_folder(error: io::Error) -> anyhow::Error {
    let parent = std::env::temp_dir();
    anyhow!(
        "cannot create a temporary directory in {}: {error}; set TMPDIR to a directory that exists, has free space, and that \
         this user may write to",
        parent.display()
    )
}

/// Returns whether this process was started with a signal ignored, as by `nohup`. The program then ignores it too.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// Waits for the program. Ctrl-C reaches it through the terminal, and it decides what happens.
fn wait(mut child: Child, mut signals: Signals) -> Result<ExitStatus> {
    let process = Pid::from_raw(child.id() as i32);
    let handle = signals.handle();
    let forwarder = thread::spawn(move || {
        for signal in signals.forever().filter(|signal| FORWARDED.contains(signal)) {
            // The program may have exited already.
            let _ = kill(process, Signal::try_from(signal).unwrap_or(Signal::SIGTERM));
        }
    });
    let status = child.wait().context("cannot wait for the program");
    handle.close();
    // If the thread panicked, its message is already printed.
    let _ = forwarder.join();
    status
}

/// Returns the path of a program. Searches `PATH` as a shell does.
fn find_program(name: &OsStr) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_executable(path));
    found.ok_or_else(|| {
        Failure::Usage(format!(
            "cannot find the program {}: it is not in any directory in PATH; check its name, or give its path",
            name.display()
        ))
        .into()
    })
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|status| status.is_file() && status.permissions().mode() & 0o111 != 0)
}

/// Rejects programs whose system calls the preload library cannot intercept.
fn check_program(program: &Path) -> Result<()> {
    // A program may be executable without being readable.
    let Ok(bytes) = fs::read(program) else { return Ok(()) };
    let name = program.display();
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(()); // a script, whose interpreter loads the library
    }
    let go: Vec<u8> = GO_REVERSED.iter().rev().copied().collect();
    if memmem::find(&bytes, &go).is_some() {
        bail!(Failure::Usage(format!(
            "{name} is a Go program: `xdma run` cannot intercept its system calls, because they bypass the C library; use the \
             `xdma` library or the commands of `xdma`"
        )));
    }
    if !has_interpreter(&bytes) {
        bail!(Failure::Usage(format!(
            "{name} is statically linked or not a program for this machine: `xdma run` supports only programs that use the \
             shared C library"
        )));
    }
    Ok(())
}

/// Returns the path of the preload library: the one in the environment variable, or the one beside this program.
fn find_library() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE) {
        return Ok(named.into());
    }
    let program = std::env::current_exe().context("cannot find this program's directory")?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let places = ["", "../lib", "../lib/xdma", "deps"].map(|place| folder.join(place).join(LIBRARY));
    places.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "cannot find {LIBRARY} beside {}: build it with `cargo build --release --package xdma-preload`, or set {LIBRARY_VARIABLE} to its path",
            program.display()
        )
    })
}
