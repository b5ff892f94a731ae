// SPDX-License-Identifier: GPL-2.0

//! How a machine ended, and what a machine that was started again turned out to be.

use crate::agent::Output;

/// How QEMU ended, by its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// `guest-shutdown`, `guest-reset`…, as the event SHUTDOWN has it.
    pub reason: String,
    /// Whether the guest entered ACPI S4.
    pub s4: bool,
}

/// What became of a command that should switch the machine off.
#[derive(Debug)]
pub enum Left {
    /// It is off.
    Off(Ending),
    /// The command has ended, and the machine is still on.
    Back(Output),
}

/// What a machine that was started with a saved one on its disk has become.
#[derive(Debug)]
pub enum Start {
    /// The saved one: the command that it was in has ended.
    Resumed(Output),
    /// A new one, freshly booted.
    Booted,
}

/// A command that A was in when its machine went off: the shell that runs it is in A's memory, on
/// some disk, and will say how it ended when A goes on, on the port of another machine.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The number of the line.
    pub number: u32,
    /// What the command had printed so far.
    pub said: String,
}
