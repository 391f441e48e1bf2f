//! `xdma completions` and `xdma man`.

use crate::{Cli, output};
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub fn run(&self, json: bool) -> Result<()> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut Cli::command(), "xdma", &mut script);
        print(script, json, "script")
    }
}

#[derive(Args)]
pub struct Man {
    /// Write xdma.1, xdma-info.1 and so on to this directory.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(&self, json: bool) -> Result<()> {
        let Some(dir) = &self.dir else {
            let mut page = vec![];
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            return print(page, json, "page");
        };
        let context = || format!("cannot write manual pages to {}", dir.display());
        std::fs::create_dir_all(dir).with_context(context)?;
        clap_mangen::generate_to(Cli::command(), dir).with_context(context)?;
        if json {
            output::line(&json!({ "dir": dir }).to_string())
        } else {
            output::line(&format!(
                "wrote manual pages to {0}; view them with `man -l {0}/xdma.1`",
                dir.display()
            ))
        }
    }
}

fn print(text: Vec<u8>, json: bool, key: &str) -> Result<()> {
    let text = String::from_utf8(text).context("the generated text is not UTF-8")?;
    output::line(&if json { json!({ key: text }).to_string() } else { text })
}
