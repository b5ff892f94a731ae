// SPDX-License-Identifier: GPL-2.0

//! Reading what is loaded: `/proc/kimgcore`, and by address.

use super::{Name, Opener, Place, Session, State, SESSION};
use crate::alloc::KBox;
use crate::kimgcore::Kimgcore;
use crate::load::Load;
use crate::pages::PAGE_SIZE;
use crate::sys;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// The load of that name, if it can be read.
fn loaded(session: &mut Session, name: Name) -> Result<&mut Load> {
    if session.away {
        return Err(EINPROGRESS);
    }
    match session.places.iter_mut().find(|p| p.name == name) {
        Some(Place {
            state: State::Loaded(load) | State::Returned(load),
            ..
        }) => Ok(load),
        _ => Err(ENODATA),
    }
}

/// How often the load without a name has changed.
fn changes(session: &Session) -> u32 {
    session.places.first().map_or(0, |place| place.changes)
}

/// Opens `/proc/kimgcore`.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_BOOT`, or under lockdown; `ENODATA` if nothing is loaded;
/// `EINPROGRESS` during a jump; those of [`Kimgcore::new`].
pub(crate) fn open_kimgcore() -> Result<KBox<Kimgcore>> {
    if !sys::capable() || sys::locked_down() {
        return Err(EPERM);
    }
    let mut session = SESSION.lock();
    let changes = changes(&session);
    let core = Kimgcore::new(loaded(&mut session, Name::default())?, changes)?;
    Ok(KBox::new(core, GFP_KERNEL)?)
}

/// Reads up to `size` bytes from position `at` to `buf` in the caller; 0 at the end.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_BOOT`: the file may have been handed to somebody with less; `ESTALE` if
/// what was opened has been jumped to, or is not loaded any more; `EFAULT`.
pub(crate) fn read_kimgcore(core: &Kimgcore, at: u32, buf: usize, size: u32) -> Result<usize> {
    if !sys::capable() {
        return Err(EPERM);
    }
    let mut session = SESSION.lock();
    if changes(&session) != core.changes {
        return Err(ESTALE);
    }
    let load = loaded(&mut session, Name::default())?;
    let mut writer = UserSlice::new(UserPtr::from_addr(buf), size as usize).writer();
    let mut done = 0u32;
    while done < size {
        let at = at.checked_add(done).ok_or(EOVERFLOW)?;
        let bytes = core.bytes(load, at);
        let length = bytes.len().min((size - done) as usize);
        if length == 0 {
            break;
        }
        writer.write_slice(&bytes[..length])?;
        done += length as u32;
    }
    Ok(done as usize)
}

/// Reads the memory that a loaded peer has at physical address `at`, up to `size` bytes; `copy`
/// takes them and says how many it took.
///
/// # Errors
///
/// `ENODEV` if nothing is loaded under the name that this file is about; `ENXIO` if the first byte
/// is not in a page that the peer wants kept; `EINPROGRESS`.
pub(crate) fn read_peer(
    opener: Opener,
    at: u64,
    size: usize,
    mut copy: impl FnMut(&[u8]) -> usize,
) -> Result<usize> {
    let mut session = SESSION.lock();
    let place = session
        .place(opener)
        .map_err(|e| if e == ENODATA { ENODEV } else { e })?;
    let (State::Loaded(load) | State::Returned(load)) = &mut place.state else {
        return Err(ENODEV);
    };
    let mut done = 0;
    while done < size {
        let at = at.checked_add(done as u64).ok_or(EOVERFLOW)?;
        let frame = u32::try_from(at / PAGE_SIZE as u64).ok();
        let Some(page) = frame.and_then(|frame| load.peer_page(frame)) else {
            break;
        };
        let bytes = &page.bytes_mut()[at as usize % PAGE_SIZE..];
        let want = bytes.len().min(size - done);
        let took = copy(&bytes[..want]);
        done += took;
        if took < want {
            return Ok(done);
        }
    }
    if done == 0 && size > 0 {
        return Err(ENXIO);
    }
    Ok(done)
}
