// SPDX-License-Identifier: GPL-2.0

//! The two calls that cross: a jump to the peer, and a peer's way back.

use super::{lockdown, Opener, State, DEVICE_TIMEOUT, SESSION, SYMBOLS, TESTING};
use crate::abi::{self, STATUS_NONE};
use crate::jump;
use crate::old;
use crate::passage::Passage;
use crate::rungs::Options;
use crate::sys::symbols::Symbols;
use kernel::prelude::*;

/// Flags and knob of a jump, checked.
pub(super) fn options(flags: u32, fail_at: u32, reserved: [u32; 2]) -> Result<Options> {
    if reserved != [0; 2] || flags & !(abi::JUMP_NO_FREEZER | abi::JUMP_HOTPLUG_CPUS) != 0 {
        return Err(EOPNOTSUPP);
    }
    let testing = TESTING.as_ref().copied().unwrap_or(false);
    if fail_at != 0 && (!testing || fail_at as usize > abi::RUNG_COUNT) {
        return Err(EOPNOTSUPP);
    }
    Ok(Options {
        freezer: flags & abi::JUMP_NO_FREEZER == 0,
        hotplug: flags & abi::JUMP_HOTPLUG_CPUS != 0,
        fail_at,
        device_timeout: DEVICE_TIMEOUT.as_ref().copied().unwrap_or(0),
    })
}

/// [`abi::IOC_JUMP`].
///
/// # Errors
///
/// `ENODATA` if nothing is loaded; `ENOLINK` if the peer is gone; `EXDEV` in a peer; `EINPROGRESS`;
/// `EBUSY`; `EPERM`; those of [`crate::load::Load::watch`]; what the rung that failed reported, with
/// its number in `failed_rung`.
pub(crate) fn jump(opener: Opener, request: &mut abi::Jump) -> Result {
    let result = there_and_back(opener, request);
    if result.is_err() {
        forget_request(opener);
    }
    result
}

/// What was left for a jump that did not come about may have a key in it. Another opener's stays.
fn forget_request(opener: Opener) {
    let mut session = SESSION.lock();
    let Ok(place) = session.place(opener) else {
        return;
    };
    if place.claim(opener).is_err() {
        return;
    }
    if let State::Loaded(load) | State::Returned(load) = &mut place.state {
        load.forget_request();
    }
}

fn there_and_back(opener: Opener, request: &mut abi::Jump) -> Result {
    lockdown()?;
    let paranoid = request.flags & abi::JUMP_PARANOID != 0;
    let flags = request.flags & !abi::JUMP_PARANOID;
    let options = options(flags, request.fail_at, [request.reserved, 0])?;
    let symbols = SYMBOLS.as_ref().ok_or(ENODEV)?;
    request.failed_rung = 0;
    request.status = STATUS_NONE;
    request.changed = 0;

    let mut session = SESSION.lock();
    let place = session.place(opener)?;
    match place.state {
        State::Peer(_) => return Err(EXDEV),
        State::Loaded(_) | State::Returned(_) => {}
        State::Gone(..) => return Err(ENOLINK),
        _ => return Err(ENODATA),
    }
    place.claim(opener)?;
    if let State::Loaded(load) | State::Returned(load) = &mut place.state {
        load.watch(paranoid)?;
    }
    let name = place.name;
    let (mut load, resident) = match core::mem::replace(&mut place.state, State::Away) {
        State::Loaded(load) => (load, false),
        State::Returned(load) => (load, true),
        other => {
            place.state = other;
            return Err(ENODATA);
        }
    };
    session.away = true;
    drop(session);

    load.address(request.command);
    let (record, result) = jump::jump(&mut *load, symbols, options);
    request.failed_rung = record.failed_rung;
    // It was for this jump: at the next one other filesystems may be mounted.
    load.forget_request();

    let mut session = SESSION.lock();
    session.away = false;
    // Nobody can have taken it away meanwhile.
    let index = session.places.iter().position(|p| p.name == name);
    let place = &mut session.places[index.ok_or(ENODEV)?];
    place.changes = place.changes.wrapping_add(1);
    let last = &mut place.last;
    last.stamps = record.stamps;
    if let Err(e) = result {
        place.state = if resident {
            State::Returned(load)
        } else {
            State::Loaded(load)
        };
        return Err(e);
    }
    if let Some(mailbox) = load.answer() {
        request.status = mailbox.status;
        last.reason = mailbox.reason;
    }
    last.last_status = request.status;
    let answers = load.gate.answers();
    last.backed_up = answers.backed_up;
    last.loaded = answers.loaded;
    last.peer_kept = answers.peer_kept;
    last.changed = [0; abi::CHANGED_FRAMES];
    last.changed_pages = load.changed(&mut last.changed);
    request.changed = last.changed_pages;
    if request.changed != 0 {
        let frames = &last.changed[..last.changed.len().min(request.changed as usize)];
        pr_err!(
            "the peer changed {} pages of this kernel's that it was not given; page frames, hexadecimal: {frames:x?}\n",
            request.changed
        );
    }
    let again = load.came_back();
    last.jumps = load.jumps;
    if again {
        place.state = State::Returned(load);
    } else {
        let restored = request.status == abi::STATUS_RESUMED;
        place.gone(load.jumps, load.window_end, restored);
    }
    session.tidy();
    Ok(())
}

/// [`abi::IOC_BACK`].
///
/// # Errors
///
/// `ENODEV` if this kernel is no peer; `ENOLINK` if there is nowhere to go back to; `EINPROGRESS`;
/// what the rung that failed reported; with an entry those of [`back_to`].
pub(crate) fn back(request: &mut abi::Back) -> Result {
    let options = options(request.flags, request.fail_at, [request.reserved, 0])?;
    let symbols = SYMBOLS.as_ref().ok_or(ENODEV)?;
    request.failed_rung = 0;
    if request.entry != 0 {
        return back_to(request, options, symbols);
    }
    if request.status > abi::STATUS_MAX {
        return Err(EINVAL);
    }

    let mut session = SESSION.lock();
    if session.away {
        return Err(EINPROGRESS);
    }
    let place = session.places.first_mut().ok_or(ENODEV)?;
    let mut peer = match core::mem::replace(&mut place.state, State::Away) {
        State::Peer(peer) => peer,
        other => {
            place.state = other;
            return Err(ENODEV);
        }
    };
    if peer.entry() == 0 {
        place.state = State::Peer(peer);
        return Err(ENOLINK);
    }
    session.away = true;
    drop(session);

    peer.answer(request.status, &request.reason);
    // What is mapped of old memory must not be read any more once another entry has come.
    old::forget();
    let (record, result) = jump::jump(&mut *peer, symbols, options);
    request.failed_rung = record.failed_rung;
    if result.is_ok() {
        peer.entered();
        request.command = peer.command();
    } else {
        peer.stayed();
    }

    let mut session = SESSION.lock();
    session.away = false;
    if let Some(place) = session.places.first_mut() {
        place.last.stamps = record.stamps;
        if result.is_ok() {
            place.last.jumps += 1;
        }
        place.state = State::Peer(peer);
    }
    result
}

/// The way back without a handoff, to the address that was given. Nothing is known afterwards that
/// was not known before.
///
/// # Errors
///
/// `EXDEV` in a peer, which knows the way; `EEXIST` if something is loaded; `EINPROGRESS`; `EPERM`
/// under lockdown; what the rung that failed reported.
fn back_to(request: &mut abi::Back, options: Options, symbols: &Symbols) -> Result {
    lockdown()?;
    let mut session = SESSION.lock();
    if session.away {
        return Err(EINPROGRESS);
    }
    session.forget_gone();
    let place = session.places.first_mut().ok_or(ENODEV)?;
    match place.state {
        State::Empty => place.state = State::Away,
        State::Peer(_) => return Err(EXDEV),
        _ => return Err(EEXIST),
    }
    session.away = true;
    drop(session);

    let result = Passage::new(request.entry).and_then(|mut passage| {
        let (record, result) = jump::jump(&mut passage, symbols, options);
        request.failed_rung = record.failed_rung;
        result
    });

    let mut session = SESSION.lock();
    session.away = false;
    if let Some(place) = session.places.first_mut() {
        place.state = State::Empty;
    }
    result
}
