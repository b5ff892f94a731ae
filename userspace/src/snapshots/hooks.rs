//! Programs that roll disks back together with memory: all executables of a directory, in the order
//! of their names, each with a word and the snapshot's name.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{memfd_create, MemfdFlags};

use crate::error::{Error, Result};
use crate::logger;

/// Between two looks whether a hook has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Where they are.
pub const DIRECTORY: &str = "/etc/kjump/snapshot.d";

/// What a hook is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Remember the disks as they are now.
    Save,
    /// Make them what they were at that `save`.
    Restore,
    /// Take that `restore` back: this kernel goes on after all.
    Undo,
}

impl Word {
    /// As the hook gets it.
    pub const fn name(self) -> &'static str {
        match self {
            Word::Save => "save",
            Word::Restore => "restore",
            Word::Undo => "undo",
        }
    }
}

/// The programs that there are.
///
/// # Errors
///
/// None at all: whoever asks for disks to be rolled back would get memory without its disks.
pub fn find() -> Result<Vec<PathBuf>> {
    let found = list(Path::new(DIRECTORY));
    if found.is_empty() {
        return Err(Error::Hook {
            hook: DIRECTORY.into(),
            word: "--with-disks",
            why: "no program is there that would roll a disk back".into(),
        });
    }
    Ok(found)
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let mut found: Vec<_> = entries.map(|e| e.path()).filter(runs).collect();
    found.sort();
    found
}

/// Runs them one after the other; the first that fails ends it, and so does `stop`, which kills the
/// one that runs. What they print is shown when filesystems do not stand still any more.
///
/// # Errors
///
/// [`Error::Hook`] with its name and how it ended.
pub fn run(hooks: &[PathBuf], word: Word, name: &str, stop: &AtomicBool) -> Result<()> {
    for hook in hooks {
        let failed = |why: String| Error::Hook {
            hook: hook.display().to_string(),
            word: word.name(),
            why,
        };
        let ended = one(hook, word, name, stop).map_err(|e| failed(crate::error::plain(&e)))?;
        let Some(ended) = ended else {
            return Err(failed("stopped by a signal".into()));
        };
        if !ended.success() {
            return Err(failed(ended.to_string()));
        }
    }
    Ok(())
}

/// Runs one, with its output kept in memory; `None` if it was stopped.
fn one(hook: &Path, word: Word, name: &str, stop: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let mut output = File::from(memfd_create("hook", MemfdFlags::CLOEXEC)?);
    let mut child = Command::new(hook)
        .args([word.name(), name])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break Some(ended);
        }
        if stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            break None;
        }
        sleep(LOOK);
    };
    let mut said = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut said)?;
    for line in String::from_utf8_lossy(&said).lines() {
        logger::line(format_args!("{}: {line}", hook.display()));
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(dir: &Path, name: &str, text: &str, mode: u32) {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn they_run_in_order_until_one_fails() {
        let dir = std::env::temp_dir().join(format!("kjump-hooks-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let log = dir.join("log.txt");
        let say = |n: u32| format!("#!/bin/sh\necho {n} $1 $2 >>{}\n", log.display());
        hook(&dir, "20-second", &say(2), 0o755);
        hook(&dir, "10-first", &say(1), 0o755);
        hook(&dir, "README", "no program", 0o644);
        let on = AtomicBool::new(false);
        run(&list(&dir), Word::Save, "x", &on).unwrap();
        hook(&dir, "15-fails", "#!/bin/sh\nexit 3\n", 0o755);
        let e = run(&list(&dir), Word::Restore, "x", &on).unwrap_err();
        hook(&dir, "00-slow", "#!/bin/sh\nexec sleep 1000\n", 0o755);
        let stopped = run(&list(&dir), Word::Undo, "x", &AtomicBool::new(true)).unwrap_err();
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(text, "1 save x\n2 save x\n1 restore x\n");
        assert!(stopped.to_string().contains("by a signal"), "{stopped}");
        let e = e.to_string();
        assert!(e.contains("15-fails restore: exit status: 3"), "{e}");
        assert!(list(Path::new("/nonexistent")).is_empty());
    }
}
