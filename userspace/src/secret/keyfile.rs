//! Key files: 32 bytes or more that nobody else has.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use kjump_image::MasterKey;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Bytes that a key file has at least.
const LEAST: usize = 32;
/// Bytes that it has at most.
const MOST: usize = 64 << 10;
/// Bytes of a device that count.
const OF_DEVICE: usize = 4096;

/// The key that a file, or the start of a block device, comes to.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn read(path: &Path) -> Result<MasterKey> {
    let failed = |why: String| Error::KeyFile {
        path: path.into(),
        why,
    };
    let io = |e: std::io::Error| failed(crate::error::plain(&e));
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let device = metadata.file_type().is_block_device();
    if !device && metadata.mode() & 0o077 != 0 {
        log::warn!(
            "{}: others can read this key file; chmod 600",
            path.display()
        );
    }
    let most = if device { OF_DEVICE } else { MOST + 1 };
    // It does not grow, so that no copy is left behind.
    let mut contents = Zeroizing::new(vec![0; most]);
    let mut read = 0;
    while read < most {
        match (&file).read(&mut contents[read..]).map_err(io)? {
            0 => break,
            n => read += n,
        }
    }
    match read {
        n if n < LEAST => Err(failed(format!("it has {n} bytes, a key needs {LEAST}"))),
        n if n > MOST => Err(failed(format!("it has more than {MOST} bytes"))),
        n => Ok(MasterKey::of_file(&contents[..n])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn sizes() {
        let path = std::env::temp_dir().join(format!("kjump-key-{}", std::process::id()));
        let of = |len: usize| {
            fs::write(&path, vec![7; len]).unwrap();
            read(&path)
        };
        assert!(of(32).unwrap() == MasterKey::of_file(&[7; 32]));
        assert!(of(MOST).unwrap() == MasterKey::of_file(&[7; MOST]));
        assert!(of(33).unwrap() != MasterKey::of_file(&[7; 32]));
        for (len, words) in [(0, "0 bytes"), (31, "31 bytes"), (MOST + 1, "more than")] {
            let e = of(len).unwrap_err();
            assert!(e.to_string().contains(words), "{e}");
            assert_eq!(e.exit_code(), 71);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().exit_code(), 71);
    }
}
