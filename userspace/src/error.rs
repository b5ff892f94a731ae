//! Every way in which the command can fail: one line that says what, why and what to do, and an
//! exit code of its own.

use std::io;
use std::path::PathBuf;

use kjump_abi::{ABI_VERSION, DEVICE};
use rustix::io::Errno;
use thiserror::Error;

/// Result of anything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, Error)]
pub enum Error {
    /// A plain failure of the system, with what was being done.
    #[error("{what}: {}", plain(source))]
    Io {
        /// What was being done, and to what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program that was called did not come back.
    #[error(
        "call: the program did not return in time; its memory and registers are given up, and this \
         kernel goes on; --timeout gives it longer"
    )]
    CallTimedOut,
    /// A program that was called could not go on.
    #[error(
        "call: the program faulted at {at:#x} with exception {vector}; it is given up, and this \
         kernel goes on"
    )]
    CallFaulted {
        /// The exception.
        vector: u32,
        /// Address of the instruction.
        at: u32,
    },
    /// It came back some other way.
    #[error(
        "call: the program came back past the shim that it was called by; what it did is not known"
    )]
    CallLost,
    /// The firmware says that it does not do this.
    #[error("bios: this firmware does not have {service}")]
    Firmware {
        /// The service.
        service: String,
    },
    /// Not run as root.
    #[error("not root: kjump changes the whole machine; run it with sudo or as root")]
    NotRoot,
    /// The device is not there.
    #[error("module missing: there is no {DEVICE}; load it with `insmod kjump.ko`")]
    NoModule,
    /// The kernel says EPERM.
    #[error(
        "{verb}: not permitted: the kernel is locked down or CAP_SYS_BOOT is missing; boot \
         without `lockdown=` and run with full root rights"
    )]
    NotPermitted {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says ENODATA.
    #[error("{verb}: nothing is loaded; `kjump load KERNEL` loads a kernel")]
    NothingLoaded {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says EEXIST.
    #[error("{verb}: something is loaded already; use `kjump unload` first")]
    AlreadyLoaded {
        /// The command.
        verb: &'static str,
    },
    /// The same, of a load with a name.
    #[error("load: there is a peer called {name} already; use `kjump unload {name}` first, or another --as")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The kernel says EBUSY.
    #[error("{verb}: another program owns the load; wait until it is done or stop it")]
    Owned {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says EINPROGRESS.
    #[error("{verb}: a jump is under way; try again when it is over")]
    UnderWay {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says EPROTONOSUPPORT.
    #[error(
        "ABI version mismatch: the module refuses version {ABI_VERSION} of this command; use the \
         kjump and kjump.ko of one build"
    )]
    Abi,
    /// The kernel says EOPNOTSUPP.
    #[error("{verb}: the module cannot do this here; see `kjump doctor` and `kjump status`")]
    NotSupported {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says ENOMEM.
    #[error("{verb}: not enough memory: free some, or use a smaller --window, kernel or initrd")]
    NoMemory {
        /// The command.
        verb: &'static str,
    },
    /// The kernel says ENOMEM to a window.
    #[error(
        "window {0:#x}: not enough memory: as much has to be free above it, in low memory, for what it \
         is exchanged with; unload a peer, or use less"
    )]
    NoRoom(u64),
    /// There is no RAM for a window of its own.
    #[error(
        "{verb}: no room for another window: {} MiB in one piece are not free; free memory, `kjump unload` \
         another peer, or use a smaller --own-window",
        size.div_ceil(1 << 20)
    )]
    NoOwnRoom {
        /// The command.
        verb: &'static str,
        /// Bytes that were asked for.
        size: u64,
    },
    /// What a peer with a window of its own cannot do.
    #[error(
        "{verb}: the peer has a window of its own, where no kernel boots to resume; `kjump unload` it, and \
         load one without --own-window"
    )]
    OwnWindow {
        /// The command.
        verb: &'static str,
    },
    /// A kernel that runs at one address only.
    #[error(
        "the kernel runs at {at:#x} and nowhere else, so it can have no window of its own; load it without \
         --own-window, or use a bzImage with CONFIG_RELOCATABLE"
    )]
    NotRelocatable {
        /// Where.
        at: u64,
    },
    /// The file is neither a bzImage nor a 32-bit ELF.
    #[error("{}: not a kernel: {why}; give a bzImage or a 32-bit x86 ELF (vmlinux)", path.display())]
    NotKernel {
        /// The file.
        path: PathBuf,
        /// What was missed.
        why: String,
    },
    /// The file ends too early.
    #[error(
        "{}: truncated kernel: {what} needs {need} bytes, the file has {have}; copy it again",
        path.display()
    )]
    TruncatedKernel {
        /// The file.
        path: PathBuf,
        /// The part that is missing.
        what: &'static str,
        /// Bytes that the file should have.
        need: u64,
        /// Bytes that it has.
        have: u64,
    },
    /// A bzImage that the 32-bit boot protocol as used here does not cover.
    #[error("{}: this kernel cannot be booted: {why}", path.display())]
    UnsupportedKernel {
        /// The file.
        path: PathBuf,
        /// What is unsupported, and what to do.
        why: String,
    },
    /// The kernel needs memory that the window does not have.
    #[error(
        "the kernel does not fit: it needs {need:#x} bytes at {at:#x} or above; use \
         {window}, or a kernel with a lower CONFIG_PHYSICAL_START"
    )]
    KernelDoesNotFit {
        /// Bytes that it needs.
        need: u64,
        /// Lowest address at which it runs.
        at: u64,
        /// The option with a window that would do.
        window: String,
    },
    /// The initrd needs more memory than is left.
    #[error(
        "the initrd does not fit: {missing} bytes are missing (of {size}); use a smaller initrd \
         or a larger window"
    )]
    InitrdDoesNotFit {
        /// Bytes of the initrd.
        size: u64,
        /// Bytes by which the largest free piece is too small.
        missing: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error(
        "the command line is too long: {len} bytes, this kernel takes {max}; shorten --append"
    )]
    CommandLineTooLong {
        /// Its length.
        len: usize,
        /// What the kernel takes.
        max: usize,
    },
    /// No usable map of the machine's memory.
    #[error("no usable memory map: {0}")]
    MemoryMap(String),
    /// The module says EDOM.
    #[error("window of zero size: the peer needs memory; such as 16M")]
    WindowZero,
    /// The module says EINVAL to a window.
    #[error("window {0:#x} is not page-aligned: use a multiple of 4096, such as 16M")]
    WindowUnaligned(u64),
    /// The module says ERANGE.
    #[error("window {0:#x} is larger than low memory: use a smaller one")]
    WindowTooLarge(u64),
    /// The module says EADDRNOTAVAIL.
    #[error("segment {mem:#x}+{memsz:#x} lies outside the window's RAM; {hint}")]
    SegmentOutside {
        /// Where it should go.
        mem: u64,
        /// Its size.
        memsz: u64,
        /// What to do.
        hint: String,
    },
    /// The module says EADDRINUSE.
    #[error(
        "segment {mem:#x}+{memsz:#x} overlaps another one: the kernel file is broken; use \
         another"
    )]
    SegmentOverlap {
        /// Where it should go.
        mem: u64,
        /// Its size.
        memsz: u64,
    },
    /// The module says EOVERFLOW.
    #[error(
        "segment {mem:#x}+{memsz:#x} wraps around 4 GiB: the kernel file is broken; use another"
    )]
    SegmentWraps {
        /// Where it should go.
        mem: u64,
        /// Its size.
        memsz: u64,
    },
    /// The kernel says EFAULT.
    #[error("{verb}: bad address: the module could not read this command's memory; report this")]
    Fault {
        /// The command.
        verb: &'static str,
    },
    /// The module says ENOLINK.
    #[error("{verb}: the peer cannot be entered again: it came back for good; load it again with `kjump load`")]
    NotReenterable {
        /// The command.
        verb: &'static str,
    },
    /// The module says ENODEV.
    #[error("{verb}: this kernel is no peer: no handoff was found; only a kernel that was jumped to goes back")]
    NotPeer {
        /// The command.
        verb: &'static str,
    },
    /// Without the module, and by mainline's own means neither.
    #[error("{verb}: no way back: {why}")]
    NoWayBack {
        /// The command.
        verb: &'static str,
        /// What is missing, and what to do.
        why: String,
    },
    /// The module says EXDEV.
    #[error(
        "{verb}: this kernel is itself a peer, which holds no load; go back with `kjump back`"
    )]
    IsPeer {
        /// The command.
        verb: &'static str,
    },
    /// The entry is not where the other kernel is entered.
    #[error("entry {entry:#x}: the other kernel is not entered there; use {there:#x}")]
    WrongEntry {
        /// The one that was given.
        entry: u64,
        /// The right one.
        there: u64,
    },
    /// A rung of the way down failed.
    #[error(
        "{verb}: rung \"{rung}\" failed: {}{device}; this kernel goes on as before",
        plain(source)
    )]
    Rung {
        /// The command.
        verb: &'static str,
        /// The rung's name.
        rung: String,
        /// In brackets, which device it was, where the kernel tells; or empty.
        device: String,
        /// Why.
        source: io::Error,
    },
    /// The peer wrote where it must not.
    #[error(
        "{verb}: the peer came back, but {pages} pages of this kernel that it was not given have changed \
         (page frames {frames}): whatever lies there is wrong now; save what can be saved, restart, \
         and do not use that peer again"
    )]
    Touched {
        /// The command.
        verb: &'static str,
        /// How many.
        pages: u32,
        /// The frames of the first.
        frames: String,
    },
    /// A hardware watchdog is running.
    #[error(
        "{verb}: a watchdog is running ({which}): nobody would feed it while this kernel is away, and \
         it would reset the machine; stop what holds it open, or use --ignore-watchdog if the peer \
         stops or feeds it (kjump.watchdog=SECONDS)"
    )]
    Watchdog {
        /// The command.
        verb: &'static str,
        /// Its device, and who holds it open.
        which: String,
    },
    /// The configuration file cannot be understood.
    #[error("{}, line {line}: {why}; correct it, or use another file with --config", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is no key for an image.
    #[error("no key: {0}")]
    NoKey(&'static str),
    /// A key file is of no use.
    #[error("{}: no key file: {why}; use --key-file with another, of 32 to 65536 bytes", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A passphrase's derivation has not enough memory.
    #[error(
        "the passphrase's derivation takes {need} KiB of memory, and {have} are free: free some, or use \
         `kjump resume` in the normal kernel, a key file, or `kdf_memory` in /etc/kjump.toml when saving"
    )]
    KdfMemory {
        /// KiB.
        need: u32,
        /// KiB.
        have: u32,
    },
    /// The kernel that is to be saved is configured to be encrypted, and there is no key.
    #[error(
        "{verb}: the other kernel's images are to be encrypted, and it left no key: use `kjump hibernate` \
         or `kjump snapshot` there, --key-file FILE, or --encrypt none to write a plain one all the same"
    )]
    MustEncrypt {
        /// The command.
        verb: &'static str,
    },
    /// What is encrypted would have to be written out plain, or cannot be read without a key.
    #[error("{target}: an encrypted image cannot be made {made}: {why}")]
    Encrypted {
        /// Where it is.
        target: String,
        /// What it was to become.
        made: &'static str,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Nobody says where the image is to go.
    #[error("no target: set `target` in /etc/kjump.toml, or use --target /dev/…")]
    NoTarget,
    /// An image is not used.
    #[error("{target}: {source}")]
    Refused {
        /// Where it is.
        target: String,
        /// Why.
        source: kjump_image::Refusal,
    },
    /// An ELF core is not used.
    #[error("{file}: {source}")]
    Core {
        /// Which.
        file: String,
        /// Why.
        source: kjump_core::Refusal,
    },
    /// A core, but of no peer that can be entered.
    #[error(
        "{}: no peer to enter: {why}; `kjump peer dump FILE` writes one after a jump to it",
        file.display()
    )]
    NoPeer {
        /// Which.
        file: PathBuf,
        /// What it is instead.
        why: &'static str,
    },
    /// An image could not be written or marked.
    #[error("{target}: {source}")]
    Save {
        /// Where to.
        target: String,
        /// Why.
        source: kjump_image::Error,
    },
    /// What is mounted or swapped on was written since the image was made.
    #[error(
        "{target}: stale image: {source}; going on with it would destroy that: boot as ever, and \
         use `kjump image discard {target}`"
    )]
    Stale {
        /// Where the image is.
        target: String,
        /// What differs.
        source: kjump_guard::Stale,
    },
    /// What is mounted was written since the snapshot was made.
    #[error(
        "{target}: {source}, since the snapshot: going on with its memory would destroy that; unmounting \
         does not help, but rolling the disk back too does: --with-disks"
    )]
    Changed {
        /// Where the snapshot is.
        target: String,
        /// What differs.
        source: kjump_guard::Stale,
    },
    /// A filesystem or swap area cannot be watched, or a swap area's signature not be changed.
    #[error("{device}: {source}")]
    Guard {
        /// The device.
        device: String,
        /// Why.
        source: kjump_guard::Error,
    },
    /// A filesystem is mounted that no guard knows.
    #[error(
        "{device}: {kind} is mounted, and nobody could tell whether it is written while the \
         machine is off; unmount it, or use --allow-unknown"
    )]
    Unwatched {
        /// The device, or what else is mounted.
        device: String,
        /// The filesystem's name.
        kind: String,
    },
    /// The target is not to be had, or not to be used.
    #[error("{0}")]
    Target(#[from] kjump_target::Error),
    /// The peer did not save, and this kernel goes on.
    #[error("hibernate: {why}; this kernel goes on as before")]
    NotSaved {
        /// The peer's exit code.
        code: u8,
        /// Its reason.
        why: String,
    },
    /// The peer did not restore, and this kernel goes on booting.
    #[error("resume: {why}; this kernel goes on booting")]
    NotResumed {
        /// The peer's exit code.
        code: u8,
        /// Its reason.
        why: String,
    },
    /// A snapshot was not made, or not gone back to; this kernel goes on.
    #[error("{verb}: {why}; this kernel goes on as before")]
    NotDone {
        /// The command.
        verb: &'static str,
        /// The exit code.
        code: u8,
        /// What stopped it.
        why: String,
    },
    /// There is no snapshot of that name, or what is there is none.
    #[error("{name}: no snapshot; `kjump snapshots` lists those with names")]
    NoSnapshot {
        /// As the user named it.
        name: String,
    },
    /// Others build on it.
    #[error(
        "{name}: {by} build on it, and could not be gone back to without it; `kjump image flatten` them \
         first, or delete them"
    )]
    Needed {
        /// As the user named it.
        name: String,
        /// The others' names.
        by: String,
    },
    /// What is swapped out is in no snapshot.
    #[error(
        "{swap}: swap is in use, and what lies there would be in no snapshot; use `swapoff {swap}` first"
    )]
    SwapInUse {
        /// The device or file.
        swap: String,
    },
    /// A program that rolls disks back failed, or there is none.
    #[error("{hook} {word}: {why}; this kernel goes on as before")]
    Hook {
        /// The program.
        hook: String,
        /// What it was to do.
        word: &'static str,
        /// How it ended.
        why: String,
    },
    /// A filesystem cannot be made to stand still.
    #[error("{path}: {why}; for a snapshot all filesystems must stand still")]
    Freeze {
        /// Where it is mounted.
        path: String,
        /// Why not.
        why: String,
    },
    /// Disks were rolled back, memory was not.
    #[error(
        "rollback: {first}; but the disks were rolled back already, and that could not be undone ({then}): \
         filesystems stay frozen, press reset"
    )]
    DisksGone {
        /// Why memory was not rolled back.
        first: String,
        /// Why the disks are not those of this kernel again.
        then: String,
    },
    /// The kernel's own `/dev/snapshot` does not restore.
    #[error("/dev/snapshot: {what}: {source}; this kernel goes on booting: resume through a peer instead, without --snapshot")]
    Snapshot {
        /// At what.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// There is no kernel to go on to.
    #[error(
        "{target}: no boot bundle to go on with; install one with `kjump target bundle`, or boot the \
         normal kernel yourself"
    )]
    NoKernel {
        /// The target.
        target: String,
    },
    /// The kernel that this one was entered from left no request.
    #[error("{verb}: the other kernel did not say what to do; use `kjump save` by hand")]
    NoRequest {
        /// The command.
        verb: &'static str,
    },
    /// More filesystems than a request has room for.
    #[error("hibernate: {0} filesystems and swap areas are too many to watch; unmount some")]
    TooMuchToWatch(usize),
    /// An argument or a word of the kernel's command line that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The user said so, with a signal or a key, where no image was being written.
    #[error("{verb}: stopped; nothing was changed")]
    Aborted {
        /// The command.
        verb: &'static str,
    },
    /// `kjump init` was typed.
    #[error("init: this is PID 1 of an initramfs, and nothing to run by hand")]
    NotInit,
    /// The kernel says something that has no line of its own.
    #[error("{verb}: {}; the kernel's log (dmesg) may say more", plain(source))]
    Kernel {
        /// The command.
        verb: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// The system's text for an error, without the number that Rust puts behind it.
pub fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_string()
}

impl Error {
    /// An [`Error::Io`] with what was being done.
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// As it is to be said of a snapshot, which is not worthless after that.
    pub fn of_a_snapshot(self) -> Self {
        match self {
            Error::Stale { target, source } => Error::Changed { target, source },
            other => other,
        }
    }

    /// As it is to be said of a load called `name`; empty for the one without.
    pub fn of_name(self, name: &str) -> Self {
        match self {
            Error::AlreadyLoaded { .. } if !name.is_empty() => {
                Error::NameTaken { name: name.into() }
            }
            other => other,
        }
    }

    /// What an errno of the module means for any command; commands with meanings of their own
    /// look at those first.
    pub fn from_errno(verb: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Error::NotPermitted { verb },
            Errno::NODATA => Error::NothingLoaded { verb },
            Errno::EXIST => Error::AlreadyLoaded { verb },
            Errno::BUSY => Error::Owned { verb },
            Errno::INPROGRESS => Error::UnderWay { verb },
            // An ioctl of another size has another number.
            Errno::PROTONOSUPPORT | Errno::NOTTY => Error::Abi,
            Errno::OPNOTSUPP => Error::NotSupported { verb },
            Errno::NOMEM => Error::NoMemory { verb },
            Errno::FAULT => Error::Fault { verb },
            Errno::NOLINK => Error::NotReenterable { verb },
            Errno::NODEV => Error::NotPeer { verb },
            Errno::XDEV => Error::IsPeer { verb },
            other => Error::Kernel {
                verb,
                source: other.into(),
            },
        }
    }

    /// The errno that describes it to another kernel: what a peer answers when it fails.
    pub fn errno(&self) -> u32 {
        match self {
            Error::Io { source, .. }
            | Error::Kernel { source, .. }
            | Error::Rung { source, .. } => source
                .raw_os_error()
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(5),
            other => u32::from(other.exit_code()),
        }
    }
}
