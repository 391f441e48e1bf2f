//! The JSON schemas of the output of the tools and examples.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Returns the directory of the schemas.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas")
}

/// Returns the names of all schemas that start with a prefix, without `.json`.
pub fn names(prefix: &str) -> BTreeSet<String> {
    let files = directory().read_dir().expect("the schemas are in docs/schemas");
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Checks that a value conforms to the schema `name`.
///
/// # Panics
///
/// If it does not, or if there is no such schema.
#[track_caller]
pub fn check(name: &str, value: &Value) {
    let path = directory().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let validator = jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {}\n{value}", errors.join("\n"));
}

/// Checks each line of a program's output, which was started with `--json` and these arguments, against the schema of its
/// command, such as `xdma-info`, or against `error`.
///
/// # Panics
///
/// If a line is not JSON, or as [`check`].
#[track_caller]
pub fn check_output(program: &str, arguments: &str, output: &str) {
    let words: Vec<_> = arguments.split_whitespace().collect();
    let command = match words[..] {
        ["bench", "compare", ..] => "bench-compare",
        _ => words[0],
    };
    for line in output.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if value.get("error").is_some() {
            check("error", &value)
        } else {
            check(&format!("{program}-{command}"), &value)
        }
    }
}
