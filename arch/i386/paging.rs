// SPDX-License-Identifier: GPL-2.0

//! Page tables under which paging can be switched off and on again: the kernel's own upper half,
//! and the control page at its physical address.
//!
//! `set_memory_x` is not exported, so the kernel's tables stay as they are, with the direct map
//! not executable under NX; the stub gets tables of its own. The kernel half is copied at the
//! jump, not at load: i386 fills in vmalloc's part of a process's tables lazily, and the module's
//! text lies in vmalloc space.

use crate::pages::{Page, PageSource};
use crate::sys;
use kernel::prelude::*;

/// Present, writable, supervisor-only; no NX bit, so executable.
const KERNEL_TABLE: u32 = 0x003;

/// A page directory pointer table has its flags elsewhere: only "present" is allowed.
#[cfg(CONFIG_X86_PAE)]
const PRESENT: u32 = 0x001;

/// The tables. Two pages without PAE, three with.
pub(crate) struct IdentityTables {
    /// Page directory, or with PAE page directory pointer table.
    root: Page,
    #[cfg(CONFIG_X86_PAE)]
    directory: Page,
    table: Page,
    /// Physical address that is mapped, bytes.
    control: u32,
}

impl IdentityTables {
    /// Allocates the tables for a control page at physical address `control`, bytes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ERANGE` if the address lies in the kernel's half of the address space, where it
    /// cannot be mapped identically (kernels with a 1 GiB user half only).
    pub(crate) fn new(control: u32, source: &mut PageSource<'_>) -> Result<Self> {
        if control as usize >= sys::page_offset() {
            return Err(ERANGE);
        }
        Ok(Self {
            root: source.page()?,
            #[cfg(CONFIG_X86_PAE)]
            directory: source.page()?,
            table: source.page()?,
            control,
        })
    }

    /// Pages these tables take.
    pub(crate) const PAGES: u32 = if cfg!(CONFIG_X86_PAE) { 3 } else { 2 };

    /// Brings the kernel half up to date and returns the value for CR3.
    pub(crate) fn refresh(&mut self) -> u32 {
        let control = self.control;
        #[cfg(not(CONFIG_X86_PAE))]
        {
            let first_kernel = sys::page_offset() >> 22;
            let current = sys::current_page_directory();
            let table = self.table.phys();
            let root = self.root.words_mut();
            root.fill(0);
            for (i, entry) in root.iter_mut().enumerate().skip(first_kernel) {
                // SAFETY: a page directory has 1024 entries and `i` is below that.
                *entry = unsafe { current.add(i).read_volatile() };
            }
            root[(control >> 22) as usize] = table | KERNEL_TABLE;
            self.table.words_mut()[(control >> 12) as usize & 0x3ff] = control | KERNEL_TABLE;
        }
        #[cfg(CONFIG_X86_PAE)]
        {
            // Entries of 64 bits as two words; the high one stays 0 below 4 GiB.
            let first_kernel = sys::page_offset() >> 30;
            let current = sys::current_page_directory();
            let (directory, table) = (self.directory.phys(), self.table.phys());
            let root = self.root.words_mut();
            root.fill(0);
            for i in first_kernel * 2..8 {
                // SAFETY: a page directory pointer table has four entries of two words each.
                root[i] = unsafe { current.add(i).read_volatile() };
            }
            root[(control >> 30) as usize * 2] = directory | PRESENT;
            let directory = self.directory.words_mut();
            directory[((control >> 21) & 0x1ff) as usize * 2] = table | KERNEL_TABLE;
            let table = self.table.words_mut();
            table[((control >> 12) & 0x1ff) as usize * 2] = control | KERNEL_TABLE;
        }
        self.root.phys()
    }
}
