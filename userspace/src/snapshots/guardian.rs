//! A program that thaws filesystems if the one that froze them is killed: this same command, as a
//! process of its own, with the filesystems open, waiting at a pipe for the other one's end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::frozen::thaw;
use crate::abort::hold_signals;

/// What it is told when there is nothing for it to do.
const DISMISSED: u8 = b'.';

/// That process, and the pipe.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    pipe: ChildStdin,
}

impl Guardian {
    /// Starts it, with these filesystems open.
    ///
    /// # Errors
    ///
    /// Those of starting a program.
    pub fn start<'a>(files: impl Iterator<Item = &'a File>) -> io::Result<Self> {
        // Copies that a program inherits; closed here when it runs.
        let copies = files.map(|f| Ok(rustix::io::dup(f)?));
        let copies = copies.collect::<io::Result<Vec<OwnedFd>>>()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("thaw");
        command.args(copies.iter().map(|fd| fd.as_raw_fd().to_string()));
        command.stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever kills the one by its group does not kill the other.
        let mut child = command.process_group(0).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, pipe })
    }

    /// Ends it, with nothing done.
    pub fn dismiss(mut self) {
        let told = self.pipe.write_all(&[DISMISSED]);
        drop(self.pipe);
        // It has nothing more to do, and ends at once.
        if let Err(e) = told.and_then(|()| self.child.wait().map(drop)) {
            log::info!("the process that would thaw: {e}");
        }
    }
}

/// What the process does: waits, and thaws what the descriptors lead to unless it is dismissed.
pub fn run(descriptors: &[u32]) {
    hold_signals();
    let paths = descriptors.iter().map(|fd| format!("/proc/self/fd/{fd}"));
    let files: Vec<File> = paths.filter_map(|path| File::open(path).ok()).collect();
    let mut told = [0];
    let count = io::stdin().read(&mut told).unwrap_or(0);
    if count == 1 && told[0] == DISMISSED {
        return;
    }
    for file in files.iter().rev() {
        // Those that were not frozen yet, or could not be, say so.
        let _ = thaw(file);
    }
}
