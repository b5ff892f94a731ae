//! The machine as /proc, /sys and /dev show it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::io;
use crate::Result;

/// Where /proc, /sys and /dev are.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl System {
    /// One below `root`, where regular files stand for devices: for tests.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether devices are devices.
    pub(crate) fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// A path that starts with a slash, in this system.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A small text file, trimmed; empty where there is none.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> String {
        let text = fs::read(self.path(path)).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_string()
    }

    /// A text file that must be there.
    pub(crate) fn must(&self, path: &str) -> Result<String> {
        let bytes = fs::read(self.path(path));
        let bytes = bytes.map_err(io(format!("{path} (mount /proc and /sys)")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a directory, sorted; none where there is none.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = self.path(path);
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io(path.display().to_string()))?,
        };
        let mut names: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}
