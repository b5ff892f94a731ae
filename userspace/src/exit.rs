//! The exit codes: one for each thing that can go wrong.

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
  40  the peer came back with a status other than 0
  41  the peer panicked and came back";

impl Error {
    /// The exit code, see [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { .. } | Error::Kernel { .. } => 1,
            Error::NotRoot => 3,
            Error::NoModule => 4,
            Error::NotPermitted { .. } => 5,
            Error::NothingLoaded { .. } => 6,
            Error::AlreadyLoaded { .. } => 7,
            Error::Owned { .. } => 8,
            Error::UnderWay { .. } => 9,
            Error::Abi => 10,
            Error::NotSupported { .. } => 11,
            Error::NoMemory { .. } => 12,
            Error::NotKernel { .. } => 13,
            Error::TruncatedKernel { .. } => 14,
            Error::UnsupportedKernel { .. } => 15,
            Error::KernelDoesNotFit { .. } => 16,
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
            Error::Rung { .. } => 29,
            Error::NotInit => 30,
            Error::IsPeer { .. } => 31,
        }
    }
}
