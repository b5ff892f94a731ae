//! `kjump status`.

use kjump_abi as abi;
use kjump_abi::{Status, PAGE_SIZE};

use super::say;
use crate::cli;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::parse;

/// Prints the state.
pub fn run(args: &cli::Status) -> Result<u8> {
    let status = Device::open()?
        .status()
        .map_err(|e| Error::from_errno("status", e))?;
    if args.json {
        say(json(&status))?;
    } else {
        say(table(&status).trim_end())?;
    }
    Ok(0)
}

fn state(s: &Status) -> String {
    let name = abi::STATES.get(s.state as usize);
    name.map_or_else(|| format!("unknown ({})", s.state), |n| (*n).to_string())
}

/// What the last jump's peer answered, as a word and a number.
fn answer(s: &Status) -> Option<(&'static str, u32)> {
    (s.jumps > 0).then_some(match s.last_status {
        abi::STATUS_NONE => ("no-answer", 0),
        abi::STATUS_PANIC => ("panic", 0),
        n => ("answer", n),
    })
}

const FLAGS: &[(&str, u32)] = &[
    ("one-way", abi::STATUS_FLAG_ONE_WAY),
    ("owned", abi::STATUS_FLAG_OWNED),
    ("lockdown", abi::STATUS_FLAG_LOCKDOWN),
    ("testing", abi::STATUS_FLAG_TESTING),
];

/// Number of a rung by its name; names are the ABI's, so tests catch a wrong one.
fn rung(name: &str) -> usize {
    abi::RUNGS
        .iter()
        .position(|n| *n == name)
        .map_or(0, |i| i + 1)
}

/// Milliseconds between two stamps; `None` where one was not taken, or the clock is unknown.
fn between(s: &Status, from: usize, to: usize) -> Option<f64> {
    let (from, to) = (*s.stamps.get(from)?, *s.stamps.get(to)?);
    if s.tsc_khz == 0 || from == 0 || to < from {
        return None;
    }
    Some((to - from) as f64 / f64::from(s.tsc_khz))
}

/// The last stamp that was taken among `stamps[0..=slot]`, so that a rung that was left out makes
/// no hole.
fn last_before(s: &Status, slot: usize) -> usize {
    (0..=slot)
        .rev()
        .find(|i| s.stamps.get(*i).is_some_and(|t| *t != 0))
        .unwrap_or(0)
}

/// The parts of the last jump, in milliseconds. Down: up to and including the named rung.
fn parts(s: &Status) -> Vec<(&'static str, Option<f64>)> {
    let down = |first: &str, last: &str| {
        let (from, to) = (last_before(s, rung(first) - 1), last_before(s, rung(last)));
        between(s, from, to)
    };
    vec![
        ("tasks", down("sleep-lock", "kernel-threads")),
        ("devices", down("consoles", "devices-late")),
        ("cpus", down("cpus", "cpus")),
        ("rest_down", down("interrupts", "processor")),
        ("away", between(s, abi::STAMP_LEAVE, abi::STAMP_RETURN)),
        ("up", between(s, abi::STAMP_RETURN, abi::STAMP_END)),
        ("total", between(s, 0, abi::STAMP_END)),
    ]
}

/// Every rung's own time, down and up.
fn rungs(s: &Status) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
    let one = |(i, name): (usize, &&'static str)| {
        let n = i + 1;
        let down = between(s, last_before(s, n - 1), n);
        // Up, the rung before in time is the next one in number.
        let above = (n + 1..=abi::RUNG_COUNT).map(|m| abi::STAMP_UP + m);
        let before = above
            .into_iter()
            .find(|i| s.stamps.get(*i).is_some_and(|t| *t != 0));
        let up = between(s, before.unwrap_or(abi::STAMP_RETURN), abi::STAMP_UP + n);
        (*name, down, up)
    };
    abi::RUNGS.iter().enumerate().map(one).collect()
}

fn table(s: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name:<16} {value}\n");
    let pages = |n: u32| format!("{n} ({} KiB)", u64::from(n) * PAGE_SIZE / 1024);
    let address = |n: u64| {
        if n == 0 {
            "none".into()
        } else {
            format!("{n:#x}")
        }
    };
    line("state", state(s));
    let flags: Vec<_> = FLAGS
        .iter()
        .filter(|(_, f)| s.flags & f != 0)
        .map(|(n, _)| *n)
        .collect();
    line(
        "flags",
        if flags.is_empty() {
            "none".into()
        } else {
            flags.join(" ")
        },
    );
    line(
        "window",
        format!("0-{:#x}, {} pages of RAM", s.window_end, s.window_pages),
    );
    line("jump-back entry", address(s.jump_back_entry));
    line("handoff", address(s.handoff));
    line("peer entry", address(s.peer_entry));
    line("shadow pages", pages(s.shadow_pages));
    line("kept pages", pages(s.kept_pages));
    line("allocated pages", pages(s.allocated_pages));
    line("jumps", s.jumps.to_string());
    if let Some((word, n)) = answer(s) {
        let answer = if word == "answer" {
            format!("status {n}")
        } else {
            word.to_string()
        };
        line("last answer", answer);
        line(
            "last exchange",
            format!(
                "{} backed up, {} loaded, {} kept of the peer",
                s.backed_up, s.loaded, s.peer_kept
            ),
        );
    }
    let reason = parse::text(&s.reason);
    if !reason.is_empty() {
        line("reason", reason);
    }
    for (name, ms) in parts(s) {
        if let Some(ms) = ms {
            line(&format!("time {name}"), format!("{ms:.3} ms"));
        }
    }
    for (i, name) in abi::OPTIONAL_SYMBOLS.iter().enumerate() {
        let found = if s.symbols & (1 << i) != 0 {
            "found"
        } else {
            "missing"
        };
        line("symbol", format!("{name}: {found}"));
    }
    out
}

fn json(s: &Status) -> Json {
    let int = |n: u32| Json::Int(n.into());
    let ms = |ms: Option<f64>| ms.map_or(Json::Null, Json::Float);
    let members = |list: Vec<(String, Json)>| Json::Object(list);
    let (word, number) = match answer(s) {
        Some(("answer", n)) => (Json::str("answer"), int(n)),
        Some((word, _)) => (Json::str(word), Json::Null),
        None => (Json::Null, Json::Null),
    };
    let reason = parse::text(&s.reason);
    Json::object([
        ("abi_version", int(s.version)),
        ("state", Json::Str(state(s))),
        (
            "flags",
            members(
                FLAGS
                    .iter()
                    .map(|(n, f)| (n.to_string(), Json::Bool(s.flags & f != 0)))
                    .collect(),
            ),
        ),
        ("window_end", Json::Str(format!("{:#x}", s.window_end))),
        ("jump_back_entry", Json::address(s.jump_back_entry)),
        ("handoff", Json::address(s.handoff)),
        ("peer_entry", Json::address(s.peer_entry)),
        ("window_pages", int(s.window_pages)),
        ("shadow_pages", int(s.shadow_pages)),
        ("kept_pages", int(s.kept_pages)),
        ("allocated_pages", int(s.allocated_pages)),
        ("backed_up", int(s.backed_up)),
        ("loaded", int(s.loaded)),
        ("peer_kept", int(s.peer_kept)),
        ("jumps", int(s.jumps)),
        ("last_outcome", word),
        ("last_status", number),
        (
            "reason",
            if reason.is_empty() {
                Json::Null
            } else {
                Json::Str(reason)
            },
        ),
        ("tsc_khz", int(s.tsc_khz)),
        (
            "times_ms",
            members(
                parts(s)
                    .into_iter()
                    .map(|(n, t)| (n.into(), ms(t)))
                    .collect(),
            ),
        ),
        (
            "rungs_ms",
            members(
                rungs(s)
                    .into_iter()
                    .map(|(n, d, u)| (n.into(), Json::object([("down", ms(d)), ("up", ms(u))])))
                    .collect(),
            ),
        ),
        (
            "symbols",
            members(
                abi::OPTIONAL_SYMBOLS
                    .iter()
                    .enumerate()
                    .map(|(i, n)| (n.to_string(), Json::Bool(s.symbols & (1 << i) != 0)))
                    .collect(),
            ),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A jump with a stamp a millisecond; the freezer's rungs were left out.
    fn returned() -> Status {
        let mut s = Status {
            state: abi::STATE_RETURNED,
            jumps: 1,
            tsc_khz: 10,
            ..Default::default()
        };
        for (i, stamp) in s.stamps.iter_mut().enumerate().take(abi::STAMP_END + 1) {
            *stamp = 1000 + 10 * i as u64;
        }
        for name in ["tasks", "kernel-threads"] {
            s.stamps[rung(name)] = 0;
            s.stamps[abi::STAMP_UP + rung(name)] = 0;
        }
        s.stamps[abi::STAMP_UP] = 0;
        // Up, the highest rung comes first.
        s.stamps[abi::STAMP_UP + 1..=abi::STAMP_UP + abi::RUNG_COUNT].reverse();
        s.stamps[abi::STAMP_UP + rung("consoles")] = 0;
        s
    }

    #[test]
    fn every_rung_that_is_named_exists() {
        for name in [
            "sleep-lock",
            "kernel-threads",
            "consoles",
            "devices-late",
            "cpus",
            "interrupts",
        ] {
            assert_ne!(rung(name), 0, "{name}");
        }
        assert_eq!(rung("processor"), abi::RUNG_COUNT);
    }

    #[test]
    fn parts_leave_no_hole() {
        let s = returned();
        let parts = parts(&s);
        let part = |name: &str| parts.iter().find(|p| p.0 == name).unwrap().1;
        let sum: f64 = ["tasks", "devices", "cpus", "rest_down", "away", "up"]
            .iter()
            .filter_map(|n| part(n))
            .sum();
        // Between the last rung and the stub lies one millisecond of its own.
        assert_eq!(part("total"), Some(sum + 1.0));
        assert_eq!((part("tasks"), part("devices")), (Some(4.0), Some(5.0)));
    }

    #[test]
    fn nothing_yet_is_no_time() {
        let s = Status::default();
        assert!(parts(&s).iter().all(|p| p.1.is_none()));
        assert!(rungs(&s).iter().all(|r| r.1.is_none() && r.2.is_none()));
        assert!(table(&s).contains("empty") && !table(&s).contains("last answer"));
        assert!(json(&s).to_string().contains("\"last_outcome\": null"));
    }

    #[test]
    fn odd_answers_do_no_harm() {
        let s = Status {
            state: 77,
            symbols: u32::MAX,
            flags: u32::MAX,
            last_status: abi::STATUS_PANIC,
            stamps: [u64::MAX; abi::STAMP_COUNT],
            reason: [b'x'; 128],
            tsc_khz: 1,
            ..returned()
        };
        assert!(table(&s).contains("unknown (77)") && table(&s).contains("panic"));
        assert!(json(&s)
            .to_string()
            .contains("\"pm_restore_console\": true"));
    }
}
