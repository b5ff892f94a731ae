//! Going back where there is no module, or no handoff. A peer whose kernel is mainline's, with
//! `CONFIG_KEXEC_JUMP`, loads a small [helper] by plain kexec_load and leaves by plain reboot(2); one
//! with the module, that mainline's kexec has jumped to, leaves through the module and the helper. It
//! supplies what mainline's way back lacks, at both ends. A kernel without either goes back for good,
//! by a plain kexec of the same helper; docs/interop.md.

mod helper;
mod sys;

use std::fs;
use std::io;

use kjump_abi as abi;
use rustix::io::Errno;
use rustix::system::{reboot, RebootCommand};

use crate::cmd::jump::rung_error;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::parse;
use helper::{Told, PAGE};
use sys::{Leave, LockedPage};

/// Where the other kernel's entry is kept from one entry to the next: the command line has the
/// first one only, and the other kernel may have been started again since.
const ENTRY: &str = "/run/kjump.entry";

/// What came with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The command word; 0 also if the other kernel has no mailbox.
    pub command: u32,
}

/// The jump-back entry of the kernel that this one was entered from, physical, if it is known.
pub fn entry() -> Option<u32> {
    let kept = fs::read_to_string(ENTRY)
        .ok()
        .and_then(|text| number(text.trim()));
    kept.or_else(|| on_command_line(&fs::read_to_string("/proc/cmdline").ok()?))
}

fn number(text: &str) -> Option<u32> {
    let number = parse::number(text).ok()?;
    u32::try_from(number).ok().filter(|&n| n != 0)
}

/// `kexec_jump_back_entry=`; the last one, as a purgatory puts its own behind what there was.
fn on_command_line(line: &str) -> Option<u32> {
    line.split_whitespace()
        .filter_map(|word| number(word.strip_prefix("kexec_jump_back_entry=")?))
        .next_back()
}

/// Loads the helper for the kernel with that jump-back entry: the next [`execute`], or any
/// program's `reboot(LINUX_REBOOT_CMD_KEXEC)`, goes there, and so does each one after that.
pub fn load_helper(verb: &'static str, entry: u32) -> Result<()> {
    load(
        verb,
        &Told {
            entry,
            letter: 0,
            status: 0,
            reason: [0; abi::REASON_SIZE],
        },
    )
}

/// Frees what kexec_load has loaded.
pub fn unload(verb: &'static str) -> Result<()> {
    sys::kexec_unload().map_err(|e| refused(verb, e))
}

/// Leaves through what is loaded; returns when this kernel is entered again.
pub fn execute(verb: &'static str) -> Result<()> {
    match reboot(RebootCommand::Kexec) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => Err(Error::NothingLoaded { verb }),
        Err(Errno::PERM) => Err(Error::NotPermitted { verb }),
        Err(e) => Err(Error::Kernel {
            verb,
            source: e.into(),
        }),
    }
}

/// Goes back with the answer in `back`, through the module if it is there; returns when this kernel
/// is entered again, which one without `CONFIG_KEXEC_JUMP` never is. Without the module a plain `reboot(LINUX_REBOOT_CMD_KEXEC)` then goes back once
/// more, with status 0.
pub fn back(verb: &'static str, device: Option<&Device>, back: &mut abi::Back) -> Result<Entered> {
    let entry = entry().ok_or(Error::NotPeer { verb })?;
    let letters = LockedPage::new()
        .inspect_err(|e| log::info!("{verb}: no command words without /proc/self/pagemap: {e}"))
        .ok();
    let told = Told {
        entry,
        letter: letters.as_ref().map_or(0, LockedPage::physical),
        status: back.status,
        reason: back.reason,
    };
    let left = match (device, &letters) {
        (Some(device), Some(_)) => by_module(verb, device, back, &told),
        _ if back.flags != 0 || back.fail_at != 0 => Err(Error::NotSupported { verb }),
        _ => load(verb, &told).and_then(|()| execute(verb)),
    };
    let letter = letters.as_ref().map(LockedPage::letter).unwrap_or_default();
    let now = if letter.written == 1 {
        letter.entry
    } else {
        entry
    };
    if device.is_none() {
        // The one with this program's page in it must not stay. This kernel has been away and is back:
        // that another one cannot be had is the next one's to say.
        if let Err(e) = load_helper(verb, now) {
            log::warn!("no helper is loaded for the next time: {e}");
            let _ = sys::kexec_unload();
        }
    }
    left?;
    if letter.failed == 1 {
        return Err(Error::NoWayBack {
            verb,
            why: format!(
                "at {now:#x} is no kjump, nor a kernel of mainline's whose GDT, without which it cannot \
                 go on, was found"
            ),
        });
    }
    if let Err(e) = fs::write(ENTRY, format!("{now:#x}\n")) {
        log::warn!("{ENTRY}: {e}");
    }
    Ok(Entered {
        command: letter.command,
    })
}

/// With the helper in a page of this program's: the module exchanges nothing on its way.
fn by_module(verb: &'static str, device: &Device, back: &mut abi::Back, told: &Told) -> Result<()> {
    let mut page = LockedPage::new().map_err(|e| Error::io("/proc/self/pagemap", e))?;
    page.fill(&helper::page(page.physical(), told));
    back.entry = page.physical();
    log::info!("helper at {:#x}, to {:#x}", back.entry, told.entry);
    device.back(back).map_err(|e| match back.failed_rung {
        0 => Error::from_errno(verb, e),
        rung => rung_error(verb, e, rung),
    })
}

fn load(verb: &'static str, told: &Told) -> Result<()> {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    if !has_entry_areas(&release) {
        let why = format!(
            "Linux {release} has its GDT where the helper does not look for it; use 4.14 or later, \
             or the module"
        );
        return Err(Error::NoWayBack { verb, why });
    }
    let iomem = fs::read_to_string("/proc/iomem").map_err(|e| Error::io("/proc/iomem", e))?;
    let at = place(&iomem, told.letter)
        .ok_or_else(|| Error::MemoryMap("/proc/iomem has no RAM".into()))?;
    log::info!("helper at {at:#x}, to {:#x}", told.entry);
    let page = helper::page(at, told);
    let Err(e) = sys::kexec_load(at, &page, Leave::ToComeBack) else {
        return Ok(());
    };
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if e.raw_os_error() != Some(Errno::INVAL.raw_os_error()) || !from_kjump(&line) {
        return Err(refused(verb, e));
    }
    // Flags that are not known: no CONFIG_KEXEC_JUMP.
    sys::kexec_load(at, &page, Leave::ForGood).map_err(|e| refused(verb, e))?;
    log::warn!(
        "{verb}: this kernel has no CONFIG_KEXEC_JUMP: it goes back by a plain kexec, and cannot be \
         entered again"
    );
    Ok(())
}

/// Whether it was a kernel with kjump that this one was entered from. One of mainline's would take
/// what cannot be entered again for something at address 0.
fn from_kjump(line: &str) -> bool {
    line.split_whitespace()
        .filter_map(|word| number(word.strip_prefix("kjump.handoff=")?))
        .next()
        .is_some()
}

/// What an errno of kexec_load means here.
fn refused(verb: &'static str, e: io::Error) -> Error {
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        // No CONFIG_KEXEC, or no CONFIG_KEXEC_JUMP.
        Some(Errno::NOSYS | Errno::INVAL) => Error::NoWayBack {
            verb,
            why: "this kernel has neither kjump.ko nor CONFIG_KEXEC_JUMP, and no other way back that \
                  the kernel it came from would know; load the module"
                .into(),
        },
        Some(Errno::PERM) => Error::NotPermitted { verb },
        Some(Errno::BUSY) => Error::Owned { verb },
        Some(Errno::NOMEM) => Error::NoMemory { verb },
        _ => Error::Kernel { verb, source: e },
    }
}

/// Whether a kernel of that release has its GDT in the CPUs' entry areas, at the top of the address
/// space: since 4.14.
fn has_entry_areas(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0u32);
    (next(), next()) >= (4, 14)
}

/// A page for the helper to lie in while this kernel is away: the last one of the first RAM from
/// 1 MiB on, which any loader lets a peer have to itself. Whatever is in it is exchanged for the
/// helper and back; so it is not the one that the helper is to write to, and the one before it is.
fn place(iomem: &str, letter: u32) -> Option<u32> {
    iomem.lines().find_map(|line| {
        let range = line.strip_suffix(" : System RAM")?;
        let (first, last) = range.split_once('-')?;
        let hex = |text| u32::from_str_radix(text, 16).ok();
        let (first, last) = (hex(first)?, hex(last)?);
        let page = PAGE as u32;
        if first < 1 << 20 || last - first < 4 * page {
            return None;
        }
        let start = (last - (page - 1)) & !(page - 1);
        Some(if start == letter { start - page } else { start })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_counts() {
        let line = "quiet kexec_jump_back_entry=0x1000 x kexec_jump_back_entry=0x2f0b0a1\n";
        assert_eq!(on_command_line(line), Some(0x2f0_b0a1));
        for none in ["", "kexec_jump_back_entry=", "kexec_jump_back_entry=0"] {
            assert_eq!(on_command_line(none), None);
        }
    }

    #[test]
    fn a_place_in_ram() {
        let iomem = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
                     00100000-00ffffff : System RAM\n  00100000-004fffff : Kernel code\n\
                     02000000-03ffffff : System RAM\n";
        assert_eq!(place(iomem, 0), Some(0x00ff_f000));
        assert_eq!(place(iomem, 0x00ff_f000), Some(0x00ff_e000));
        let odd = "00100000-00fffbff : System RAM\n";
        assert_eq!(place(odd, 0), Some(0x00ff_e000));
        // Without CAP_SYS_ADMIN all addresses are 0.
        assert_eq!(place("00000000-00000000 : System RAM\n", 0), None);
        assert_eq!(place("", 0), None);
    }

    #[test]
    fn only_a_kjump_is_left_for_good() {
        assert!(from_kjump(
            "quiet kjump.handoff=0x1f00000 kexec_jump_back_entry=0x1000\n"
        ));
        for none in [
            "kexec_jump_back_entry=0x1000",
            "kjump.handoff=0",
            "kjump.handoff=",
            "",
        ] {
            assert!(!from_kjump(none), "{none}");
        }
    }

    #[test]
    fn old_kernels_are_known() {
        for old in ["2.6.27", "3.16.0-4-686", "4.13.9", "", "x"] {
            assert!(!has_entry_areas(old), "{old}");
        }
        for new in ["4.14.0", "4.19.0-27-686-pae", "6.1.0", "7.3.4-kjump-lean"] {
            assert!(has_entry_areas(new), "{new}");
        }
    }

    #[test]
    fn refusals() {
        let code = |errno: Errno| refused("back", errno.into()).exit_code();
        assert_eq!(code(Errno::INVAL), 35);
        assert_eq!(code(Errno::NOSYS), 35);
        assert_eq!(code(Errno::PERM), 5);
        assert_eq!(code(Errno::IO), 1);
        let line = refused("back", Errno::INVAL.into()).to_string();
        assert!(line.contains("CONFIG_KEXEC_JUMP"), "{line}");
    }
}
