//! Files on this machine's own filesystem, where it is one that works.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use kjump_image::{Source, Target};

use super::*;
use crate::spec::Spec;

/// A name in the build's directory, unpinned and removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("kjump-file-{}-{name}", std::process::id());
        let path = std::env::current_exe().unwrap().with_file_name(name);
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Ok(pin) = Pin::lift(&self.0) {
            let _ = fs::remove_file(&self.0);
            drop(pin);
        }
    }
}

fn create(path: &Path, size: u64) -> Result<FilePlace> {
    let go = &mut |_| ControlFlow::Continue(());
    System::default().create(path, size, go)
}

#[test]
fn a_file_is_made_pinned_and_found() {
    let file = Temporary::new("whole");
    let place = match create(&file.0, (9 << 20) + 5) {
        Ok(place) => place,
        // Another filesystem, a loop device, or no rights to the disk: nothing to test with.
        Err(e) => return eprintln!("not tested here: {e}"),
    };
    let system = System::default();
    assert!(fs::remove_file(&file.0).is_err(), "it is not pinned");
    assert!(File::options().write(true).open(&file.0).is_err());
    assert!(matches!(create(&file.0, 9 << 20), Err(Error::File { .. })));

    let uuid = [0x5a; 16];
    let spec = Spec::File(file.0.clone());
    let mut opened = system.open_in_a(&spec, false).unwrap();
    let size = Target::size(&opened).unwrap();
    assert_eq!(size % 4096, 0);
    assert!(
        size < (9 << 20) + 4096 && size > (9 << 20) - (1 << 19),
        "{size}"
    );
    assert_eq!(
        (opened.device(), opened.offset()),
        (Some(&place.device), Some(place.offset))
    );
    opened.prepare(uuid).unwrap();
    drop(opened);
    assert!(fs::remove_file(&file.0).is_err(), "it is not pinned again");

    // As another kernel would see it.
    let hint = Spec::parse(&format!("{}:{}", place.device.numbers(), place.offset)).unwrap();
    let mut found = system.open(&hint, Access::Read).unwrap();
    assert_eq!(found.uuid().unwrap(), Some(uuid));
    assert_eq!(Source::size(&found), Some(size));
    // And as a file.
    let mut plain = system.open(&spec, Access::Read).unwrap();
    assert_eq!(plain.uuid().unwrap(), Some(uuid));
    assert_eq!((plain.has_map(), Source::size(&plain)), (true, Some(size)));

    // Written over through the file, it is no target any more.
    let mut opened = system.open(&spec, Access::Write).unwrap();
    opened
        .write_container(0, &crate::block::Block::ZERO.0)
        .unwrap();
    assert_eq!(opened.uuid().unwrap(), None);
    drop(opened);
    let pin = Pin::lift(&file.0).unwrap();
    let copy = Temporary::new("copy");
    fs::copy(&file.0, &copy.0).unwrap();
    drop(pin);
    let moved = system
        .open_in_a(&Spec::File(copy.0.clone()), false)
        .unwrap_err();
    assert!(
        matches!(moved, Error::File { .. } | Error::BadMap { .. }),
        "{moved}"
    );
}

#[test]
fn a_filesystem_says_where_a_file_is_and_keeps_it() {
    let file = Temporary::new("pieces");
    let open = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&file.0);
    let open = open.unwrap();
    if let Err(e) = System::default().device_under(&open, &file.0) {
        return eprintln!("not tested here: {e}");
    }
    open.set_len(1 << 20).unwrap();
    let holes = extents(&open, &file.0, 1 << 20).unwrap_err().to_string();
    assert!(holes.contains("holes"), "{holes}");
    fallocate(&open, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    let unwritten = extents(&open, &file.0, 1 << 20).unwrap_err().to_string();
    assert!(unwritten.contains("never written"), "{unwritten}");
    open.write_all_at(&vec![1; 1 << 20], 0).unwrap();
    // Not on the disk yet: asking makes it so.
    let list = extents(&open, &file.0, 1 << 20).unwrap();
    assert_eq!(list.iter().map(|e| e.length).sum::<u64>(), 1 << 20);
    let whole = |e: &Extent| e.offset > 0 && e.offset.is_multiple_of(BLOCK64);
    assert!(list.iter().all(whole), "{list:?}");

    if let Err(e) = Pin::set(&open) {
        return eprintln!("not tested here: pinning: {e}");
    }
    let opens = || File::options().write(true).open(&file.0).is_ok();
    assert!(!opens() && fs::remove_file(&file.0).is_err());
    let pin = Pin::lift(&file.0).unwrap();
    assert!(opens());
    drop(pin);
    assert!(!opens());
}

#[test]
fn what_fails_leaves_no_file() {
    let file = Temporary::new("stopped");
    let stop = &mut |_| ControlFlow::Break(());
    assert!(System::default().create(&file.0, 4 << 20, stop).is_err());
    assert!(!file.0.exists());
    assert!(matches!(create(&file.0, 1000), Err(Error::TooSmall { .. })));
    assert!(create(&file.0, 1 << 60).is_err() && !file.0.exists());
    let nowhere = Path::new("/nonexistent/x");
    assert!(matches!(create(nowhere, 4 << 20), Err(Error::Io { .. })));
}

#[test]
fn filesystems_that_do_not_work_are_named() {
    let path = Path::new("/dev/shm").join(format!("kjump-file-{}", std::process::id()));
    let is_tmpfs = fs::metadata("/dev/shm").is_ok_and(|m| !m.file_type().is_block_device());
    let is_tmpfs =
        is_tmpfs && rustix::fs::statfs("/dev/shm").is_ok_and(|s| s.f_type as u32 == 0x0102_1994);
    if !is_tmpfs {
        return eprintln!("not tested here: /dev/shm is no tmpfs");
    }
    let message = create(&path, 4 << 20).unwrap_err().to_string();
    assert!(
        message.contains("tmpfs") && message.contains("ext4"),
        "{message}"
    );
    assert!(!path.exists());
}
