//! Translates the engine, with four channels in each direction, to C++ with Verilator, and compiles it with `cc`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDERS: [&str; 3] = ["common", "axi", "dma"];
/// Packages must precede the modules that use them.
const PACKAGES: [&str; 4] =
    ["common/msm_regs_pkg.sv", "common/xdma_regs_pkg.sv", "common/msm_pkg.sv", "dma/dma_pkg.sv"];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let folder = PathBuf::from(variable("OUT_DIR")).join("engine");
    let rtl = here.join("rtl");
    for source in FOLDERS.iter().chain(&["include"]).map(|name| rtl.join(name)) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    println!("cargo::rerun-if-changed={}", here.join("cpp").display());
    println!("cargo::rerun-if-changed=build.rs");
    // Clippy and rustdoc do not link the engine, so they do not need Verilator.
    for name in ["RUSTC_WORKSPACE_WRAPPER", "DOCS_RS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let clippy = env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.contains("clippy-driver"));
    if clippy || env::var_os("DOCS_RS").is_some() {
        return;
    }
    verilate(&rtl, &folder);
    let runtime = PathBuf::from(verilator(&["--getenv", "VERILATOR_ROOT"]).trim()).join("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).cargo_warnings(false).debug(false);
    build.opt_level(3).include(&runtime).include(runtime.join("vltstd")).include(&folder);
    for (name, value) in [("VM_COVERAGE", "0"), ("VM_SC", "0"), ("VM_TRACE", "0"), ("VL_TIME_CONTEXT", "1")] {
        build.define(name, value);
    }
    build.file(runtime.join("verilated.cpp")).file(runtime.join("verilated_threads.cpp"));
    build.files(cpp_files(&folder)).file(here.join("cpp/engine.cpp")).compile("dma_engine");
}

fn verilate(rtl: &Path, folder: &Path) {
    // Stale files of an earlier run would be compiled too.
    let _ = fs::remove_dir_all(folder);
    let mut arguments: Vec<String> =
        ["--cc", "-O3", "--no-assert", "-Wno-fatal", "-Wno-lint"].map(String::from).into();
    // Otherwise the message for an illegal parameter (`parameter_check.svh`) is only a warning.
    arguments.extend(["-Werror-USERERROR", "--output-split", "20000"].map(String::from));
    arguments.extend(["--x-assign", "fast", "--x-initial", "fast", "--prefix", "Vengine"].map(String::from));
    arguments.extend(["--top-module", "dma_engine", "-GH2C=4", "-GC2H=4", "-Mdir"].map(String::from));
    arguments.push(folder.display().to_string());
    arguments.push(format!("-I{}", rtl.join("include").display()));
    for name in FOLDERS {
        arguments.extend(["-y".into(), rtl.join(name).display().to_string()]);
    }
    arguments.extend(
        PACKAGES.iter().chain(&["dma/dma_engine.sv"]).map(|name| rtl.join(name).display().to_string()),
    );
    verilator(&arguments);
}

fn verilator(arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new("verilator").args(arguments).output().unwrap_or_else(|error| {
        panic!("cannot run verilator ({error}); on Debian and Ubuntu: sudo apt-get install -y verilator")
    });
    assert!(output.status.success(), "verilator: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn cpp_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("verilator creates the output folder");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "cpp"));
    files.sort();
    files
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
