// SPDX-License-Identifier: GPL-2.0

//! Changing a few bytes of a disk, and putting them back: damaged images are made where they lie.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::{arg, failed, number, Outcome};

/// Bytes as hex digits, two each.
fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    bytes
        .filter(|_| !digits.is_empty() && digits.len().is_multiple_of(2))
        .ok_or_else(|| format!("\"{text}\" is no hex"))
}

/// `peek FILE OFFSET LENGTH`: prints bytes as hex.
pub fn peek(args: &[String]) -> Outcome {
    let path = arg(args, 0)?;
    let file = File::open(path).map_err(failed(path))?;
    let mut bytes = vec![0; number(args, 2)? as usize];
    file.read_exact_at(&mut bytes, number(args, 1)?)
        .map_err(failed(path))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex}");
    Ok(())
}

/// `poke FILE OFFSET HEX`: writes bytes, waits until they are on the disk, and prints what was
/// there before.
pub fn poke(args: &[String]) -> Outcome {
    let path = arg(args, 0)?;
    let (at, bytes) = (number(args, 1)?, from_hex(arg(args, 2)?)?);
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed(path))?;
    let mut before = vec![0; bytes.len()];
    file.read_exact_at(&mut before, at).map_err(failed(path))?;
    file.write_all_at(&bytes, at).map_err(failed(path))?;
    file.sync_all().map_err(failed(path))?;
    let hex: String = before.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{hex}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::from_hex;

    #[test]
    fn hex() {
        assert_eq!(from_hex("00ff7a").unwrap(), [0, 255, 122]);
        assert!(from_hex("").is_err() && from_hex("0").is_err() && from_hex("zz").is_err());
    }
}
