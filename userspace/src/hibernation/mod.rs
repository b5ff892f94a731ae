//! Hibernation: what A asks (`request`), what B saves and how (`pages`, `guards`, `save`, `workers`), what an image builds on (`chain`), how C brings
//! it back (`restore`, from an ELF core `resumable`) or goes on to the normal kernel (`go_on`), how that one does it without C (`direct`, by its own means `snapshot`), and
//! what the machine is, as all of them see it (`machine`).

use std::thread::sleep;
use std::time::Duration;

use crate::error::Result;

pub mod chain;
pub mod core_map;
pub mod core_mark;
pub mod direct;
pub mod elf_headers;
pub mod go_on;
pub mod guards;
pub mod label;
pub mod machine;
pub mod old;
pub mod pages;
pub mod peer;
pub mod places;
pub mod request;
pub mod restore;
pub mod resumable;
pub mod save;
pub mod save_elf;
mod sink;
pub mod snapshot;
pub mod watch;
pub mod word;
pub mod workers;

/// How often a disk that is not there yet is looked for, and how long between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// What `look` finds, waiting for its disk.
pub fn once_there<T>(mut look: impl FnMut() -> kjump_target::Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match look() {
            Err(e) if e.is_missing() => sleep(PAUSE),
            other => return Ok(other?),
        }
    }
    Ok(look()?)
}
