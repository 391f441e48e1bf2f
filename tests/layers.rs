//! The driver's modules import only from lower modules, and packages depend only on lower packages. Cargo rejects cyclic
//! dependencies between packages; these tests check their direction.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The driver's modules, from the lowest to the highest. `regs` is a separate package.
const LAYERS: [&str; 11] = [
    "regs",
    "remedy",
    "descriptor",
    "memory",
    "bus",
    "stats",
    "channel",
    "card",
    "msm",
    "asynchronous",
    "unstable",
];

/// The published packages, and the packages of this workspace on which each may depend.
const PACKAGES: [(&str, &[&str]); 14] = [
    ("xdma-card-file", &[]),
    ("xdma-regs", &[]),
    ("xdma-rtl", &[]),
    ("xdma-rtl-dma", &[]),
    ("xdma", &["xdma-regs"]),
    ("xdma-emulator", &["xdma-card-file", "xdma-regs", "xdma-rtl", "xdma-rtl-dma"]),
    ("xdma-emulated-card", &["xdma", "xdma-emulator"]),
    ("xdma-cards", &["xdma"]),
    ("xdma-arkworks", &["xdma", "xdma-cards"]),
    ("xdma-capi", &["xdma"]),
    ("vfio-setup", &["xdma"]),
    ("xdma-chardev", &["xdma"]),
    ("xdma-preload", &["xdma", "xdma-chardev"]),
    ("xdma-cli", &["vfio-setup", "xdma", "xdma-chardev", "xdma-emulated-card", "xdma-emulator"]),
];

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the driver's source files, relative to `src`, without unit tests, which may import from all modules.
fn sources() -> Vec<PathBuf> {
    let (mut directories, mut found) = (vec![root()], vec![]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true if name != "fuzz" => directories.push(path),
                false if name != "tests" && !name.ends_with("_tests") => {
                    found.push(path.strip_prefix(root()).unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// Returns the code without comments, up to the first module of unit tests.
fn code(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let is_test =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(is_test).unwrap_or(lines.len());
    lines[..end].join("\n")
}

/// Returns the first name of a path, or those of all paths in braces.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inside) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut start) = (0, vec![], 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(name(inside[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// Returns the modules of the crate that `code` imports from, by `crate::` or by `super::`. `depth` is the depth of its module.
fn imports(code: &str, depth: usize) -> Vec<String> {
    let up = "super::".repeat(depth);
    let after = |prefix: &str| {
        let rest = code.match_indices(prefix).map(|(at, _)| &code[at + prefix.len()..]);
        rest.flat_map(heads).collect::<Vec<_>>()
    };
    [after("crate::"), after(&up)].concat()
}

/// Returns the depth of a file's module: one for `bus/mod.rs` and `bus.rs`, two for `bus/error.rs`.
fn depth(path: &Path) -> usize {
    path.components().count() - usize::from(path.ends_with("mod.rs"))
}

#[test]
fn no_module_imports_from_a_higher_one() {
    let mut seen = 0;
    for path in sources().iter().filter(|path| *path != Path::new("lib.rs")) {
        let module = path.components().next().unwrap().as_os_str().to_string_lossy();
        let module = module.trim_end_matches(".rs");
        let own = rank(module).unwrap_or_else(|| panic!("{module} has no layer"));
        for name in imports(&code(&fs::read_to_string(root().join(path)).unwrap()), depth(path)) {
            // `super` can also name a child module of the file.
            let Some(theirs) = rank(&name) else { continue };
            seen += 1;
            assert!(theirs <= own, "{} imports from `{name}`, a higher module", path.display());
        }
    }
    assert!(seen > 100, "only {seen} imports were found, so this test no longer works");
    let lib = code(&fs::read_to_string(root().join("lib.rs")).unwrap());
    let exports: Vec<&str> = lib.lines().filter(|line| line.contains(" use ")).collect();
    let shared = ["pub use remedy::Remedy;", "pub use xdma_regs as regs;"];
    assert_eq!(exports, shared, "each other name belongs to a module");
}

#[test]
fn only_the_msm_client_uses_the_designs_registers() {
    for path in
        sources().iter().filter(|path| !path.starts_with("msm") && !path.starts_with("asynchronous.rs"))
    {
        let code = code(&fs::read_to_string(root().join(path)).unwrap());
        assert!(!code.contains("regs::msm"), "{}", path.display());
    }
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let arguments =
        ["metadata", "--no-deps", "--format-version", "1", "--offline", "--manifest-path", manifest];
    let output = Command::new(cargo).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Its build fails where no MPI library is installed.
#[test]
fn only_an_unpublished_package_needs_mpi_and_only_with_a_feature() {
    let metadata = metadata();
    let needs_mpi =
        |package: &&Value| package["dependencies"].as_array().unwrap().iter().any(|of| of["name"] == "mpi");
    let packages: Vec<_> = metadata["packages"].as_array().unwrap().iter().filter(needs_mpi).collect();
    let [package] = packages[..] else { panic!("{} packages need MPI", packages.len()) };
    assert_eq!((&package["name"], &package["publish"]), (&"xdma-mpi".into(), &Value::Array(vec![])));
    assert_eq!(package["features"]["default"], Value::Array(vec![]));
    let dependencies = package["dependencies"].as_array().unwrap();
    assert!(dependencies.iter().all(|of| of["kind"] == "dev" || of["optional"] == true));
    for target in package["targets"].as_array().unwrap() {
        let is_program = target["kind"][0] == "bin" || target["name"] == "sum" || target["name"] == "ranks";
        assert_eq!(is_program, target["required-features"] == serde_json::json!(["mpi"]), "{target}");
    }
    let default: Vec<_> = metadata["workspace_default_members"].as_array().unwrap().iter().collect();
    assert!(!default.contains(&&package["id"]));
}

#[test]
fn packages_depend_only_on_lower_packages() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let published = packages.iter().filter(|package| package["publish"].is_null());
    assert_eq!(published.clone().count(), PACKAGES.len());
    for package in published {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = PACKAGES.iter().find(|(of, _)| *of == name).unwrap();
        let dependencies =
            package["dependencies"].as_array().unwrap().iter().filter(|of| of["kind"] != "dev");
        for of in dependencies.filter(|of| of["path"].is_string()) {
            let of = of["name"].as_str().unwrap();
            assert!(allowed.contains(&of), "{name} depends on {of}");
        }
        for key in ["description", "documentation", "repository", "readme", "license", "rust_version"] {
            assert!(package[key].is_string(), "{name} has no {key}");
        }
        assert!(package["metadata"]["docs"]["rs"].is_object(), "{name} has no [package.metadata.docs.rs]");
    }
}

#[test]
fn the_library_mentions_no_program() {
    for path in sources() {
        let code = code(&fs::read_to_string(root().join(&path)).unwrap());
        for name in ["vfio-setup", "`xdma ", "cargo "] {
            assert!(!code.contains(name), "{} mentions {name:?}", path.display());
        }
    }
}

#[test]
fn imports_are_found_in_all_forms() {
    let text = "//! crate::msm\n#[cfg(test)]\nmod tests;\nuse crate::{\n    bus::{Bar, Bus},\n    card::Card,\n};\n\
                use super::super::engine::Ring;\nfn f() -> crate::stats::Stats {}\n#[cfg(test)]\nmod more {\n    use crate::msm;\n}\n";
    assert_eq!(imports(&code(text), 2), ["bus", "card", "", "stats", "engine"]);
    assert_eq!([depth(Path::new("bus/mod.rs")), depth(Path::new("bus/vfio/dma.rs"))], [1, 3]);
}
