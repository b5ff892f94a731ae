//! ELF cores of a kernel's memory: those that can be resumed (`kjump save --format elf`,
//! `/proc/vmcore` of a peer), those of a peer that can be entered (`/proc/kimgcore`), and plain ones.
//!
//! Reading: [`Core::read`] checks every bound and keeps a table of the segments and the small
//! notes; the memory itself is read by whoever wants it, from [`Segment::offset`] or through
//! [`Core::read_memory`]. Writing: [`Writer`] streams an ELF64 core.
//!
//! Addresses are physical, in bytes, unless a name says otherwise. docs/image-format.md is the
//! specification of the notes.
#![forbid(unsafe_code)]

mod handoff;
pub mod layout;
mod notes;
mod read;
mod reader;
mod refusal;
mod sum;
mod write;

pub use handoff::{decode_handoff, handoff_address};
pub use kjump_abi::{CoreNote, PeerNote};
pub use kjump_image::Source;
pub use notes::{ImageNote, IMAGE_NOTE_SIZE};
pub use read::{Core, Kind, Segment};
pub use reader::Reader;
pub use refusal::Refusal;
pub use write::{Layout, Notes, Writer};
