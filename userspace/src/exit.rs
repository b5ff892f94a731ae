//! The exit codes: one for each thing that can go wrong.

use kjump_image::{Error as Save, Refusal};

use crate::error::Error;

/// Exit code of `jump` when the peer answered with a status other than 0.
pub const EXIT_PEER_STATUS: u8 = 40;
/// Exit code of `jump` when the peer panicked.
pub const EXIT_PEER_PANIC: u8 = 41;

/// The table of exit codes, as `kjump --help` prints it.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  done (jump: the peer came back with status 0, or without an answer)
   1  any other failure of the system; doctor: something to mend
   2  wrong usage
   3  not root                        4  module missing
   5  lockdown or missing capability  6  nothing is loaded
   7  something is loaded already     8  another program owns the load
   9  a jump is under way            10  ABI version mismatch
  11  not supported here             12  not enough memory
  13  not a kernel                   14  truncated kernel
  15  kernel of an unsupported kind  16  kernel does not fit the window
  17  initrd does not fit            18  command line too long
  19  no usable memory map           20  window of zero size
  21  window not page-aligned        22  window larger than low memory
  23  segment outside the window     24  segments overlap
  25  segment wraps around 4 GiB     26  bad address
  27  peer cannot be entered again   28  this kernel is no peer
  29  a rung of the way down failed; this kernel goes on as before
  30  init run by hand               31  this kernel is itself a peer
  32  wrong configuration file       33  no target given
  34  a filesystem or swap area that cannot be watched for changes
  35  no way back: neither the module nor mainline's KEXEC_JUMP is there
  40  the peer came back with a status other than 0
  41  the peer panicked and came back
  42  the other kernel is not entered at the address that was given
  43  a call did not return in time  44  a call faulted, or was lost
  45  the firmware has no such service
  46  the peer changed memory of this kernel that it was not given
  47  a hardware watchdog is running
  50  no image                       51  image torn or unfinished
  52  image damaged                  53  image used or discarded
  54  image foreign                  55  image stale
  56  target refused: missing, read-only, mounted, swap, too small, ...
  57  stopped by the user            58  writing or reading the target failed
  60  the kernel's own /dev/snapshot does not take or enter the image
  61  a hook of --with-disks failed, or a filesystem cannot be frozen
  62  disks are rolled back and memory is not: press reset
  63  the base of an incremental snapshot is missing, or is not what it was
  64  other snapshots build on this one
  70  wrong passphrase or key        71  no key for an encrypted image
  72  image not encrypted, though only encrypted ones are to be used
  73  an encrypted image is neither made flat nor an ELF core";

impl Error {
    /// The exit code, see [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Kernel { .. } => 1,
            Error::CallTimedOut => 43,
            Error::CallFaulted { .. } | Error::CallLost => 44,
            Error::Firmware { .. } => 45,
            Error::NotRoot => 3,
            Error::NoModule => 4,
            Error::NotPermitted { .. } => 5,
            Error::NothingLoaded { .. } => 6,
            Error::AlreadyLoaded { .. } | Error::NameTaken { .. } => 7,
            Error::Owned { .. } => 8,
            Error::UnderWay { .. } => 9,
            Error::Abi => 10,
            Error::NotSupported { .. } | Error::OwnWindow { .. } => 11,
            Error::NoMemory { .. } | Error::NoRoom(_) | Error::NoOwnRoom { .. } => 12,
            Error::NotKernel { .. } => 13,
            Error::TruncatedKernel { .. } => 14,
            Error::UnsupportedKernel { .. } => 15,
            Error::KernelDoesNotFit { .. } | Error::NotRelocatable { .. } => 16,
            Error::InitrdDoesNotFit { .. } => 17,
            Error::CommandLineTooLong { .. } => 18,
            Error::MemoryMap(_) => 19,
            Error::WindowZero => 20,
            Error::WindowUnaligned(_) => 21,
            Error::WindowTooLarge(_) => 22,
            Error::SegmentOutside { .. } => 23,
            Error::SegmentOverlap { .. } => 24,
            Error::SegmentWraps { .. } => 25,
            Error::Fault { .. } => 26,
            Error::NotReenterable { .. } => 27,
            Error::NotPeer { .. } => 28,
            Error::WrongEntry { .. } => 42,
            Error::NoWayBack { .. } => 35,
            Error::Rung { .. } => 29,
            Error::Touched { .. } => 46,
            Error::Watchdog { .. } => 47,
            Error::Target(e) => target(e),
            Error::NotSaved { code, .. }
            | Error::NotResumed { code, .. }
            | Error::NotDone { code, .. } => *code,
            Error::NoRequest { .. } => 6,
            Error::NoKernel { .. } | Error::NoPeer { .. } => 50,
            Error::TooMuchToWatch(_) => 34,
            Error::Usage(_) => 2,
            Error::NotInit => 30,
            Error::IsPeer { .. } => 31,
            Error::Config { .. } => 32,
            Error::NoTarget => 33,
            Error::Refused { source, .. } => refused(source),
            Error::Core { source, .. } => core(source),
            Error::Save { source, .. } => save(source),
            Error::Stale { .. } | Error::Changed { .. } => 55,
            Error::Guard { source, .. } => guard(source),
            Error::Unwatched { .. } | Error::SwapInUse { .. } => 34,
            Error::Hook { .. } | Error::Freeze { .. } => 61,
            Error::DisksGone { .. } => 62,
            Error::Needed { .. } => 64,
            Error::NoSnapshot { .. } => 50,
            Error::NoKey(_) | Error::KeyFile { .. } | Error::MustEncrypt { .. } => 71,
            Error::Encrypted { .. } => 73,
            Error::KdfMemory { .. } => 12,
            Error::Aborted { .. } => 57,
            Error::Snapshot { .. } => 60,
        }
    }
}

fn refused(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::NoMemory(_) => 12,
        Refusal::NoImage(_) => 50,
        Refusal::Unfinished { .. } | Refusal::Torn { .. } => 51,
        Refusal::RefusedBefore { .. } => 52,
        Refusal::Used { .. } | Refusal::Discarded { .. } => 53,
        Refusal::Foreign { .. } => 54,
        Refusal::WrongKey => 70,
        Refusal::Locked => 71,
        Refusal::Plain => 72,
        Refusal::Io { .. } => 58,
        Refusal::Base { .. } => 63,
        // What is of an unknown version, or contradicts itself, is of no more use than what does
        // not match its checksum.
        _ => 52,
    }
}

fn core(refusal: &kjump_core::Refusal) -> u8 {
    use kjump_core::Refusal as Core;
    match refusal {
        Core::NotElf | Core::NotCore { .. } | Core::NotResumable(_) => 50,
        Core::Truncated { .. } => 51,
        Core::GivenUp | Core::Used => 53,
        Core::Foreign { .. } => 54,
        Core::Io { .. } => 58,
        Core::NoMemory(_) => 12,
        Core::Image(source) => refused(source),
        _ => 52,
    }
}

fn save(error: &Save) -> u8 {
    match error {
        Save::NoMemory(_) => 12,
        Save::NoRoom { .. } | Save::Stream => 56,
        Save::Stopped => 57,
        Save::Io { .. } | Save::Mark { .. } | Save::CommitUnknown { .. } => 58,
        _ => 1,
    }
}

fn guard(error: &kjump_guard::Error) -> u8 {
    match error {
        kjump_guard::Error::Io { .. } => 58,
        _ => 34,
    }
}

/// Of a target that is not to be had.
fn target(e: &kjump_target::Error) -> u8 {
    match e {
        kjump_target::Error::Image(e) => save(e),
        kjump_target::Error::NoMemory(_) => 12,
        kjump_target::Error::BadSpec { .. } => 2,
        e if e.is_io() => 58,
        _ => 56,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn images() {
        let refused = |source| Error::Refused {
            target: "/dev/vda2".into(),
            source,
        };
        let io = || io::Error::other("x");
        let all = [
            (refused(Refusal::NoImage("x")), 50),
            (refused(Refusal::Unfinished { begun: 1 }), 51),
            (refused(Refusal::Torn { what: "x" }), 51),
            (refused(Refusal::Damaged { what: "x" }), 52),
            (refused(Refusal::BadHeader("x")), 52),
            (refused(Refusal::Used { time: 1 }), 53),
            (refused(Refusal::Discarded { time: 1 }), 53),
            (
                refused(Refusal::Foreign {
                    what: "x",
                    image: "a".into(),
                    here: "b".into(),
                }),
                54,
            ),
            (refused(Refusal::Altered { what: "x" }), 52),
            (refused(Refusal::WrongKey), 70),
            (refused(Refusal::Locked), 71),
            (refused(Refusal::Plain), 72),
            (
                refused(Refusal::Io {
                    what: "x",
                    source: io(),
                }),
                58,
            ),
        ];
        for (e, code) in all {
            assert_eq!(e.exit_code(), code, "{e}");
            assert!(e.to_string().starts_with("/dev/vda2: "));
            assert!(EXIT_CODES.contains(&format!("  {code}  ")));
        }
    }

    #[test]
    fn cores() {
        use kjump_core::Refusal as Core;
        let code = |source| {
            let file = "dump.elf".into();
            let e = Error::Core { file, source };
            assert!(e.to_string().starts_with("dump.elf: "));
            e.exit_code()
        };
        assert_eq!(code(Core::NotElf), 50);
        assert_eq!(code(Core::NotCore { kind: 2 }), 50);
        let (what, end, size) = ("x", 2, 1);
        assert_eq!(code(Core::Truncated { what, end, size }), 51);
        assert_eq!(code(Core::Bad("x")), 52);
        assert_eq!(code(Core::Image(Refusal::Torn { what })), 51);
        let [file, here] = ["1", "2"].map(String::from);
        assert_eq!(code(Core::Foreign { what, file, here }), 54);
    }

    #[test]
    fn guards() {
        let (name, what) = ("ext /dev/vda1".into(), "it was mounted since".into());
        let stale = Error::Stale {
            target: "/dev/vda2".into(),
            source: kjump_guard::Stale { name, what },
        };
        assert_eq!(stale.exit_code(), 55);
        assert!(stale.to_string().contains("ext /dev/vda1: it was mounted"));
        let guard = |source| {
            let device = "/dev/vda1".into();
            Error::Guard { device, source }.exit_code()
        };
        let (kind, what) = (kjump_guard::Kind::Swap, "x");
        let source = io::Error::other("x");
        assert_eq!(guard(kjump_guard::Error::Io { what, source }), 58);
        assert_eq!(guard(kjump_guard::Error::Unsupported { kind, what }), 34);
    }

    #[test]
    fn saves() {
        let save = |source| {
            let target = "/dev/vda2".into();
            Error::Save { target, source }.exit_code()
        };
        let io = || io::Error::other("x");
        assert_eq!(save(Save::NoRoom { need: 2, have: 1 }), 56);
        assert_eq!(save(Save::Stopped), 57);
        assert_eq!(save(Save::CommitUnknown { source: io() }), 58);
        assert_eq!(
            save(Save::Io {
                what: "x",
                source: io()
            }),
            58
        );
        assert_eq!(save(Save::Invalid("x")), 1);
    }
}
