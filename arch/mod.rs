// SPDX-License-Identifier: GPL-2.0

//! What every architecture must define, and the choice of one.
//!
//! | name | what |
//! |---|---|
//! | `ARCH` | number of the architecture in a handoff block |
//! | `ControlPage` | layout of the control page |
//! | `stub` | copying the stub into a control page, and entering it |
//! | `IdentityTables` | page tables that map a control page identically |
//! | `Platform` | interrupt controllers and timers: quiet on the way out, as before on the way back |
//! | `timestamp`, `timestamp_khz` | a clock that runs while the kernel's own do not |
//! | `local_apic`, `is_boot_cpu` | what the stub's INIT needs, and whom it must not hit |
//! | `registers`, `PRSTATUS_*`, `ELF_MACHINE` | what is in an ELF core of this architecture |
//! | `fingerprint` | 32 bits that tell this CPU from another |

#[cfg(target_arch = "x86")]
#[path = "i386/mod.rs"]
mod imp;

#[cfg(not(target_arch = "x86"))]
compile_error!("kjump: no folder under arch/ for this architecture yet");

pub(crate) use imp::*;
