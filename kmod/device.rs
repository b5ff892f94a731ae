// SPDX-License-Identifier: GPL-2.0

//! `/dev/kjump`: arguments in and out, and nothing else; `session` decides.

use crate::abi;
use crate::alloc::KBox;
use crate::old;
use crate::session::{self, Opener};
use crate::sys;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::fs::{File, Kiocb};
use kernel::iov::{IovIterDest, IovIterSource};
use kernel::miscdevice::{MiscDevice, MiscDeviceRegistration};
use kernel::mm::virt::VmaNew;
use kernel::prelude::*;
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice};

/// An open file.
pub(crate) struct Device {
    opener: Opener,
}

/// The last number given to an open file.
static OPENERS: AtomicU32 = AtomicU32::new(0);

/// Whether the caller may do anything here: at each call, as a file may have been handed to somebody
/// with less.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_BOOT`.
fn allowed() -> Result {
    if sys::capable() {
        return Ok(());
    }
    Err(EPERM)
}

/// Declares ioctl arguments, which all start with the ABI's version.
macro_rules! arguments {
    ($($t:ident),*) => {
        $(
            // SAFETY: integers only: any bits will do.
            unsafe impl FromBytes for abi::$t {}
            // SAFETY: integers only and no padding: sizes and offsets are asserted in the ABI.
            unsafe impl AsBytes for abi::$t {}
        )*
    };
}
arguments!(
    Prepare, Segment, Commit, Jump, Back, Unload, Status, Request, Label, Select, List, Listed,
    Claim, Enter, Range, Fault
);

/// Copies the argument in, lets `f` act on it, and copies it out: also when `f` fails, as it may
/// say there what failed. Not inlined: a jump goes deep into drivers, and has a stack of 8 KiB; it is
/// not to have all other calls' arguments on it.
#[inline(never)]
fn exchange<T: FromBytes + AsBytes>(arg: usize, f: impl FnOnce(&mut T) -> Result) -> Result {
    let slice = || UserSlice::new(UserPtr::from_addr(arg), size_of::<T>());
    let version = UserSlice::new(UserPtr::from_addr(arg), 4)
        .reader()
        .read::<u32>()?;
    if version != abi::ABI_VERSION {
        return Err(EPROTONOSUPPORT);
    }
    let mut value = slice().reader().read::<T>()?;
    // An argument that cannot be written is refused before anything is done.
    slice().writer().write(&value)?;
    let result = f(&mut value);
    slice().writer().write(&value)?;
    result
}

#[vtable]
impl MiscDevice for Device {
    type Ptr = KBox<Self>;

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        allowed()?;
        sys::old_seekable(file);
        let opener = OPENERS.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(KBox::new(Self { opener }, GFP_KERNEL)?)
    }

    fn release(device: KBox<Self>, _file: &File) {
        session::close(device.opener);
    }

    fn ioctl(device: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        allowed()?;
        let opener = device.opener;
        match cmd {
            abi::IOC_PREPARE => exchange(arg, |a| session::prepare(opener, a))?,
            abi::IOC_SEGMENT => exchange(arg, |a| session::segment(opener, a))?,
            abi::IOC_COMMIT => exchange(arg, |a| session::commit(opener, a))?,
            abi::IOC_JUMP => exchange(arg, |a| session::jump(opener, a))?,
            abi::IOC_BACK => exchange(arg, session::back)?,
            abi::IOC_UNLOAD => exchange(arg, |a| session::unload(opener, a))?,
            abi::IOC_STATUS => exchange(arg, |a| {
                session::status(opener, a);
                Ok(())
            })?,
            abi::IOC_HANDOFF => session::with_handoff(|block| {
                UserSlice::new(UserPtr::from_addr(arg), block.len())
                    .writer()
                    .write_slice(block)
            })?,
            abi::IOC_REQUEST => exchange(arg, |a| session::request(opener, a))?,
            abi::IOC_LABEL => exchange(arg, |a| session::label(opener, a))?,
            abi::IOC_SELECT => exchange(arg, |a| session::select(opener, a))?,
            abi::IOC_LIST => exchange(arg, session::list)?,
            abi::IOC_CLAIM => exchange(arg, |a| session::claim(opener, a))?,
            abi::IOC_FAULT => exchange(arg, session::fault)?,
            abi::IOC_ENTER => exchange(arg, |a| session::enter(opener, a))?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn mmap(_device: &Self, file: &File, vma: &VmaNew) -> Result {
        allowed()?;
        if !old::present() {
            return Err(ENODEV);
        }
        sys::old_mmap(file, vma, old::writable())
    }

    fn read_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterDest<'_>) -> Result<usize> {
        allowed()?;
        let position = u64::try_from(kiocb.ki_pos()).map_err(|_| EINVAL)?;
        let opener = kiocb.file().opener;
        let length = iov.len();
        let copy = |bytes: &[u8]| iov.copy_to_iter(bytes);
        let done = if old::present() {
            old::read(position, length, copy)?
        } else {
            session::read_peer(opener, position, length, copy)?
        };
        if done == 0 && !iov.is_empty() {
            return Err(EFAULT);
        }
        *kiocb.ki_pos_mut() += done as i64;
        Ok(done)
    }

    fn write_iter(mut kiocb: Kiocb<'_, Self::Ptr>, iov: &mut IovIterSource<'_>) -> Result<usize> {
        allowed()?;
        let position = u64::try_from(kiocb.ki_pos()).map_err(|_| EINVAL)?;
        let done = old::write(position, iov.len(), |bytes| iov.copy_from_iter(bytes))?;
        if done == 0 && !iov.is_empty() {
            return Err(EFAULT);
        }
        *kiocb.ki_pos_mut() += done as i64;
        Ok(done)
    }
}
