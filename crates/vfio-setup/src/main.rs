//! `vfio-setup`: prepares a host for cards on `vfio-pci`.

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use vfio_setup::doctor::{self, DoctorOptions};
use vfio_setup::hugepages::Wanted;
use vfio_setup::mode::Mode;
use vfio_setup::persist::{self, Changes};
use vfio_setup::status::Status;
use vfio_setup::{BindOptions, EXIT_CODES, Host, Plan, SetupError, text};
use xdma::bus::PciAddress;

/// Prepares a host for XDMA cards on vfio-pci: looks, binds, makes it last, and says what is in the way.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Look and write below this directory instead of `/`, for tests and for systems that do not run.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the XDMA cards: driver, IOMMU group, nodes, link, NUMA node, and what the host has for them.
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Show every PCI function.
        #[arg(long)]
        all: bool,
    },
    /// Shows what `bind` would write, in order, and why; with --unbind what `unbind` would. Writes nothing.
    #[command(after_help = EXIT_CODES)]
    Plan {
        #[command(flatten)]
        bind: Bind,
        /// Show what giving the functions back takes.
        #[arg(long, conflicts_with_all = ["any", "no_iommu", "hugepages", "node", "user", "group"])]
        unbind: bool,
    },
    /// Binds cards to vfio-pci. Checks first, reads each write back, undoes everything if a step fails.
    #[command(after_help = EXIT_CODES)]
    Bind(Bind),
    /// Brings cards to rest, and gives them back to the kernel's own driver.
    #[command(after_help = EXIT_CODES)]
    Unbind {
        /// The functions; all XDMA cards if none is named.
        #[arg(value_name = "BDF")]
        functions: Vec<PciAddress>,
    },
    /// Writes files that do the same as `bind` at each boot, and shows them. The group is fpga unless named.
    #[command(after_help = EXIT_CODES)]
    Persist {
        #[command(flatten)]
        what: Cards,
        /// Group whose members may use the cards.
        #[arg(long, default_value = "fpga")]
        group: String,
        /// Show the files, write nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Removes what `persist` wrote, but for files that were changed since.
    #[command(after_help = EXIT_CODES)]
    Undo,
    /// Walks through everything that could keep this user from opening a card, then opens it.
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// The functions; all XDMA cards if none is named.
        #[arg(value_name = "BDF")]
        functions: Vec<PciAddress>,
        /// MiB of memory that the card is to reach at a time.
        #[arg(long, value_name = "MIB", default_value_t = 128)]
        memory: u32,
    },
}

#[derive(Args)]
struct Cards {
    /// The functions; all XDMA cards if none is named.
    #[arg(value_name = "BDF")]
    functions: Vec<PciAddress>,
    /// Take functions that are not known to be XDMA cards.
    #[arg(long)]
    any: bool,
    /// Without an IOMMU. The card, and whoever may use it, can then reach all memory of this machine.
    #[arg(long)]
    no_iommu: bool,
    /// Hugepages that there have to be at least, such as 2M=64,1G=2.
    #[arg(long, value_name = "SIZE=COUNT", default_value = None)]
    hugepages: Option<Wanted>,
    /// NUMA node of the hugepages; by default that of the cards.
    #[arg(long, requires = "hugepages")]
    node: Option<u32>,
}

#[derive(Args)]
struct Bind {
    #[command(flatten)]
    what: Cards,
    /// User who gets the nodes, by name or number.
    #[arg(long)]
    user: Option<String>,
    /// Group that gets the nodes, by name or number.
    #[arg(long)]
    group: Option<String>,
}

impl Cards {
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

/// What a command prints, and its exit code.
struct Answer {
    text: String,
    json: Value,
    code: u8,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let host = Host::new(&cli.root);
    let answer = run(&host, &cli.command).unwrap_or_else(|error| {
        eprintln!("vfio-setup: {error}");
        let code = error.exit_code();
        Answer { text: String::new(), json: json!({ "error": error.to_string(), "exit_code": code }), code }
    });
    let text = if cli.json { format!("{}\n", answer.json) } else { answer.text };
    // Colours only on a terminal, and not against NO_COLOR. A reader that went away, such as `head`, is no failure.
    let _ = anstream::stdout().write_all(text.as_bytes());
    ExitCode::from(answer.code)
}

fn run(host: &Host, command: &Command) -> Result<Answer, SetupError> {
    match command {
        Command::Status { all } => {
            let status = Status::read(host, *all)?;
            Ok(Answer { text: text::status(&status), json: json!(status), code: 0 })
        }
        Command::Plan { bind, unbind: true } => {
            Ok(planned(host, &Plan::unbind(host, &bind.what.functions)?, false))
        }
        Command::Plan { bind, unbind: false } => Ok(planned(host, &plan(host, bind)?, false)),
        Command::Bind(bind) => carry_out(host, &plan(host, bind)?),
        Command::Unbind { functions } => carry_out(host, &Plan::unbind(host, functions)?),
        Command::Persist { what, group, dry_run } => {
            let changes = persist::persist(host, &what.functions, &what.options(None, Some(group)))?;
            if !dry_run {
                changes.apply(host)?;
            }
            Ok(changed(&changes))
        }
        Command::Undo => {
            let changes = persist::undo(host)?;
            changes.apply(host)?;
            Ok(changed(&changes))
        }
        Command::Doctor { functions, memory } => examine(host, functions, *memory),
    }
}

fn plan(host: &Host, bind: &Bind) -> Result<Plan, SetupError> {
    let options = bind.what.options(bind.user.as_ref(), bind.group.as_ref());
    Plan::bind(host, &bind.what.functions, &options)
}

fn carry_out(host: &Host, plan: &Plan) -> Result<Answer, SetupError> {
    // Before the steps: what they name changes with them.
    let mut answer = planned(host, plan, true);
    let notes = plan.apply(host)?;
    answer.text += &text::notes(&notes);
    answer.json["notes"] = json!([&plan.notes[..], &notes[..]].concat());
    answer.json["functions"] = json!(Status::read(host, true)?.functions_of(&plan.functions));
    Ok(answer)
}

fn planned(host: &Host, plan: &Plan, done: bool) -> Answer {
    let steps: Vec<_> = plan.steps.iter().map(|step| step.report(host)).collect();
    let json = json!({ "steps": steps, "notes": plan.notes, "done": done });
    Answer { text: text::plan(host, plan, done), json, code: 0 }
}

fn changed(changes: &Changes) -> Answer {
    let code = if changes.left().next().is_some() { 5 } else { 0 };
    Answer { text: text::changes(changes), json: json!(changes), code }
}

fn examine(host: &Host, named: &[PciAddress], memory: u32) -> Result<Answer, SetupError> {
    let addresses = if named.is_empty() { doctor::cards(host)? } else { named.to_vec() };
    let options =
        DoctorOptions { memory: u64::from(memory) << 20, mode: Mode::from_environment().transpose() };
    let mut all = Vec::new();
    for address in addresses {
        all.push(doctor::examine(host, address, &options)?);
    }
    let text = all.iter().map(text::diagnosis).collect::<Vec<_>>().join("\n");
    let good = all.iter().all(doctor::Diagnosis::is_good);
    Ok(Answer { text, json: json!({ "good": good, "functions": all }), code: if good { 0 } else { 4 } })
}
