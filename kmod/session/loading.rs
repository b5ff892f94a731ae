// SPDX-License-Identifier: GPL-2.0

//! The calls that load something, say what it is and what is asked of it, and free it.

use super::{lockdown, Opener, Place, State, SESSION};
use crate::abi;
use crate::alloc::{KBox, KVec};
use crate::load::Preparation;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// [`abi::IOC_PREPARE`].
///
/// # Errors
///
/// `EXDEV` in a peer; `EEXIST` if something is loaded; `EINPROGRESS`; `EBUSY` if another file
/// owns the load; `EPERM` under lockdown; `ENOSPC`; those of [`Preparation::new`].
pub(crate) fn prepare(opener: Opener, request: &mut abi::Prepare) -> Result {
    lockdown()?;
    let own = request.flags & abi::PREPARE_OWN_WINDOW != 0;
    let one_way = request.flags & abi::PREPARE_ONE_WAY != 0;
    let known = abi::PREPARE_ONE_WAY | abi::PREPARE_OWN_WINDOW;
    if request.flags & !known != 0 || (own && one_way) || (!own && request.own_size != 0) {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    let place = session.place_or_new(opener)?;
    let result = start(place, opener, request);
    session.tidy();
    result
}

fn start(place: &mut Place, opener: Opener, request: &mut abi::Prepare) -> Result {
    match place.state {
        State::Peer(_) => return Err(EXDEV),
        State::Away => return Err(EINPROGRESS),
        State::Preparing(_) if place.owner != Some(opener) => return Err(EBUSY),
        State::Loaded(_) | State::Returned(_) | State::Claimed(_) => return Err(EEXIST),
        State::Empty | State::Gone(..) | State::Preparing(_) => {}
    }
    place.claim(opener)?;
    // An unfinished load of the same file gives its pages back first.
    place.state = State::Empty;
    place.keep = false;
    match Preparation::new(request) {
        Ok(preparation) => place.state = State::Preparing(preparation),
        Err(e) => {
            place.owner = None;
            return Err(e);
        }
    }
    Ok(())
}

/// [`abi::IOC_SEGMENT`].
///
/// # Errors
///
/// `ENODATA` if no load was prepared by this file; those of [`Preparation::segment`].
pub(crate) fn segment(opener: Opener, segment: &abi::Segment) -> Result {
    if segment.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match &mut place.state {
        State::Preparing(_) if place.owner != Some(opener) => Err(EBUSY),
        State::Preparing(preparation) => preparation.segment(segment),
        _ => Err(ENODATA),
    }
}

/// [`abi::IOC_COMMIT`]: ends a load; or says what is entered of claimed RAM.
///
/// # Errors
///
/// `ENODATA` if no load was prepared by this file, and nothing claimed; those of
/// [`Preparation::commit`], after which nothing is loaded, or of [`crate::claim::Claimed::aim`].
pub(crate) fn commit(opener: Opener, commit: &abi::Commit) -> Result {
    lockdown()?;
    if commit.flags & !abi::COMMIT_KEEP != 0 || commit.reserved != 0 {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match &mut place.state {
        State::Preparing(_) if place.owner != Some(opener) => return Err(EBUSY),
        State::Preparing(_) => {}
        State::Claimed(_) => {
            place.claim(opener)?;
            if let State::Claimed(claimed) = &mut place.state {
                claimed.aim(commit.entry, commit.boot_params)?;
            }
            place.keep |= commit.flags & abi::COMMIT_KEEP != 0;
            return Ok(());
        }
        _ => return Err(ENODATA),
    }
    let result = finish(place, opener, commit);
    session.tidy();
    result
}

fn finish(place: &mut Place, opener: Opener, commit: &abi::Commit) -> Result {
    if let State::Preparing(preparation) = core::mem::replace(&mut place.state, State::Empty) {
        place.owner = None;
        let load = KBox::new(preparation.commit(commit)?, GFP_KERNEL)?;
        place.owner = Some(opener);
        place.state = State::Loaded(load);
        place.keep = commit.flags & abi::COMMIT_KEEP != 0;
        *place.last = abi::Status::default();
        place.changes = place.changes.wrapping_add(1);
    }
    Ok(())
}

/// [`abi::IOC_UNLOAD`].
///
/// # Errors
///
/// `ENODATA` if nothing is loaded; `EINPROGRESS`; `EBUSY` if another file owns the load; `EXDEV`
/// in a peer.
pub(crate) fn unload(opener: Opener, request: &abi::Unload) -> Result {
    if request.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match place.state {
        State::Empty => return Err(ENODATA),
        State::Peer(_) => return Err(EXDEV),
        _ => {}
    }
    place.claim(opener)?;
    place.release();
    session.tidy();
    Ok(())
}

/// A text of the caller's, of less than `room` bytes.
fn text(buf: u64, len: u64, room: usize) -> Result<KVec<u8>> {
    let length = usize::try_from(len).map_err(|_| E2BIG)?;
    if length >= room {
        return Err(E2BIG);
    }
    let address = usize::try_from(buf).map_err(|_| EFAULT)?;
    let mut text = KVec::new();
    UserSlice::new(UserPtr::from_addr(address), length).read_all(&mut text, GFP_KERNEL)?;
    Ok(text)
}

/// [`abi::IOC_LABEL`]: says what a load is.
///
/// # Errors
///
/// `E2BIG` for a text that is too long; `ENODATA` if nothing is loaded or being loaded;
/// `EOPNOTSUPP` if it goes one way; `EFAULT`; `EINPROGRESS`; `EBUSY`; `EXDEV` in a peer.
pub(crate) fn label(opener: Opener, label: &abi::Label) -> Result {
    if label.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    let text = text(label.buf, label.len, abi::LABEL_SIZE)?;
    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match place.state {
        State::Preparing(_) | State::Loaded(_) | State::Returned(_) => place.claim(opener)?,
        State::Peer(_) => return Err(EXDEV),
        _ => return Err(ENODATA),
    }
    match &mut place.state {
        State::Preparing(preparation) => preparation.label(text)?,
        State::Loaded(load) | State::Returned(load) => load.label(text)?,
        _ => return Err(ENODATA),
    }
    place.changes = place.changes.wrapping_add(1);
    Ok(())
}

/// [`abi::IOC_REQUEST`]: leaves a text for the peer.
///
/// # Errors
///
/// `E2BIG` for a text that is too long; `ENODATA` if nothing is loaded; `EOPNOTSUPP` if what is
/// loaded goes one way; `EFAULT`; `EINPROGRESS`; `EBUSY`; `EXDEV` in a peer.
pub(crate) fn request(opener: Opener, request: &abi::Request) -> Result {
    if request.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    // It may have a key in it: no copy is to be left where the kernel hands memory out again.
    let mut text = text(request.buf, request.len, abi::REQUEST_SIZE)?;
    let result = leave_request(opener, &text);
    text.fill(0);
    core::hint::black_box(&mut text);
    result
}

fn leave_request(opener: Opener, text: &[u8]) -> Result {
    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match place.state {
        State::Loaded(_) | State::Returned(_) => place.claim(opener)?,
        State::Peer(_) => return Err(EXDEV),
        _ => return Err(ENODATA),
    }
    match &mut place.state {
        State::Loaded(load) | State::Returned(load) => load.request(text),
        _ => Err(ENODATA),
    }
}
