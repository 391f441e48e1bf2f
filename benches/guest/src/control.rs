//! Orders to the emulated card, over a serial line.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;

pub struct Control {
    line: BufReader<File>,
    id: u64,
}

impl Control {
    pub fn open(path: &str) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path).with_context(|| path.to_string())?;
        // SAFETY: both calls get the open line and a structure that they fill or read.
        unsafe {
            let mut settings = std::mem::zeroed();
            if libc::tcgetattr(file.as_raw_fd(), &mut settings) == 0 {
                libc::cfmakeraw(&mut settings);
                libc::tcsetattr(file.as_raw_fd(), libc::TCSANOW, &settings);
            }
        }
        Ok(Self { line: BufReader::new(file), id: 0 })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, body: Value) -> Result<Value> {
        self.id += 1;
        let mut text = json!({ "id": self.id, "body": body }).to_string();
        text.push('\n');
        self.line.get_mut().write_all(text.as_bytes())?;
        loop {
            let mut answer = String::new();
            if self.line.read_line(&mut answer)? == 0 {
                bail!("the line to the card's control is closed");
            }
            // Half a line may be left from somebody before us.
            let Ok(answer) = serde_json::from_str::<Value>(&answer) else { continue };
            if answer["id"] == self.id {
                return match &answer["body"]["Ok"] {
                    Value::Null => bail!("the card refuses {body}: {}", answer["body"]["Err"]),
                    answer => Ok(answer.clone()),
                };
            }
        }
    }

    /// Loads an image: a design, and options as they are but for those that are changed.
    pub fn load(&mut self, change: impl FnOnce(&mut Value), design: Value) -> Result<()> {
        let mut options = self.ask(json!("Options"))?["Options"].take();
        change(&mut options);
        self.ask(json!({ "Load": { "options": options, "design": design } })).map(drop)
    }

    pub fn inject(&mut self, what: Value) -> Result<()> {
        self.ask(json!({ "Inject": what })).map(drop)
    }
}
