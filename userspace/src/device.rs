//! The module's device, and the watchdog's: safe, typed wrappers of their ioctls. All `unsafe`
//! of the command is in this file.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::raw::c_int;
use std::os::unix::fs::FileExt;

use kjump_abi as abi;
use kjump_abi::{
    Back, Claim, Commit, Enter, Handoff, Jump, Label, List, Listed, Prepare, Range, Request,
    Segment, Select, Status, Unload, ABI_VERSION,
};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};
use rustix::mm::{mmap, munmap, MapFlags, ProtFlags};
use zeroize::Zeroize;

use crate::error::{Error, Result};

// The ABI computes its numbers itself; they must be what `_IOWR` gives.
const _: () = {
    assert!(abi::IOC_PREPARE as Opcode == opcode::read_write::<Prepare>(b'k', 0xe0));
    assert!(abi::IOC_STATUS as Opcode == opcode::read_write::<Status>(b'k', 0xe6));
    assert!(abi::IOC_HANDOFF as Opcode == opcode::read_write::<Handoff>(b'k', 0xe7));
};

/// What may be an ioctl's argument.
///
/// # Safety
/// The type must be the one that the kernel expects for `OPCODE`, and every bit pattern must be a
/// value of it.
unsafe trait Argument: Sized {
    const OPCODE: Opcode;
}

macro_rules! argument {
    ($($ty:ty = $opcode:expr),* $(,)?) => {$(
        // SAFETY: the ABI ties this number to this type, which consists of integers only.
        unsafe impl Argument for $ty {
            const OPCODE: Opcode = $opcode as Opcode;
        }
    )*};
}
argument! {
    Prepare = abi::IOC_PREPARE,
    Segment = abi::IOC_SEGMENT,
    Commit = abi::IOC_COMMIT,
    Jump = abi::IOC_JUMP,
    Back = abi::IOC_BACK,
    Unload = abi::IOC_UNLOAD,
    Status = abi::IOC_STATUS,
    Handoff = abi::IOC_HANDOFF,
    Request = abi::IOC_REQUEST,
    Claim = abi::IOC_CLAIM,
    Enter = abi::IOC_ENTER,
    Label = abi::IOC_LABEL,
    Select = abi::IOC_SELECT,
    List = abi::IOC_LIST,
}

fn call<T: Argument>(fd: impl AsFd, argument: &mut T) -> std::result::Result<(), Errno> {
    // `Updater` takes its number as a constant, which a trait's cannot be here: so a struct of
    // our own hands number and pointer over.
    struct Update<'a, T>(&'a mut T);
    // SAFETY: `Argument` promises that number and type belong together and that whatever the
    // kernel writes is a value of the type; the pointer stays valid during the call.
    unsafe impl<T: Argument> rustix::ioctl::Ioctl for Update<'_, T> {
        type Output = ();
        const IS_MUTATING: bool = true;
        fn opcode(&self) -> Opcode {
            T::OPCODE
        }
        fn as_ptr(&mut self) -> *mut core::ffi::c_void {
            (self.0 as *mut T).cast()
        }
        unsafe fn output_from_ptr(
            _: rustix::ioctl::IoctlOutput,
            _: *mut core::ffi::c_void,
        ) -> rustix::io::Result<()> {
            Ok(())
        }
    }
    // SAFETY: see `Update`. What the kernel does to the machine at this call is its purpose.
    unsafe { ioctl(fd, Update(argument)) }
}

/// Loads that there may be, and more.
const MOST_LOADS: usize = 128;

/// An open `/dev/kjump`. Closing it drops a load that was not committed.
pub struct Device(File);

impl Device {
    /// Opens the device.
    pub fn open() -> Result<Self> {
        match File::options().read(true).write(true).open(abi::DEVICE) {
            Ok(file) => Ok(Device(file)),
            Err(e) => Err(match e.kind() {
                io::ErrorKind::NotFound => Error::NoModule,
                _ if e.raw_os_error() == Some(Errno::NXIO.raw_os_error())
                    || e.raw_os_error() == Some(Errno::NODEV.raw_os_error()) =>
                {
                    Error::NoModule
                }
                io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
                    Error::NotRoot
                }
                io::ErrorKind::PermissionDenied => Error::NotPermitted { verb: "open" },
                _ if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    Error::Owned { verb: "open" }
                }
                io::ErrorKind::OutOfMemory => Error::NoMemory { verb: "open" },
                _ => Error::io(abi::DEVICE, e),
            }),
        }
    }

    /// As [`Device::open`], after a look at who calls.
    pub fn open_as_root() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        Self::open()
    }

    /// As [`Device::open_as_root`], for the load of that name; empty for the one without.
    pub fn open_load(name: &str) -> Result<Self> {
        let device = Self::open_as_root()?;
        device.about(name)?;
        Ok(device)
    }

    /// From now on this is about the load of that name.
    pub fn about(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Ok(());
        }
        self.select(name)
            .map_err(|e| Error::from_errno("select", e))
    }

    /// Starts a load.
    pub fn prepare(&self, flags: u32, window_end: u64) -> std::result::Result<Prepare, Errno> {
        let mut p = Prepare {
            version: ABI_VERSION,
            flags,
            window_end,
            ..Default::default()
        };
        call(&self.0, &mut p)?;
        Ok(p)
    }

    /// Starts a load whose peer has the shared memory below 640 KiB and `size` bytes of its own.
    pub fn prepare_own(&self, size: u64) -> std::result::Result<Prepare, Errno> {
        let mut p = Prepare {
            version: ABI_VERSION,
            flags: abi::PREPARE_OWN_WINDOW,
            window_end: abi::SHARED_WINDOW_END,
            own_size: size,
            ..Default::default()
        };
        call(&self.0, &mut p)?;
        Ok(p)
    }

    /// Adds a segment: `data`, then zeros up to `memsz`, at `mem`.
    pub fn segment(&self, data: &[u8], mem: u64, memsz: u64) -> std::result::Result<(), Errno> {
        let mut s = Segment {
            version: ABI_VERSION,
            flags: 0,
            buf: data.as_ptr() as usize as u64,
            bufsz: data.len() as u64,
            mem,
            memsz,
        };
        call(&self.0, &mut s)
    }

    /// Ends a load, which stays when this file is closed.
    pub fn commit(&self, entry: u64, boot_params: u64) -> std::result::Result<(), Errno> {
        self.commit_with(abi::COMMIT_KEEP, entry, boot_params)
    }

    /// Ends a load, which goes when this file is closed.
    pub fn commit_for_now(&self, entry: u64) -> std::result::Result<(), Errno> {
        self.commit_with(0, entry, 0)
    }

    fn commit_with(
        &self,
        flags: u32,
        entry: u64,
        boot_params: u64,
    ) -> std::result::Result<(), Errno> {
        let mut c = Commit {
            version: ABI_VERSION,
            flags,
            entry,
            boot_params,
            reserved: 0,
        };
        call(&self.0, &mut c)
    }

    /// Jumps; the argument has the answer, and after an error the rung that failed.
    pub fn jump(&self, argument: &mut Jump) -> std::result::Result<(), Errno> {
        argument.version = ABI_VERSION;
        call(&self.0, argument)
    }

    /// Goes back; returns when this peer is entered again.
    pub fn back(&self, argument: &mut Back) -> std::result::Result<(), Errno> {
        argument.version = ABI_VERSION;
        call(&self.0, argument)
    }

    /// Frees what is loaded.
    pub fn unload(&self) -> std::result::Result<(), Errno> {
        call(
            &self.0,
            &mut Unload {
                version: ABI_VERSION,
                flags: 0,
            },
        )
    }

    /// The state.
    pub fn status(&self) -> std::result::Result<Status, Errno> {
        let mut s = Status {
            version: ABI_VERSION,
            ..Default::default()
        };
        call(&self.0, &mut s)?;
        Ok(s)
    }

    /// Leaves a text for the peer.
    pub fn request(&self, text: &str) -> std::result::Result<(), Errno> {
        let mut r = Request {
            version: ABI_VERSION,
            flags: 0,
            buf: text.as_ptr() as usize as u64,
            len: text.len() as u64,
        };
        call(&self.0, &mut r)
    }

    /// Says which load the calls on this open file are about; empty for the one without a name.
    pub fn select(&self, name: &str) -> std::result::Result<(), Errno> {
        let mut s = Select {
            version: ABI_VERSION,
            ..Default::default()
        };
        let place = s.name.get_mut(..name.len()).ok_or(Errno::INVAL)?;
        place.copy_from_slice(name.as_bytes());
        call(&self.0, &mut s)
    }

    /// What is loaded, by name.
    pub fn loads(&self) -> std::result::Result<Vec<Listed>, Errno> {
        let mut found = vec![Listed::default(); MOST_LOADS];
        let mut l = List {
            version: ABI_VERSION,
            room: MOST_LOADS as u32,
            buf: found.as_mut_ptr() as usize as u64,
            ..Default::default()
        };
        call(&self.0, &mut l)?;
        found.truncate(l.count as usize);
        Ok(found)
    }

    /// Says what the load is: lines of `key=value`, for readers of `/proc/kimgcore`.
    pub fn label(&self, text: &str) -> std::result::Result<(), Errno> {
        let mut l = Label {
            version: ABI_VERSION,
            flags: 0,
            buf: text.as_ptr() as usize as u64,
            len: text.len() as u64,
        };
        call(&self.0, &mut l)
    }

    /// Takes RAM that is not this kernel's, to be written. In a peer this ends the way back. With
    /// `keep` it stays claimed when this file is closed.
    pub fn claim(&self, ranges: &[Range], keep: bool) -> std::result::Result<(), Errno> {
        let mut c = Claim {
            version: ABI_VERSION,
            flags: if keep { abi::CLAIM_KEEP } else { 0 },
            count: ranges.len() as u32,
            reserved: 0,
            ranges: ranges.as_ptr() as usize as u64,
        };
        call(&self.0, &mut c)
    }

    /// Enters what was written into claimed RAM; returns only if a rung of the way down fails.
    pub fn enter(&self, argument: &mut Enter) -> std::result::Result<(), Errno> {
        argument.version = ABI_VERSION;
        call(&self.0, argument)
    }

    /// Reads old memory at physical address `at`, bytes.
    pub fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }

    /// Writes claimed memory at physical address `at`, bytes.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    /// Maps `len` bytes of old or claimed memory from physical address `at` on, both whole pages;
    /// claimed memory may be mapped to be written. Pages that are no RAM may be part of it, but
    /// must not be touched.
    pub fn map(&self, at: u64, len: usize, write: bool) -> io::Result<Memory> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, write);
        // SAFETY: a mapping at an address of the kernel's choice touches no memory that Rust
        // knows of.
        let start = unsafe {
            mmap(
                core::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                &self.0,
                at,
            )?
        };
        Ok(Memory {
            start: start.cast(),
            len,
            write,
        })
    }

    /// In a peer: a copy of the handoff block.
    pub fn handoff(&self) -> std::result::Result<Left, Errno> {
        let mut h = Left(blank_handoff());
        call(&self.0, &mut *h.0)?;
        Ok(h)
    }
}

/// A copy of a handoff block. Its request may have a key in it, and is wiped when this is dropped.
pub struct Left(Box<Handoff>);

impl std::ops::Deref for Left {
    type Target = Handoff;
    fn deref(&self) -> &Handoff {
        &self.0
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.request.zeroize();
    }
}

/// A handoff block of zeros.
pub fn blank_handoff() -> Box<Handoff> {
    // SAFETY: a handoff block consists of integers, for which zero is a value.
    Box::new(unsafe { core::mem::zeroed() })
}

/// A piece of old or claimed memory, mapped; see [`Device::map`].
pub struct Memory {
    start: *mut u8,
    len: usize,
    write: bool,
}

impl Memory {
    /// The bytes `[at, at + len)` of the piece, which are RAM.
    ///
    /// # Panics
    ///
    /// If they are not inside.
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: mapped as long as `self` lives; the kernel that owns the memory does not run.
        // What is no RAM is not asked for: that would be SIGBUS, and no undefined behaviour.
        unsafe { core::slice::from_raw_parts(self.start.add(at), len) }
    }

    /// All of it as memory for Argon2, to be written.
    ///
    /// # Panics
    ///
    /// If the piece was not mapped to be written.
    pub fn blocks_mut(&mut self) -> &mut [argon2::Block] {
        assert!(self.write && self.start.cast::<argon2::Block>().is_aligned());
        let count = self.len / argon2::Block::SIZE;
        // SAFETY: as above; a block is an array of integers, as long as it says, and aligned: checked.
        unsafe { core::slice::from_raw_parts_mut(self.start.cast(), count) }
    }

    /// The same, to be written.
    ///
    /// # Panics
    ///
    /// If they are not inside, or the piece was not mapped to be written.
    pub fn bytes_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        assert!(self.write && at <= self.len && len <= self.len - at);
        // SAFETY: as above, and borrowed through `self` only.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `Device::map`, and no slice of it outlives `self`.
        // It fails for what is not mapped only.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// `SNAPSHOT_PLATFORM_SUPPORT` and `SNAPSHOT_POWER_OFF` of `include/uapi/linux/suspend_ioctls.h`.
const SNAPSHOT_PLATFORM_SUPPORT: Opcode = opcode::none(b'3', 15);
const SNAPSHOT_POWER_OFF: Opcode = opcode::none(b'3', 16);

/// Enters ACPI S4 by the kernel's own door for that, `/dev/snapshot`. Returns only if it fails.
pub fn enter_s4() -> io::Result<()> {
    let snapshot = File::options().read(true).open("/dev/snapshot")?;
    // SAFETY: this number takes an `int` by value: 1, the platform's way down.
    unsafe {
        ioctl(
            &snapshot,
            rustix::ioctl::IntegerSetter::<SNAPSHOT_PLATFORM_SUPPORT>::new_usize(1),
        )?
    };
    // SAFETY: this number takes nothing.
    unsafe { ioctl(&snapshot, rustix::ioctl::NoArg::<SNAPSHOT_POWER_OFF>::new())? };
    Ok(())
}

/// `SNAPSHOT_FREEZE`, `SNAPSHOT_UNFREEZE` and `SNAPSHOT_ATOMIC_RESTORE` of the same.
const SNAPSHOT_FREEZE: Opcode = opcode::none(b'3', 1);
const SNAPSHOT_UNFREEZE: Opcode = opcode::none(b'3', 2);
const SNAPSHOT_ATOMIC_RESTORE: Opcode = opcode::none(b'3', 4);

/// The kernel's own `/dev/snapshot`, to be restored from. A stream is written to it, a page a write;
/// closing it gives the memory back.
pub struct SnapshotDevice(File);

impl SnapshotDevice {
    /// Opens it; the kernel makes ready to restore.
    pub fn open() -> io::Result<Self> {
        Ok(Self(File::options().write(true).open("/dev/snapshot")?))
    }

    /// Freezes everything and enters what was written. Returns only if that fails, with the machine
    /// as before.
    pub fn enter(&self) -> io::Error {
        // SAFETY: these three numbers take nothing. What the kernel does to the machine is their
        // purpose.
        let freeze = unsafe { ioctl(&self.0, rustix::ioctl::NoArg::<SNAPSHOT_FREEZE>::new()) };
        if let Err(e) = freeze {
            return e.into();
        }
        // SAFETY: as above.
        let enter = unsafe {
            ioctl(
                &self.0,
                rustix::ioctl::NoArg::<SNAPSHOT_ATOMIC_RESTORE>::new(),
            )
        };
        // SAFETY: as above.
        let thaw = unsafe { ioctl(&self.0, rustix::ioctl::NoArg::<SNAPSHOT_UNFREEZE>::new()) };
        match (enter, thaw) {
            (Err(e), _) | (Ok(()), Err(e)) => e.into(),
            (Ok(()), Ok(())) => io::Error::other("the kernel came back"),
        }
    }
}

impl io::Write for SnapshotDevice {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `RNDRESEEDCRNG` of `include/uapi/linux/random.h`.
const RNDRESEEDCRNG: Opcode = opcode::none(b'R', 7);

/// Stirs `seed` into the kernel's random numbers, at once.
pub fn reseed(seed: &[u8]) -> io::Result<()> {
    let mut random = File::options().write(true).open("/dev/urandom")?;
    io::Write::write_all(&mut random, seed)?;
    // SAFETY: this number takes nothing.
    unsafe { ioctl(&random, rustix::ioctl::NoArg::<RNDRESEEDCRNG>::new())? };
    Ok(())
}

/// `WDIOC_SETTIMEOUT` of `include/uapi/linux/watchdog.h`.
const WDIOC_SETTIMEOUT: Opcode = opcode::read_write::<c_int>(b'W', 6);

/// Sets a watchdog's timeout; gives the one that it chose, in seconds.
pub fn set_watchdog_timeout(watchdog: &File, seconds: u32) -> io::Result<u32> {
    let mut value = c_int::try_from(seconds).unwrap_or(c_int::MAX);
    // SAFETY: this number reads and writes an `int`, which `value` is.
    unsafe {
        ioctl(
            watchdog,
            Updater::<WDIOC_SETTIMEOUT, c_int>::new(&mut value),
        )?
    };
    Ok(u32::try_from(value).unwrap_or(seconds))
}
