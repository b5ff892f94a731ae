// SPDX-License-Identifier: GPL-2.0

//! The calls that tell and change nothing, and the tests' knob.

use super::{Opener, Place, State, SESSION, SYMBOLS, TESTING};
use crate::abi;
use crate::load::Load;
use crate::own::OwnWindow;
use crate::sys::{self, symbols::Symbols};
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice};

/// [`abi::IOC_STATUS`]: fills in `status`.
pub(crate) fn status(opener: Opener, status: &mut abi::Status) {
    let session = SESSION.lock();
    let place = session.find(opener).map(|index| &session.places[index]);
    *status = match place {
        // What was there last, if it is gone. Names that are not there were never jumped to.
        Some(place) => *place.last,
        None => abi::Status::default(),
    };
    status.version = abi::ABI_VERSION;
    status.symbols = SYMBOLS.as_ref().map_or(0, Symbols::bits);
    status.tsc_khz = crate::arch::timestamp_khz();
    status.quiet_offset = crate::arch::stub::quiet_offset() as u32;
    status.allocated_pages = crate::pages::allocated();
    if place.is_some_and(|place| place.owner.is_some()) {
        status.flags |= abi::STATUS_FLAG_OWNED;
    }
    if sys::locked_down() {
        status.flags |= abi::STATUS_FLAG_LOCKDOWN;
    }
    if TESTING.as_ref().copied().unwrap_or(false) {
        status.flags |= abi::STATUS_FLAG_TESTING;
    }
    status.state = match place.map(|place| &place.state) {
        _ if session.away => abi::STATE_AWAY,
        None | Some(State::Empty) => abi::STATE_EMPTY,
        Some(State::Preparing(_)) => abi::STATE_PREPARING,
        Some(State::Away) => abi::STATE_AWAY,
        Some(State::Loaded(load)) => {
            describe(status, load);
            abi::STATE_LOADED
        }
        Some(State::Returned(load)) => {
            describe(status, load);
            status.peer_entry = load.gate.answers().peer_entry.into();
            abi::STATE_RETURNED
        }
        Some(State::Gone(_, window_end)) => {
            status.window_end = (*window_end).into();
            abi::STATE_GONE
        }
        Some(State::Peer(peer)) => {
            status.window_end = peer.window_end().into();
            status.own = peer.own();
            status.jump_back_entry = peer.entry().into();
            status.handoff = peer.block_phys().into();
            abi::STATE_PEER
        }
        Some(State::Claimed(claimed)) => {
            status.peer_entry = claimed.target().into();
            abi::STATE_CLAIMED
        }
    };
}

fn describe(status: &mut abi::Status, load: &Load) {
    status.window_end = load.window_end.into();
    status.handoff = load.handoff_phys().into();
    status.own = load.own_range();
    let own = load.own.as_ref().map_or(0, OwnWindow::pages);
    status.window_pages = load.list.len() as u32 + own;
    status.shadow_pages = status.window_pages;
    status.kept_pages = load.kept_pages();
    if let Some(counts) = load.counts() {
        status.saved_pages = counts.saved;
        status.free_pages = counts.free;
        status.unreadable_pages = counts.unreadable;
    }
    if load.is_one_way() {
        status.flags |= abi::STATUS_FLAG_ONE_WAY;
    } else {
        status.jump_back_entry = load.gate.entry().into();
    }
}

/// [`abi::IOC_FAULT`]: has an allocation fail.
///
/// # Errors
///
/// `EOPNOTSUPP` unless the module is loaded for tests.
pub(crate) fn fault(request: &mut abi::Fault) -> Result {
    let testing = TESTING.as_ref().copied().unwrap_or(false);
    if !testing || request.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    request.counted = crate::alloc::fail_at(request.fail_at);
    Ok(())
}

/// [`abi::IOC_HANDOFF`]: calls `f` with the block.
///
/// # Errors
///
/// `ENODEV` if this kernel is no peer; `ENODATA` if it was entered without a handoff.
pub(crate) fn with_handoff(f: impl FnOnce(&[u8]) -> Result) -> Result {
    let session = SESSION.lock();
    match session.places.first().map(|place| &place.state) {
        Some(State::Peer(peer)) => f(peer.block().ok_or(ENODATA)?),
        _ if session.away => Err(EINPROGRESS),
        _ => Err(ENODEV),
    }
}

impl Place {
    /// What [`abi::IOC_LIST`] says of it.
    fn listed(&self) -> Option<abi::Listed> {
        let (state, load) = match &self.state {
            State::Loaded(load) => (abi::STATE_LOADED, load),
            State::Returned(load) => (abi::STATE_RETURNED, load),
            State::Gone(jumps, window_end) => {
                return Some(abi::Listed {
                    name: self.name.0,
                    state: abi::STATE_GONE,
                    window_end: (*window_end).into(),
                    jumps: *jumps,
                    last_status: self.last.last_status,
                    ..abi::Listed::default()
                })
            }
            _ => return None,
        };
        Some(abi::Listed {
            name: self.name.0,
            state,
            flags: if load.is_one_way() {
                abi::STATUS_FLAG_ONE_WAY
            } else {
                0
            },
            window_end: load.window_end.into(),
            kept_pages: load.kept_pages(),
            jumps: load.jumps,
            last_status: self.last.last_status,
            reserved: 0,
            own: load.own_range(),
        })
    }
}

/// [`abi::IOC_LIST`]: what is loaded, by name.
///
/// # Errors
///
/// `EINPROGRESS`; `EFAULT`.
pub(crate) fn list(request: &mut abi::List) -> Result {
    if request.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    let session = SESSION.lock();
    if session.away {
        return Err(EINPROGRESS);
    }
    let room = request.room as usize;
    let address = usize::try_from(request.buf).map_err(|_| EFAULT)?;
    let size = room
        .checked_mul(size_of::<abi::Listed>())
        .ok_or(EOVERFLOW)?;
    let mut writer = UserSlice::new(UserPtr::from_addr(address), size).writer();
    request.count = 0;
    for listed in session.places.iter().filter_map(Place::listed) {
        if (request.count as usize) < room {
            writer.write(&listed)?;
        }
        request.count += 1;
    }
    Ok(())
}
