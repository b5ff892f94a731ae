//! Btrfs as mkfs makes it, changed by its tools and as a commit would.

mod common;

use common::{have, run, Image, UUID};
use kjump_guard::{compare, record, Error, Kind};

const SUPERBLOCK: u64 = 65536;

fn make(name: &str, options: &[&str]) -> Image {
    let image = Image::new(name, 256 << 20);
    image.run(
        "mkfs.btrfs",
        &[&["-q", "-U", UUID, "-L", "data"], options].concat(),
    );
    image
}

#[test]
fn commits_and_log_trees_show() {
    if !have(&["mkfs.btrfs", "btrfs"]) {
        return;
    }
    let kinds: [&[&str]; 4] = [
        &[],
        &["-M", "-n", "4096"],
        &["--csum", "sha256", "-n", "65536"],
        &["-O", "^no-holes"],
    ];
    for (i, options) in kinds.into_iter().enumerate() {
        let image = make(&format!("btrfs-{i}"), options);
        image.is(Kind::Btrfs, UUID, "data");
        let then = image.record();
        image.same(&then);
        image.run("btrfs", &["check", "--readonly"]);
        image.same(&then);
        // As an fsync does.
        image.flip(SUPERBLOCK + 96 + 2);
        image.differs(&then, "superblock");
        image.flip(SUPERBLOCK + 96 + 2);
        // Roots that a commit keeps, in the superblock's last part.
        image.flip(SUPERBLOCK + 3000);
        image.differs(&then, "superblock");
        image.flip(SUPERBLOCK + 3000);
        image.same(&then);
        // A commit.
        let path = image.path.to_str().unwrap();
        run("btrfs", &["filesystem", "label", path, "other"], None);
        image.differs(&then, "generation");
    }
}

#[test]
fn any_of_several_devices_will_do() {
    if !have(&["mkfs.btrfs"]) {
        return;
    }
    let (a, b) = (
        Image::new("btrfs-a", 256 << 20),
        Image::new("btrfs-b", 300 << 20),
    );
    let path = |image: &Image| image.path.to_str().unwrap().to_owned();
    run(
        "mkfs.btrfs",
        &["-q", "-d", "raid1", &path(&a), &path(&b)],
        None,
    );
    assert_ne!(a.read(SUPERBLOCK, 4096), b.read(SUPERBLOCK, 4096));
    let then = a.record();
    compare(&then, &b.record()).unwrap();
    for image in [a, b] {
        image.flip(SUPERBLOCK + 72);
        image.differs(&then, "generation");
    }
}

#[test]
fn zones_are_refused() {
    if !have(&["mkfs.btrfs"]) {
        return;
    }
    let image = make("btrfs-zones", &[]);
    let found = image.found();
    let incompat = image.read(SUPERBLOCK + 189, 1)[0];
    image.write(SUPERBLOCK + 189, &[incompat | 0x10]);
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}
