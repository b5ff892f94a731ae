//! A machine of files, for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::system::System;

/// A directory with /proc, /sys and /dev in it; gone when dropped.
pub struct Fake {
    root: PathBuf,
}

impl Fake {
    /// No devices, nothing mounted.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kjump-target-{}-{number}", std::process::id());
        let fake = Self {
            root: std::env::temp_dir().join(name),
        };
        fake.put("proc/self/mountinfo", "");
        fake
    }

    /// The machine.
    pub fn system(&self) -> System {
        System::below(&self.root)
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes a file, and the directories above.
    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a link.
    pub fn link(&self, to: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    /// A device of `size` bytes of zeros.
    pub fn device(&self, name: &str, numbers: &str, size: u64) {
        self.disk(name, numbers, &[]);
        let file = fs::File::options()
            .write(true)
            .open(self.path(&format!("dev/{name}")));
        file.unwrap().set_len(size).unwrap();
        let sectors = format!("{}\n", size / 512);
        self.put(&format!("sys/class/block/{name}/size"), sectors);
    }

    /// A device with these contents.
    pub fn disk(&self, name: &str, numbers: &str, contents: &[u8]) {
        self.put(&format!("dev/{name}"), contents);
        let attributes = [
            ("dev", format!("{numbers}\n")),
            ("size", format!("{}\n", contents.len() / 512)),
            ("ro", "0\n".into()),
            ("uevent", format!("DEVNAME={name}\n")),
        ];
        for (attribute, value) in attributes {
            self.put(&format!("sys/class/block/{name}/{attribute}"), value);
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Bytes that look like noise, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
