// SPDX-License-Identifier: GPL-2.0

//! The way back to a kernel that left no handoff: mainline's kexec has jumped here. Nothing of it is
//! known but an address, which is the caller's business: code that readies the CPU for that kernel,
//! enters it, and comes back here by the address that the stub leaves at `[esp]`.

use crate::gate::Gate;
use crate::jump::Side;
use crate::pages::{Nowhere, PageSource};
use kernel::prelude::*;

/// A gate that nothing is exchanged at.
pub(crate) struct Passage(Gate);

impl Passage {
    /// To `entry`, physical.
    ///
    /// # Errors
    ///
    /// Those of [`Gate::new`].
    pub(crate) fn new(entry: u32) -> Result<Self> {
        let mut gate = Gate::new(&mut PageSource::new(&Nowhere))?;
        // By this whoever comes back knows the page for one of kjump's, which needs no help.
        gate.publish(0);
        gate.control().target = entry;
        Ok(Self(gate))
    }
}

impl Side for Passage {
    fn gate(&mut self) -> &mut Gate {
        &mut self.0
    }

    /// Nobody asks: mainline keeps all of the window's pages.
    fn map_pages(&mut self) {}

    fn returned(&mut self) {}
}
