// SPDX-License-Identifier: GPL-2.0

//! Small disks with filesystems and swap areas, made by their own tools when a target starts. Only
//! blocks that are not zeros are kept, and those are damaged that a look at the good disk reads.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::process::{Command, Stdio};

use kjump_guard::{probe, record, Disk, DiskWrite};

use crate::damage::{Base, Input};

const BLOCK: usize = 4096;
/// mkfs and its like are not in every user's PATH.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
const UUID: &str = "6b6a756d-7000-4a11-8001-0123456789ab";

/// A tool, its options, the size in MiB.
type Recipe = (&'static str, &'static [&'static str], u64);

const RECIPES: &[Recipe] = &[
    ("mkfs.ext4", &["-q", "-F", "-b", "4096", "-U", UUID], 32),
    (
        "mkfs.ext4",
        &[
            "-q",
            "-F",
            "-b",
            "1024",
            "-O",
            "meta_bg,^resize_inode",
            "-U",
            UUID,
        ],
        8,
    ),
    ("mkfs.ext2", &["-q", "-F", "-U", UUID], 4),
    ("mkfs.vfat", &["-F", "12", "-i", "1234abcd"], 2),
    ("mkfs.vfat", &["-F", "16", "-i", "1234abcd"], 16),
    ("mkfs.vfat", &["-F", "32", "-s", "1", "-i", "1234abcd"], 34),
    (
        "mkfs.xfs",
        &["-q", "-m", "uuid=6b6a756d-7000-4a11-8001-0123456789ab"],
        300,
    ),
    ("mkfs.btrfs", &["-q", "-U", UUID], 110),
    ("mkswap", &["-U", UUID], 1),
];

type Blocks = BTreeMap<u64, Vec<u8>>;

/// A disk: its size, its blocks, and those that are looked at, one after the other.
pub struct Good {
    size: u64,
    all: Blocks,
    numbers: Vec<u64>,
    blocks: Base,
}

/// A disk that was changed: the changed blocks, and the others.
pub struct Changed<'a> {
    size: u64,
    blocks: RefCell<Blocks>,
    rest: &'a Blocks,
    /// Numbers of the blocks that were read.
    read: RefCell<BTreeSet<u64>>,
}

/// One of each kind.
///
/// # Panics
///
/// Panics, saying which, if a tool is missing: a target that tries less than it says is none.
pub fn all() -> Vec<Good> {
    RECIPES.iter().map(make).collect()
}

fn make((tool, options, mib): &Recipe) -> Good {
    let name = format!("kjump-fuzz-{}-{tool}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let size = mib << 20;
    let file = File::create(&path).and_then(|f| f.set_len(size));
    file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut command = Command::new(tool);
    command.args(*options).arg(&path).env("PATH", PATH);
    command
        .env("E2FSPROGS_FAKE_TIME", "1795000000")
        .env("SOURCE_DATE_EPOCH", "1795000000");
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|e| panic!("{tool}: {e}; run `cargo xtask setup`"));
    assert!(
        out.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let good = read(&path, size);
    let _ = fs::remove_file(&path);
    good.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(path: &std::path::Path, size: u64) -> io::Result<Good> {
    let mut file = File::open(path)?;
    let mut all = Blocks::new();
    let mut piece = vec![0; 1 << 20];
    for at in (0..size).step_by(piece.len()) {
        let want = piece.len().min((size - at) as usize);
        file.read_exact(&mut piece[..want])?;
        for (n, block) in piece[..want].chunks(BLOCK).enumerate() {
            if block.iter().any(|b| *b != 0) {
                all.insert(at / BLOCK as u64 + n as u64, block.to_vec());
            }
        }
    }
    let looked_at = looked_at(size, &all)?;
    let numbers: Vec<u64> = all
        .keys()
        .copied()
        .filter(|n| looked_at.contains(n))
        .collect();
    let contents: Vec<u8> = numbers.iter().flat_map(|n| all[n].clone()).collect();
    Ok(Good {
        size,
        all,
        numbers,
        blocks: Base::new(contents),
    })
}

/// The blocks that a look at a good disk reads.
fn looked_at(size: u64, all: &Blocks) -> io::Result<BTreeSet<u64>> {
    let disk = Changed {
        size,
        blocks: RefCell::default(),
        rest: all,
        read: RefCell::default(),
    };
    let found = probe(&disk).map_err(io::Error::other)?;
    let found = found.ok_or(io::ErrorKind::NotFound)?;
    record(&disk, &found).map_err(io::Error::other)?;
    Ok(disk.read.into_inner())
}

impl Good {
    /// The disk, changed as `input` says.
    pub fn damaged(&self, input: &mut Input) -> Changed<'_> {
        let bytes = self.blocks.damaged(input);
        let blocks = self.numbers.iter().copied();
        let blocks = blocks.zip(bytes.chunks_exact(BLOCK).map(<[u8]>::to_vec));
        Changed {
            size: self.size,
            blocks: RefCell::new(blocks.collect()),
            rest: &self.all,
            read: RefCell::default(),
        }
    }
}

impl Disk for Changed<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (blocks, mut read) = (self.blocks.borrow(), self.read.borrow_mut());
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let skip = (at % BLOCK as u64) as usize;
            let n = (BLOCK - skip).min(buf.len() - done);
            let to = &mut buf[done..done + n];
            let number = at / BLOCK as u64;
            read.insert(number);
            match blocks.get(&number).or_else(|| self.rest.get(&number)) {
                Some(block) => to.copy_from_slice(&block[skip..skip + n]),
                None => to.fill(0),
            }
            done += n;
        }
        Ok(())
    }
    fn size(&self) -> u64 {
        self.size
    }
}

impl DiskWrite for Changed<'_> {
    fn write_block(&self, offset: u64, block: &[u8; 4096]) -> io::Result<()> {
        assert!(
            offset.is_multiple_of(BLOCK as u64),
            "a write within a block"
        );
        if offset >= self.size {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut blocks = self.blocks.borrow_mut();
        blocks.insert(offset / BLOCK as u64, block.to_vec());
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
