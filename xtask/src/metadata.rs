//! The packages of the workspace, as `cargo metadata` describes them.

use crate::run::Run;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// A package of the workspace.
#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub features: BTreeMap<String, Vec<String>>,
    /// The registries to which it may be published; `None` means all.
    publish: Option<Vec<String>>,
    metadata: Value,
}

impl Package {
    /// Returns the cargo and rustdoc options that docs.rs uses for it, from `package.metadata.docs.rs` in its manifest.
    pub fn docs_rs(&self) -> (String, String) {
        let settings = &self.metadata["docs"]["rs"];
        let words = |key: &str| {
            let list = settings[key].as_array().into_iter().flatten().filter_map(Value::as_str);
            list.collect::<Vec<_>>().join(" ")
        };
        let cargo = match words("features") {
            _ if settings["all-features"] == true => "--all-features".into(),
            features if features.is_empty() => features,
            features => format!("--features {}", features.replace(' ', ",")),
        };
        (cargo, words("rustdoc-args"))
    }
}

/// Returns every package that may be published.
pub fn published(run: &mut Run) -> Result<Vec<Package>> {
    let text = run.stdout(run.cargo("metadata --no-deps --format-version 1"))?;
    let mut metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
    let mut packages: Vec<Package> = serde_json::from_value(metadata["packages"].take())?;
    packages.retain(|package| package.publish.as_ref().is_none_or(|registries| !registries.is_empty()));
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn docs_rs_settings_become_options() {
        let options = |settings: Value| {
            let metadata = json!({ "docs": { "rs": settings } });
            Package { name: "xdma".into(), features: BTreeMap::new(), publish: None, metadata }.docs_rs()
        };
        let flags = json!({ "features": ["a", "b"], "rustdoc-args": ["--cfg", "x"] });
        assert_eq!(options(flags), ("--features a,b".into(), "--cfg x".into()));
        assert_eq!(options(json!({ "all-features": true })).0, "--all-features");
        assert_eq!(options(Value::Null), (String::new(), String::new()));
    }
}
