//! Swap areas that were hidden for an image, made usable again once it is given up.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use kjump_image::Guard;

use kjump_guard::{probe_kind, swap_show, Found, Kind};

use crate::error::{Error, Result};

/// Where the kernel lists block devices.
const DEVICES: &str = "/sys/class/block";

/// The swap areas, by UUID, that an image with these guards hides.
pub fn areas(guards: &[Guard]) -> Vec<[u8; 16]> {
    let swap = guards.iter().filter(|g| g.kind == Kind::Swap.number());
    swap.map(|g| g.device).collect()
}

/// Shows the swap areas with these UUIDs; see [`show`].
pub fn show_areas(uuids: &[[u8; 16]]) -> Vec<(String, Result<()>)> {
    show(|found| uuids.contains(&found.uuid))
}

/// Shows the swap areas that `wanted` says yes to, on all devices. Gives the devices where that was
/// needed, and where it failed.
pub fn show(wanted: impl Fn(&Found) -> bool) -> Vec<(String, Result<()>)> {
    show_on(devices(Path::new(DEVICES)), wanted)
}

/// The block devices' nodes. Without /sys there are none.
fn devices(list: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(list).into_iter().flatten().flatten();
    // A slash in a name is an exclamation mark there.
    let node = |name: &str| Path::new("/dev").join(name.replace('!', "/"));
    let mut nodes: Vec<_> = names
        .map(|entry| node(&entry.file_name().to_string_lossy()))
        .collect();
    nodes.sort();
    nodes
}

/// Past the page cache, which may hold what another kernel has changed on the disk since.
fn open(device: &Path, write: bool) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(write);
    // CAST: the flags are those of open(2), whose argument is an int.
    let direct = options
        .clone()
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(device);
    match direct {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => options.open(device),
        other => other,
    }
}

fn show_on(devices: Vec<PathBuf>, wanted: impl Fn(&Found) -> bool) -> Vec<(String, Result<()>)> {
    let one = |device: PathBuf| {
        let name = device.display().to_string();
        // A drive without a medium, or a node that is missing: no swap area that could be used.
        let found = probe_kind(&open(&device, false).ok()?, Kind::Swap).ok()??;
        if !wanted(&found) {
            return None;
        }
        let file = match open(&device, true) {
            Ok(file) => file,
            Err(e) => return Some((name.clone(), Err(Error::io(name, e)))),
        };
        match swap_show(&file) {
            Ok(false) => None,
            Ok(true) => Some((name, Ok(()))),
            Err(source) => {
                let device = name.clone();
                Some((name, Err(Error::Guard { device, source })))
            }
        }
    };
    devices.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// A swap area as mkswap makes it, with all bytes of its UUID the same.
    fn area(dir: &Path, name: &str, signature: &[u8; 10], uuid: u8) -> PathBuf {
        let path = dir.join(name);
        let file = File::create(&path).unwrap();
        file.set_len(64 << 10).unwrap();
        file.write_all_at(&[1, 0, 0, 0, 15, 0, 0, 0], 1024).unwrap();
        file.write_all_at(&[uuid; 16], 1036).unwrap();
        file.write_all_at(signature, 4086).unwrap();
        path
    }

    #[test]
    fn only_what_is_wanted_is_shown() {
        let dir = std::env::temp_dir().join(format!("kjump-swap-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let devices: Vec<PathBuf> = vec![
            area(&dir, "a", b"KJUMPSWAP2", 1),
            area(&dir, "b", b"KJUMPSWAP2", 2),
            area(&dir, "c", b"SWAPSPACE2", 1),
            area(&dir, "d", b"S1SUSPEND\0", 1),
            area(&dir, "e", b"something.", 1),
            dir.join("missing"),
        ];
        let signature = |i: usize| {
            let bytes = fs::read(&devices[i]).unwrap();
            bytes[4086..4096].to_vec()
        };
        let shown = show_on(devices.clone(), |f| f.uuid == [1; 16]);
        let names: Vec<_> = shown
            .iter()
            .map(|(name, r)| (&name[..], r.is_ok()))
            .collect();
        let (a, d) = (devices[0].to_str().unwrap(), devices[3].to_str().unwrap());
        assert_eq!(names, [(a, true), (d, false)]);
        let now: Vec<_> = (0..5).map(signature).collect();
        let expected: [&[u8]; 5] = [
            b"SWAPSPACE2",
            b"KJUMPSWAP2",
            b"SWAPSPACE2",
            b"S1SUSPEND\0",
            b"something.",
        ];
        assert_eq!(now, expected);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn devices_are_named_as_in_dev() {
        let dir = std::env::temp_dir().join(format!("kjump-sys-{}", std::process::id()));
        fs::create_dir_all(dir.join("cciss!c0d0")).unwrap();
        fs::create_dir_all(dir.join("vda")).unwrap();
        let names = devices(&dir);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(names, [Path::new("/dev/cciss/c0d0"), Path::new("/dev/vda")]);
        assert!(devices(Path::new("/nonexistent")).is_empty());
    }
}
