//! The report of a self-test.

use super::Step;
use crate::{file, output};
use anyhow::Result;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use xdma_emulator::CardFile;

/// How a step ended.
pub enum Finding {
    /// As expected. The text is what was seen.
    Passed(String),
    /// Not possible on this card, or not requested. The text is the reason.
    Skipped(String),
    /// Not as expected. The texts are what was seen, and what that usually means.
    Failed(String, &'static str),
    /// Ctrl-C.
    Interrupted,
    /// An earlier step failed or was interrupted.
    NotRun,
}

impl Finding {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Passed(text) => ("ok", text),
            Self::Skipped(text) => ("skipped", text),
            Self::Failed(text, _) => ("FAILED", text),
            Self::Interrupted => ("interrupted", ""),
            Self::NotRun => ("not run", ""),
        }
    }

    fn meaning(&self) -> Option<&'static str> {
        match self {
            Self::Failed(_, meaning) => Some(meaning),
            _ => None,
        }
    }
}

/// The findings of all steps, and the description of the card. As text, each line is written when it is known, so that it is not lost
/// if the host does not survive the next step.
pub struct Report {
    card: String,
    /// Whether the card is emulated.
    pub emulated: bool,
    steps: Vec<(Step, Finding)>,
    /// The description, as far as it is known.
    pub survey: Option<CardFile>,
    /// The file that gets the text too.
    file: Option<File>,
    json: bool,
}

impl Report {
    pub fn new(card: &str, file: Option<&Path>, json: bool) -> Result<Self> {
        let file = file.map(file::create).transpose()?;
        Ok(Self { card: card.into(), emulated: false, steps: vec![], survey: None, file, json })
    }

    fn line(&mut self, text: &str) -> Result<()> {
        if !self.json {
            output::line(text)?;
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{text}").and_then(|()| file.sync_data()).map_err(output::failed)?;
        }
        Ok(())
    }

    /// Adds a step.
    pub fn add(&mut self, step: Step, finding: Finding) -> Result<()> {
        if self.steps.is_empty() {
            let emulated = if self.emulated { ", an emulated card" } else { "" };
            let title = format!("self-test of {}{emulated}", self.card);
            self.line(&title)?;
        }
        let (result, text) = finding.parts();
        let line = format!("  {:11} {result:11} {text}", step.name());
        self.line(line.trim_end())?;
        if let Some(meaning) = finding.meaning() {
            self.line(&format!("              this usually means: {meaning}"))?;
        }
        self.steps.push((step, finding));
        Ok(())
    }

    /// Ends the report with the description of the card.
    pub fn finish(&mut self) -> Result<()> {
        if let Some(survey) = &self.survey {
            let text = format!("\n# Description of the card (card.toml):\n{}", survey.to_toml().trim_end());
            self.line(&text)?;
        }
        if self.json { output::line(&self.to_json().to_string()) } else { Ok(()) }
    }

    fn to_json(&self) -> Value {
        let step = |(step, finding): &(Step, Finding)| {
            let (result, text) = finding.parts();
            json!({
                "step": step.name(),
                "result": result.to_lowercase(),
                "seen": text,
                "means": finding.meaning(),
            })
        };
        json!({
            "card": self.card,
            "emulated": self.emulated,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "survey": self.survey,
        })
    }
}
