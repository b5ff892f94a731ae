//! Hardware watchdogs of this kernel: one that runs would reset the machine while this kernel is
//! away, as whoever feeds it is frozen.

use std::fs;
use std::path::Path;

/// A watchdog that runs, and who holds it open as far as that can be told; `None` if there is none.
/// `root` is `/`.
///
/// The kernel tells which are active in sysfs, if it was built to (`WATCHDOG_SYSFS`). Without that, a
/// watchdog runs from the moment that a program opens its device; so open devices are looked for. One
/// that the firmware started and that the kernel feeds by itself is not found.
pub fn running(root: &Path) -> Option<String> {
    by_sysfs(root).or_else(|| by_holder(root))
}

fn by_sysfs(root: &Path) -> Option<String> {
    let mut dogs: Vec<_> = fs::read_dir(root.join("sys/class/watchdog"))
        .ok()?
        .flatten()
        .filter(|dog| {
            let state = fs::read_to_string(dog.path().join("state"));
            state.is_ok_and(|state| state.trim() == "active")
        })
        .map(|dog| dog.file_name())
        .collect();
    dogs.sort();
    let name = dogs.first()?.to_string_lossy();
    Some(by_holder(root).unwrap_or_else(|| format!("/dev/{name}")))
}

fn by_holder(root: &Path) -> Option<String> {
    let programs = fs::read_dir(root.join("proc")).ok()?.flatten();
    for program in programs {
        let Ok(number) = program.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // What has ended meanwhile holds nothing.
        let open = fs::read_dir(program.path().join("fd"));
        for file in open.into_iter().flatten().flatten() {
            let Ok(path) = fs::read_link(file.path()) else {
                continue;
            };
            let path = path.to_string_lossy();
            if path.strip_prefix("/dev/watchdog").is_some_and(is_number) {
                let name = fs::read_to_string(program.path().join("comm")).unwrap_or_default();
                return Some(format!("{path}, held open by {} {number}", name.trim()));
            }
        }
    }
    None
}

/// A number, or nothing.
fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn open_and_active_ones_are_found() {
        let root = std::env::temp_dir().join(format!("kjump-{}-dogs", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/12/comm", "feeder\n");
        put("proc/uptime", "");
        fs::create_dir_all(root.join("proc/12/fd")).unwrap();
        symlink("/dev/watchdog-like", root.join("proc/12/fd/3")).unwrap();
        put("sys/class/watchdog/watchdog0/state", "inactive\n");
        assert_eq!(running(&root), None);
        symlink("/dev/watchdog1", root.join("proc/12/fd/4")).unwrap();
        let held = "/dev/watchdog1, held open by feeder 12";
        assert_eq!(running(&root).as_deref(), Some(held));
        fs::remove_file(root.join("proc/12/fd/4")).unwrap();
        put("sys/class/watchdog/watchdog0/state", "active\n");
        assert_eq!(running(&root).as_deref(), Some("/dev/watchdog0"));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(running(&root), None);
    }
}
