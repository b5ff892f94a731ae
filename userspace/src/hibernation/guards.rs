//! The stale-image guard, seen from the peer: what filesystems and swap areas of A look like on the
//! disk, recorded just before the commit and compared before a page is restored.

use std::time::Duration;

use kjump_guard::{compare, probe_kind, record, swap_hide, swap_show, Found, Kind};
use kjump_image::Guard;
use kjump_target::{Access, BlockDevice, System};

use super::request::Watched;
use crate::error::{Error, Result};

/// How often a disk that is not there yet is looked for, and how long between.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_millis(250);

/// A device with something known on it.
struct Place {
    device: BlockDevice,
    found: Found,
}

impl Place {
    fn name(&self) -> String {
        self.device.path().display().to_string()
    }
}

/// All filesystems and swap areas on the disks that this kernel sees.
fn places(system: &System) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for device in system.block_devices()? {
        use kjump_target::Kind as Driver;
        if !matches!(device.kind, Driver::Disk | Driver::Partition) || device.size == 0 {
            continue;
        }
        // A drive without a medium, say: nothing that could be watched.
        let Ok(disk) = system.open_device(&device, Access::Read) else {
            continue;
        };
        for kind in Kind::ALL {
            if let Ok(Some(found)) = probe_kind(&disk, kind) {
                let device = device.clone();
                places.push(Place { device, found });
            }
        }
    }
    Ok(places)
}

/// Which of the places a filesystem is at; of two with the same UUID the one whose name is part of
/// `hint`.
fn find(places: &[Place], kind: Kind, uuid: &[u8; 16], hint: &str) -> Option<usize> {
    let fits = |p: &Place| p.found.kind == kind && p.found.uuid == *uuid;
    let named = |p: &Place| hint.split(' ').any(|word| word == p.name());
    let best = places.iter().position(|p| fits(p) && named(p));
    best.or_else(|| places.iter().position(fits))
}

/// What A has mounted and swaps to, while an image is made.
pub struct Watch {
    places: Vec<(Place, String)>,
}

impl Watch {
    /// Finds what A asked to be watched; where it said nothing, everything that is known and not
    /// mounted here, as what this kernel mounts cannot be A's.
    ///
    /// # Errors
    ///
    /// [`Error::Unwatched`] for what is on no disk here, unless `allow_unknown`.
    pub fn find(system: &System, watched: Option<&[Watched]>, allow_unknown: bool) -> Result<Self> {
        let mut all = places(system)?;
        let Some(watched) = watched else {
            let named = |p: Place| {
                let name = p.name();
                (p, name)
            };
            let here = system.mounted_filesystems()?;
            let ours = |p: &Place| here.iter().any(|m| is_same(&m.device, &p.device));
            all.retain(|p| !ours(p));
            let places = all.into_iter().map(named).collect();
            return Ok(Self { places });
        };
        let mut places = Vec::new();
        for w in watched {
            match find(&all, w.kind, &w.uuid, &w.name) {
                Some(at) => places.push((all.swap_remove(at), w.name.clone())),
                None if allow_unknown => {}
                None => {
                    return Err(Error::Unwatched {
                        device: w.name.clone(),
                        kind: format!("{} on no disk of the peer's", w.kind.name()),
                    })
                }
            }
        }
        Ok(Self { places })
    }

    /// The first that is mounted here, by its name in A: writing to it would be the end of A's
    /// idea of it.
    ///
    /// # Errors
    ///
    /// Those of looking at the mounts.
    pub fn mounted_here(&self, system: &System) -> Result<Option<&str>> {
        let here = system.mounted_filesystems()?;
        let is_mounted = |p: &Place| here.iter().any(|m| is_same(&m.device, &p.device));
        let found = self.places.iter().find(|(p, _)| is_mounted(p));
        Ok(found.map(|(_, name)| name.as_str()))
    }

    /// Hides the swap areas: no other system is to swap there while there is an image.
    pub fn hide_swap(&self, system: &System) -> Result<()> {
        self.each_swap(system, |disk| swap_hide(disk))
    }

    /// Puts them back.
    pub fn show_swap(&self, system: &System) -> Result<()> {
        self.each_swap(system, |disk| swap_show(disk))
    }

    fn each_swap(
        &self,
        system: &System,
        change: impl Fn(&std::fs::File) -> std::result::Result<bool, kjump_guard::Error>,
    ) -> Result<()> {
        for (place, _) in self
            .places
            .iter()
            .filter(|(p, _)| p.found.kind == Kind::Swap)
        {
            let disk = system.open_device(&place.device, Access::Write)?;
            change(&disk).map_err(|source| failed(place, source))?;
        }
        Ok(())
    }

    /// Records all of it.
    pub fn record(&self, system: &System) -> Result<Vec<Guard>> {
        let one = |(place, name): &(Place, String)| {
            let disk = system.open_device(&place.device, Access::Read)?;
            let mut guard = record(&disk, &place.found).map_err(|source| failed(place, source))?;
            guard.label.clone_from(name);
            Ok(guard)
        };
        self.places.iter().map(one).collect()
    }
}

fn is_same(a: &BlockDevice, b: &BlockDevice) -> bool {
    (a.major, a.minor) == (b.major, b.minor)
}

fn failed(place: &Place, source: kjump_guard::Error) -> Error {
    let device = place.name();
    Error::Guard { device, source }
}

/// Whether everything still looks as it was recorded; gives the image's swap areas, which are
/// hidden. `target` is for the message.
///
/// # Errors
///
/// [`Error::Stale`].
pub fn check(system: &System, guards: &[Guard], target: &str) -> Result<Watch> {
    let mut all = places(system)?;
    for _ in 0..TRIES {
        let there = |g: &Guard| {
            Kind::from_number(g.kind)
                .is_none_or(|kind| find(&all, kind, &g.device, &g.label).is_some())
        };
        if guards.iter().all(there) {
            break;
        }
        std::thread::sleep(PAUSE);
        all = places(system)?;
    }
    let mut swap = Vec::new();
    for guard in guards {
        let stale = |source| Error::Stale {
            target: target.into(),
            source,
        };
        let kind = Kind::from_number(guard.kind);
        let at = kind.and_then(|kind| find(&all, kind, &guard.device, &guard.label));
        let Some(place) = at.map(|at| &all[at]) else {
            // The comparison says what that is.
            let nothing = Guard::default();
            compare(guard, &nothing).map_err(stale)?;
            continue;
        };
        let disk = system.open_device(&place.device, Access::Read)?;
        let now = record(&disk, &place.found).map_err(|source| failed(place, source))?;
        compare(guard, &now).map_err(stale)?;
        if place.found.kind == Kind::Swap {
            let (device, found) = (place.device.clone(), place.found.clone());
            swap.push((Place { device, found }, guard.label.clone()));
        }
    }
    Ok(Watch { places: swap })
}
