//! What reads files and texts that kjump did not write, or wrote before something else had its hands
//! on them. Nothing here talks to the module or changes anything. Whatever the input is, the answer
//! is a value or an error: no panic, no more memory than the input accounts for, no end that is not
//! reached. `userspace/fuzz` holds it to that.

pub use crate::config::Config;
pub use crate::hibernation::core_map::CoreMap;
pub use crate::hibernation::label::Label;
pub use crate::hibernation::machine::cpu_in_handoff;
pub use crate::hibernation::pages::SavedPages;
pub use crate::hibernation::request::{Request, Watched};
pub use crate::hibernation::resumable::Resumable;
pub use crate::init::Options;
pub use crate::loader::{alloc, boot_params, bzimage, elf, memmap, plan};
