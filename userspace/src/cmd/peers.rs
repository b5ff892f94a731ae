//! `kjump peers`: what is loaded, by name.

use kjump_abi as abi;
use kjump_abi::{Listed, Range, PAGE_SIZE};

use super::say;
use crate::cli;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::parse;

/// Prints a line for each.
pub fn run(args: &cli::Peers) -> Result<u8> {
    let loads = Device::open()?
        .loads()
        .map_err(|e| Error::from_errno("peers", e))?;
    if args.json {
        say(Json::Array(loads.iter().map(json).collect()))?;
    } else if loads.is_empty() {
        say("nothing is loaded")?;
    } else {
        say(table(&loads).trim_end())?;
    }
    Ok(0)
}

fn state(l: &Listed) -> &'static str {
    match l.state {
        _ if l.flags & abi::STATUS_FLAG_ONE_WAY != 0 => "one-way",
        abi::STATE_RETURNED => "resident",
        abi::STATE_GONE => "gone",
        _ => "loaded",
    }
}

/// What is exchanged for it, as people say it.
fn window(l: &Listed) -> String {
    match l.window_end {
        n if n >= 1 << 20 || n == 0 => format!("{} MiB", n >> 20),
        n => format!("{} KiB", n >> 10),
    }
}

/// What it has besides, where there is anything.
fn own(l: &Listed) -> String {
    let bytes = l.own.end.saturating_sub(l.own.start);
    match bytes {
        0 => String::new(),
        _ => format!("  {} MiB at {:#x}", bytes.div_ceil(1 << 20), l.own.start),
    }
}

/// The same for programs.
pub fn own_json(own: &Range) -> Json {
    if own.end == 0 {
        return Json::Null;
    }
    Json::object([
        ("start", Json::Str(format!("{:#x}", own.start))),
        ("bytes", Json::Int(own.end.saturating_sub(own.start))),
    ])
}

fn kept(l: &Listed) -> u64 {
    u64::from(l.kept_pages) * (PAGE_SIZE >> 10)
}

fn table(loads: &[Listed]) -> String {
    let title = match loads.iter().any(|l| l.own.end != 0) {
        true => "  its own",
        false => "",
    };
    let mut out = format!(
        "{:<16} {:<9} {:>7} {:>9} {:>6}{title}\n",
        "name", "state", "window", "kept", "jumps"
    );
    for l in loads {
        let name = parse::text(&l.name);
        let name = if name.is_empty() { "-" } else { &name };
        let (window, kib) = (window(l), kept(l));
        out += &format!(
            "{name:<16} {:<9} {window:>7} {kib:>5} KiB {:>6}{}\n",
            state(l),
            l.jumps,
            own(l)
        );
    }
    out
}

fn json(l: &Listed) -> Json {
    Json::object([
        ("name", Json::Str(parse::text(&l.name))),
        ("state", Json::str(state(l))),
        ("window_bytes", Json::Int(l.window_end)),
        ("own_window", own_json(&l.own)),
        ("kept_kib", Json::Int(kept(l))),
        ("jumps", Json::Int(l.jumps.into())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_each() {
        let mut l = Listed {
            state: abi::STATE_RETURNED,
            window_end: 16 << 20,
            kept_pages: 4012,
            jumps: 7,
            ..Default::default()
        };
        l.name[..4].copy_from_slice(b"lean");
        let text = table(&[l, Listed::default()]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("lean ") && lines[1].contains("resident"));
        assert!(lines[1].contains(" 16 MiB") && lines[1].ends_with(" 7"));
        assert!(lines[2].starts_with("- ") && lines[2].contains("loaded"));
        assert!(json(&l).to_string().contains("16048") && lines[0].ends_with("jumps"));
        l.window_end = abi::SHARED_WINDOW_END;
        l.own = Range {
            start: 0x140_0000,
            end: 0x240_0000,
        };
        let text = table(&[l]);
        assert!(
            text.contains(" 640 KiB ")
                && text.ends_with(
                    " 16 MiB at 0x1400000
"
                )
        );
        let json = json(&l).to_string();
        assert!(json.contains("0x1400000") && json.contains("16777216"));
        let gone = Listed {
            state: abi::STATE_GONE,
            ..l
        };
        assert!(table(&[gone]).contains(" gone "));
    }
}
