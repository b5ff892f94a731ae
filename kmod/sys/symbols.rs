// SPDX-License-Identifier: GPL-2.0

//! Kernel functions that are not exported to modules, looked up once through a kprobe.
//!
//! docs/symbols.md lists each, why it is needed and what happens without it. All take and return
//! 32-bit scalars, so they may be called from Rust as they are.

use super::bindings;
use crate::abi::OPTIONAL_SYMBOLS;
use core::ffi::{c_int, c_void};
use kernel::prelude::*;

/// Functions by the order of [`OPTIONAL_SYMBOLS`].
const COUNT: usize = OPTIONAL_SYMBOLS.len();

/// Bytes of a name, its NUL included.
const NAME_SIZE: usize = bindings::KJH_NAME_SIZE as usize;

/// Their names as C has them.
static NAMES: [[u8; NAME_SIZE]; COUNT] = {
    let mut names = [[0; NAME_SIZE]; COUNT];
    let mut i = 0;
    while i < COUNT {
        let name = OPTIONAL_SYMBOLS[i].as_bytes();
        assert!(name.len() < NAME_SIZE);
        let mut j = 0;
        while j < name.len() {
            names[i][j] = name[j];
            j += 1;
        }
        i += 1;
    }
    names
};

/// What was found.
pub(crate) struct Symbols([*mut c_void; COUNT]);

// SAFETY: addresses of kernel text, the same for every thread, for as long as the kernel runs.
unsafe impl Send for Symbols {}
// SAFETY: as above.
unsafe impl Sync for Symbols {}

/// Index of a symbol; a compile-time error if the ABI does not list it.
const fn index(name: &str) -> usize {
    let mut i = 0;
    while i < COUNT {
        let (a, b) = (OPTIONAL_SYMBOLS[i].as_bytes(), name.as_bytes());
        let mut same = a.len() == b.len();
        let mut j = 0;
        while same && j < a.len() {
            same = a[j] == b[j];
            j += 1;
        }
        if same {
            return i;
        }
        i += 1;
    }
    panic!("not in OPTIONAL_SYMBOLS")
}

/// Wrappers, one a function: `None` where the kernel does not have it.
macro_rules! wrappers {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $t:ty),*) $(-> $r:ty)?;)*) => {
        impl Symbols {
            $($(#[$doc])*
            pub(crate) fn $name(&self) -> Option<unsafe extern "C" fn($($t),*) $(-> $r)?> {
                const AT: usize = index(stringify!($name));
                let address = self.0[AT];
                if address.is_null() {
                    return None;
                }
                // SAFETY: the address of the function of that name, whose prototype in the
                // kernel's headers is the one given here.
                Some(unsafe {
                    core::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn($($t),*) $(-> $r)?,
                    >(address)
                })
            })*
        }
    };
}

wrappers! {
    /// kernel/power/process.c
    freeze_processes() -> c_int;
    /// kernel/power/process.c
    thaw_processes();
    /// kernel/power/process.c
    freeze_kernel_threads() -> c_int;
    /// kernel/cpu.c; `primary` is the CPU that stays
    freeze_secondary_cpus(primary: c_int) -> c_int;
    /// kernel/cpu.c
    thaw_secondary_cpus();
    /// kernel/power/main.c
    pm_notifier_call_chain_robust(up: usize, down: usize) -> c_int;
    /// kernel/power/main.c
    pm_notifier_call_chain(event: usize) -> c_int;
    /// kernel/printk/printk.c
    console_suspend_all();
    /// kernel/printk/printk.c
    console_resume_all();
    /// kernel/power/console.c
    pm_prepare_console();
    /// kernel/power/console.c
    pm_restore_console();
    /// mm/page_alloc.c; null for all zones
    drain_local_pages(zone: *mut c_void);
}

impl Symbols {
    /// Looks all of them up; process context that may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn resolve() -> Result<Self> {
        let mut found = [core::ptr::null_mut(); COUNT];
        let (names, at) = (NAMES.as_ptr().cast(), found.as_mut_ptr());
        // SAFETY: as many NUL-terminated names, and places for addresses, as it is told.
        if unsafe { bindings::kjh_lookup(names, at, COUNT as u32) } {
            Ok(Self(found))
        } else {
            Err(ENOMEM)
        }
    }

    /// Bit N: `OPTIONAL_SYMBOLS[N]` was found.
    pub(crate) fn bits(&self) -> u32 {
        self.0
            .iter()
            .enumerate()
            .map(|(i, a)| u32::from(!a.is_null()) << i)
            .sum()
    }
}
