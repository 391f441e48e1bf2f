//! The committed header is the one that the source generates, and the map of symbol versions and the manual page list its functions.

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Set to write the header instead of comparing it.
const WRITE_VARIABLE: &str = "XDMA_WRITE_HEADER";

/// The source files, in the order of the header.
const SOURCES: [&str; 15] = [
    "status",
    "error",
    "version",
    "log",
    "pointers",
    "card",
    "buffer",
    "registers",
    "channel",
    "measure",
    "program",
    "receiver",
    "interrupt",
    "msm_data",
    "msm",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn generate() -> String {
    let config = Config {
        language: Language::C,
        style: Style::Both,
        usize_is_size_t: true,
        cpp_compat: true,
        include_guard: Some("XDMA_H".into()),
        header: Some(read("include/head.txt")),
        documentation_style: DocumentationStyle::Doxy,
        line_length: 110,
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(String::from).into(),
        after_includes: Some(read("include/macros.txt")),
        ..Config::default()
    };
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root().join(format!("src/{source}.rs")));
    }
    let mut header = vec![];
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    header.lines().map(|line| with_parentheses(line) + "\n").collect()
}

/// Puts negative numbers in parentheses, so that the constants can be used in any expression.
fn with_parentheses(line: &str) -> String {
    match line.rsplit_once(" -") {
        Some((definition, number)) if line.starts_with("#define ") => format!("{definition} (-{number})"),
        _ => line.to_owned(),
    }
}

/// Returns the names of all functions that the sources export.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line == "#[unsafe(no_mangle)]" {
                let signature = lines.next().unwrap();
                let name = signature.split_once("extern \"C\" fn ").unwrap().1;
                names.insert(name.split('(').next().unwrap().to_owned());
            }
        }
    }
    assert!(names.len() > 60, "only {} functions were found, so this test no longer works", names.len());
    names
}

#[test]
fn the_header_is_current() {
    let (path, generated) = (root().join("include/xdma.h"), generate());
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "include/xdma.h differs from the source; to write it, run: {WRITE_VARIABLE}=1 cargo test --package xdma-capi --test header"
    );
}

#[test]
fn every_function_is_in_the_header_the_map_and_the_manual_page() {
    let (header, map, page) = (read("include/xdma.h"), read("xdma.map"), read("man/libxdma.3"));
    assert_eq!(map.matches("        xdma_").count(), functions().len(), "the map has other functions");
    for name in functions() {
        assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
        assert!(map.contains(&format!("        {name};\n")), "{name} is not in the map");
        let is_listed =
            page.lines().any(|line| line.starts_with(".BR ") && line.contains(&format!("{name} ()")));
        assert!(is_listed, "{name} is not in the manual page");
    }
    let listed = page.lines().filter_map(|line| line.strip_prefix(".BR xdma_")?.split_once(" ()"));
    for (name, _) in listed {
        assert!(functions().contains(&format!("xdma_{name}")), "the manual page lists xdma_{name}");
    }
}

#[test]
fn every_status_is_in_the_manual_page() {
    let (page, status) = (read("man/libxdma.3"), read("src/status.rs"));
    let names = status.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'));
    for (name, _) in names {
        assert!(page.contains(&format!(".B {name}\n")), "{name}");
    }
}
