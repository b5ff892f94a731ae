//! FAT as mkfs makes it, changed by mtools and as the kernel would.

mod common;

use std::fs;

use common::{have, run, Image};
use kjump_guard::{probe, record, Error, Kind};

const TOOLS: [&str; 4] = ["mkfs.vfat", "mcopy", "mmd", "mdel"];

/// mkfs's options and the size, MiB.
const KINDS: [(&[&str], u64); 9] = [
    (&["-F", "12", "-s", "16"], 30),
    (&["-F", "16"], 64),
    (&["-F", "16", "-f", "1", "-S", "1024"], 64),
    (&["-F", "32"], 96),
    (&["-F", "32", "-s", "1"], 96),
    (&["-F", "32", "-S", "2048"], 300),
    (&["-F", "32", "-S", "4096", "-s", "1"], 500),
    (&["-F", "32", "-s", "128"], 5000),
    (&["-F", "16", "-S", "4096", "-s", "4"], 500),
];

fn make(name: &str, (options, size): (&[&str], u64)) -> Image {
    let image = Image::new(name, size << 20);
    image.run(
        "mkfs.vfat",
        &[&["-i", "1234ABCD", "-n", "STICK"], options].concat(),
    );
    image
}

/// mtools on the image.
fn mtool(image: &Image, tool: &str, args: &[&str]) {
    let path = image.path.to_str().unwrap();
    run(tool, &[&["-i", path], args].concat(), None);
}

/// Where a short name's entry is, in an image whose directories are in the first 24 MiB.
fn entry(image: &Image, name: &[u8; 11]) -> u64 {
    let bytes = image.read(0, 24 << 20);
    let entry = bytes.chunks(32).position(|e| e[..11] == *name).unwrap();
    entry as u64 * 32
}

/// Bit 0 of this byte says that it is mounted.
fn state(image: &Image) -> u64 {
    match image.read(22, 2) == [0, 0] {
        true => 65,
        false => 37,
    }
}

#[test]
fn every_change_shows() {
    if !have(&TOOLS) {
        return;
    }
    for (i, kind) in KINDS.into_iter().enumerate() {
        println!("{kind:?}");
        let image = make(&format!("vfat-{i}"), kind);
        image.is(Kind::Vfat, "1234-ABCD", "STICK");
        let file = image.path.with_extension("file");
        fs::write(&file, vec![1; 3000]).unwrap();
        let file = file.to_str().unwrap();

        let then = image.record();
        image.same(&then);
        image.flip(state(&image));
        image.differs(&then, "mounted since");
        let dirty = image.record();
        image.same(&dirty);
        image.flip(state(&image));
        image.differs(&dirty, "unmounted");

        mtool(&image, "mcopy", &[file, "::FIRST.TXT"]);
        image.differs(&then, "allocation table");
        // An empty file has no cluster.
        let then = image.record();
        fs::write(file, []).unwrap();
        mtool(&image, "mcopy", &[file, "::A long name.txt"]);
        image.differs(&then, "a directory");

        // Directories within directories, with more entries than a cluster holds.
        let top = image.path.with_extension("tree");
        let mut local = top.clone();
        let mut path = format!("::/{}", top.file_name().unwrap().to_str().unwrap());
        for depth in 0..5 {
            fs::create_dir(&local).unwrap();
            for n in 0..200 {
                let name = format!("a file with a name that is long enough {n}");
                fs::write(local.join(name), []).unwrap();
            }
            local.push(format!("dir{depth}"));
            path.push_str(&format!("/dir{depth}"));
        }
        fs::create_dir(&local).unwrap();
        mtool(&image, "mcopy", &["-s", top.to_str().unwrap(), "::"]);
        fs::remove_dir_all(top).unwrap();
        fs::write(file, vec![1; 3000]).unwrap();
        mtool(&image, "mcopy", &[file, &format!("{path}/LAST.BIN")]);
        let then = image.record();
        image.same(&then);
        // Written over: only time, date and size in its entry change.
        let last = entry(&image, b"LAST    BIN");
        for byte in [22, 23, 24, 25, 28] {
            image.flip(last + byte);
            image.differs(&then, "a directory");
            image.flip(last + byte);
        }
        image.same(&then);
        mtool(&image, "mdel", &[&format!("{path}/LAST.BIN")]);
        image.differs(&then, "allocation table");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn fsinfo_shows() {
    if !have(&TOOLS) {
        return;
    }
    let image = make("vfat-fsinfo", (&["-F", "32"], 96));
    let then = image.record();
    image.flip(512 + 488);
    image.differs(&then, "FSInfo");
}

#[test]
fn nonsense_ends() {
    if !have(&TOOLS) {
        return;
    }
    let image = make("vfat-loop", (&["-F", "16"], 64));
    mtool(&image, "mmd", &["::SELF"]);
    mtool(&image, "mmd", &["::SELF/CHILD"]);
    let found = image.found();
    let then = image.record();
    let cluster = image.read(entry(&image, b"SELF       ") + 26, 2);
    let child = entry(&image, b"CHILD      ");
    // A directory in itself.
    image.write(child + 26, &cluster);
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    // One that never ends.
    image.write(child + 26, &[0xee, 0xee]);
    image.differs(&then, "directory");
    let reserved = u64::from(image.read(14, 1)[0]) * 512;
    let number = u64::from(cluster[0]) + u64::from(cluster[1]) * 256;
    image.write(reserved + 2 * number, &cluster);
    image.write((child & !511) + 512, &[0xe5; 1536]);
    let len = image.read(13, 1)[0] as usize * 512;
    let start = child & !511;
    for at in (start..start + len as u64).step_by(32) {
        image.write(at, &[0xe5]);
    }
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn boot_sectors_that_are_none() {
    if !have(&TOOLS) {
        return;
    }
    let image = make("vfat-not", (&["-F", "16"], 64));
    for (offset, bytes) in [
        (11, [0, 0]),
        (11, [0, 3]),
        (13, [3, 1]),
        (14, [0, 0]),
        (16, [0, 0]),
        (21, [0, 0]),
        (22, [0xff, 0xff]),
        (510, [0, 0]),
    ] {
        let before = image.read(offset, 2);
        image.write(offset, &bytes);
        assert_eq!(probe(&image.file).unwrap(), None, "{offset}");
        image.write(offset, &before);
    }
    image.is(Kind::Vfat, "1234-ABCD", "STICK");
}
