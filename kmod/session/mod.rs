// SPDX-License-Identifier: GPL-2.0

//! The state machine: what may be done when, by whom. docs/states.md draws it.
//!
//! There is one session, as there is one machine. One open file owns a load from the moment it
//! prepares it; closing that file unloads unless the load was told to keep. While a jump is under
//! way the load is out of the session and the lock is not held: whoever asks meanwhile is told
//! `EINPROGRESS` rather than put to sleep, which would keep tasks from being frozen.

mod crossing;
mod restore;

pub(crate) use crossing::{back, jump};
pub(crate) use restore::{claim, enter};

use crate::abi;
use crate::claim::Claimed;
use crate::load::{Load, Preparation};
use crate::peer::Peer;
use crate::sys::{self, symbols::Symbols};
use kernel::prelude::*;
use kernel::sync::SetOnce;
use kernel::uaccess::{UserPtr, UserSlice};

/// A number for each open file.
pub(crate) type Opener = u32;

/// See docs/states.md.
enum State {
    Empty,
    Preparing(Preparation),
    Loaded(KBox<Load>),
    Away,
    Returned(KBox<Load>),
    Peer(KBox<Peer>),
    Claimed(KBox<Claimed>),
}

/// The session.
pub(crate) struct Session {
    state: State,
    owner: Option<Opener>,
    keep: bool,
    last: abi::Status,
}

kernel::sync::global_lock! {
    // SAFETY: initialised in the module's initialisation before anything else.
    unsafe(uninit) static SESSION: Mutex<Session> = Session {
        state: State::Empty,
        owner: None,
        keep: false,
        // SAFETY: integers only.
        last: unsafe { core::mem::zeroed() },
    };
}

static SYMBOLS: SetOnce<Symbols> = SetOnce::new();
static TESTING: SetOnce<bool> = SetOnce::new();

/// The session, from [`init`] to its drop, which frees whatever there is.
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        let mut session = SESSION.lock();
        session.state = State::Empty;
        session.owner = None;
        drop(session);
        crate::old::forget();
    }
}

/// Initialises the session; with a handoff this kernel is a peer.
///
/// # Errors
///
/// Those of [`Peer::find`].
///
/// # Safety
///
/// To be called exactly once, before any other function of this file.
pub(crate) unsafe fn init(handoff: u64, testing: bool, panic_back: bool) -> Result<Guard> {
    // SAFETY: as the caller promises.
    unsafe { SESSION.init() };
    let guard = Guard(());
    SYMBOLS.populate(Symbols::resolve());
    TESTING.populate(testing);
    if handoff != 0 {
        let peer = KBox::new(Peer::find(handoff, panic_back)?, GFP_KERNEL)?;
        let mut session = SESSION.lock();
        session.state = State::Peer(peer);
    }
    Ok(guard)
}

impl Session {
    /// Frees whatever is held.
    fn release(&mut self) {
        if matches!(self.state, State::Claimed(_)) {
            crate::old::forget();
        }
        self.state = State::Empty;
    }

    /// Makes `opener` the owner.
    fn claim(&mut self, opener: Opener) -> Result {
        match self.owner {
            Some(owner) if owner != opener => Err(EBUSY),
            _ => {
                self.owner = Some(opener);
                Ok(())
            }
        }
    }
}

fn lockdown() -> Result {
    if sys::locked_down() {
        return Err(EPERM);
    }
    Ok(())
}

/// `open` is being closed.
pub(crate) fn close(opener: Opener) {
    let mut session = SESSION.lock();
    if session.owner == Some(opener) {
        session.owner = None;
        let held = matches!(
            session.state,
            State::Preparing(_) | State::Loaded(_) | State::Returned(_) | State::Claimed(_)
        );
        if held && !session.keep {
            session.release();
        }
    }
}

/// [`abi::IOC_PREPARE`].
///
/// # Errors
///
/// `EXDEV` in a peer; `EEXIST` if something is loaded; `EINPROGRESS`; `EBUSY` if another file
/// owns the session; `EPERM` under lockdown; those of [`Preparation::new`].
pub(crate) fn prepare(opener: Opener, request: &mut abi::Prepare) -> Result {
    lockdown()?;
    if request.flags & !abi::PREPARE_ONE_WAY != 0 {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    match session.state {
        State::Peer(_) => return Err(EXDEV),
        State::Away => return Err(EINPROGRESS),
        State::Preparing(_) if session.owner != Some(opener) => return Err(EBUSY),
        State::Loaded(_) | State::Returned(_) | State::Claimed(_) => return Err(EEXIST),
        State::Empty | State::Preparing(_) => {}
    }
    session.claim(opener)?;
    // An unfinished load of the same file gives its pages back first.
    session.state = State::Empty;
    session.keep = false;
    match Preparation::new(request) {
        Ok(preparation) => session.state = State::Preparing(preparation),
        Err(e) => {
            session.owner = None;
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
    let owner = session.owner;
    match &mut session.state {
        State::Preparing(_) if owner != Some(opener) => Err(EBUSY),
        State::Preparing(preparation) => preparation.segment(segment),
        State::Away => Err(EINPROGRESS),
        _ => Err(ENODATA),
    }
}

/// [`abi::IOC_COMMIT`].
///
/// # Errors
///
/// `ENODATA` if no load was prepared by this file; those of [`Preparation::commit`], after which
/// nothing is loaded.
pub(crate) fn commit(opener: Opener, commit: &abi::Commit) -> Result {
    lockdown()?;
    if commit.flags & !abi::COMMIT_KEEP != 0 || commit.reserved != 0 {
        return Err(EOPNOTSUPP);
    }
    let mut session = SESSION.lock();
    match session.state {
        State::Preparing(_) if session.owner != Some(opener) => return Err(EBUSY),
        State::Preparing(_) => {}
        State::Away => return Err(EINPROGRESS),
        _ => return Err(ENODATA),
    }
    if let State::Preparing(preparation) = core::mem::replace(&mut session.state, State::Empty) {
        session.owner = None;
        let load = KBox::new(preparation.commit(commit)?, GFP_KERNEL)?;
        session.owner = Some(opener);
        session.state = State::Loaded(load);
        session.keep = commit.flags & abi::COMMIT_KEEP != 0;
        session.last = abi::Status::default();
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
    match session.state {
        State::Empty => return Err(ENODATA),
        State::Away => return Err(EINPROGRESS),
        State::Peer(_) => return Err(EXDEV),
        _ => {}
    }
    session.claim(opener)?;
    session.release();
    session.owner = None;
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
    let length = usize::try_from(request.len).map_err(|_| E2BIG)?;
    if length >= abi::REQUEST_SIZE {
        return Err(E2BIG);
    }
    let address = usize::try_from(request.buf).map_err(|_| EFAULT)?;
    let mut text = KVec::new();
    UserSlice::new(UserPtr::from_addr(address), length).read_all(&mut text, GFP_KERNEL)?;
    let mut session = SESSION.lock();
    match session.state {
        State::Loaded(_) | State::Returned(_) => {}
        State::Away => return Err(EINPROGRESS),
        State::Peer(_) => return Err(EXDEV),
        _ => return Err(ENODATA),
    }
    session.claim(opener)?;
    match &mut session.state {
        State::Loaded(load) | State::Returned(load) => load.request(&text),
        _ => Err(ENODATA),
    }
}

/// [`abi::IOC_STATUS`]: fills in `status`.
pub(crate) fn status(status: &mut abi::Status) {
    let session = SESSION.lock();
    *status = session.last;
    status.version = abi::ABI_VERSION;
    status.symbols = SYMBOLS.as_ref().map_or(0, Symbols::bits);
    status.tsc_khz = crate::arch::timestamp_khz();
    status.quiet_offset = crate::arch::stub::quiet_offset() as u32;
    status.allocated_pages = crate::pages::allocated();
    if session.owner.is_some() {
        status.flags |= abi::STATUS_FLAG_OWNED;
    }
    if sys::locked_down() {
        status.flags |= abi::STATUS_FLAG_LOCKDOWN;
    }
    if TESTING.as_ref().copied().unwrap_or(false) {
        status.flags |= abi::STATUS_FLAG_TESTING;
    }
    status.state = match &session.state {
        State::Empty => abi::STATE_EMPTY,
        State::Preparing(_) => abi::STATE_PREPARING,
        State::Away => abi::STATE_AWAY,
        State::Loaded(load) => {
            describe(status, load);
            abi::STATE_LOADED
        }
        State::Returned(load) => {
            describe(status, load);
            status.peer_entry = load.gate.answers().peer_entry.into();
            abi::STATE_RETURNED
        }
        State::Peer(peer) => {
            status.window_end = peer.window_end().into();
            status.jump_back_entry = peer.entry().into();
            status.handoff = peer.block_phys().into();
            abi::STATE_PEER
        }
        State::Claimed(_) => abi::STATE_CLAIMED,
    };
}

fn describe(status: &mut abi::Status, load: &Load) {
    status.window_end = load.window_end.into();
    status.handoff = load.handoff_phys().into();
    status.window_pages = load.list.len() as u32;
    status.shadow_pages = load.list.len() as u32;
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

/// [`abi::IOC_HANDOFF`]: calls `f` with the block.
///
/// # Errors
///
/// `ENODEV` if this kernel is no peer; `ENODATA` if it was entered without a handoff.
pub(crate) fn with_handoff(f: impl FnOnce(&[u8]) -> Result) -> Result {
    match &SESSION.lock().state {
        State::Peer(peer) => f(peer.block().ok_or(ENODATA)?),
        State::Away => Err(EINPROGRESS),
        _ => Err(ENODEV),
    }
}
