//! The driver's modules import only from those below them. Between packages the compiler sees to it; this does within `src`.

use std::fs;
use std::path::{Path, PathBuf};

/// From the lowest to the highest. `regs` is a package of its own.
const LAYERS: [&str; 8] = ["regs", "descriptor", "memory", "bus", "stats", "engine", "card", "msm"];

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// Rust files below `src`, with the module of the crate that each belongs to.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Modules of the crate that a file's code names, comments and unit tests left out.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let mut found = vec![];
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for rest in line.split("crate::").skip(1) {
            let names = rest.trim_start_matches('{').split(|c: char| !c.is_alphanumeric() && c != '_');
            found.extend(names.take(1).map(|name| (number + 1, name.to_owned())));
        }
    }
    found
}

/// Whether the file holds unit tests, which see the whole crate.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy();
    name == "tests" || name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "fuzz")
}

#[test]
fn no_module_imports_from_a_higher_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    files(&root, &mut all);
    let mut seen = 0;
    for path in all.iter().filter(|path| !is_test(path)) {
        let inside = path.strip_prefix(&root).unwrap();
        let module = inside.components().next().unwrap().as_os_str().to_string_lossy();
        let Some(own) = rank(module.trim_end_matches(".rs")) else { continue };
        for (line, name) in imports(&fs::read_to_string(path).unwrap()) {
            // Macros and the crate's root are nobody's layer.
            let Some(theirs) = rank(&name) else { continue };
            seen += 1;
            assert!(theirs <= own, "{}:{line} imports from `{name}`, which is above it", inside.display());
        }
    }
    assert!(seen > 50, "only {seen} imports were found: this test no longer sees them");
}

#[test]
fn the_library_names_no_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    files(&root, &mut all);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for name in ["vfio-setup", "`xdma ", "cargo "] {
                assert!(!code.contains(name), "{}:{} names {name:?}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn an_import_is_found_wherever_it_stands() {
    let text = "//! crate::msm\nuse crate::card::Card; // crate::msm\nfn f() -> crate::bus::Bus {}\n#[cfg(test)]\nmod tests { use crate::msm; }";
    assert_eq!(imports(text), [(2, "card".into()), (3, "bus".into())]);
}
