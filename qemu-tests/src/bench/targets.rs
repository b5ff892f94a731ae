// SPDX-License-Identifier: GPL-2.0

//! What was aimed at, as ratios of figures of one run, and whether this run has it.

use super::figures::{self, Figure};
use super::hibernation::{COLD, DOWN, FROM_FILE, IMAGE, LZ4, LZO, RESIDENT, UP};
use super::{dumps, row, switches};

/// How a ratio is to be.
#[derive(Clone, Copy, PartialEq)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

impl Aim {
    fn text(self) -> String {
        match self {
            Aim::AtMost(most) => format!("<= {most:.1}"),
            Aim::AtLeast(least) => format!(">= {least:.1}"),
        }
    }

    fn met(self, ratio: f64) -> bool {
        match self {
            Aim::AtMost(most) => ratio <= most,
            Aim::AtLeast(least) => ratio >= least,
        }
    }
}

/// The median of what was measured, if it was.
fn median(all: &[Figure], what: &str, means: &str, fill: Option<u32>) -> Option<f64> {
    let same = |f: &&Figure| f.what == what && f.means == means && f.fill == fill;
    all.iter().find(same)?.summary().map(|s| s.median)
}

/// Prints a line for each aim that was measured.
pub fn print() {
    let all = figures::all();
    let lines = lines(&all);
    if lines.is_empty() {
        return;
    }
    println!();
    println!("aims: ratios of medians of this run");
    for (what, aim, ratio) in lines {
        let verdict = if aim.met(ratio) { "met" } else { "not met" };
        let cells = [aim.text(), format!("{ratio:.2}"), verdict.into()];
        row(&format!("{what:<52}"), cells.into_iter());
    }
}

fn lines(all: &[Figure]) -> Vec<(String, Aim, f64)> {
    let mut lines = Vec::new();
    let mut line = |what: String, aim, ours: Option<f64>, theirs: Option<f64>| {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            lines.push((what, aim, ours / theirs));
        }
    };
    let switch = |means| median(all, switches::SWITCH, means, None);
    line(
        "resident round trip / mainline's kexec jump".into(),
        Aim::AtMost(0.8),
        switch(switches::OURS),
        switch(switches::MAINLINE),
    );
    line(
        "the same with a window of its own".into(),
        Aim::AtMost(0.8),
        switch(switches::OWN),
        switch(switches::MAINLINE),
    );
    let mut fills: Vec<u32> = all
        .iter()
        .filter(|f| f.what == DOWN)
        .filter_map(|f| f.fill)
        .collect();
    fills.sort_unstable();
    fills.dedup();
    for fill in fills {
        let of = |what, means| median(all, what, means, Some(fill));
        for (title, what, means, most) in [
            ("hibernate, resident", DOWN, RESIDENT, 0.8),
            ("hibernate, cold", DOWN, COLD, 1.2),
            (
                "hibernate, cold, a peer from its file",
                DOWN,
                FROM_FILE,
                1.2,
            ),
            ("resume, from the bootloader", UP, COLD, 1.0),
            ("resume, from an initramfs", UP, RESIDENT, 1.0),
            ("image, the same compression", IMAGE, COLD, 1.0),
        ] {
            let theirs = if what == IMAGE { LZ4 } else { LZO };
            line(
                format!("{title} / {theirs}, {fill} %"),
                Aim::AtMost(most),
                of(what, means),
                of(what, theirs),
            );
        }
    }
    let dump = |what, means| median(all, what, means, Some(dumps::FILL));
    line(
        "save to a slow disk, speed / dd of its size".into(),
        Aim::AtLeast(0.9),
        dump(dumps::SLOW_DISK, "dd"),
        dump(dumps::SLOW_DISK, dumps::OURS),
    );
    line(
        "save, speed / makedumpfile -l -d 1".into(),
        Aim::AtLeast(2.0),
        dump(dumps::SPEED, dumps::OURS),
        dump(dumps::SPEED, dumps::THEIRS),
    );
    lines
}

#[cfg(test)]
mod unit {
    use super::*;

    fn figure(what: &str, means: &str, fill: Option<u32>, median: f64) -> Figure {
        Figure {
            part: "test",
            what: what.into(),
            means: means.into(),
            fill,
            unit: "s",
            samples: vec![median],
        }
    }

    #[test]
    fn aims_are_judged_by_what_was_measured() {
        assert!(lines(&[]).is_empty());
        let all = [
            figure(DOWN, LZO, Some(10), 2.0),
            figure(DOWN, RESIDENT, Some(10), 1.0),
            figure(DOWN, COLD, Some(10), 3.0),
            // There is nothing to compare it with.
            figure(DOWN, RESIDENT, Some(85), 1.0),
            figure(switches::SWITCH, switches::OURS, None, 9.0),
            figure(switches::SWITCH, switches::MAINLINE, None, 10.0),
        ];
        let told: Vec<(Aim, f64, bool)> = lines(&all)
            .iter()
            .map(|(_, aim, ratio)| (*aim, *ratio, aim.met(*ratio)))
            .collect();
        let wanted = [
            (Aim::AtMost(0.8), 0.9, false),
            (Aim::AtMost(0.8), 0.5, true),
            (Aim::AtMost(1.2), 1.5, false),
        ];
        assert!(told == wanted, "{}", lines(&all).len());
    }

    #[test]
    fn a_speed_is_more_the_less_it_takes() {
        let fill = Some(dumps::FILL);
        let all = [
            figure(dumps::SLOW_DISK, "dd", fill, 9.0),
            figure(dumps::SLOW_DISK, dumps::OURS, fill, 10.0),
        ];
        let lines = lines(&all);
        assert!(lines.len() == 1 && lines[0].1.met(lines[0].2));
    }
}
