// SPDX-License-Identifier: GPL-2.0

//! QEMU's machine protocol: one JSON object a line over a unix socket.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use serde_json::{json, Value};

/// How long QEMU may take to answer; a memory dump of a guest is the longest.
const ANSWER: Duration = Duration::from_secs(30);

/// A connection to QEMU's monitor.
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Start of a line whose end has not come yet.
    partial: String,
    /// Events received and not yet asked for.
    events: Vec<Value>,
}

/// What a line from QEMU is.
#[derive(Debug, PartialEq)]
enum Message {
    Answer(Value),
    Failure(String),
    Event(Value),
    Greeting,
}

/// Sorts a line from QEMU.
fn parse(line: &str) -> Result<Message> {
    let mut value: Value = serde_json::from_str(line).context("QMP")?;
    if value.get("event").is_some() {
        Ok(Message::Event(value))
    } else if let Some(answer) = value.get_mut("return") {
        Ok(Message::Answer(answer.take()))
    } else if let Some(error) = value.get("error") {
        Ok(Message::Failure(
            error["desc"].as_str().unwrap_or("no reason").to_string(),
        ))
    } else if value.get("QMP").is_some() {
        Ok(Message::Greeting)
    } else {
        bail!("QMP: what is {line}?")
    }
}

impl Qmp {
    /// Shakes hands over a connected socket.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(ANSWER))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            partial: String::new(),
            events: Vec::new(),
        };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// The next message, or `None` when time is up.
    fn receive(&mut self, timeout: Duration) -> Result<Option<Message>> {
        self.stream
            .get_ref()
            .set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        match self.stream.read_line(&mut self.partial) {
            Ok(0) => bail!("QMP: QEMU is gone"),
            Ok(_) => parse(&std::mem::take(&mut self.partial)).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("QMP"),
        }
    }

    /// Executes a command and gives its answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{line}").context("QMP")?;
        let end = Instant::now() + ANSWER;
        loop {
            match self.receive(end.saturating_duration_since(Instant::now()))? {
                Some(Message::Answer(answer)) => return Ok(answer),
                Some(Message::Failure(why)) => bail!("QMP {command}: {why}"),
                Some(Message::Event(event)) => self.events.push(event),
                Some(Message::Greeting) => {}
                None => bail!("QMP {command}: no answer"),
            }
        }
    }

    /// Executes a line of the human monitor.
    pub fn hmp(&mut self, line: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        let text = answer
            .as_str()
            .ok_or_else(|| anyhow!("monitor {line}: no text"))?;
        Ok(text.replace('\r', ""))
    }

    /// Waits for an event of that name and gives it.
    pub fn wait_event(&mut self, name: &str, timeout: Duration) -> Result<Value> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                return Ok(self.events.remove(at));
            }
            match self.receive(end.saturating_duration_since(Instant::now()))? {
                Some(Message::Event(event)) => self.events.push(event),
                Some(_) => {}
                None => bail!("QMP: no {name} within {} s", timeout.as_secs()),
            }
        }
    }

    /// All events that came and were not asked for, when QEMU has ended.
    pub fn last_events(&mut self) -> Vec<Value> {
        // The end of the stream is an error; time runs out only if QEMU has not ended.
        while let Ok(Some(message)) = self.receive(ANSWER) {
            if let Message::Event(event) = message {
                self.events.push(event);
            }
        }
        std::mem::take(&mut self.events)
    }

    /// Stops the machine.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets it run again.
    pub fn cont(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Copies `size` bytes of guest-physical memory at `address` to `file`.
    pub fn save_memory(&mut self, address: u64, size: u64, file: &Path) -> Result<Vec<u8>> {
        self.execute(
            "pmemsave",
            json!({ "val": address, "size": size, "filename": file }),
        )?;
        let bytes = std::fs::read(file).context("memory saved by QEMU")?;
        std::fs::remove_file(file)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn lines_are_sorted() {
        assert_eq!(
            parse(r#"{"return": 5}"#).unwrap(),
            Message::Answer(json!(5))
        );
        let line = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
        assert_eq!(parse(line).unwrap(), Message::Failure("no".into()));
        assert!(matches!(
            parse(r#"{"event": "STOP", "data": {}}"#),
            Ok(Message::Event(_))
        ));
        assert!(matches!(parse(r#"{"QMP": {}}"#), Ok(Message::Greeting)));
        assert!(parse("{}").is_err() && parse("?").is_err());
    }

    #[test]
    fn events_between_question_and_answer_are_kept() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qemu = thread::spawn(move || {
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
            theirs.write_all(b"{\"QMP\": {}}\n").unwrap();
            lines.next();
            theirs.write_all(b"{\"return\": {}}\n").unwrap();
            lines.next();
            theirs
                .write_all(b"{\"event\": \"STOP\"}\n{\"return\"")
                .unwrap();
            theirs.write_all(b": \"text\\r\\n\"}\n").unwrap();
        });
        let mut qmp = Qmp::new(ours).unwrap();
        assert_eq!(qmp.hmp("info x").unwrap(), "text\n");
        assert!(qmp.wait_event("STOP", Duration::from_secs(1)).is_ok());
        qemu.join().unwrap();
        assert!(qmp.wait_event("RESUME", Duration::from_millis(1)).is_err());
    }
}
