//! Translates the design to C++ with Verilator, once for each of the variants, and compiles it with `cc`.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A top module with its parameters, and the C++ file with its C interface. `src/model.rs` and `src/unit.rs` list the same
/// variants.
struct Variant {
    name: &'static str,
    top: &'static str,
    parameters: &'static [&'static str],
    shim: &'static str,
}

const fn design(name: &'static str, parameters: &'static [&'static str]) -> Variant {
    Variant { name, top: "msm_design", parameters, shim: "design.cpp" }
}

const fn unit(name: &'static str) -> Variant {
    Variant { name, top: name, parameters: &[], shim: "unit.cpp" }
}

/// FP_IMPL: 0 is the `*` operator, 2 is C through DPI.
const VARIANTS: [Variant; 3] = [
    design("full", &["C=13", "ML=33", "AL=2", "FP_IMPL=2"]),
    design("stub", &["STUB=1"]),
    design("stub_deep", &["STUB=1", "SC_DEPTH=4096", "PT_DEPTH=4096"]),
];

/// Those of the feature `test-designs`.
const TEST_VARIANTS: [Variant; 6] = [
    design("small", &["C=8", "ML=12", "FP_IMPL=2"]),
    design("halved", &["C=7", "ML=12", "II=2", "RETRY=4", "FP_IMPL=2", "SC_DEPTH=64", "PT_DEPTH=32"]),
    design("pure", &["C=8", "ML=12", "FP_IMPL=0"]),
    unit("unit_fp_mul"),
    unit("unit_ec_add"),
    unit("unit_parts"),
];

/// Packages must precede the modules that use them.
const PACKAGES: [&str; 3] = ["common/msm_regs_pkg.sv", "common/msm_pkg.sv", "msm/bn254_pkg.sv"];
const FOLDERS: [&str; 4] = ["common", "axi", "msm", "top"];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let rtl = here.join("rtl");
    // Not all of `rtl`, which also contains the DMA engine.
    let folders = FOLDERS.iter().chain(&["include"]).map(|name| rtl.join(name));
    for source in folders.chain([here.join("sv"), here.join("cpp"), here.join("build.rs")]) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    // Clippy and rustdoc do not link the design, so they do not need Verilator.
    for name in ["RUSTC_WORKSPACE_WRAPPER", "DOCS_RS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let clippy = env::var("RUSTC_WORKSPACE_WRAPPER").is_ok_and(|wrapper| wrapper.contains("clippy-driver"));
    if clippy || env::var_os("DOCS_RS").is_some() {
        return;
    }
    let trace = env::var_os("CARGO_FEATURE_TRACE").is_some();
    let runtime = PathBuf::from(verilator(&[OsStr::new("--getenv"), OsStr::new("VERILATOR_ROOT")]).trim());
    let runtime = runtime.join("include");

    let mut common = compiler(&runtime, trace);
    for file in ["verilated.cpp", "verilated_threads.cpp", "verilated_dpi.cpp"] {
        common.file(runtime.join(file));
    }
    if trace {
        common.file(runtime.join("verilated_fst_c.cpp"));
        println!("cargo::rustc-link-lib=z");
    }
    common.file(here.join("cpp/fp.cpp")).compile("verilated");

    let mut variants: Vec<&Variant> = VARIANTS.iter().collect();
    if env::var_os("CARGO_FEATURE_TEST_DESIGNS").is_some() {
        variants.extend(&TEST_VARIANTS);
    }
    // Build the variants in parallel: most consist of one large file, which occupies a single compiler process.
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(variant) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    build(variant, &here, &out, &runtime, trace);
                }
            });
        }
    });
    for variant in variants {
        println!("cargo::rustc-link-search=native={}", out.join(variant.name).display());
        println!("cargo::rustc-link-lib=static=model_{}", variant.name);
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    // After the archives that use it, for linkers that search each archive only once.
    println!("cargo::rustc-link-lib=static=verilated");
    println!("cargo::rustc-link-lib=stdc++");
}

fn build(variant: &Variant, here: &Path, out: &Path, runtime: &Path, trace: bool) {
    let folder = out.join(variant.name);
    verilate(variant, here, &folder, trace);
    let mut build = compiler(runtime, trace);
    // A test top runs for seconds but would take three times as long to compile with full optimisation.
    if variant.shim == "unit.cpp" {
        build.opt_level(1);
    }
    build.include(&folder).files(cpp_files(&folder)).file(here.join("cpp").join(variant.shim));
    build.define("MODEL", Some(format!("V{}", variant.name).as_str()));
    build.define("HEADER", Some(format!("\"V{}.h\"", variant.name).as_str()));
    build.define("NAME(x)", Some(format!("{}_##x", variant.name).as_str()));
    build.define("ROOT", Some(format!("\"V{}___024root.h\"", variant.name).as_str()));
    if variant.parameters.contains(&"STUB=1") {
        build.define("STUB", None);
    }
    // Several variants compile the same shim in parallel, so each has its own output folder.
    build.out_dir(&folder).compile(&format!("model_{}", variant.name));
}

fn verilate(variant: &Variant, here: &Path, folder: &Path, trace: bool) {
    let rtl = here.join("rtl");
    // Stale files of an earlier run would be compiled too.
    let _ = fs::remove_dir_all(folder);
    let mut arguments: Vec<String> = vec![];
    let mut add = |word: String| arguments.push(word);
    for flag in ["--cc", "-O3", "--no-assert", "-Wno-fatal", "-Wno-lint", "--output-split", "20000"] {
        add(flag.into());
    }
    // Otherwise the message for an illegal parameter (`parameter_check.svh`) is only a warning.
    add("-Werror-USERERROR".into());
    add(format!("-I{}", rtl.join("include").display()));
    for flag in ["--x-assign", "fast", "--x-initial", "fast", "--top-module", variant.top] {
        add(flag.into());
    }
    if trace {
        add("--trace-fst".into());
    }
    add("--prefix".into());
    add(format!("V{}", variant.name));
    add("-Mdir".into());
    add(folder.display().to_string());
    variant.parameters.iter().for_each(|parameter| add(format!("-G{parameter}")));
    for name in FOLDERS {
        add("-y".into());
        add(rtl.join(name).display().to_string());
    }
    PACKAGES.iter().for_each(|name| add(rtl.join(name).display().to_string()));
    let top = format!("{}.sv", variant.top);
    let top = if variant.shim == "unit.cpp" { here.join("sv").join(top) } else { rtl.join("top").join(top) };
    add(top.display().to_string());
    verilator(&arguments);
}

fn verilator(arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new("verilator").args(arguments).output().unwrap_or_else(|error| {
        panic!("cannot run verilator ({error}); on Debian and Ubuntu: sudo apt-get install -y verilator")
    });
    assert!(output.status.success(), "verilator: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn compiler(runtime: &Path, trace: bool) -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).cargo_warnings(false).debug(false).cargo_metadata(false);
    // All of a design is hot code, so optimise in every profile.
    build.opt_level(3).include(runtime).include(runtime.join("vltstd"));
    for (name, value) in [("VM_COVERAGE", "0"), ("VM_SC", "0"), ("VL_TIME_CONTEXT", "1")] {
        build.define(name, value);
    }
    build.define("VM_TRACE", if trace { "1" } else { "0" });
    build.define("VM_TRACE_FST", if trace { "1" } else { "0" });
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
