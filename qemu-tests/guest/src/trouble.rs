// SPDX-License-Identifier: GPL-2.0

//! Peers that fail.

use crate::memory::{vm_setting, Pages};
use crate::Outcome;

/// `panic`: makes this kernel panic, by running out of memory with `panic_on_oom` set to "always".
/// (No SysRq needed, which small kernels do not have.)
pub fn panic(_args: &[String]) -> Outcome {
    vm_setting("panic_on_oom", "2")?;
    vm_setting("overcommit_memory", "1")?;
    println!("about to run out of memory, for a panic");
    while Pages::take(16).is_some() {}
    Err("still alive".into())
}

/// `hang`: does nothing, for ever. To the kernel on the other side it is as good as dead.
pub fn hang(_args: &[String]) -> Outcome {
    println!("hanging");
    loop {
        std::thread::park();
    }
}
