//! The report of a self-test.

use super::Step;
use serde_json::{Value, json};
use xdma_emulator::CardFile;

/// How a step ended.
pub enum Finding {
    /// As expected. The text is what was seen.
    Good(String),
    /// Not possible on this card, or not requested. The text is the reason.
    Skipped(String),
    /// Not as expected. The text is what was seen.
    Surprise(String),
    /// An earlier step was a surprise.
    NotRun,
}

impl Finding {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Good(text) => ("ok", text),
            Self::Skipped(text) => ("skipped", text),
            Self::Surprise(text) => ("SURPRISE", text),
            Self::NotRun => ("not run", ""),
        }
    }
}

/// The findings of all steps, and the description of the card.
pub struct Report {
    card: String,
    /// Whether the card is emulated.
    pub emulated: bool,
    steps: Vec<(Step, Finding)>,
    /// The description, as far as it is known.
    pub survey: Option<CardFile>,
}

impl Report {
    pub fn new(card: &str) -> Self {
        Self { card: card.into(), emulated: false, steps: vec![], survey: None }
    }

    pub fn add(&mut self, step: Step, finding: Finding) {
        self.steps.push((step, finding));
    }

    pub fn text(&self) -> String {
        let emulated = if self.emulated { ", an emulated card" } else { "" };
        let mut lines = vec![format!("self-test of {}{emulated}", self.card)];
        for (step, finding) in &self.steps {
            let (result, text) = finding.parts();
            lines.push(format!("  {:11} {result:9} {text}", step.name()).trim_end().into());
            if let Finding::Surprise(_) = finding {
                lines.push(format!("              this means: {}", step.meaning()));
            }
        }
        if let Some(survey) = &self.survey {
            lines.push(format!("\n# Description of the card (card.toml):\n{}", survey.to_toml().trim_end()));
        }
        lines.join("\n")
    }

    pub fn json(&self) -> Value {
        let step = |(step, finding): &(Step, Finding)| {
            let (result, text) = finding.parts();
            let surprise = matches!(finding, Finding::Surprise(_));
            json!({
                "step": step.name(),
                "result": result.to_lowercase(),
                "seen": text,
                "means": surprise.then(|| step.meaning()),
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
