//! The way back of a peer, and what it has to set right when it is entered again: it may be another
//! kernel that enters it then, or another boot of it, and the peer may have been kept in a file.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use kjump_abi as abi;
use rustix::fs::{makedev, mknodat, FileType, Mode, CWD};
use rustix::io::Errno;

use crate::device::{self, Device};

/// What of a handoff block tells one load from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    places: [u64; 4],
    entries: u32,
}

impl Load {
    fn of(handoff: &abi::Handoff) -> Self {
        let h = handoff;
        Self {
            places: [h.jump_back_entry, h.list, h.page_map, h.peer_map],
            entries: h.mailbox.entries,
        }
    }

    /// Whether this is a later entry into the same load. One that starts to count again is not,
    /// though everything may lie where it was.
    fn goes_on(&self, before: &Self) -> bool {
        self.places == before.places && self.entries > before.entries
    }
}

/// Goes back; returns when this kernel is entered again.
///
/// # Errors
///
/// Those of the module; the rung that failed is in the argument.
pub fn back(device: &Device, argument: &mut abi::Back) -> Result<(), Errno> {
    let before = device.handoff().ok().map(|h| Load::of(&h));
    device.back(argument)?;
    let Ok(handoff) = device.handoff() else {
        hide_vmcore();
        return Ok(());
    };
    stir(&handoff);
    if !before.is_some_and(|before| Load::of(&handoff).goes_on(&before)) {
        hide_vmcore();
    }
    Ok(())
}

/// A peer that is loaded twice from one file would draw the same random numbers twice, and name two
/// images alike. What the other kernel says, and the time, make the difference.
fn stir(handoff: &abi::Handoff) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut seed = now.unwrap_or_default().as_nanos().to_le_bytes().to_vec();
    seed.extend(handoff.request);
    if let Err(e) = device::reseed(&seed) {
        log::warn!("/dev/urandom: {e}");
    }
}

/// What /proc/vmcore shows was settled at boot, by the kernel that this one was entered from first.
/// Of another one it would show the wrong pages, so from now on it cannot be opened (ENXIO).
fn hide_vmcore() {
    const VMCORE: &str = "/proc/vmcore";
    const NOTHING: &str = "/run/kjump-stale-vmcore";
    let is_there = fs::metadata(VMCORE).is_ok_and(|m| m.is_file());
    if !is_there {
        return;
    }
    let hide = || -> rustix::io::Result<()> {
        if !Path::new(NOTHING).exists() {
            let mode = Mode::empty();
            mknodat(CWD, NOTHING, FileType::CharacterDevice, mode, makedev(0, 0))?;
        }
        rustix::mount::mount_bind(NOTHING, VMCORE)
    };
    match hide() {
        Ok(()) => log::info!("{VMCORE} is of another kernel: hidden"),
        Err(e) => log::warn!("{VMCORE} is of another kernel, and cannot be hidden: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_known_by_its_places_and_its_count() {
        let load = |jump_back_entry, entries| {
            let mut handoff = device::blank_handoff();
            handoff.jump_back_entry = jump_back_entry;
            handoff.mailbox.entries = entries;
            Load::of(&handoff)
        };
        let first = load(0x1000, 3);
        assert!(load(0x1000, 4).goes_on(&first) && load(0x1000, 6).goes_on(&first));
        assert!(!load(0x2000, 4).goes_on(&first));
        assert!(!load(0x1000, 1).goes_on(&first) && !load(0x1000, 3).goes_on(&first));
    }
}
