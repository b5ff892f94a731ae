// SPDX-License-Identifier: GPL-2.0

//! Mappings of device registers, and of memory that is RAM but not this kernel's.

use super::bindings;
use crate::alloc;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Registers of a device, mapped uncached; unmapped on drop.
pub(crate) struct Mmio {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: a mapping is the kernel's, of no thread in particular.
unsafe impl Send for Mmio {}

impl Mmio {
    /// Maps `size` bytes at physical address `phys`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn map(phys: u32, size: usize) -> Result<Self> {
        alloc::allow()?;
        // SAFETY: process context; the range is a device's by the resource tree or an MSR.
        let base = unsafe { bindings::kjh_ioremap(phys, size as u32) };
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
            size,
        })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset + 4 <= self.size);
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Reads the register at `offset`, bytes.
    pub(crate) fn read32(&self, offset: usize) -> u32 {
        // SAFETY: a mapped register.
        unsafe { bindings::kjh_read32(self.at(offset).cast()) }
    }

    /// Writes the register at `offset`, bytes.
    pub(crate) fn write32(&self, offset: usize, value: u32) {
        // SAFETY: a mapped register; what the write does is the caller's point.
        unsafe { bindings::kjh_write32(self.at(offset).cast(), value) }
    }
}

impl Drop for Mmio {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, not used any more.
        unsafe { bindings::kjh_iounmap(self.base.as_ptr().cast()) }
    }
}

/// Pages of another kernel's memory, mapped cached; unmapped on drop.
pub(crate) struct OldMemory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: as for `Mmio`.
unsafe impl Send for OldMemory {}

impl OldMemory {
    /// Maps `size` bytes at physical address `phys`, page-aligned.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also where the range is RAM of this kernel in part.
    pub(crate) fn map(phys: u32, size: usize) -> Result<Self> {
        alloc::allow()?;
        // SAFETY: process context; memremap checks the range itself.
        let base = unsafe { bindings::kjh_memremap(phys, size as u32) };
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(ENOMEM)?,
            size,
        })
    }

    /// The bytes. Nobody else runs in that kernel, so they do not change under the reader.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `size` bytes as long as `self` lives; the other kernel is frozen.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.size) }
    }

    /// The bytes, to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for the time of the write.
        unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.size) }
    }

    /// A `T` at `offset`, bytes.
    ///
    /// # Safety
    ///
    /// Every bit pattern is a `T`.
    pub(crate) unsafe fn read<T: Copy>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= self.size);
        // SAFETY: inside the mapping, as just checked; `T` takes any bits.
        unsafe { self.base.as_ptr().add(offset).cast::<T>().read_unaligned() }
    }

    /// The `T` at `offset`, bytes, to be changed in place.
    ///
    /// # Safety
    ///
    /// Every bit pattern is a `T`, and the mapping really is that kernel's `T`.
    pub(crate) unsafe fn get_mut<T>(&mut self, offset: usize) -> &mut T {
        assert!(offset + size_of::<T>() <= self.size && offset % align_of::<T>() == 0);
        // SAFETY: inside the mapping and aligned, as just checked; `T` takes any bits.
        unsafe { &mut *self.base.as_ptr().add(offset).cast::<T>() }
    }
}

impl Drop for OldMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, not used any more.
        unsafe { bindings::kjh_memunmap(self.base.as_ptr().cast()) }
    }
}
