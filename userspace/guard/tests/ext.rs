//! ext2, ext3, ext4 as mkfs makes them, changed as a mount or a journal replay would.

mod common;

use common::{have, Image, UUID};
use kjump_guard::Kind;

/// mkfs's options, and whether its journal is read.
const KINDS: [(&str, &[&str], bool); 12] = [
    ("mkfs.ext4", &[], true),
    ("mkfs.ext4", &["-b", "1024"], true),
    ("mkfs.ext4", &["-b", "2048", "-O", "^64bit"], true),
    ("mkfs.ext4", &["-b", "65536"], true),
    (
        "mkfs.ext4",
        &["-b", "4096", "-O", "^extents,^64bit,^metadata_csum"],
        true,
    ),
    ("mkfs.ext4", &["-b", "1024", "-O", "bigalloc"], true),
    (
        "mkfs.ext4",
        &["-b", "1024", "-O", "meta_bg,^resize_inode"],
        true,
    ),
    ("mkfs.ext4", &["-O", "^has_journal"], false),
    ("mkfs.ext4", &["-I", "128", "-O", "fast_commit"], true),
    ("mkfs.ext3", &[], true),
    ("mkfs.ext2", &[], false),
    ("mkfs.ext2", &["-r", "0"], false),
];

fn make(name: &str, tool: &str, options: &[&str]) -> Image {
    let image = Image::new(name, 256 << 20);
    image.run(
        tool,
        &[&["-q", "-F", "-U", UUID, "-L", "root"], options].concat(),
    );
    image
}

/// A debugfs command.
fn debugfs(image: &Image, command: &str) -> String {
    image.run("debugfs", &["-R", command])
}

/// First byte of the journal's superblock, as debugfs sees it.
fn journal(image: &Image) -> u64 {
    let block: u64 = debugfs(image, "bmap <8> 0").trim().parse().unwrap();
    let size = u32::from_le_bytes(image.read(1024 + 0x18, 4).try_into().unwrap());
    block << (10 + size)
}

#[test]
fn a_mount_or_a_replay_shows() {
    if !have(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    for (i, (tool, options, has_journal)) in KINDS.into_iter().enumerate() {
        let image = make(&format!("ext-{i}"), tool, options);
        println!("{tool} {options:?}");
        image.is(Kind::Ext, UUID, "root");
        let then = image.record();
        image.same(&then);
        // As ext4_setup_super does.
        image.flip(1024 + 0x34);
        image.differs(&then, "mounted since");
        image.flip(1024 + 0x34);
        image.flip(1024 + 0x30);
        image.differs(&then, "superblock");
        image.flip(1024 + 0x30);
        // A file's contents, and an inode: only what a mount cannot avoid is looked at.
        image.flip(90 << 20);
        image.same(&then);
        if has_journal {
            // As jbd2 does at each commit and each replay.
            let sequence = journal(&image) + 0x1b;
            image.flip(sequence);
            image.differs(&then, "journal");
            image.flip(sequence);
            image.flip(journal(&image) + 0x1f);
            image.differs(&then, "journal");
            image.flip(journal(&image) + 0x1f);
        }
        image.same(&then);
    }
}

#[test]
fn tools_that_write_show() {
    if !have(&["mkfs.ext4", "debugfs", "tune2fs", "e2fsck"]) {
        return;
    }
    let image = make("ext-tools", "mkfs.ext4", &[]);
    let then = image.record();
    image.run("debugfs", &["-w", "-R", "write /proc/self/status file"]);
    image.differs(&then, "superblock");
    let then = image.record();
    debugfs(&image, "stat file");
    image.run("e2fsck", &["-n"]);
    image.same(&then);
    image.run("tune2fs", &["-L", "other"]);
    image.differs(&then, "superblock");
    // A transaction in the journal, as a mounted filesystem has it; then its replay.
    let commands = image.path.with_extension("commands");
    std::fs::write(&commands, "jo\njw -b 3000 /proc/self/status\njc\n").unwrap();
    image.run("debugfs", &["-w", "-f", commands.to_str().unwrap()]);
    std::fs::remove_file(commands).unwrap();
    let then = image.record();
    image.same(&then);
    image.run("e2fsck", &["-E", "journal_only", "-p"]);
    let stale = image.stale(&then);
    assert!(stale.is_some());
}

#[test]
fn journals_elsewhere_are_left_to_the_superblock() {
    if !have(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let image = make("ext-external", "mkfs.ext4", &[]);
    image.run("debugfs", &["-w", "-R", "ssv journal_inum 0"]);
    let then = image.record();
    image.same(&then);
    image.flip(1024 + 0x34);
    image.differs(&then, "mounted");
    // The journal's own device is no filesystem.
    let journal = Image::new("ext-jbd", 16 << 20);
    journal.run("mkfs.ext4", &["-q", "-F", "-O", "journal_dev"]);
    assert_eq!(kjump_guard::probe(&journal.file).unwrap(), None);
}

#[test]
fn nonsense_is_an_error() {
    if !have(&["mkfs.ext4", "debugfs"]) {
        return;
    }
    let image = make("ext-damaged", "mkfs.ext4", &["-b", "4096"]);
    let found = image.found();
    let journal = journal(&image);
    let refused = |offset: u64, bytes: &[u8]| {
        let before = image.read(offset, bytes.len());
        image.write(offset, bytes);
        let error = kjump_guard::record(&image.file, &found).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        image.write(offset, &before);
    };
    refused(journal, &[0; 4]);
    refused(1024 + 0xe0, &[0xff; 4]);
    refused(1024 + 0x28, &[0; 4]);
    refused(1024 + 0xfe, &[1, 0]);
    // The journal's inode: its extents' magic, then their depth, then the first block.
    let inode = debugfs(&image, "imap <8>");
    let word = |n: &str| {
        inode
            .split(n)
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
    };
    let block: u64 = word("at block").trim_end_matches(',').parse().unwrap();
    let offset = u64::from_str_radix(word("offset 0x"), 16).unwrap();
    let extents = block * 4096 + offset + 40;
    assert_eq!(image.read(extents, 2), [0x0a, 0xf3]);
    refused(extents, &[0; 2]);
    refused(extents + 2, &[0; 2]);
    refused(extents + 6, &[1]);
    refused(extents + 20, &[0xff; 4]);
    refused(1024 + 0x38, &[0; 2]);
}
