//! `vfio-setup completions` and `vfio-setup man`.

use super::cli::{Cli, Outcome};
use super::manual::{Example, Manual};
use super::{EXIT_CODES, SetupError};
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;
use std::path::Path;

const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "XDMA_VFIO",
        "The mode in which programs open a card: cdev, type1 or noiommu. `doctor` examines this mode. If the variable is not set, cdev and type1 are tried; noiommu is used only on request.",
    ),
    ("NO_COLOR", "If set, the output has no colours. Output to a pipe or file never has colours."),
];

const fn example(line: &'static str, text: &'static str) -> Example {
    Example { line, text }
}

const EXAMPLES: [Example; 18] = [
    example("vfio-setup status", "Show the cards and the state of the host."),
    example("vfio-setup status 0000:3b:00.0 --json", "Show one function, for a script."),
    example("vfio-setup plan --group fpga --hugepages 2M=128", "Preview the changes of `bind`."),
    example("vfio-setup plan --unbind 0000:3b:00.0", "Preview the changes of `unbind`."),
    example(
        "sudo vfio-setup bind --group fpga --hugepages 2M=128",
        "Bind all cards, for the group fpga, with hugepages.",
    ),
    example("sudo vfio-setup bind 0000:3b:00.0 --any --group fpga", "Bind a card with custom PCI IDs."),
    example(
        "sudo vfio-setup bind --no-iommu --group fpga",
        "Bind all cards of a guest without an IOMMU. They can then access all of its memory.",
    ),
    example("sudo vfio-setup unbind 0000:3b:00.0", "Return a card to the kernel's own driver."),
    example(
        "sudo vfio-setup unbind 0000:3b:00.0 --register-bar 1",
        "The same, for a card whose registers are not found.",
    ),
    example("vfio-setup persist --dry-run", "Show the files that repeat `bind` at each boot."),
    example(
        "sudo vfio-setup persist --root /mnt/image --hugepages 2M=128",
        "Prepare the image of a machine: every card with known PCI IDs will be bound when it appears.",
    ),
    example("sudo vfio-setup undo", "Remove these files."),
    example("vfio-setup doctor 0000:3b:00.0", "Find out why this user cannot open a card."),
    example("vfio-setup doctor --host", "Check a host that has no card yet."),
    example(
        "sudo vfio-setup f2-interrupts 0000:34:00.0",
        "On AWS F2, after `modprobe xdma`: let the kernel module receive interrupts.",
    ),
    example(
        "vfio-setup completions bash > ~/.local/share/bash-completion/completions/vfio-setup",
        "Install the completions for bash.",
    ),
    example("vfio-setup man | man -l -", "Read the manual page."),
    example("vfio-setup man --dir man1", "Write the manual pages to the directory man1."),
];

/// Returns the manual.
pub(super) fn manual_of_tool() -> Manual {
    Manual { tool: Cli::command(), exit_codes: EXIT_CODES, environment: &ENVIRONMENT, examples: &EXAMPLES }
}

pub(super) fn completions(shell: Shell) -> Result<Outcome, SetupError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vfio-setup", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Ok(Outcome { json: json!({ "script": text }), text, code: 0 })
}

pub(super) fn manual(directory: Option<&Path>) -> Result<Outcome, SetupError> {
    let manual = manual_of_tool();
    let Some(directory) = directory else {
        let page = manual.page().map_err(|source| SetupError::io(Path::new("manual page"), source))?;
        let text = String::from_utf8_lossy(&page).into_owned();
        return Ok(Outcome { json: json!({ "page": text }), text, code: 0 });
    };
    manual.write_to(directory).map_err(|source| SetupError::io(directory, source))?;
    let text =
        format!("wrote manual pages to {0}; view them with `man -l {0}/vfio-setup.1`\n", directory.display());
    Ok(Outcome { json: json!({ "dir": directory }), text, code: 0 })
}
