//! What the helper's way needs of the kernel: kexec_load, and a page whose physical address is
//! known. All `unsafe` of it is here and in helper.rs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;

use rustix::mm::{mlock, mmap_anonymous, munmap, MapFlags, ProtFlags};

use super::helper::{Letter, PAGE};

/// `struct kexec_segment` of include/uapi/linux/kexec.h.
#[repr(C)]
struct Segment {
    buf: *const u8,
    bufsz: usize,
    mem: usize,
    memsz: usize,
}

/// Whether this kernel can be entered again. The architecture's half of the flags is 0, the
/// running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// By `KEXEC_PRESERVE_CONTEXT`, which takes `CONFIG_KEXEC_JUMP`.
    ToComeBack = 2,
    /// By a plain kexec.
    ForGood = 0,
}

/// Loads one page for `at`, physical, to be entered at its head. What was loaded before is freed.
pub fn kexec_load(at: u32, page: &[u8; PAGE], leave: Leave) -> io::Result<()> {
    let segment = Segment {
        buf: page.as_ptr(),
        bufsz: PAGE,
        mem: at as usize,
        memsz: PAGE,
    };
    call(at, Some(&segment), leave)
}

/// Frees what was loaded.
pub fn kexec_unload() -> io::Result<()> {
    call(0, None, Leave::ToComeBack)
}

fn call(entry: u32, segment: Option<&Segment>, leave: Leave) -> io::Result<()> {
    let entry = libc::c_ulong::from(entry);
    let count = libc::c_ulong::from(segment.is_some());
    let segment = segment.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the kernel reads `count` segments and the page that one points to, and copies both.
    // What is entered by it later is kexec's business, and whoever runs this is root.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_load,
            entry,
            count,
            segment,
            leave as libc::c_ulong,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether compaction may move locked pages, too (Documentation/admin-guide/sysctl/vm.rst). Kernels
/// without compaction do not have it, and move none.
const MOVES_LOCKED: &str = "/proc/sys/vm/compact_unevictable_allowed";

/// A page of this program that stays in its place in memory, while no kernel runs too.
pub struct LockedPage {
    start: *mut u8,
    physical: u32,
    /// What [`MOVES_LOCKED`] was before.
    moved: Option<String>,
}

impl LockedPage {
    /// # Errors
    ///
    /// The system's, or `Unsupported` if the kernel does not tell where the page lies, or that is
    /// beyond 4 GiB.
    pub fn new() -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at an address of the kernel's choice.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE)? };
        let mut page = Self {
            start: start.cast(),
            physical: 0,
            moved: fs::read_to_string(MOVES_LOCKED).ok(),
        };
        if page.moved.is_some() {
            fs::write(MOVES_LOCKED, "0")?;
        }
        // SAFETY: the page was mapped just now. Locked, it is not swapped out; that compaction does
        // not move it was seen to above, before its place is asked for.
        unsafe { mlock(start, PAGE)? };
        page.fill(&[0; PAGE]);
        page.physical = physical(start.addr())?;
        Ok(page)
    }

    /// Its physical address.
    pub fn physical(&self) -> u32 {
        self.physical
    }

    /// Writes all of it.
    pub fn fill(&mut self, bytes: &[u8; PAGE]) {
        // SAFETY: mapped as long as `self` lives, and nobody else's while this program runs.
        unsafe { self.start.cast::<[u8; PAGE]>().write_volatile(*bytes) }
    }

    /// What the helper has left at its head.
    pub fn letter(&self) -> Letter {
        // SAFETY: mapped as long as `self` lives, page-aligned; the helper writes while this
        // program does not run. A letter is integers only.
        unsafe { self.start.cast::<Letter>().read_volatile() }
    }
}

impl Drop for LockedPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no reference to it outlives `self`. It cannot fail.
        let _ = unsafe { munmap(self.start.cast(), PAGE) };
        if let Some(moved) = &self.moved {
            if let Err(e) = fs::write(MOVES_LOCKED, moved) {
                log::warn!("{MOVES_LOCKED}: {e}; it was {}", moved.trim());
            }
        }
    }
}

/// Where the page at `address` of this program lies, by Documentation/admin-guide/mm/pagemap.rst.
fn physical(address: usize) -> io::Result<u32> {
    let mut entry = [0; 8];
    let at = address / PAGE * entry.len();
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, at as u64)?;
    let entry = u64::from_ne_bytes(entry);
    let frame = entry & ((1 << 55) - 1);
    let there = entry >> 63 == 1 && frame != 0;
    u32::try_from(frame * PAGE as u64)
        .ok()
        .filter(|_| there)
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}
