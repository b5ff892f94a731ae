// SPDX-License-Identifier: GPL-2.0

//! kjump: a running Linux steps aside for another kernel and comes back.
//!
//! Start with `jump`, which is the whole story in order; `rungs` has its steps, `load` what is
//! made ready before, `arch` the stub that exchanges memory. docs/protocol.md has what two
//! kernels agree on, docs/states.md what may be asked of `/dev/kjump` when.

#[path = "../userspace/abi/src/uapi.rs"]
#[allow(dead_code, unreachable_pub)]
mod abi;
#[path = "../arch/mod.rs"]
mod arch;
mod claim;
mod device;
mod elf;
mod gate;
mod handoff;
mod jump;
mod kimgcore;
mod list;
mod load;
mod old;
mod oneway;
mod own;
mod page_map;
mod pages;
mod panic;
mod passage;
mod peer;
mod rungs;
mod session;
mod sys;
mod vmcore;
mod window;

use kernel::miscdevice::{MiscDeviceOptions, MiscDeviceRegistration};
use kernel::prelude::*;

module! {
    type: Kjump,
    name: "kjump",
    authors: ["The kjump authors"],
    description: "Step aside for another kernel and come back",
    license: "GPL",
    params: {
        handoff: u64 {
            default: 0,
            description: "In a peer: physical address of the handoff block (kjump.handoff= on the kernel command line)",
        },
        panic_back: bool {
            default: true,
            description: "In a peer: go back when this kernel panics",
        },
        testing: bool {
            default: false,
            description: "Allow tests to make rungs fail",
        },
    },
}

/// Fields are dropped in order: no new callers, no new readers, no more panics heard, then the session.
#[pin_data]
struct Kjump {
    #[pin]
    device: MiscDeviceRegistration<device::Device>,
    _kimgcore: Option<sys::KimgcoreFile>,
    _panics: sys::PanicWatch,
    _session: session::Guard,
}

impl kernel::InPlaceModule for Kjump {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _session: {
                // SAFETY: a module is initialised once, and nothing of it runs before this.
                unsafe {
                    old::init();
                    session::init(
                        module_parameters::handoff.value(),
                        module_parameters::testing.value(),
                        module_parameters::panic_back.value(),
                    )?
                }
            },
            _panics: sys::PanicWatch::start(),
            _kimgcore: sys::KimgcoreFile::new(),
            device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"kjump" }),
        })
    }
}
