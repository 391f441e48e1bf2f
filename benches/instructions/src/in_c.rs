//! The same transfers in Rust and in a C program, `transfer.c`, with the static and with the shared library. The counts include the
//! caller, because the compiler inlines a part of the library into a Rust program.

use crate::callgrind::{count, count_program};
use crate::comparison::{ROUNDS, in_rust};
use std::path::{Path, PathBuf};
use std::process::Command;
use xdma::channel::Ring;

/// A transfer to compare.
pub struct Comparison {
    /// The name of the case in Rust.
    pub name: &'static str,
    /// The case in Rust.
    pub in_rust: fn(),
    /// The arguments of the C program.
    arguments: &'static [&'static str],
}

/// All comparisons.
pub const COMPARISONS: [Comparison; 2] = [
    Comparison { name: "chain-transfer in Rust", in_rust: || in_rust(Ring::Chain), arguments: &[] },
    Comparison {
        name: "credits-transfer in Rust",
        in_rust: || in_rust(Ring::Credits),
        arguments: &["credits"],
    },
];

/// The maximum number of instructions that a transfer costs more than in Rust, with each library.
const LIMIT: u64 = 20;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Prints the counts of all comparisons. Returns whether the differences are as small as required. `work` is a directory for files, in
/// cargo's target directory.
///
/// # Errors
///
/// If something cannot be built, or fails.
pub fn report(work: &Path) -> Result<bool, String> {
    let prefix = install(work)?;
    let mut passed = true;
    for library in ["static", "shared"] {
        let program = compile(library, work, &prefix)?;
        for Comparison { name, arguments, .. } in &COMPARISONS {
            let rust = count(name)?.all();
            let mut command = Command::new(&program);
            command.args(*arguments).env("LD_LIBRARY_PATH", prefix.join("lib"));
            let name = name.replace("in Rust", &format!("in C with the {library} library"));
            let c = count_program(&command, "measured_*")?.all();
            let is_within_limit = rust > 0 && c > 0 && c <= rust + LIMIT * ROUNDS;
            let verdict = if is_within_limit { "" } else { "  MORE THAN ALLOWED" };
            println!(
                "{name}: {:.1} instructions a xdma_submit and xdma_wait, {:.1} more than in Rust (limit {LIMIT}){verdict}",
                c as f64 / ROUNDS as f64,
                (c as f64 - rust as f64) / ROUNDS as f64,
            );
            passed &= is_within_limit;
        }
    }
    Ok(passed)
}

/// Builds the C library together with the functions of `comparison.rs`, and installs it. Returns its prefix.
fn install(work: &Path) -> Result<PathBuf, String> {
    let target = work.parent().expect("the directory is in the target directory");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["rustc", "--quiet", "--release", "--package", "xdma-instructions", "--lib"]);
    run(cargo.args(["--crate-type", "staticlib", "--target-dir"]).arg(target))?;
    let prefix = work.join("libxdma-instructions");
    let mut install = Command::new(Path::new(SOURCES).join("../../../crates/capi/install.sh"));
    install.env("CC", "cc -Wl,--version-script=transfer.map").current_dir(SOURCES);
    run(install.arg(&prefix).arg(target.join("release/libxdma_instructions.a")))?;
    Ok(prefix)
}

/// Compiles the C program with a library.
fn compile(library: &str, work: &Path, prefix: &Path) -> Result<PathBuf, String> {
    let program = work.join(format!("transfer-{library}"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "transfer.c", "-o"]).arg(&program).current_dir(SOURCES);
    cc.arg("-I").arg(prefix.join("include")).arg("-L").arg(prefix.join("lib"));
    if library == "shared" {
        cc.arg("-lxdma");
    } else {
        let file =
            std::fs::read_to_string(prefix.join("lib/pkgconfig/xdma.pc")).map_err(|e| e.to_string())?;
        let private = file.lines().find_map(|line| line.strip_prefix("Libs.private:")).unwrap_or_default();
        cc.arg("-l:libxdma.a").args(private.split_whitespace());
    }
    run(&mut cc)?;
    Ok(program)
}

/// Runs a command that must succeed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}
