//! Control of the emulated card over a serial line.

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
        // SAFETY: the calls only access `settings`, which is valid for them.
        unsafe {
            let mut settings = std::mem::zeroed();
            if libc::tcgetattr(file.as_raw_fd(), &mut settings) == 0 {
                libc::cfmakeraw(&mut settings);
                libc::tcsetattr(file.as_raw_fd(), libc::TCSANOW, &settings);
            }
        }
        Ok(Self { line: BufReader::new(file), id: 0 })
    }

    /// Sends a request, and waits for the reply.
    pub fn call(&mut self, body: Value) -> Result<Value> {
        self.id += 1;
        let mut text = json!({ "id": self.id, "body": body }).to_string();
        text.push('\n');
        self.line.get_mut().write_all(text.as_bytes())?;
        loop {
            let mut reply = String::new();
            if self.line.read_line(&mut reply)? == 0 {
                bail!("the control line of the card is closed");
            }
            // The line may contain the rest of an earlier reply.
            let Ok(reply) = serde_json::from_str::<Value>(&reply) else { continue };
            if reply["id"] == self.id {
                return match &reply["body"]["Ok"] {
                    Value::Null => bail!("the card rejected {body}: {}", reply["body"]["Err"]),
                    result => Ok(result.clone()),
                };
            }
        }
    }

    /// Loads an image: a design, and the current options after `change`.
    pub fn load(&mut self, change: impl FnOnce(&mut Value), design: Value) -> Result<()> {
        let mut options = self.call(json!("Options"))?["Options"].take();
        change(&mut options);
        self.call(json!({ "Load": { "options": options, "design": design } })).map(drop)
    }

    pub fn inject(&mut self, what: Value) -> Result<()> {
        self.call(json!({ "Inject": what })).map(drop)
    }
}
