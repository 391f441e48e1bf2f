//! Locates the proving keys and witness generators of the package `semaphore-rs`, which the examples embed.

use std::path::Path;
use std::process::Command;
use std::{env, str};

/// The package that contains them. It is a dependency for a target that never applies, so cargo downloads it but never compiles
/// it.
const PACKAGE: &str = "semaphore-rs";

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed=build.rs");
    match package_dir() {
        Ok(dir) => println!("cargo::rustc-env=SEMAPHORE_DIR={dir}"),
        Err(error) => {
            println!("cargo::error={PACKAGE}, which contains the proving keys, was not found: {error}")
        }
    }
}

fn package_dir() -> Result<String, String> {
    let cargo = env::var("CARGO").map_err(|error| error.to_string())?;
    let manifest =
        Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(|error| error.to_string())?).join("Cargo.toml");
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--manifest-path"]).arg(manifest);
    let output = metadata.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "run `cargo fetch` once with network access ({})",
            error.trim_end().replace('\n', " ")
        ));
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut manifests = packages
        .filter(|package| package["name"] == PACKAGE)
        .filter_map(|package| package["manifest_path"].as_str());
    let dir =
        manifests.next().and_then(|manifest| Path::new(manifest).parent()).ok_or("it is not a dependency")?;
    dir.to_str().map(String::from).ok_or_else(|| "its path is not UTF-8".into())
}
