// SPDX-License-Identifier: GPL-2.0

//! Places for loads, by name, and whose they are.

use super::{Opener, Session, State, SESSION};
use crate::abi::{self, NAME_SIZE};
use crate::alloc::KBox;
use kernel::prelude::*;

/// Loads at most, the one without a name included. Memory is what limits them before that.
const MOST: usize = 64;

/// The name of a load, NUL-terminated; empty for the one without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name(pub(super) [u8; NAME_SIZE]);

impl Default for Name {
    fn default() -> Self {
        Self([0; NAME_SIZE])
    }
}

impl Name {
    /// Checks a caller's.
    ///
    /// # Errors
    ///
    /// `EINVAL` for characters other than ASCII letters, digits and `-_.+`, or without an end.
    fn new(bytes: &[u8; NAME_SIZE]) -> Result<Self> {
        let length = bytes.iter().position(|&b| b == 0).ok_or(EINVAL)?;
        let (text, rest) = bytes.split_at(length);
        let good = |b: &u8| b.is_ascii_alphanumeric() || b"-_.+".contains(b);
        if !text.iter().all(good) || rest.iter().any(|&b| b != 0) {
            return Err(EINVAL);
        }
        Ok(Self(*bytes))
    }
}

/// A load, or none; the place without a name also has what this kernel is besides.
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) state: State,
    pub(super) owner: Option<Opener>,
    pub(super) keep: bool,
    /// What the last jump to this load was like.
    pub(super) last: KBox<abi::Status>,
    /// Counts what makes the load another one, or changes its pages: for those who read it.
    pub(super) changes: u32,
}

impl Place {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(never)]
    pub(super) fn new(name: Name) -> Result<Self> {
        Ok(Self {
            name,
            state: State::Empty,
            owner: None,
            keep: false,
            last: KBox::new(abi::Status::default(), GFP_KERNEL)?,
            changes: 0,
        })
    }

    /// Makes `opener` the owner.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is another one's.
    pub(super) fn claim(&mut self, opener: Opener) -> Result {
        match self.owner {
            Some(owner) if owner != opener => Err(EBUSY),
            _ => {
                self.owner = Some(opener);
                Ok(())
            }
        }
    }

    /// Frees whatever is held.
    pub(super) fn release(&mut self) {
        if matches!(self.state, State::Claimed(_)) {
            crate::old::forget();
        }
        self.state = State::Empty;
        self.owner = None;
        self.keep = false;
        self.changes = self.changes.wrapping_add(1);
    }

    /// The peer has come back and cannot be entered again: frees its load. One that was kept leaves
    /// word of it, unless the peer has `restored` this kernel.
    pub(super) fn gone(&mut self, jumps: u32, window_end: u32, restored: bool) {
        let kept = self.keep && !restored;
        self.release();
        if kept {
            self.state = State::Gone(jumps, window_end);
        }
    }
}

impl Session {
    /// Which place `opener`'s calls are about. A peer, and a kernel that has claimed RAM, has one.
    fn name(&self, opener: Opener) -> Name {
        let alone = |p: &Place| matches!(p.state, State::Peer(_) | State::Claimed(_));
        if self.places.first().is_some_and(alone) {
            return Name::default();
        }
        let found = self.selected.iter().find(|(o, _)| *o == opener);
        found.map_or(Name::default(), |(_, name)| *name)
    }

    /// Index of that place, if it is there.
    pub(super) fn find(&self, opener: Opener) -> Option<usize> {
        let name = self.name(opener);
        self.places.iter().position(|p| p.name == name)
    }

    /// That place, if it is there and no jump is under way.
    ///
    /// # Errors
    ///
    /// `EINPROGRESS`; `ENODATA` if there is nothing of that name.
    pub(super) fn place(&mut self, opener: Opener) -> Result<&mut Place> {
        if self.away {
            return Err(EINPROGRESS);
        }
        let index = self.find(opener).ok_or(ENODATA)?;
        self.places.get_mut(index).ok_or(ENODATA)
    }

    /// That place, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// `EINPROGRESS`; `ENOSPC` if there are too many; `ENOMEM`.
    pub(super) fn place_or_new(&mut self, opener: Opener) -> Result<&mut Place> {
        if self.find(opener).is_none() {
            if self.places.len() >= MOST {
                self.forget_gone();
            }
            if self.places.len() >= MOST {
                return Err(ENOSPC);
            }
            let place = Place::new(self.name(opener))?;
            self.places.push(place, GFP_KERNEL)?;
        }
        self.place(opener)
    }

    /// Forgets that there were peers that are gone.
    pub(super) fn forget_gone(&mut self) {
        for place in self.places.iter_mut() {
            if matches!(place.state, State::Gone(..)) {
                place.state = State::Empty;
            }
        }
        self.tidy();
    }

    /// Forgets places that nothing is in; the first one stays.
    pub(super) fn tidy(&mut self) {
        let first = Name::default();
        self.places
            .retain(|p| p.name == first || !matches!(p.state, State::Empty));
    }
}

/// [`abi::IOC_SELECT`]: says which load this file's calls are about.
///
/// # Errors
///
/// `EINVAL` for a name that is none; `ENOMEM`.
pub(crate) fn select(opener: Opener, request: &abi::Select) -> Result {
    if request.flags != 0 {
        return Err(EOPNOTSUPP);
    }
    let name = Name::new(&request.name)?;
    let mut session = SESSION.lock();
    session.selected.retain(|(o, _)| *o != opener);
    Ok(session.selected.push((opener, name), GFP_KERNEL)?)
}

/// `opener` is being closed.
pub(crate) fn close(opener: Opener) {
    let mut session = SESSION.lock();
    session.selected.retain(|(o, _)| *o != opener);
    for place in session.places.iter_mut() {
        if place.owner != Some(opener) {
            continue;
        }
        place.owner = None;
        let held = matches!(
            place.state,
            State::Preparing(_) | State::Loaded(_) | State::Returned(_) | State::Claimed(_)
        );
        if held && !place.keep {
            place.release();
        }
    }
    if !session.away {
        session.tidy();
    }
}
