//! The packages of the workspace, as `cargo metadata` describes them.

use crate::run::Run;
use anyhow::{Context, Result};
use serde_json::Value;

/// A package that is published.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub features: Vec<String>,
    /// How docs.rs documents it: `package.metadata.docs.rs` in its manifest.
    pub docs_rs: DocsRs,
}

/// Settings of docs.rs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DocsRs {
    /// Options for `cargo doc`.
    pub cargo: String,
    /// Options for rustdoc.
    pub rustdoc: String,
}

/// Every package of the workspace that crates.io may have.
pub fn published(run: &mut Run) -> Result<Vec<Package>> {
    let text = run.stdout(run.cargo("metadata --no-deps --format-version 1"))?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    // `publish = false` is an empty list of registries.
    let is_published = |package: &&Value| package["publish"].as_array().is_none_or(|list| !list.is_empty());
    Ok(packages.iter().filter(is_published).map(package).collect())
}

fn package(package: &Value) -> Package {
    let features = package["features"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
    Package {
        name: package["name"].as_str().unwrap_or_default().into(),
        features: features.filter(|name| name != "default").collect(),
        docs_rs: docs_rs(&package["metadata"]["docs"]["rs"]),
    }
}

fn docs_rs(settings: &Value) -> DocsRs {
    let flag = |key: &str| (settings[key] == true).then(|| format!("--{key}"));
    let words = |key: &str, separator: &str| {
        let list = settings[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(separator)
    };
    let features = Some(words("features", ",")).filter(|list| !list.is_empty());
    let features = features.map(|list| format!("--features {list}"));
    let cargo: Vec<_> =
        [flag("all-features"), flag("no-default-features"), features].into_iter().flatten().collect();
    DocsRs { cargo: cargo.join(" "), rustdoc: words("rustdoc-args", " ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_settings_of_docs_rs_become_options() {
        let found = package(&json!({
            "name": "xdma", "features": { "default": [], "tokio": ["dep:tokio"] },
            "metadata": { "docs": { "rs": { "features": ["a", "b"], "rustdoc-args": ["--cfg", "x"] } } }
        }));
        assert_eq!((found.name.as_str(), found.features), ("xdma", vec!["tokio".to_string()]));
        assert_eq!(found.docs_rs.cargo, "--features a,b");
        assert_eq!(found.docs_rs.rustdoc, "--cfg x");
        assert_eq!(docs_rs(&json!({ "all-features": true })).cargo, "--all-features");
        assert_eq!(docs_rs(&Value::Null).cargo, "");
    }
}
