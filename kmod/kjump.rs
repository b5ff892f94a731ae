// SPDX-License-Identifier: GPL-2.0

//! kjump: a running Linux steps aside for another kernel and comes back.
//!
//! Start with `jump`, which is the whole story in order; `rungs` has its steps, `load` what is
//! made ready before, `arch` the stub that exchanges memory. docs/protocol.md has what two
//! kernels agree on, docs/states.md what may be asked of `/dev/kjump` when.

#[path = "../userspace/abi/src/uapi.rs"]
#[allow(dead_code, unreachable_pub)]
mod abi;
mod alloc;
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
mod watch;
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
        device_timeout: u32 {
            default: 0,
            description: "Seconds after which a jump whose devices do not freeze or come back ends in a panic, 0 for never",
        },
        testing: bool {
            default: false,
            description: "Allow tests to make rungs and allocations fail",
        },
        fail_alloc: u32 {
            default: 0,
            description: "With testing=1: which of the module's allocations fails first, 0 for none",
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
                    if module_parameters::testing.value() {
                        alloc::fail_at(module_parameters::fail_alloc.value());
                    }
                    session::init(session::Options {
                        handoff: module_parameters::handoff.value(),
                        testing: module_parameters::testing.value(),
                        panic_back: module_parameters::panic_back.value(),
                        device_timeout: module_parameters::device_timeout.value(),
                    })?
                }
            },
            _panics: sys::PanicWatch::start(),
            _kimgcore: sys::KimgcoreFile::new(),
            device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"kjump" }),
        })
    }
}
