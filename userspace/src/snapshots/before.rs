//! What was where a snapshot goes: its first block, which says that there is an image. As long as
//! nothing else was written, putting that back brings the image back.

use kjump_image::{Aligned, Image, Source, Target};
use kjump_target::{Access, Opened, Spec, System};

use crate::error::{Error, Result};

/// The first block of a target, as it was.
pub struct Before {
    block: Aligned,
    /// The target, as a kernel without filesystems finds it.
    target: String,
    uuid: Option<[u8; 16]>,
}

impl Before {
    /// Reads it.
    pub fn of(opened: &mut Opened, target: &str) -> Result<Self> {
        let mut block = Aligned::new(kjump_image::PAGE).map_err(|source| Error::Save {
            target: target.into(),
            source: source.into(),
        })?;
        let read = opened.read_at(0, block.bytes_mut());
        read.map_err(|e| Error::io(target, e))?;
        let image = Image::inspect_only(opened).ok();
        Ok(Self {
            block,
            target: target.into(),
            uuid: image.map(|image| image.header().uuid),
        })
    }

    /// Puts it back if the rest is what it was; says whether an image is there then.
    pub fn put_back(&self) -> Result<bool> {
        let Some(uuid) = self.uuid else {
            return Ok(false);
        };
        let io = |e| Error::io(self.target.as_str(), e);
        let system = System::default();
        let mut opened = system.open(&Spec::parse(&self.target)?, Access::Write)?;
        opened.write_at(0, self.block.bytes()).map_err(io)?;
        opened.flush().map_err(io)?;
        // Its first block has the digest of its header: of one that was begun it is another.
        let there = Image::inspect_only(&mut opened);
        Ok(there.is_ok_and(|image| image.header().uuid == uuid))
    }
}
