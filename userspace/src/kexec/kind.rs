//! What a file is, by its contents.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::options::Type;
use crate::error::{Error, Result};
use crate::loader::{bzimage, elf};

/// What may be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bzImage.
    BzImage,
    /// An ELF kernel.
    Elf,
    /// An ELF core, of whatever.
    Core,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::BzImage => "bzImage",
            Kind::Elf => "elf",
            Kind::Core => "core",
        }
    }

    /// Whether the user's word for it is right.
    pub fn is(self, said: Type) -> bool {
        match self {
            Kind::BzImage => said == Type::BzImage,
            Kind::Elf => said == Type::Elf,
            Kind::Core => matches!(said, Type::Core | Type::Peer),
        }
    }
}

/// Where an ELF file has its type, and the type of a core.
const ELF_TYPE: usize = 16;
const ET_CORE: [u8; 2] = [4, 0];

/// Looks at a file.
pub fn of(path: &Path) -> Result<Kind> {
    let io = |e| Error::io(path.display().to_string(), e);
    let mut start = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(bzimage::HEAD as u64)
        .read_to_end(&mut start)
        .map_err(io)?;
    look(&start).ok_or_else(|| Error::NotKernel {
        path: path.into(),
        why: "it is neither a bzImage nor an ELF".into(),
    })
}

fn look(start: &[u8]) -> Option<Kind> {
    if elf::is_elf(start) {
        return Some(match start.get(ELF_TYPE..ELF_TYPE + 2) {
            Some(t) if t == ET_CORE => Kind::Core,
            _ => Kind::Elf,
        });
    }
    bzimage::is_bzimage(start).then_some(Kind::BzImage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_tell() {
        let kernel = elf::tests::elf(0, &[(0, 0x5000, 1, b"x")]);
        assert_eq!(look(&kernel), Some(Kind::Elf));
        let mut core = kernel;
        core[ELF_TYPE] = 4;
        assert_eq!(look(&core), Some(Kind::Core));
        assert_eq!(look(&core[..ELF_TYPE + 1]), Some(Kind::Elf));
        let bzimage = bzimage::tests::image(160, 1 << 20, 1 << 20, true);
        assert_eq!(look(&bzimage), Some(Kind::BzImage));
        assert_eq!(look(b"#!/bin/sh"), None);
        assert!(Kind::Core.is(Type::Peer) && !Kind::Elf.is(Type::Core));
    }
}
