//! The program `vfio-setup`, which prepares a host for cards on `vfio-pci`.

use clap::Parser;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;
use vfio_setup::Host;
use vfio_setup::cli::{self, Cli, Outcome};
use vfio_setup::kernel::RunningKernel;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let kernel = RunningKernel::new(&cli.root).with_register_bar(cli.register_bar());
    let host = Host::with_kernel(&cli.root, Box::new(kernel));
    let outcome = cli::run(&host, &cli.command).unwrap_or_else(|error| {
        eprintln!("vfio-setup: {error}");
        let code = error.exit_code();
        Outcome { text: String::new(), json: json!({ "error": error.to_string(), "exit_code": code }), code }
    });
    let text = if cli.json { format!("{}\n", outcome.json) } else { outcome.text };
    // This strips colours if standard output is not a terminal or NO_COLOR is set. A closed pipe, as with `head`, is not an
    // error.
    let _ = anstream::stdout().write_all(text.as_bytes());
    ExitCode::from(outcome.code)
}
