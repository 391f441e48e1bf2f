//! Locates the proving keys and witness generators of the package `semaphore-rs`, which the examples embed.

use std::path::Path;
use std::process::Command;
use std::{env, str};
use tinyjson::{JsonParseError, JsonValue};

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
    let metadata = str::from_utf8(&output.stdout).map_err(|error| error.to_string())?;
    let metadata: JsonValue = metadata.parse().map_err(|error: JsonParseError| error.to_string())?;
    let packages: &Vec<JsonValue> = metadata["packages"].get().ok_or("cargo lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == PACKAGE.to_owned().into());
    let manifest: Option<&String> = package.and_then(|package| package["manifest_path"].get());
    let dir = manifest.and_then(|manifest| Path::new(manifest).parent()).and_then(Path::to_str);
    dir.map(String::from).ok_or_else(|| "it is not a dependency".into())
}
