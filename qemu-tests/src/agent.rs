// SPDX-License-Identifier: GPL-2.0

//! Running commands in kernel A: the host's end of the second serial port.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::console::{Console, Wait};
use crate::ending::{Start, Waiting};

/// What a command in the guest printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit status.
    pub rc: i32,
    /// Standard output and error, without the last line's end.
    pub text: String,
}

impl Output {
    /// The text, if the command ended well.
    pub fn ok(self) -> Result<String> {
        match self.rc {
            0 => Ok(self.text),
            rc => bail!("it ended with {rc}, after: {}", self.text),
        }
    }
}

/// The shell's first word.
const READY: &str = "::ready";
/// How often a wait looks whether the machine is alive.
const POLL: Duration = Duration::from_millis(500);

/// A connection to the shell in A.
pub struct Agent {
    port: UnixStream,
    heard: Console,
    number: u32,
}

impl Agent {
    /// Listens on a connected socket.
    pub fn new(port: UnixStream) -> Result<Self> {
        let heard = Console::read_from(port.try_clone()?);
        Ok(Self {
            port,
            heard,
            number: 0,
        })
    }

    /// Waits for the shell's first word. `alive` is asked now and then; its error ends the wait.
    pub fn wait_ready(&self, end: Instant, alive: &dyn Fn() -> Result<()>) -> Result<()> {
        self.listen(0, READY, end, alive)
            .map(drop)
            .context("waiting for A's userspace")
    }

    /// What is to be remembered of the line sent last, whose output began at `mark`, when the
    /// machine goes off under it.
    pub fn waiting(&self, mark: usize) -> Waiting {
        Waiting {
            number: self.number,
            said: self.heard.since(mark),
        }
    }

    /// Waits for the first word of a machine that may go on where another one was: either the
    /// line that was running there ends, or a new shell is ready. From then on commands run.
    pub fn take_over(
        &mut self,
        waiting: &Waiting,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<Start> {
        let verdict = format!("::rc {} ", waiting.number);
        self.number = waiting.number;
        loop {
            match self.heard.poll_line(0, &verdict, POLL) {
                Wait::Found(heard) => return parse(&heard, &verdict).map(Start::Resumed),
                Wait::Closed => bail!("the machine went off; last heard: {}", self.tail(0)),
                Wait::Nothing if self.heard.since(0).contains(READY) => return Ok(Start::Booted),
                Wait::Nothing if Instant::now() > end => {
                    bail!(
                        "neither resumed nor booted; last heard: \"{}\"",
                        self.tail(0)
                    )
                }
                Wait::Nothing => alive()?,
            }
        }
    }

    /// As [`Agent::take_over`], where a shell has taken commands before: what is heard after `mark`
    /// counts.
    pub fn give_way(
        &mut self,
        waiting: &Waiting,
        mark: usize,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<Output> {
        self.number = waiting.number;
        self.finish(mark, end, alive)
    }

    /// Waits for the end of the line with that number, in which a machine was when it was saved,
    /// after `mark`: the machine goes back to it from the line sent last. An error if that one ends.
    pub fn went_back(
        &mut self,
        mark: usize,
        number: u32,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<Output> {
        let verdict = format!("::rc {number} ");
        loop {
            match self.heard.poll_line(mark, &verdict, POLL) {
                Wait::Found(heard) => return parse(&heard, &verdict),
                Wait::Closed => bail!("the machine went off; last heard: {}", self.tail(mark)),
                Wait::Nothing => alive()?,
            }
            if let Some(output) = self.ended(mark) {
                let Output { rc, text } = output?;
                bail!("it went not back, and ended with {rc}: {text}");
            }
            if Instant::now() > end {
                bail!("not back in time; last heard: \"{}\"", self.tail(mark));
            }
        }
    }

    /// Whether the line sent last has ended, and how, without waiting.
    pub fn ended(&self, mark: usize) -> Option<Result<Output>> {
        let verdict = format!("::rc {} ", self.number);
        match self.heard.poll_line(mark, &verdict, Duration::ZERO) {
            Wait::Found(heard) => Some(parse(&heard, &verdict)),
            _ => None,
        }
    }

    fn listen(
        &self,
        mark: usize,
        needle: &str,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<String> {
        loop {
            match self.heard.poll_line(mark, needle, POLL) {
                Wait::Found(text) => return Ok(text),
                Wait::Closed => bail!("the machine went off; last heard: {}", self.tail(mark)),
                Wait::Nothing if Instant::now() > end => {
                    bail!("no answer in time; last heard: \"{}\"", self.tail(mark))
                }
                Wait::Nothing => alive()?,
            }
        }
    }

    fn tail(&self, mark: usize) -> String {
        let text = self.heard.since(mark);
        text.lines().last().unwrap_or_default().to_string()
    }

    /// Executes a line of shell and waits for its end. A line that jumps is silent while A is
    /// away.
    pub fn run(
        &mut self,
        command: &str,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<Output> {
        let mark = self.send(command)?;
        self.finish(mark, end, alive)
            .with_context(|| format!("in A: {command}"))
    }

    /// Sends a line of shell without waiting; [`Agent::finish`] waits.
    pub fn send(&mut self, command: &str) -> Result<usize> {
        assert!(!command.contains('\n'), "one line at a time");
        crate::tally::command(command);
        let mark = self.heard.mark();
        self.number += 1;
        writeln!(self.port, "{} {command}", self.number).context("the agent's port")?;
        Ok(mark)
    }

    /// Waits for the end of the line sent last.
    pub fn finish(
        &mut self,
        mark: usize,
        end: Instant,
        alive: &dyn Fn() -> Result<()>,
    ) -> Result<Output> {
        let verdict = format!("::rc {} ", self.number);
        let heard = self.listen(mark, &verdict, end, alive)?;
        parse(&heard, &verdict)
    }
}

/// Splits what was heard at the verdict.
fn parse(heard: &str, verdict: &str) -> Result<Output> {
    let at = heard.rfind(verdict).context("no verdict")?;
    let rc = heard[at + verdict.len()..]
        .trim()
        .parse()
        .context("the guest's exit status")?;
    Ok(Output {
        rc,
        text: heard[..at].trim_end_matches('\n').to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::thread;

    #[test]
    fn verdicts_are_split_off() {
        let output = parse("a\nb\n::rc 7 3", "::rc 7 ").unwrap();
        assert_eq!((output.rc, output.text.as_str()), (3, "a\nb"));
        let output = parse("no newline::rc 8 0", "::rc 8 ").unwrap();
        assert_eq!(output.ok().unwrap(), "no newline");
    }

    #[test]
    fn a_machine_goes_on_or_is_a_new_one() {
        let waiting = Waiting {
            number: 4,
            said: String::new(),
        };
        let hear = |text: &'static [u8]| {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(text).unwrap();
            let mut agent = Agent::new(ours).unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            let start = agent.take_over(&waiting, end, &|| Ok(())).unwrap();
            assert_eq!(agent.number, 4);
            drop(theirs);
            start
        };
        let resumed = hear(b"resumed\n::rc 4 0\n");
        assert!(matches!(resumed, Start::Resumed(o) if o.rc == 0 && o.text == "resumed"));
        assert!(matches!(hear(b"::ready\n"), Start::Booted));
    }

    #[test]
    fn a_command_goes_out_and_its_answer_comes_back() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let guest = thread::spawn(move || {
            theirs.write_all(b"::ready\r\n").unwrap();
            let mut line = String::new();
            BufReader::new(theirs.try_clone().unwrap())
                .read_line(&mut line)
                .unwrap();
            theirs
                .write_all(format!("got {line}::rc 1 0\n").as_bytes())
                .unwrap();
        });
        let mut agent = Agent::new(ours).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        agent.wait_ready(end, &|| Ok(())).unwrap();
        let output = agent.run("echo x", end, &|| Ok(())).unwrap();
        assert_eq!(output.ok().unwrap(), "got 1 echo x");
        guest.join().unwrap();
    }
}
