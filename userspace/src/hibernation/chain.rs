//! The images that an incremental one builds on: each is looked for where it was, then on all disks.

use kjump_image::{Base, Image, Link, PageTable, Refusal, Source};
use kjump_target::{Access, Spec, System};

/// Opens those below an image, the next one first; none for one that needs none.
///
/// # Errors
///
/// [`Refusal::Base`] for one that is missing, or not what it was.
pub fn links<S: Source>(image: &Image<S>) -> Result<Vec<Link>, Refusal> {
    let system = System::default();
    image.links(|base| find(&system, base))
}

/// The table of pages of what is to be built on.
///
/// # Errors
///
/// As [`links`].
pub fn table(base: &Base) -> Result<PageTable, Refusal> {
    let source = find(&System::default(), base)?;
    Image::open_link(source, base)?.into_table()
}

fn find(system: &System, base: &Base) -> Result<Box<dyn Source>, Refusal> {
    let missing = |e: kjump_target::Error| base.refusal(format!("is missing: {e}"));
    let hint = Spec::parse(&base.at).map_err(missing)?;
    match system.find_image(base.uuid, &hint, Access::Read) {
        Ok(opened) => Ok(Box::new(opened)),
        // What is there instead says more than that nothing was found.
        Err(e) => match system
            .open(&hint, Access::Read)
            .map(|mut there| there.uuid())
        {
            Ok(Ok(Some(other))) => {
                let there = kjump_image::uuid(&other);
                Err(base.refusal(format!("was replaced: image {there} is there")))
            }
            _ => Err(missing(e)),
        },
    }
}
