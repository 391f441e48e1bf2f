//! The command line, and the execution of each command.

use super::doctor::{self, DoctorOptions};
use super::hugepages::Wanted;
use super::mode::Mode;
use super::persist::{self, Changes};
use super::status::Status;
use super::{BindOptions, EXIT_CODES, Host, Plan, SetupError, f2, shell, text};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::{Value, json};
use std::path::PathBuf;
use xdma::card::PciAddress;

/// Prepares a host for XDMA cards on vfio-pci: driver binding, permissions, hugepages, diagnosis
#[derive(Debug, Parser)]
#[command(name = "vfio-setup", version, after_help = EXIT_CODES, term_width = help_width())]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Read and write below this directory instead of /, for tests and for systems that are not running.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Returns the width of help for clap's `term_width`: the width of the terminal, at most 100. If standard output is not a terminal,
/// returns 0, so that lines are not wrapped and the text does not depend on the terminal.
pub fn help_width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(0, |(width, _)| width.0.min(100).into())
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the XDMA cards with driver, IOMMU group, nodes, link and NUMA node, and the state of the host.
    #[command(after_help = EXIT_CODES)]
    Status {
        /// PCI addresses of the functions; by default all XDMA cards.
        #[arg(value_name = "BDF")]
        functions: Vec<PciAddress>,
        /// Show every PCI function.
        #[arg(long, conflicts_with = "functions")]
        all: bool,
    },
    /// Show the steps of `bind`, or with --unbind those of `unbind`, and the reason for each; change nothing.
    #[command(after_help = EXIT_CODES)]
    Plan {
        #[command(flatten)]
        args: OwnedBindArgs,
        /// Show the steps of `unbind`.
        #[arg(long, conflicts_with_all = ["any", "no_iommu", "hugepages", "node", "user", "group"])]
        unbind: bool,
    },
    /// Bind cards to vfio-pci; if a step fails, revert all steps.
    #[command(after_help = EXIT_CODES)]
    Bind(OwnedBindArgs),
    /// Quiesce cards, and return them to the kernel's own driver.
    #[command(after_help = EXIT_CODES)]
    Unbind {
        /// PCI addresses of the functions; by default all XDMA cards.
        #[arg(value_name = "BDF")]
        functions: Vec<PciAddress>,
        /// The BAR with the XDMA registers, 0 to 5, through which the card is quiesced [default: found by MSI-X capability or
        /// identifiers].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..6))]
        register_bar: Option<u8>,
    },
    /// Write and show configuration files that do the same as `bind` at each boot
    ///
    /// If there is no card yet, every card with known PCI IDs is bound when it appears. This makes it possible to prepare the
    /// image of a machine.
    #[command(after_help = EXIT_CODES)]
    Persist {
        #[command(flatten)]
        args: BindArgs,
        /// Group whose members may use the cards. It must be a system group, because udev does not accept other groups.
        #[arg(long, default_value = persist::GROUP)]
        group: String,
        /// Only show the files.
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove the files of `persist`, except those that were edited since.
    #[command(after_help = EXIT_CODES)]
    Undo,
    /// Check everything that could prevent this user from opening a card, then open it
    ///
    /// Without a card, the host is checked.
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// PCI addresses of the functions; by default all XDMA cards.
        #[arg(value_name = "BDF")]
        functions: Vec<PciAddress>,
        /// Check only the host, which is possible before there is a card.
        #[arg(long, conflicts_with_all = ["functions", "register_bar"])]
        host: bool,
        /// Memory that the card needs to access at one time, in MiB.
        #[arg(long, value_name = "MIB", default_value_t = 128)]
        memory: u32,
        /// The BAR with the XDMA registers, 0 to 5 [default: found by MSI-X capability or identifiers].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..6))]
        register_bar: Option<u8>,
    },
    /// Make the shell of AWS F2 cards deliver the interrupts of an engine in the custom logic to the kernel module `xdma`
    ///
    /// The module does not set up the shell's interrupt block in BAR2, without which no interrupt arrives. Run this command whenever
    /// the module was loaded, and after the card was reset or its image loaded. With the module's poll_mode=1, it is not needed.
    #[command(after_help = EXIT_CODES)]
    F2Interrupts {
        /// PCI addresses of the functions.
        #[arg(value_name = "BDF", required = true)]
        functions: Vec<PciAddress>,
        /// Return the block to its state after power-up, in which it delivers no interrupts.
        #[arg(long)]
        disable: bool,
    },
    /// Print a shell completion script.
    #[command(after_help = EXIT_CODES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one page per command to a directory.
    #[command(after_help = EXIT_CODES)]
    Man {
        /// Write vfio-setup.1, vfio-setup-bind.1 and so on to this directory.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// The options that `bind`, `plan` and `persist` have.
#[derive(Debug, Args)]
pub struct BindArgs {
    /// PCI addresses of the functions; by default all XDMA cards.
    #[arg(value_name = "BDF")]
    functions: Vec<PciAddress>,
    /// Accept functions that are not known to be XDMA cards.
    #[arg(long)]
    any: bool,
    /// Bind without an IOMMU. The card, and everyone who may use it, can then access all memory of this machine.
    #[arg(long)]
    no_iommu: bool,
    /// Minimum number of hugepages, such as 2M=64 or 2M=64,1G=2.
    #[arg(long, value_name = "SIZE=COUNT", default_value = None)]
    hugepages: Option<Wanted>,
    /// NUMA node of the hugepages; by default the node of the cards.
    #[arg(long, requires = "hugepages")]
    node: Option<u32>,
}

/// The options of `bind` and `plan`.
#[derive(Debug, Args)]
pub struct OwnedBindArgs {
    #[command(flatten)]
    common: BindArgs,
    /// User who owns the nodes, by name or number.
    #[arg(long)]
    user: Option<String>,
    /// Group that owns the nodes, by name or number.
    #[arg(long)]
    group: Option<String>,
}

impl BindArgs {
    fn options(&self, user: Option<&String>, group: Option<&String>) -> BindOptions {
        BindOptions {
            any: self.any,
            no_iommu: self.no_iommu,
            hugepages: self.hugepages.clone().unwrap_or_default(),
            node: self.node,
            user: user.cloned(),
            group: group.cloned(),
        }
    }
}

/// The output of a command, as text and as JSON, and its exit code.
pub struct Outcome {
    /// The output as text, with colours.
    pub text: String,
    /// The output as JSON.
    pub json: Value,
    /// The exit code.
    pub code: u8,
}

impl Cli {
    /// Returns the BAR with the XDMA registers through which `unbind` quiesces a card, if the user named one.
    pub fn register_bar(&self) -> Option<usize> {
        match self.command {
            Command::Unbind { register_bar, .. } => register_bar.map(usize::from),
            _ => None,
        }
    }
}

/// Runs a command.
///
/// # Errors
///
/// [`SetupError`].
pub fn run(host: &Host, command: &Command) -> Result<Outcome, SetupError> {
    let root = host.sysfs().root();
    std::fs::read_dir(root).map_err(|source| SetupError::io(root, source))?;
    match command {
        Command::Status { functions, all } => {
            let status =
                if functions.is_empty() { Status::read(host, *all)? } else { Status::of(host, functions)? };
            Ok(Outcome { text: text::status(&status), json: json!(status), code: 0 })
        }
        Command::Plan { args, unbind: true } => {
            Ok(show_plan(host, &Plan::unbind(host, &args.common.functions)?, false))
        }
        Command::Plan { args, unbind: false } => Ok(show_plan(host, &plan_bind(host, args)?, false)),
        Command::Bind(args) => apply_plan(host, &plan_bind(host, args)?),
        Command::Unbind { functions, .. } => apply_plan(host, &Plan::unbind(host, functions)?),
        Command::Persist { args, group, dry_run } => {
            let changes = persist::persist(host, &args.functions, &args.options(None, Some(group)))?;
            if !dry_run {
                changes.apply(host)?;
            }
            Ok(show_changes(&changes))
        }
        Command::Undo => {
            let changes = persist::undo(host)?;
            changes.apply(host)?;
            Ok(show_changes(&changes))
        }
        Command::Doctor { functions, host: only_host, memory, register_bar } => {
            let options = DoctorOptions {
                memory: u64::from(*memory) << 20,
                register_bar: register_bar.map(usize::from),
                mode: Mode::from_environment().transpose(),
            };
            examine(host, functions, *only_host, &options)
        }
        Command::F2Interrupts { functions, disable } => {
            let done = f2::set_up_interrupts(host, functions, *disable)?;
            Ok(Outcome { text: done.join("\n") + "\n", json: json!({ "done": done }), code: 0 })
        }
        Command::Completions { shell } => shell::completions(*shell),
        Command::Man { dir } => shell::manual(dir.as_deref()),
    }
}

fn plan_bind(host: &Host, args: &OwnedBindArgs) -> Result<Plan, SetupError> {
    let options = args.common.options(args.user.as_ref(), args.group.as_ref());
    Plan::bind(host, &args.common.functions, &options)
}

fn apply_plan(host: &Host, plan: &Plan) -> Result<Outcome, SetupError> {
    // Describe the steps first, because applying them changes the names of nodes.
    let mut outcome = show_plan(host, plan, true);
    let notes = plan.apply(host)?;
    outcome.text += &text::notes(&notes);
    outcome.json["notes"] = json!([&plan.notes[..], &notes[..]].concat());
    outcome.json["functions"] = json!(Status::read(host, true)?.functions_of(&plan.functions));
    Ok(outcome)
}

fn show_plan(host: &Host, plan: &Plan, done: bool) -> Outcome {
    let steps: Vec<_> = plan.steps.iter().map(|step| step.report(host)).collect();
    let json = json!({ "steps": steps, "notes": plan.notes, "done": done });
    Outcome { text: text::plan(host, plan, done), json, code: 0 }
}

fn show_changes(changes: &Changes) -> Outcome {
    let code = if changes.kept().next().is_some() { 5 } else { 0 };
    Outcome { text: text::changes(changes), json: json!(changes), code }
}

fn examine(
    host: &Host,
    named: &[PciAddress],
    only_host: bool,
    options: &DoctorOptions,
) -> Result<Outcome, SetupError> {
    let addresses = match named {
        [] if only_host => Vec::new(),
        [] => doctor::cards(host)?,
        named => named.to_vec(),
    };
    let mut all = Vec::new();
    if addresses.is_empty() {
        all.push(doctor::examine_host(host, options, !only_host)?);
    }
    let of_host = all.len();
    for address in addresses {
        all.push(doctor::examine(host, address, options)?);
    }
    let text = all.iter().map(text::diagnosis).collect::<Vec<_>>().join("\n");
    let good = all.iter().all(doctor::Diagnosis::is_good);
    let json = json!({ "good": good, "host": all[..of_host].first(), "functions": all[of_host..] });
    Ok(Outcome { text, json, code: if good { 0 } else { 4 } })
}
