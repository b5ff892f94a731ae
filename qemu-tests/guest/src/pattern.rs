// SPDX-License-Identifier: GPL-2.0

//! Memory that holds a seeded pattern across a jump, and is then compared word by word.

use std::fs;
use std::io::Read;

use crate::memory::{page_words, take_free, Pages};
use crate::{arg, failed, number, Outcome};

/// Frames below this one lie in the default window.
const WINDOW_FRAMES: u64 = kjump_abi::DEFAULT_WINDOW_END / kjump_abi::PAGE_SIZE;

/// The first page that differs, if any, and how many do.
fn compare(seed: u64, taken: &mut [Pages]) -> (u64, Option<(u64, u64)>) {
    let (mut wrong, mut first, mut index) = (0, None, 0);
    for pages in taken {
        let frames = pages.frames().unwrap_or_default();
        for at in 0..pages.count() {
            if !pages.page(at).iter().copied().eq(page_words(seed, index)) {
                wrong += 1;
                first = first.or(Some((index, frames.get(at).copied().unwrap_or(0))));
            }
            index += 1;
        }
    }
    (wrong, first)
}

/// `pattern PERCENT SEED FIFO REPORT`: fills PERCENT of the free memory, window included, and
/// writes `filled PAGES of FREE free, N in the window` to REPORT. Then, whenever a line comes in
/// on FIFO, compares all of it and rewrites REPORT with `good PAGES` or `WRONG …`.
pub fn run(args: &[String]) -> Outcome {
    let (percent, seed) = (number(args, 0)?, number(args, 1)?);
    let (fifo, report) = (arg(args, 2)?, arg(args, 3)?);
    let tell = |line: String| {
        let draft = format!("{report}.new");
        fs::write(&draft, line + "\n").map_err(failed(&draft))?;
        fs::rename(&draft, report).map_err(failed(report))
    };

    let (mut taken, free) = take_free(percent, |index, page| {
        page.iter_mut()
            .zip(page_words(seed, index))
            .for_each(|(to, word)| *to = word);
    })?;
    let pages: usize = taken.iter().map(Pages::count).sum();
    let mut inside = 0;
    for pages in &taken {
        let frames = pages.frames()?;
        inside += frames
            .iter()
            .filter(|&&frame| frame != 0 && frame < WINDOW_FRAMES)
            .count();
    }
    tell(format!(
        "filled {pages} of {free} free, {inside} in the window"
    ))?;

    loop {
        let mut line = String::new();
        fs::File::open(fifo)
            .and_then(|mut f| f.read_to_string(&mut line))
            .map_err(failed(fifo))?;
        match compare(seed, &mut taken) {
            (0, _) => tell(format!("good {pages}"))?,
            (wrong, first) => {
                let (index, frame) = first.unwrap_or_default();
                tell(format!(
                    "WRONG {wrong} of {pages}, first page {index} at frame {frame:#x}"
                ))?;
            }
        }
    }
}
