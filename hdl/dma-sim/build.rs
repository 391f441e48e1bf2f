//! Translates the engine and the images for F2 to C++ with Verilator, and compiles them with `cc`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A top module with its parameters, the C++ file with its C interface, and the feature that includes it. `name` is the prefix of the
/// functions of that interface.
struct Model {
    name: &'static str,
    top: &'static str,
    folder: &'static str,
    parameters: &'static [&'static str],
    shim: &'static str,
    feature: &'static str,
}

const fn engine(name: &'static str, parameters: &'static [&'static str], feature: &'static str) -> Model {
    Model { name, top: "dma_engine", folder: "dma", parameters, shim: "engine.cpp", feature }
}

const fn bridge(name: &'static str, parameters: &'static [&'static str], feature: &'static str) -> Model {
    Model { name, top: "f2_bridge", folder: "top", parameters, shim: "f2.cpp", feature }
}

const MODELS: [Model; 7] = [
    engine("dma_engine_4_4", &["H2C=4", "C2H=4"], "ENGINE"),
    engine("dma_engine_1_1", &["H2C=1", "C2H=1"], "SHAPES"),
    engine("dma_engine_1_3", &["H2C=1", "C2H=3"], "SHAPES"),
    engine("dma_engine_3_1", &["H2C=3", "C2H=1"], "SHAPES"),
    bridge("f2_bridge", &[], "F2"),
    bridge("f2_bridge_4_4", &["H2C=4", "C2H=4"], "F2_SHAPES"),
    // Field arithmetic is computed in C through DPI.
    Model {
        name: "cl_f2",
        top: "cl_f2",
        folder: "top",
        parameters: &["FP_IMPL=2"],
        shim: "f2.cpp",
        feature: "F2",
    },
];
const FOLDERS: [&str; 5] = ["common", "axi", "dma", "msm", "top"];
/// Packages must precede the modules that use them.
const PACKAGES: [&str; 5] = [
    "common/msm_regs_pkg.sv",
    "common/xdma_regs_pkg.sv",
    "common/msm_pkg.sv",
    "dma/dma_pkg.sv",
    "msm/bn254_pkg.sv",
];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let rtl = here.join("rtl");
    let models =
        || MODELS.iter().filter(|model| env::var_os(format!("CARGO_FEATURE_{}", model.feature)).is_some());
    // The engine alone does not use the MSM design.
    let folders = if models().any(|model| model.folder == "top") { &FOLDERS[..] } else { &FOLDERS[..3] };
    for source in folders.iter().chain(&["include"]).map(|name| rtl.join(name)) {
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
    let runtime = PathBuf::from(verilator(&["--getenv", "VERILATOR_ROOT"]).trim()).join("include");
    // In parallel, since the compiler processes of one model run one after another.
    thread::scope(|scope| {
        for model in models() {
            let (here, out, runtime) = (&here, &out, &runtime);
            scope.spawn(move || build(model, here, out, runtime));
        }
    });
    // After the archives that use it, for linkers that search each archive only once.
    let mut common = compiler(&runtime);
    for file in ["verilated.cpp", "verilated_threads.cpp", "verilated_dpi.cpp"] {
        common.file(runtime.join(file));
    }
    common.file(here.join("cpp/fp.cpp")).compile("dma_verilated");
}

fn build(model: &Model, here: &Path, out: &Path, runtime: &Path) {
    let folder = out.join(model.name);
    verilate(model, &here.join("rtl"), &folder);
    let mut build = compiler(runtime);
    build.include(&folder).files(cpp_files(&folder)).file(here.join("cpp").join(model.shim));
    build.define("MODEL", Some(format!("V{}", model.name).as_str()));
    build.define("HEADER", Some(format!("\"V{}.h\"", model.name).as_str()));
    build.define("NAME(x)", Some(format!("{}_##x", model.name).as_str()));
    if model.top == "f2_bridge" {
        build.define("BRIDGE", None);
    }
    // Several models compile the same file, so each has its own output folder.
    build.out_dir(&folder).compile(&format!("model_{}", model.name));
}

fn verilate(model: &Model, rtl: &Path, folder: &Path) {
    // Stale files of an earlier run would be compiled too.
    let _ = fs::remove_dir_all(folder);
    let mut arguments: Vec<String> =
        ["--cc", "-O3", "--no-assert", "-Wno-fatal", "-Wno-lint"].map(String::from).into();
    // Otherwise the message for an illegal parameter (`parameter_check.svh`) is only a warning.
    arguments.extend(["-Werror-USERERROR", "--output-split", "20000"].map(String::from));
    arguments.extend(["--x-assign", "fast", "--x-initial", "fast", "--prefix"].map(String::from));
    arguments.extend([format!("V{}", model.name), "--top-module".into(), model.top.into()]);
    arguments.extend(model.parameters.iter().map(|parameter| format!("-G{parameter}")));
    arguments.extend(["-Mdir".into(), folder.display().to_string()]);
    arguments.push(format!("-I{}", rtl.join("include").display()));
    for name in FOLDERS {
        arguments.extend(["-y".into(), rtl.join(name).display().to_string()]);
    }
    let top = format!("{}/{}.sv", model.folder, model.top);
    arguments.extend(PACKAGES.iter().chain(&[top.as_str()]).map(|name| rtl.join(name).display().to_string()));
    verilator(&arguments);
}

fn verilator(arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new("verilator").args(arguments).output().unwrap_or_else(|error| {
        panic!("cannot run verilator ({error}); on Debian and Ubuntu: sudo apt-get install -y verilator")
    });
    assert!(output.status.success(), "verilator: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn compiler(runtime: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).cargo_warnings(false).debug(false);
    // The profile selects the optimisation level: at -O1, compiling takes two thirds of the time.
    build.include(runtime).include(runtime.join("vltstd"));
    for (name, value) in [("VM_COVERAGE", "0"), ("VM_SC", "0"), ("VM_TRACE", "0"), ("VL_TIME_CONTEXT", "1")] {
        build.define(name, value);
    }
    build
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
