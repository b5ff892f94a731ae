//! Programs that roll disks back together with memory: all executables of a directory, in the order
//! of their names, each with a word and the snapshot's name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

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

/// Runs them one after the other; the first that fails ends it.
///
/// # Errors
///
/// [`Error::Hook`] with its name and how it ended.
pub fn run(hooks: &[PathBuf], word: Word, name: &str) -> Result<()> {
    for hook in hooks {
        let failed = |why: String| Error::Hook {
            hook: hook.display().to_string(),
            word: word.name(),
            why,
        };
        let ended = Command::new(hook)
            .args([word.name(), name])
            .stdin(Stdio::null())
            .status()
            .map_err(|e| failed(crate::error::plain(&e)))?;
        if !ended.success() {
            return Err(failed(ended.to_string()));
        }
    }
    Ok(())
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
        run(&list(&dir), Word::Save, "x").unwrap();
        hook(&dir, "15-fails", "#!/bin/sh\nexit 3\n", 0o755);
        let e = run(&list(&dir), Word::Restore, "x").unwrap_err();
        let text = fs::read_to_string(&log).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(text, "1 save x\n2 save x\n1 restore x\n");
        let e = e.to_string();
        assert!(e.contains("15-fails restore: exit status: 3"), "{e}");
        assert!(list(Path::new("/nonexistent")).is_empty());
    }
}
