// SPDX-License-Identifier: GPL-2.0

//! A guest's disks: raw images that outlive the machine that they are in.

use std::path::{Path, PathBuf};

/// What a disk that is to fail fails at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads that touch the sector.
    Read,
    /// Writes that touch the sector.
    Write,
    /// Every flush.
    Flush,
}

impl Fault {
    /// As QEMU's blkdebug calls it.
    fn iotype(self) -> &'static str {
        match self {
            Fault::Read => "read",
            Fault::Write => "write",
            Fault::Flush => "flush",
        }
    }
}

/// A raw image as a virtio disk: `vda`, `vdb`, …, in the order in which a machine has them.
#[derive(Clone, Debug)]
pub struct Drive {
    image: PathBuf,
    read_only: bool,
    fault: Option<(Fault, u64)>,
    log: Option<PathBuf>,
    /// Bytes a second, at most.
    speed: Option<u64>,
}

impl From<PathBuf> for Drive {
    fn from(image: PathBuf) -> Self {
        Self {
            image,
            read_only: false,
            fault: None,
            log: None,
            speed: None,
        }
    }
}

impl From<&Path> for Drive {
    fn from(image: &Path) -> Self {
        Self::from(image.to_path_buf())
    }
}

impl Drive {
    /// The guest may only read it.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Requests of this kind that touch the 512-byte sector fail with EIO, always.
    pub fn failing(mut self, fault: Fault, sector: u64) -> Self {
        self.fault = Some((fault, sector));
        self
    }

    /// What is written and flushed goes to a log, for [`crate::writes`].
    pub fn logged(mut self, log: &Path) -> Self {
        self.log = Some(log.to_path_buf());
        self
    }

    /// The file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// A slow one: so many bytes a second, read and written.
    pub fn slow(mut self, bytes: u64) -> Self {
        self.speed = Some(bytes);
        self
    }

    /// QEMU's arguments for the disk with this number.
    pub fn arguments(&self, number: usize) -> [String; 4] {
        // A comma in a file name is doubled.
        let image = self.image.display().to_string().replace(',', ",,");
        let mut drive = format!("id=disk{number},if=none,format=raw");
        match self.fault {
            None if self.log.is_some() => {
                let log = self.log.iter().map(|p| p.display().to_string());
                let log = log.collect::<String>().replace(',', ",,");
                drive += &format!(
                    ",file.driver=blklogwrites,file.file.driver=file,file.file.filename={image}\
                     ,file.log.driver=file,file.log.filename={log},file.log-sector-size=512"
                );
            }
            None => drive += &format!(",file={image}"),
            Some((fault, sector)) => {
                drive += &format!(
                    ",file.driver=blkdebug,file.image.driver=file,file.image.filename={image}\
                     ,file.inject-error.0.event=none,file.inject-error.0.iotype={}\
                     ,file.inject-error.0.errno=5",
                    fault.iotype()
                );
                if fault != Fault::Flush {
                    drive += &format!(",file.inject-error.0.sector={sector}");
                }
                // The guest is to hear of it; otherwise QEMU may stop the machine.
                drive += ",werror=report";
            }
        }
        if let Some(bytes) = self.speed {
            drive += &format!(",throttling.bps-total={bytes}");
        }
        if self.read_only {
            drive += ",read-only=on";
        }
        // The name under /dev/disk/by-id, if the guest makes such names.
        let device = format!("virtio-blk-pci,drive=disk{number},serial=disk{number}");
        ["-drive".into(), drive, "-device".into(), device]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_says_where() {
        let plain = Drive::from(PathBuf::from("/tmp/a,b")).arguments(1);
        assert_eq!(plain[1], "id=disk1,if=none,format=raw,file=/tmp/a,,b");
        let bad = Drive::from(Path::new("x")).failing(Fault::Write, 77);
        let bad = bad.arguments(0)[1].clone();
        assert!(bad.contains("iotype=write") && bad.contains("sector=77"));
        let fixed = Drive::from(Path::new("x")).read_only().arguments(0);
        assert!(fixed[1].ends_with("read-only=on"));
    }
}
