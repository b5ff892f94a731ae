// SPDX-License-Identifier: GPL-2.0

//! The two calls that bring another kernel to life: claiming RAM for it, and entering it.

use super::crossing::options;
use super::{lockdown, Opener, State, SESSION, SYMBOLS};
use crate::abi;
use crate::alloc::{KBox, KVec};
use crate::claim::{self, Claimed};
use crate::jump;
use crate::old;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// Reads the caller's ranges.
fn ranges(request: &abi::Claim) -> Result<KVec<abi::Range>> {
    if request.count as usize > abi::HANDOFF_RANGES {
        return Err(E2BIG);
    }
    let address = usize::try_from(request.ranges).map_err(|_| EFAULT)?;
    let size = request.count as usize * size_of::<abi::Range>();
    let mut reader = UserSlice::new(UserPtr::from_addr(address), size).reader();
    let mut ranges = KVec::with_capacity(request.count as usize, GFP_KERNEL)?;
    for _ in 0..request.count {
        ranges.push(reader.read::<abi::Range>()?, GFP_KERNEL)?;
    }
    Ok(ranges)
}

/// [`abi::IOC_CLAIM`].
///
/// # Errors
///
/// Those of [`claim::check`]; `EADDRNOTAVAIL` in a peer for what is not RAM of the kernel it was
/// entered from; `EEXIST` if something is loaded or claimed; `EINPROGRESS`; `EBUSY`; `EPERM` under
/// lockdown; `EFAULT`; `ENOMEM`.
pub(crate) fn claim(opener: Opener, request: &abi::Claim) -> Result {
    lockdown()?;
    if request.flags & !abi::CLAIM_KEEP != 0 || request.reserved != 0 {
        return Err(EOPNOTSUPP);
    }
    let ranges = ranges(request)?;
    claim::check(&ranges)?;
    let mut session = SESSION.lock();
    if session.away {
        return Err(EINPROGRESS);
    }
    session.forget_gone();
    if session.places.len() > 1 {
        return Err(EEXIST);
    }
    let place = session.places.first_mut().ok_or(ENODEV)?;
    match &place.state {
        State::Empty => {}
        State::Peer(peer) if peer.owns(&ranges) => {}
        State::Peer(_) => return Err(EADDRNOTAVAIL),
        _ => return Err(EEXIST),
    }
    place.claim(opener)?;
    place.keep = request.flags & abi::CLAIM_KEEP != 0;
    match Claimed::new(ranges).and_then(|claimed| Ok(KBox::new(claimed, GFP_KERNEL)?)) {
        // A peer's way back ends here.
        Ok(claimed) => place.state = State::Claimed(claimed),
        Err(e) => {
            place.owner = None;
            if let State::Peer(peer) = &place.state {
                peer.stayed();
            } else {
                old::forget();
            }
            return Err(e);
        }
    }
    Ok(())
}

/// [`abi::IOC_ENTER`]. Does not return if it succeeds.
///
/// # Errors
///
/// `ENODATA` if nothing was claimed; `EADDRNOTAVAIL` for an entry or boot_params outside what was;
/// `EINPROGRESS`; `EBUSY`; `EPERM`; what the rung that failed reported, with its number in
/// `failed_rung`: what was written is still there then.
pub(crate) fn enter(opener: Opener, request: &mut abi::Enter) -> Result {
    lockdown()?;
    let options = options(request.flags, request.fail_at, request.reserved)?;
    let symbols = SYMBOLS.as_ref().ok_or(ENODEV)?;
    request.failed_rung = 0;

    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match place.state {
        State::Claimed(_) => place.claim(opener)?,
        _ => return Err(ENODATA),
    }
    let mut claimed = match core::mem::replace(&mut place.state, State::Away) {
        State::Claimed(claimed) => claimed,
        other => {
            place.state = other;
            return Err(ENODATA);
        }
    };
    if let Err(e) = claimed.aim(request.entry, request.boot_params) {
        place.state = State::Claimed(claimed);
        return Err(e);
    }
    session.away = true;
    drop(session);

    old::forget();
    let (record, result) = jump::jump(&mut *claimed, symbols, options);
    request.failed_rung = record.failed_rung;
    let again = claimed.stayed();

    let mut session = SESSION.lock();
    session.away = false;
    if let Some(place) = session.places.first_mut() {
        place.last.stamps = record.stamps;
        place.state = State::Claimed(claimed);
    }
    result.and(again)
}
