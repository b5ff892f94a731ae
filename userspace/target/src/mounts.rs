//! What of this machine's disks is in use: mounted filesystems and active swap areas.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::blocks::{BlockDevice, Kind};
use crate::error::Error;
use crate::spec::DeviceSpec;
use crate::system::System;
use crate::Result;

/// A device that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The device.
    pub device: BlockDevice,
    /// As the kernel calls it: `ext4`; `swap`.
    pub fstype: String,
    /// Where it is mounted, once if it is mounted more often; `swap`.
    pub mount_point: String,
    /// All places where it is mounted, in whatever mount namespace; none of swap.
    pub places: Vec<Place>,
}

/// A place where a filesystem is mounted, as this process may reach it. Something else may be mounted
/// over it: what is opened there is to be compared with the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path, through the root of a process of its namespace where that is another one.
    pub path: PathBuf,
    /// `st_dev` of what is there, major and minor: the device's, but of Btrfs one of its own.
    pub number: (u32, u32),
}

/// A line of mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    major: u32,
    minor: u32,
    mount_point: String,
    fstype: String,
    source: String,
}

impl System {
    /// The filesystems that are mounted from block devices, in whatever mount namespace a process
    /// has, each device once. Left out: what has no device (proc, tmpfs, nfs); what lies in memory
    /// (zram); what is on a loop device, as the file is on a filesystem that is listed itself or
    /// in memory. A loop device on a device stands for that. What is on LVM, LUKS or RAID is
    /// listed with its [`Kind`], for the caller to refuse.
    pub fn mounted_filesystems(&self) -> Result<Vec<InUse>> {
        let devices = self.block_devices()?;
        let types = self.text("/proc/filesystems");
        let mut list = Vec::new();
        for (root, text) in self.mountinfos()? {
            for mount in text.lines().filter_map(parse_mount) {
                let Some(device) = self.device_of(&mount, &devices, &types)? else {
                    continue;
                };
                let inside = mount.mount_point.trim_start_matches('/');
                let place = Place {
                    path: root.join(inside),
                    number: (mount.major, mount.minor),
                };
                add(
                    &mut list,
                    self.below_loop(device),
                    mount.fstype,
                    mount.mount_point,
                    Some(place),
                );
            }
        }
        Ok(list)
    }

    /// The swap areas that are active, each once. Left out: swap in memory (zram), and files, which
    /// are on a filesystem that is mounted.
    pub fn active_swaps(&self) -> Result<Vec<InUse>> {
        let mut list = Vec::new();
        // Without CONFIG_SWAP there is no such file, and no swap.
        for line in self.text("/proc/swaps").lines().skip(1) {
            let mut words = line.split_whitespace();
            let (Some(name), Some("partition")) = (words.next(), words.next()) else {
                continue;
            };
            let name = unescape(name);
            // devtmpfs may have made the node anew.
            let path = Path::new(name.strip_suffix(" (deleted)").unwrap_or(&name));
            let device = match self.find(&DeviceSpec::Path(path.into())) {
                Err(Error::Missing { .. }) => {
                    let file = path.file_name().and_then(|f| f.to_str());
                    let device = file.and_then(|f| self.block_device(f));
                    device.ok_or_else(|| unknown("swap", &name))?
                }
                other => other?,
            };
            add(
                &mut list,
                self.below_loop(device),
                "swap".into(),
                "swap".into(),
                None,
            );
        }
        Ok(list)
    }

    /// The mount table of each namespace that a process has, and the root of that process. Without
    /// root rights it is one's own.
    fn mountinfos(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut texts = vec![("/".into(), self.must("/proc/self/mountinfo")?)];
        let namespace = |pid: &str| {
            let link = self.path("/proc").join(pid).join("ns/mnt");
            fs::read_link(link).ok()
        };
        let mut seen: BTreeSet<PathBuf> = namespace("self").into_iter().collect();
        for pid in self.names("/proc")? {
            if !pid.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            if namespace(&pid).is_some_and(|ns| seen.insert(ns)) {
                let of = |what| format!("/proc/{pid}/{what}");
                texts.push((of("root").into(), self.text(of("mountinfo"))));
            }
        }
        Ok(texts)
    }

    /// The device of a mount; `None` if it has none.
    fn device_of(
        &self,
        mount: &Mount,
        devices: &[BlockDevice],
        types: &str,
    ) -> Result<Option<BlockDevice>> {
        if mount.major != 0 {
            let same = |d: &&BlockDevice| (d.major, d.minor) == (mount.major, mount.minor);
            let device = devices.iter().find(same).cloned();
            let unknown = || unknown(&mount.mount_point, &mount.source);
            return device.ok_or_else(unknown).map(Some);
        }
        // Btrfs has a number of its own although it is on a device.
        let needs_device = types.lines().any(|line| line.trim() == mount.fstype);
        if !needs_device {
            return Ok(None);
        }
        let device = self.find(&DeviceSpec::Path(mount.source.clone().into()));
        match device {
            Err(Error::Missing { .. } | Error::NotATarget { .. }) => {
                Err(unknown(&mount.mount_point, &mount.source))
            }
            other => other.map(Some),
        }
    }

    /// What is to be watched of a device that a filesystem is on.
    fn below_loop(&self, device: BlockDevice) -> Option<BlockDevice> {
        match device.kind {
            Kind::Memory => None,
            Kind::Loop => {
                let digits = |c: char| c.is_ascii_digit();
                let number = device.name.strip_prefix("loop")?;
                let number = number.split(|c| !digits(c)).next()?;
                let backing = format!("/sys/class/block/loop{number}/loop/backing_file");
                let backing = DeviceSpec::Path(self.text(backing).into());
                self.find(&backing).ok().and_then(|d| self.below_loop(d))
            }
            _ => Some(device),
        }
    }
}

fn unknown(mount_point: &str, source: &str) -> Error {
    Error::UnknownDevice {
        mount_point: mount_point.into(),
        source_name: source.into(),
    }
}

fn add(
    list: &mut Vec<InUse>,
    device: Option<BlockDevice>,
    fstype: String,
    mount_point: String,
    place: Option<Place>,
) {
    let Some(device) = device else { return };
    let known = |u: &&mut InUse| (u.device.major, u.device.minor) == (device.major, device.minor);
    match list.iter_mut().find(known) {
        Some(known) => known.places.extend(place),
        None => list.push(InUse {
            device,
            fstype,
            mount_point,
            places: place.into_iter().collect(),
        }),
    }
}

/// `ID PARENT MAJ:MIN ROOT MOUNT-POINT OPTIONS [FIELD...] - TYPE SOURCE OPTIONS`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(2);
    let (major, minor) = front.next()?.split_once(':')?;
    let mut back = back.split(' ');
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        mount_point: unescape(front.nth(1)?),
        fstype: unescape(back.next()?),
        source: unescape(back.next()?),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
