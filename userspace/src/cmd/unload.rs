//! `kjump unload`.

use crate::cli::Unload;
use crate::device::Device;
use crate::error::{Error, Result};

/// Frees what is loaded.
pub fn run(args: &Unload) -> Result<u8> {
    Device::open_load(&args.which.name)?
        .unload()
        .map_err(|e| Error::from_errno("unload", e))?;
    Ok(0)
}
