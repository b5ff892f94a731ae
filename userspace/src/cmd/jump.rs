//! `kjump jump`.

use std::fs;
use std::io;
use std::path::Path;

use kjump_abi as abi;
use rustix::io::Errno;

use super::say;
use crate::cli::{Jump, Way};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::exit::{EXIT_PEER_PANIC, EXIT_PEER_STATUS};
use crate::hibernation::peer;
use crate::json::Json;
use crate::parse;

const VERB: &str = "jump";
/// Behind the answer of a peer that left for good.
const GONE: &str = "; it cannot be entered again and is unloaded";
/// Where the kernel tells about suspends.
const STATS: &str = "/sys/power/suspend_stats";

/// What a jump came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answer(u32),
    NoAnswer,
    Resumed,
    Panic(String),
}

/// Jumps, and says what the peer answered.
pub fn run(args: &Jump) -> Result<u8> {
    let device = Device::open_load(&args.which.name)?;
    args.way.check_watchdogs(VERB)?;
    let mut jump = abi::Jump {
        flags: args.way.flags() | args.trust.flags(),
        command: args.command,
        fail_at: args.way.fail_at.unwrap_or(0),
        ..Default::default()
    };
    // Also with no command: somebody may save by hand there.
    peer::tell_what_is(&device);
    // What cannot be undone is the machine's fate if the peer never comes back: lose no data.
    rustix::fs::sync();
    let result = device
        .jump(&mut jump)
        .map_err(|e| error(VERB, &args.way, e, jump.failed_rung))
        .and_then(|()| untouched(VERB, &device, &jump));
    if let (true, Err(e)) = (args.json, &result) {
        say(Json::object([
            ("outcome", Json::str("failed")),
            ("error", Json::str(e.to_string())),
            ("exit_code", Json::Int(e.exit_code().into())),
            ("failed_rung", rung_json(jump.failed_rung)),
        ]))?;
    }
    result?;
    let outcome = match jump.status {
        abi::STATUS_NONE => Outcome::NoAnswer,
        abi::STATUS_PANIC => Outcome::Panic(
            device
                .status()
                .map(|s| parse::text(&s.reason))
                .unwrap_or_default(),
        ),
        abi::STATUS_RESUMED => Outcome::Resumed,
        n => Outcome::Answer(n),
    };
    let gone = device.status().is_ok_and(|s| s.state == abi::STATE_GONE);
    if args.json {
        say(outcome.json(gone))?;
    } else {
        say(outcome.line() + if gone { GONE } else { "" })?;
    }
    Ok(outcome.exit_code())
}

/// What a failed `JUMP` or `BACK` means.
pub fn error(verb: &'static str, way: &Way, errno: Errno, failed_rung: u32) -> Error {
    error_in(Path::new(STATS), verb, way, errno, failed_rung)
}

/// As [`error`], with the directory where the kernel tells about suspends.
fn error_in(stats: &Path, verb: &'static str, way: &Way, errno: Errno, failed_rung: u32) -> Error {
    let injected = way.fail_at.is_some() && errno == Errno::OPNOTSUPP;
    if failed_rung == 0 || injected {
        return Error::from_errno(verb, errno);
    }
    match way.fail_at {
        None => rung(stats, verb, errno, failed_rung),
        // No device of the machine's has done it.
        Some(_) => rung(Path::new(""), verb, errno, failed_rung),
    }
}

/// That the rung with this number failed.
pub fn rung_error(verb: &'static str, errno: Errno, number: u32) -> Error {
    rung(Path::new(STATS), verb, errno, number)
}

fn rung(stats: &Path, verb: &'static str, errno: Errno, number: u32) -> Error {
    let rung = parse::rung_name(number);
    let device = match rung.starts_with("devices") {
        true => failed_device(stats),
        false => None,
    };
    Error::Rung {
        verb,
        rung,
        device: device.map_or_else(String::new, |name| {
            format!(" (the device that failed last: {name})")
        }),
        source: io::Error::from(errno),
    }
}

/// The device that was the last one not to go down. The kernel keeps the name for whoever asks.
fn failed_device(stats: &Path) -> Option<String> {
    let read = |name: &str| fs::read_to_string(stats.join(name)).unwrap_or_default();
    let suspending = read("last_failed_step").starts_with("suspend");
    let device = read("last_failed_dev").trim().to_string();
    (suspending && !device.is_empty()).then_some(device)
}

/// Whether the peer has left alone what it was not given, if the jump was to look.
pub fn untouched(verb: &'static str, device: &Device, jump: &abi::Jump) -> Result<()> {
    if jump.changed == 0 {
        return Ok(());
    }
    let status = device.status().map_err(|e| Error::from_errno(verb, e))?;
    let frames = status.changed.iter().filter(|frame| **frame != 0);
    let mut frames: Vec<_> = frames.map(|frame| format!("{frame:#x}")).collect();
    if jump.changed as usize > frames.len() {
        frames.push("…".into());
    }
    Err(Error::Touched {
        verb,
        pages: jump.changed,
        frames: frames.join(", "),
    })
}

fn rung_json(number: u32) -> Json {
    if number == 0 {
        Json::Null
    } else {
        Json::Str(parse::rung_name(number))
    }
}

impl Outcome {
    fn line(&self) -> String {
        match self {
            Outcome::Answer(n) => format!("peer came back: status {n}"),
            Outcome::Resumed => "resumed from an image that the peer had made".into(),
            Outcome::NoAnswer => "peer came back without an answer".into(),
            Outcome::Panic(why) if why.is_empty() => "peer panicked: no reason given".into(),
            Outcome::Panic(why) => format!("peer panicked: {why}"),
        }
    }

    /// `gone`: the peer cannot be entered again.
    fn json(&self, gone: bool) -> Json {
        let (outcome, status, reason) = match self {
            Outcome::Answer(n) => ("answer", Json::Int((*n).into()), Json::Null),
            Outcome::NoAnswer => ("no-answer", Json::Null, Json::Null),
            Outcome::Resumed => ("resumed", Json::Null, Json::Null),
            Outcome::Panic(why) => ("panic", Json::Null, Json::str(why)),
        };
        Json::object([
            ("outcome", Json::str(outcome)),
            ("status", status),
            ("reason", reason),
            ("gone", Json::Bool(gone)),
            ("exit_code", Json::Int(self.exit_code().into())),
        ])
    }

    fn exit_code(&self) -> u8 {
        match self {
            Outcome::Answer(0) | Outcome::NoAnswer | Outcome::Resumed => 0,
            Outcome::Answer(_) => EXIT_PEER_STATUS,
            Outcome::Panic(_) => EXIT_PEER_PANIC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let all = [
            (Outcome::Answer(0), "peer came back: status 0", 0),
            (Outcome::Answer(22), "peer came back: status 22", 40),
            (Outcome::NoAnswer, "peer came back without an answer", 0),
            (Outcome::Panic("boom".into()), "peer panicked: boom", 41),
        ];
        for (outcome, line, code) in all {
            assert_eq!((outcome.line().as_str(), outcome.exit_code()), (line, code));
        }
        let json = Outcome::Panic("a\"b".into()).json(true).to_string();
        assert!(json.contains("\"a\\\"b\"") && json.contains("\"gone\": true"));
    }

    #[test]
    fn failures() {
        let way = |fail_at| Way {
            no_freezer: false,
            hotplug_cpus: true,
            ignore_watchdog: false,
            fail_at,
        };
        let stats = std::env::temp_dir().join(format!("kjump-{}-stats", std::process::id()));
        let e = error_in(&stats, "jump", &way(None), Errno::BUSY, 8);
        let why = crate::error::plain(&Errno::BUSY.into());
        let line = format!("jump: rung \"devices\" failed: {why}; this kernel goes on as before");
        assert_eq!(e.to_string(), line);
        assert_eq!(e.exit_code(), 29);
        fs::create_dir_all(&stats).unwrap();
        fs::write(stats.join("last_failed_step"), "suspend\n").unwrap();
        fs::write(stats.join("last_failed_dev"), "card0\n").unwrap();
        let said = |rung| error_in(&stats, "jump", &way(None), Errno::BUSY, rung).to_string();
        assert!(said(8).contains("failed last: card0)") && !said(3).contains("card0"));
        fs::remove_dir_all(&stats).unwrap();
        assert_eq!(error("jump", &way(None), Errno::BUSY, 0).exit_code(), 8);
        assert_eq!(
            error("jump", &way(Some(8)), Errno::OPNOTSUPP, 8).exit_code(),
            11
        );
        assert_eq!(way(None).flags(), abi::JUMP_HOTPLUG_CPUS);
    }
}
