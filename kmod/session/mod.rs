// SPDX-License-Identifier: GPL-2.0

//! The state machine: what may be done when, by whom. docs/states.md draws it.
//!
//! There is one session, as there is one machine, with a place for each load by its name; the one
//! without a name is always there, and is where a peer or claimed RAM is noted. An open file says
//! which place its calls are about. One open file owns a load from the moment it prepares it;
//! closing that file unloads unless the load was told to keep. While a jump is under way the load
//! is out of the session and the lock is not held: whoever asks meanwhile is told `EINPROGRESS`
//! rather than put to sleep, which would keep tasks from being frozen.

mod crossing;
mod loading;
mod places;
mod reading;
mod restore;
mod telling;

pub(crate) use crossing::{back, jump};
pub(crate) use loading::{commit, label, prepare, request, segment, unload};
pub(crate) use places::{close, select};
pub(crate) use reading::{open_kimgcore, read_kimgcore, read_peer};
pub(crate) use restore::{claim, enter};
pub(crate) use telling::{fault, list, status, with_handoff};

use crate::alloc::{KBox, KVec};
use crate::claim::Claimed;
use crate::load::{Load, Preparation};
use crate::peer::Peer;
use crate::sys::{self, symbols::Symbols};
use kernel::prelude::*;
use kernel::sync::SetOnce;
use places::{Name, Place};

/// A number for each open file.
pub(crate) type Opener = u32;

/// See docs/states.md.
enum State {
    Empty,
    Preparing(Preparation),
    Loaded(KBox<Load>),
    Away,
    Returned(KBox<Load>),
    /// A kept load whose peer has come back for good: its memory is freed. Round trips, and the
    /// window's end in bytes.
    Gone(u32, u32),
    Peer(KBox<Peer>),
    Claimed(KBox<Claimed>),
}

/// The session.
pub(crate) struct Session {
    /// The first one is the place without a name.
    places: KVec<Place>,
    /// Which place an open file's calls are about, where it has said.
    selected: KVec<(Opener, Name)>,
    /// A jump is under way.
    away: bool,
}

kernel::sync::global_lock! {
    // SAFETY: initialised in the module's initialisation before anything else.
    unsafe(uninit) static SESSION: Mutex<Session> = Session {
        places: KVec::new(),
        selected: KVec::new(),
        away: false,
    };
}

static SYMBOLS: SetOnce<Symbols> = SetOnce::new();
static TESTING: SetOnce<bool> = SetOnce::new();
static DEVICE_TIMEOUT: SetOnce<u32> = SetOnce::new();

/// The session, from [`init`] to its drop, which frees whatever there is.
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        let mut session = SESSION.lock();
        session.places.clear();
        session.selected.clear();
        drop(session);
        crate::old::forget();
    }
}

/// The module's parameters, by their names.
pub(crate) struct Options {
    pub(crate) handoff: u64,
    pub(crate) testing: bool,
    pub(crate) panic_back: bool,
    pub(crate) device_timeout: u32,
}

/// Initialises the session; with a handoff this kernel is a peer.
///
/// # Errors
///
/// Those of [`Peer::find`]; `ENOMEM`.
///
/// # Safety
///
/// To be called exactly once, before any other function of this file.
pub(crate) unsafe fn init(options: Options) -> Result<Guard> {
    // SAFETY: as the caller promises.
    unsafe { SESSION.init() };
    let guard = Guard(());
    SYMBOLS.populate(Symbols::resolve()?);
    TESTING.populate(options.testing);
    DEVICE_TIMEOUT.populate(options.device_timeout);
    let mut first = Place::new(Name::default())?;
    if options.handoff != 0 {
        let peer = Peer::find(options.handoff, options.panic_back)?;
        first.state = State::Peer(KBox::new(peer, GFP_KERNEL)?);
    }
    SESSION.lock().places.push(first, GFP_KERNEL)?;
    Ok(guard)
}

fn lockdown() -> Result {
    if sys::locked_down() {
        return Err(EPERM);
    }
    Ok(())
}
