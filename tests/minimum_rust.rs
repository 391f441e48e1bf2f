//! The stated `rust-version` is the one that the packages of the lock file require, including those for other platforms and for
//! development.

use serde_json::Value;
use std::process::Command;

/// Parses a version such as `1.90` or `1.88.0`.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn rust_version_is_the_highest_that_a_dependency_declares() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let declared = |package: &Value| package["rust_version"].as_str().map(str::to_owned);
    let highest = packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter_map(|package| Some((declared(package)?, package["name"].as_str()?.to_owned())))
        .max_by_key(|(text, _)| version(text))
        .unwrap();
    let ours: Vec<_> = packages.iter().filter(|package| package["source"].is_null()).collect();
    assert!(ours.len() > 5, "only {} packages of this workspace", ours.len());
    for package in ours {
        let stated = declared(package).unwrap_or_else(|| panic!("{} states no version", package["name"]));
        assert_eq!(
            version(&stated),
            version(&highest.0),
            "{} states {stated}, but {} requires {}",
            package["name"],
            highest.1,
            highest.0
        );
    }
}
