// SPDX-License-Identifier: GPL-2.0

//! Initramfs archives: cpio's "newc" format, as Documentation/driver-api/early-userspace/
//! buffer-format.rst describes it. The kernel unpacks several of them laid end to end.

/// An archive being written.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Cpio {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(contents.len()).expect("files of an initramfs are small");
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime
            size,
            0, // major of the file system
            0, // minor
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    /// Names and contents start at multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds a directory; its parent must be there already.
    pub fn directory(mut self, name: &str) -> Self {
        self.entry(name, DIRECTORY, (0, 0), &[]);
        self
    }

    /// Adds a file, executable.
    pub fn file(mut self, name: &str, contents: &[u8]) -> Self {
        self.entry(name, PROGRAM, (0, 0), contents);
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, name: &str, target: &str) -> Self {
        self.entry(name, SYMLINK, (0, 0), target.as_bytes());
        self
    }

    /// Adds a character device.
    pub fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        self.entry(name, CHARACTER_DEVICE, (major, minor), &[]);
        self
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_the_documented_shape() {
        let archive = Cpio::default()
            .directory("bin")
            .file("bin/a", b"hello")
            .finish();
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.starts_with(b"070701"));
        // 110 bytes of header, "bin\0", padding to 116; the next header follows.
        assert_eq!(&archive[110..114], b"bin\0");
        assert_eq!(&archive[116..122], b"070701");
        let text = String::from_utf8_lossy(&archive);
        assert!(text.contains("hello") && text.contains("TRAILER!!!"));
    }
}
