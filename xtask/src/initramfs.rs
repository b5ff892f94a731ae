// SPDX-License-Identifier: GPL-2.0

//! Writes initramfs images: a gzipped cpio archive ("newc") in which parents come before what is
//! in them. The same entries give the same bytes.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use cpio::newc;
use flate2::{Compression, GzBuilder};

use crate::{
    artifacts::{self, Kernel},
    sh,
};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Applets that have a name of their own in a guest's `/bin`.
const APPLETS: &[&str] = &[
    "ash",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "cut",
    "dd",
    "df",
    "dmesg",
    "echo",
    "env",
    "free",
    "grep",
    "head",
    "hexdump",
    "insmod",
    "kill",
    "less",
    "ln",
    "ls",
    "lsmod",
    "mkdir",
    "mknod",
    "mount",
    "mv",
    "od",
    "poweroff",
    "ps",
    "reboot",
    "rm",
    "rmmod",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "sync",
    "tail",
    "top",
    "touch",
    "umount",
    "uname",
    "vi",
    "wc",
];

/// Names by which `kjump` is the tools of the kexec-jump patches.
const KJUMPS_NAMES: &[&str] = &["kexec", "krestore", "kjump_back_param"];

/// Those that only the all-in-one image has: what the recipes of the kexec-jump patches type, and a
/// shell's usual tools.
const MORE_APPLETS: &[&str] = &[
    "awk", "basename", "blkid", "clear", "date", "dirname", "du", "expr", "false", "fdisk", "find",
    "gunzip", "gzip", "hostname", "mktemp", "more", "printf", "pwd", "readlink", "rmdir", "seq",
    "setsid", "stat", "stty", "tee", "test", "tr", "true", "tty", "uniq", "uptime", "xargs",
    "zcat",
];

/// An image in the making. Paths are absolute; parents are added by themselves.
#[derive(Default)]
pub struct Initramfs {
    entries: Vec<Entry>,
}

struct Entry {
    /// Without the leading slash.
    path: String,
    mode: u32,
    /// Major and minor number of a device node.
    device: (u32, u32),
    contents: Vec<u8>,
}

impl Initramfs {
    /// An image with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The common ground of all guests: mount points, the nodes that PID 1 needs before devtmpfs
    /// is there, busybox with its applets, the `kjump` command.
    pub fn base() -> Result<Self> {
        let mut image = Self::new();
        for dir in [
            "/proc",
            "/sys",
            "/dev",
            "/tmp",
            "/run",
            "/mnt",
            "/lib/modules",
        ] {
            image.dir(dir);
        }
        image
            .node("/dev/console", 0o600, 5, 1)
            .node("/dev/null", 0o666, 1, 3);
        image.copy("/bin/busybox", &artifacts::busybox())?;
        for applet in APPLETS {
            image.symlink(&format!("/bin/{applet}"), "busybox");
        }
        image.copy("/bin/kjump", &artifacts::kjump())?;
        for name in KJUMPS_NAMES {
            image.symlink(&format!("/bin/{name}"), "kjump");
            image.symlink(&format!("/sbin/{name}"), "../bin/kjump");
        }
        Ok(image)
    }

    /// The image of kernels B and C: `kjump` is PID 1. It finds the module of whichever test
    /// kernel runs it at `/lib/modules/RELEASE/kjump.ko`, and `lean`'s at `/lib/modules/kjump.ko`.
    pub fn peer(kernels: &[Kernel]) -> Result<Self> {
        let mut image = Self::base()?;
        image.symlink("/init", "bin/kjump");
        for kernel in kernels {
            let release = sh::read(&kernel.release())?;
            let dir = format!("/lib/modules/{}", release.trim());
            image.copy(&format!("{dir}/kjump.ko"), &kernel.module())?;
            if *kernel == Kernel::Lean {
                image.symlink(
                    "/lib/modules/kjump.ko",
                    &format!("{}/kjump.ko", release.trim()),
                );
            }
        }
        Ok(image)
    }

    /// The seeds' rootfs.gz: the image of the lean kernel with a shell's usual tools, to be peer,
    /// resuming kernel or neither, as the kernel's command line says.
    pub fn rootfs() -> Result<Self> {
        let mut image = Self::peer(&[Kernel::Lean])?;
        for applet in MORE_APPLETS {
            image.symlink(&format!("/bin/{applet}"), "busybox");
        }
        image
            .symlink("/etc/mtab", "/proc/mounts")
            .dir("/etc/kjump/commands");
        // A bootloader's entry as the seeds have it makes it a tmpfs, which has half of the window's
        // memory: if that is too little, the shell is what is cut off, and not what resumes.
        image.move_last("/bin/busybox");
        Ok(image)
    }

    /// [`Initramfs::rootfs`] with Debian's makedumpfile, too large for a window of 16 MiB.
    pub fn rootfs_makedumpfile() -> Result<Self> {
        let mut image = Self::rootfs()?;
        for part in ["bin", "lib"] {
            let dir = artifacts::debian("makedumpfile").join(part);
            let entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
            let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
            paths.sort();
            for path in paths {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                image.copy(&format!("/{part}/{name}"), &path)?;
            }
        }
        Ok(image)
    }

    /// Adds a directory.
    pub fn dir(&mut self, path: &str) -> &mut Self {
        self.add(path, DIRECTORY | 0o755, (0, 0), Vec::new())
    }

    /// Adds a file with permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) -> &mut Self {
        self.add(path, REGULAR | mode, (0, 0), contents.into())
    }

    /// Adds a copy of a file of the host, executable.
    pub fn copy(&mut self, path: &str, from: &Path) -> Result<&mut Self> {
        let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(self.file(path, 0o755, contents))
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, SYMLINK | 0o777, (0, 0), target.into())
    }

    /// Adds a character device.
    pub fn node(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> &mut Self {
        self.add(path, CHARACTER | mode, (major, minor), Vec::new())
    }

    /// Adds an entry after its parents; one of the same path is replaced.
    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), contents: Vec<u8>) -> &mut Self {
        let path = path.trim_matches('/').to_owned();
        if let Some((parent, _)) = path.rsplit_once('/') {
            if !self.entries.iter().any(|e| e.path == parent) {
                self.dir(parent);
            }
        }
        let entry = Entry {
            path,
            mode,
            device,
            contents,
        };
        match self.entries.iter_mut().find(|e| e.path == entry.path) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// Puts an entry behind all others; not a directory that has something in it.
    fn move_last(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if let Some(at) = self.entries.iter().position(|e| e.path == path) {
            let entry = self.entries.remove(at);
            self.entries.push(entry);
        }
    }

    /// Writes the image, unless the file has these very contents already.
    pub fn write(&self, file: &Path) -> Result<()> {
        let bytes = self.compress().context("cannot make an initramfs")?;
        sh::write(file, &bytes)
    }

    fn compress(&self) -> io::Result<Vec<u8>> {
        let mut out = GzBuilder::new().write(Vec::new(), Compression::best());
        for (number, entry) in (1..).zip(&self.entries) {
            let size = u32::try_from(entry.contents.len()).map_err(io::Error::other)?;
            let header = newc::Builder::new(&entry.path)
                .ino(number)
                .nlink(1)
                .mode(entry.mode)
                .rdev_major(entry.device.0)
                .rdev_minor(entry.device.1);
            let mut body = header.write(&mut out, size);
            body.write_all(&entry.contents)?;
            body.finish()?;
        }
        newc::trailer(&mut out)?;
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    /// Path, mode, device numbers and contents.
    type Found = (String, u32, (u32, u32), Vec<u8>);

    /// The entries of an image.
    fn entries(image: &Initramfs) -> Vec<Found> {
        let bytes = image.compress().unwrap();
        let mut input = GzDecoder::new(&bytes[..]);
        let mut found = Vec::new();
        loop {
            let mut reader = newc::Reader::new(input).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                return found;
            }
            let (name, mode) = (entry.name().to_owned(), entry.mode());
            let device = (entry.rdev_major(), entry.rdev_minor());
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).unwrap();
            found.push((name, mode, device, contents));
            input = reader.finish().unwrap();
        }
    }

    #[test]
    fn entries_survive_the_archive() {
        let mut image = Initramfs::new();
        image
            .file("/a/b/file", 0o755, "contents")
            .symlink("/link", "a/b/file");
        image.node("/dev/null", 0o666, 1, 3);
        let found = entries(&image);
        let names: Vec<_> = found.iter().map(|e| e.0.as_str()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/file", "link", "dev", "dev/null"]);
        assert_eq!((found[2].1, &*found[2].3), (0o100_755, &b"contents"[..]));
        assert_eq!((found[3].1, &*found[3].3), (0o120_777, &b"a/b/file"[..]));
        assert_eq!((found[5].1, found[5].2), (0o020_666, (1, 3)));
    }

    #[test]
    fn an_entry_is_moved_behind_the_others() {
        let mut image = Initramfs::new();
        image.file("/a/b", 0o755, "x").file("/a/c", 0o755, "y");
        image.move_last("/a/b");
        let names: Vec<_> = entries(&image).into_iter().map(|e| e.0).collect();
        assert_eq!(names, ["a", "a/c", "a/b"]);
    }

    #[test]
    fn a_later_entry_replaces_an_earlier_one() {
        let mut image = Initramfs::new();
        image
            .file("/init", 0o755, "old")
            .file("/init", 0o755, "new");
        let found = entries(&image);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].3, b"new");
    }
}
