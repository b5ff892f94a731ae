//! `kjump unload`.

use crate::device::Device;
use crate::error::{Error, Result};

/// Frees what is loaded.
pub fn run() -> Result<u8> {
    Device::open_as_root()?
        .unload()
        .map_err(|e| Error::from_errno("unload", e))?;
    Ok(0)
}
