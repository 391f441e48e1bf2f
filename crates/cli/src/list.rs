//! `xdma list`.

use crate::output;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use vfio_setup::status::Status;
use vfio_setup::{Host, text};
use xdma_emulator::card_file::SHIPPED;

#[derive(Args)]
pub struct List {
    /// List the cards of the system whose files are below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl List {
    pub fn run(&self, json: bool) -> Result<()> {
        let status = Status::read(&Host::new(&self.root), false)?;
        let emulated = SHIPPED.map(|(name, _)| name);
        if json {
            let object =
                json!({ "cards": status.functions, "problems": status.problems, "emulated": emulated });
            return output::line(&object.to_string());
        }
        let mut text = text::functions(&status);
        if !stdout().is_terminal() {
            text = anstream::adapter::strip_str(&text).to_string();
        }
        output::line(&format!("{text}emulated cards: {}", emulated.join(", ")))
    }
}
