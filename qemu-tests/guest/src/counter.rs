// SPDX-License-Identifier: GPL-2.0

//! A process that counts: the simplest thing that must go on after a jump.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use crate::{arg, failed, Outcome};

/// A file that holds one number, rewritten in place, for the host to look at.
pub struct Progress(File);

impl Progress {
    /// Creates the file with a 0 in it.
    pub fn create(path: &str) -> Result<Self, String> {
        let progress = Self(File::create(path).map_err(failed(path))?);
        progress.set(0)?;
        Ok(progress)
    }

    /// Writes `count`, always as wide, so that a reader never sees a mixture.
    pub fn set(&self, count: u64) -> Outcome {
        let line = format!("{count:>19}\n");
        self.0
            .write_all_at(line.as_bytes(), 0)
            .map_err(failed("progress file"))
    }
}

/// `counter FILE`: one more every 10 ms, for ever. The count lives in this process, so a number
/// that goes on where it was shows that the process did.
pub fn run(args: &[String]) -> Outcome {
    let progress = Progress::create(arg(args, 0)?)?;
    for count in 1.. {
        progress.set(count)?;
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
