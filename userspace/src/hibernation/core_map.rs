//! Where an ELF core lies on its disk, for a peer that is to restore it: a text in the peer's
//! initramfs. The peer mounts nothing, and a normal kernel that uses all of RAM cannot restore.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use kjump_image::{hex, Source};
use kjump_target::{Access, Listed, Piece, Reader, Spec, System};

use crate::error::{Error, Result};
use crate::parse;

/// Where the peer finds it.
pub const PATH: &str = "/etc/kjump/core.map";
/// The first line.
const FIRST: &str = "kjump-core-map=1";
/// Bytes of the core that are compared: its header and table, and with few segments its notes.
const HEAD: usize = 64 << 10;

/// A core on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMap {
    /// The file as the user named it; for messages.
    pub name: String,
    /// Its device by a name that lasts.
    pub device: String,
    /// Its device's name in the kernel that made the map; tried if the other is none.
    pub hint: String,
    /// Bytes of the file.
    pub size: u64,
    /// Where its kernel is entered.
    pub entry: u64,
    /// Compare filesystems with what the core says of them.
    pub guard: bool,
    /// BLAKE3 of its first bytes, in hexadecimal.
    pub head: String,
    /// Its pieces: in the file, on the device, length; bytes.
    pub pieces: Vec<Piece>,
}

impl CoreMap {
    /// Of a file that this kernel sees. All of it is on the disk afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::Target`] for a file that is on no disk, or not as it reads.
    pub fn of(path: &Path, entry: u64, guard: bool) -> Result<Self> {
        let system = System::default();
        let listed = system.list_blocks(path)?;
        let mut reader = system.open_listed(&listed, Access::Read)?;
        let name = path.display().to_string();
        Ok(Self {
            head: head(&mut reader).map_err(|e| Error::io(name.as_str(), e))?,
            name,
            device: system.lasting_name(&listed.device).to_string(),
            hint: listed.device.path().display().to_string(),
            size: listed.size,
            entry,
            guard,
            pieces: listed.pieces,
        })
    }

    /// The text.
    pub fn text(&self) -> String {
        let one_line = |text: &str| text.replace(char::is_control, "?");
        let mut text = format!(
            "{FIRST}\nname={}\ndevice={}\nhint={}\nsize={}\nentry={:#x}\nguard={}\nhead={}\n",
            one_line(&self.name),
            one_line(&self.device),
            one_line(&self.hint),
            self.size,
            self.entry,
            u8::from(self.guard),
            self.head
        );
        for p in &self.pieces {
            text += &format!("piece={}+{}@{}\n", p.at, p.length, p.offset);
        }
        text += &format!("pieces={}\n", self.pieces.len());
        text
    }

    /// Reads the text; `None` if it makes no sense.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST) {
            return None;
        }
        let mut map = Self {
            name: String::new(),
            device: String::new(),
            hint: String::new(),
            size: 0,
            entry: 0,
            guard: true,
            head: String::new(),
            pieces: Vec::new(),
        };
        let mut count = None;
        for line in lines {
            let (key, value) = line.split_once('=')?;
            let number = || parse::number(value).ok();
            match key {
                "name" => map.name = value.into(),
                "device" => map.device = value.into(),
                "hint" => map.hint = value.into(),
                "size" => map.size = number()?,
                "entry" => map.entry = number()?,
                "guard" => map.guard = value != "0",
                "head" => map.head = value.into(),
                "pieces" => count = number(),
                "piece" => {
                    let (at, rest) = value.split_once('+')?;
                    let (length, offset) = rest.split_once('@')?;
                    let number = |text| parse::number(text).ok();
                    map.pieces.push(Piece {
                        at: number(at)?,
                        length: number(length)?,
                        offset: number(offset)?,
                    });
                }
                _ => {}
            }
        }
        // A list that was cut off would be a core with holes.
        (count == Some(map.pieces.len() as u64)).then_some(map)
    }

    /// Whether this initramfs has one.
    pub fn is_there() -> bool {
        Path::new(PATH).exists()
    }

    /// The map of this initramfs; `None` if it has none.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for one that makes no sense.
    pub fn read() -> Result<Option<Self>> {
        let text = match fs::read_to_string(PATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| Error::io(PATH, e))?,
        };
        let map = Self::parse(&text);
        map.map(Some)
            .ok_or_else(|| Error::Usage(format!("{PATH}: no map of a core; load the core again")))
    }

    /// Opens the core on this kernel's disks, by its blocks, waiting for its disk.
    ///
    /// # Errors
    ///
    /// [`Error::Target`]; [`Error::Usage`] if something else is there now.
    pub fn open(&self, access: Access) -> Result<Reader> {
        self.open_if_there(access)?.ok_or_else(|| {
            Error::Usage(format!(
                "{}: something else is in its blocks now; load it again",
                self.name
            ))
        })
    }

    /// The same; `None` if something else is in its blocks now.
    ///
    /// # Errors
    ///
    /// [`Error::Target`].
    pub fn open_if_there(&self, access: Access) -> Result<Option<Reader>> {
        let system = System::default();
        let find = |text: &str| match Spec::parse(text)? {
            Spec::Device { device, .. } => system.find(&device),
            _ => Err(kjump_target::Error::NotATarget { what: text.into() }),
        };
        let device =
            super::once_there(|| find(&self.device).or_else(|e| find(&self.hint).or(Err(e))))?;
        let listed = Listed {
            device,
            size: self.size,
            pieces: self.pieces.clone(),
        };
        let mut reader = system.open_listed(&listed, access)?;
        match head(&mut reader) {
            Ok(head) => Ok((head == self.head).then_some(reader)),
            Err(e) => Err(Error::io(self.name.as_str(), e)),
        }
    }

    /// An archive (cpio, newc) with the map at [`PATH`], to be put behind an initramfs.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut parent = String::new();
        let path = PATH.trim_start_matches('/');
        let (directories, _) = path.rsplit_once('/').unwrap_or_default();
        for part in directories.split('/') {
            parent += part;
            entry(&mut out, &parent, 0o040_755, b"")?;
            parent.push('/');
        }
        entry(&mut out, path, 0o100_644, self.text().as_bytes())?;
        entry(&mut out, "TRAILER!!!", 0, b"")?;
        Ok(out)
    }
}

/// BLAKE3 of the first bytes, in hexadecimal.
fn head(source: &mut impl Source) -> io::Result<String> {
    let mut bytes = vec![0; HEAD];
    let n = source.read_at(0, &mut bytes)?;
    Ok(hex(blake3::hash(&bytes[..n]).as_bytes()))
}

/// An entry of an archive.
fn entry(out: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
    // Magic, inode, mode, uid, gid, links, mtime, size, device, rdev, length of the name, check.
    write!(out, "070701{:08x}{mode:08x}{:08x}{:08x}", 0, 0, 0)?;
    write!(out, "{:08x}{:08x}{size:08x}", 1, 0)?;
    write!(out, "{:08x}{:08x}{:08x}{:08x}", 0, 0, 0, 0)?;
    write!(out, "{:08x}{:08x}{name}\0", name.len() + 1, 0)?;
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(contents);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> CoreMap {
        let piece = |at, offset, length| Piece { at, offset, length };
        CoreMap {
            name: "/mnt/dump.elf".into(),
            device: "UUID=ab-cd".into(),
            hint: "/dev/vdb".into(),
            size: 10_000,
            entry: 0x1e0_0100,
            guard: false,
            head: "ab".repeat(32),
            pieces: vec![piece(0, 1 << 30, 4096), piece(8192, 512, 2048)],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(CoreMap::parse(&map().text()), Some(map()));
        let text = map().text();
        for (line, _) in text.match_indices('\n').rev().skip(1) {
            assert_eq!(CoreMap::parse(&text[..line]), None, "cut off at {line}");
        }
        let twice = CoreMap {
            name: "a\npieces=0".into(),
            ..map()
        };
        assert_eq!(CoreMap::parse(&twice.text()).unwrap().name, "a?pieces=0");
        assert_eq!(CoreMap::parse("kjump-core-map=2\npieces=0"), None);
    }

    #[test]
    fn an_archive_is_one() {
        let archive = map().archive().unwrap();
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8(archive).unwrap();
        let names: Vec<_> = text
            .match_indices("070701")
            .map(|(at, _)| text[at + 110..].split('\0').next().unwrap())
            .collect();
        assert_eq!(
            names,
            ["etc", "etc/kjump", "etc/kjump/core.map", "TRAILER!!!"]
        );
        let at = text.find("core.map\0").unwrap();
        // The header before the name has 110 bytes; name and contents are filled up to four.
        let body = text[at..].find("kjump-core-map=1").unwrap();
        assert_eq!((at + body) % 4, 0);
        assert!(text.contains(&map().text()));
        let header = at - "etc/kjump/".len() - 110;
        let field = |n: usize| &text[header + 6 + 8 * n..][..8];
        assert_eq!(field(6), format!("{:08x}", map().text().len()));
        assert_eq!(field(11), format!("{:08x}", PATH.len()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(t in "(kjump-core-map=1\n)?[a-z=+@\n0-9]{0,80}") {
            CoreMap::parse(&t);
        }
    }
}
