//! Which device a name, a number, a UUID or a label means; and which target an image is on.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use kjump_guard::Found;
use rustix::fs::{major, minor};

use crate::blocks::{BlockDevice, Kind};
use crate::disk::Access;
use crate::error::Error;
use crate::opened::Opened;
use crate::spec::{DeviceSpec, Spec};
use crate::system::System;
use crate::Result;

impl System {
    /// The device that is meant. A UUID is a filesystem's or an image's; without udev, what links
    /// below /dev/disk would say is looked up too.
    pub fn find(&self, device: &DeviceSpec) -> Result<BlockDevice> {
        let what = device.to_string();
        let found = match device {
            DeviceSpec::Path(path) => return self.by_path(path),
            DeviceSpec::Number { major, minor } => {
                let same = |d: &BlockDevice| (d.major, d.minor) == (*major, *minor);
                self.block_devices()?.into_iter().find(same)
            }
            DeviceSpec::PartUuid(uuid) => self.only(&what, |d| {
                let own = d.part_uuid.as_deref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(uuid))
            })?,
            DeviceSpec::Label(label) => self.only(&what, |d| {
                let found = self.contents(d);
                found.is_some_and(|f| f.label == *label)
            })?,
            DeviceSpec::Uuid(text) => self.only(&what, |d| {
                let image = self.image_on(d, None).map(hyphenless);
                let text = text.replace('-', "").to_ascii_lowercase();
                image == Some(text) || self.contents(d).is_some_and(|f| f.has_uuid(&what[5..]))
            })?,
        };
        found.ok_or(Error::Missing { what })
    }

    /// Opens the target of the image with this UUID, to write. `hint` is where the saved kernel
    /// says that it is: looked at first, but its disks may have other names here. Then all disks
    /// are looked at, for a file at the hint's offset.
    pub fn find_by_image_uuid(&self, uuid: [u8; 16], hint: &Spec) -> Result<Opened> {
        self.find_image(uuid, hint, Access::Write)
    }

    /// The same, for what else is to be done with it.
    pub fn find_image(&self, uuid: [u8; 16], hint: &Spec, access: Access) -> Result<Opened> {
        let has = |opened: Result<Opened>| {
            let mut opened = opened.ok()?;
            (opened.uuid().ok()? == Some(uuid)).then_some(opened)
        };
        if let Some(opened) = has(self.open(hint, access)) {
            return Ok(opened);
        }
        let mut seen = Vec::new();
        for device in self.searched()? {
            seen.push(device.name.clone());
            if let Some(opened) = has(self.open_at(device, hint.offset(), access)) {
                return Ok(opened);
            }
        }
        Err(Error::NotFound {
            uuid: hyphenless(uuid),
            what: format!("{hint} was named, and {} looked at", list(&seen)),
        })
    }

    /// The name of a device that still means it when disks have come or gone, where it has one.
    pub fn lasting_name(&self, device: &BlockDevice) -> DeviceSpec {
        if let Some(uuid) = &device.part_uuid {
            return DeviceSpec::PartUuid(uuid.clone());
        }
        match self.contents(device).filter(|f| f.uuid != [0; 16]) {
            Some(found) => DeviceSpec::Uuid(found.uuid_text()),
            None => DeviceSpec::Path(device.path()),
        }
    }

    /// What is on a device, if that can be told.
    pub(crate) fn contents(&self, device: &BlockDevice) -> Option<Found> {
        let file = self.open_device(device, Access::Read).ok()?;
        kjump_guard::probe(&file).ok().flatten()
    }

    /// UUID of the image on a device, or in the file whose map is at `offset`.
    fn image_on(&self, device: &BlockDevice, offset: Option<u64>) -> Option<[u8; 16]> {
        let opened = self.open_at(device.clone(), offset, Access::Read);
        opened.ok()?.uuid().ok().flatten()
    }

    /// The devices that are looked at when all are: those with a medium that nothing is built on.
    fn searched(&self) -> Result<Vec<BlockDevice>> {
        let mut devices = self.block_devices()?;
        devices.retain(|d| {
            let quick = !matches!(d.kind, Kind::Removable | Kind::Memory | Kind::Loop);
            quick && d.size > 0 && self.holders(d).is_ok_and(|h| h.is_empty())
        });
        Ok(devices)
    }

    /// The only device for which something holds.
    fn only(
        &self,
        what: &str,
        holds: impl Fn(&BlockDevice) -> bool,
    ) -> Result<Option<BlockDevice>> {
        let mut devices = self.searched()?.into_iter().filter(holds);
        let (first, second) = (devices.next(), devices.next());
        match (first, second) {
            (Some(first), Some(second)) => Err(Error::Ambiguous {
                what: what.into(),
                first: first.name,
                second: second.name,
            }),
            (first, _) => Ok(first),
        }
    }

    fn by_path(&self, path: &Path) -> Result<BlockDevice> {
        let what = path.display().to_string();
        // By the kernel's name, as /dev may not have the node yet.
        let devices = self.block_devices()?;
        if let Some(device) = devices.iter().find(|d| d.path() == path) {
            return Ok(device.clone());
        }
        let Ok(meta) = fs::metadata(self.path(path)) else {
            return match link(path) {
                Some(spec) => self.find(&spec),
                None => Err(Error::Missing { what }),
            };
        };
        if self.is_real() && !meta.file_type().is_block_device() {
            return Err(Error::NotATarget { what });
        }
        let numbers = (major(meta.rdev()), minor(meta.rdev()));
        let mut devices = devices.into_iter();
        let device = devices.find(|d| (d.major, d.minor) == numbers);
        device.ok_or(Error::Missing { what })
    }
}

/// What udev would have made this link of.
fn link(path: &Path) -> Option<DeviceSpec> {
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?.to_string());
    match dir.to_str()? {
        "/dev/disk/by-uuid" => Some(DeviceSpec::Uuid(name)),
        "/dev/disk/by-label" => Some(DeviceSpec::Label(name)),
        "/dev/disk/by-partuuid" => Some(DeviceSpec::PartUuid(name)),
        _ => None,
    }
}

fn hyphenless(uuid: [u8; 16]) -> String {
    kjump_image::hex(&uuid)
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no disk".into(),
        names => names.join(", "),
    }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
