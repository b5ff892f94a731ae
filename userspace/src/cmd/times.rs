//! How long the last jump took, from the module's time stamps.

use kjump_abi as abi;
use kjump_abi::Status;

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
pub fn parts(s: &Status) -> Vec<(&'static str, Option<f64>)> {
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
pub fn rungs(s: &Status) -> Vec<(&'static str, Option<f64>, Option<f64>)> {
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

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A jump with a stamp a millisecond; the freezer's rungs were left out.
    pub fn returned() -> Status {
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
    }
}
