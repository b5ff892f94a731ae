//! `kjump status`.

use kjump_abi as abi;
use kjump_abi::{Status, PAGE_SIZE};

use super::say;
use super::times::{parts, rungs};
use crate::cli;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::machine;
use crate::json::Json;
use crate::loader::memmap;
use crate::parse;

/// Prints the state.
pub fn run(args: &cli::Status) -> Result<u8> {
    let device = Device::open()?;
    device.about(&args.which.name)?;
    let status = device
        .status()
        .map_err(|e| Error::from_errno("status", e))?;
    // No map, no counts of it: the rest of the state is worth telling all the same.
    let others = memmap::read().map_or((0, 0), |map| machine::other_pages(&map));
    if args.json {
        say(json(&status, others))?;
    } else {
        say(table(&status, others).trim_end())?;
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
        abi::STATUS_RESUMED => ("resumed", 0),
        n => ("answer", n),
    })
}

const FLAGS: &[(&str, u32)] = &[
    ("one-way", abi::STATUS_FLAG_ONE_WAY),
    ("owned", abi::STATUS_FLAG_OWNED),
    ("lockdown", abi::STATUS_FLAG_LOCKDOWN),
    ("testing", abi::STATUS_FLAG_TESTING),
];

/// `others`: pages that firmware keeps, and those that are nobody's.
fn table(s: &Status, others: (u64, u64)) -> String {
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
    let window = format!("0-{:#x}, {} pages of RAM", s.window_end, s.window_pages);
    line(
        "window",
        if s.window_end == 0 {
            "none".into()
        } else {
            window
        },
    );
    if s.own.end != 0 {
        let own = format!("{:#x}-{:#x}, not exchanged", s.own.start, s.own.end);
        line("own window", own);
    }
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
        line(
            "page map",
            format!(
                "{} to be saved, {} free, {} of the shadow, {} not to be read, {} firmware's, {} holes",
                s.saved_pages,
                s.free_pages,
                s.shadow_pages,
                s.unreadable_pages,
                others.0,
                others.1
            ),
        );
    }
    if s.changed_pages != 0 {
        let changed = format!("{} pages that the peer was not given", s.changed_pages);
        line("changed", changed);
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
    for (title, wanted) in [("symbols found", true), ("symbols missing", false)] {
        let is = |i: &usize| (s.symbols & (1 << i) != 0) == wanted;
        let names: Vec<_> = (0..abi::OPTIONAL_SYMBOLS.len())
            .filter(is)
            .map(|i| abi::OPTIONAL_SYMBOLS[i])
            .collect();
        line(
            title,
            if names.is_empty() {
                "none".into()
            } else {
                names.join(" ")
            },
        );
    }
    out
}

fn json(s: &Status, others: (u64, u64)) -> Json {
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
        ("own_window", super::peers::own_json(&s.own)),
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
        ("saved_pages", int(s.saved_pages)),
        ("free_pages", int(s.free_pages)),
        ("unreadable_pages", int(s.unreadable_pages)),
        ("firmware_pages", Json::Int(others.0)),
        ("hole_pages", Json::Int(others.1)),
        ("changed_pages", int(s.changed_pages)),
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
    use super::super::times::tests::returned;
    use super::*;

    #[test]
    fn nothing_yet_is_no_time() {
        let s = Status::default();
        assert!(table(&s, (1, 2)).contains("empty") && !table(&s, (1, 2)).contains("last answer"));
        assert!(json(&s, (1, 2))
            .to_string()
            .contains("\"last_outcome\": null"));
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
        assert!(table(&s, (1, 2)).contains("unknown (77)") && table(&s, (1, 2)).contains("panic"));
        assert!(json(&s, (1, 2))
            .to_string()
            .contains("\"pm_restore_console\": true"));
    }
}
