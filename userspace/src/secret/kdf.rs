//! From a passphrase to a key: Argon2id, and the memory that it takes.
//!
//! A kernel with all of memory takes it from the heap. One in a window has not enough of that; but
//! when the bootloader has started it, to restore an image, all RAM above the window is nobody's
//! until the image's pages are put there. So it is claimed for them a little earlier, and used.

use std::fs;
use std::io;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use kjump_abi::PAGE_SIZE;
use kjump_image::{KeySource, MasterKey, KDF_MEMORY};
use rustix::rand::{getrandom, GetRandomFlags};
use zeroize::Zeroize;

use super::Spare;
use crate::cmd::meminfo;
use crate::device::Device;
use crate::error::{Error, Result};

/// Bytes of a block of Argon2's.
const BLOCK: u64 = 1024;
/// The least that a new image is given, KiB: less keeps nobody from guessing.
const LEAST: u32 = 8 << 10;

/// Where a derivation has its memory.
pub enum Scratch<'a> {
    /// This process's.
    Own,
    /// Claimed RAM at this physical address, bytes.
    Claimed(&'a Device, u64),
}

/// Fills `buf` with random bytes.
pub fn random(buf: &mut [u8]) -> io::Result<()> {
    let got = getrandom(&mut *buf, GetRandomFlags::empty())?;
    match got == buf.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Kibibytes that this process may have; everything where the kernel does not say.
fn available() -> u32 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = meminfo(&text, "MemAvailable").unwrap_or(u64::MAX);
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
}

/// Kibibytes for a new image: what is configured (bytes), or half of what is free where that is less.
/// Whoever resumes has at least as much.
pub fn memory_for_new(configured: u64) -> Result<u32> {
    let wanted = u32::try_from(configured >> 10).unwrap_or(u32::MAX);
    let wanted = wanted.clamp(*KDF_MEMORY.start(), *KDF_MEMORY.end());
    let least = LEAST.min(wanted);
    let free = available() / 2;
    if free < least {
        return Err(Error::KdfMemory {
            need: least,
            have: free,
        });
    }
    if free < wanted {
        log::info!("the passphrase is derived in {free} KiB, as memory is short");
    }
    Ok(wanted.min(free) & !3)
}

/// Finds memory for a derivation; claims `spare` if it takes that.
///
/// # Errors
///
/// [`Error::KdfMemory`].
pub fn scratch<'a>(source: &KeySource, spare: Option<&Spare<'a>>) -> Result<Scratch<'a>> {
    let KeySource::Passphrase { memory, .. } = *source else {
        return Ok(Scratch::Own);
    };
    let have = available();
    if u64::from(memory) + (1 << 10) <= u64::from(have) / 10 * 9 {
        return Ok(Scratch::Own);
    }
    let too_little = Error::KdfMemory { need: memory, have };
    let Some(spare) = spare else {
        return Err(too_little);
    };
    let bytes = (u64::from(memory) * BLOCK).next_multiple_of(PAGE_SIZE);
    let place = spare.ram.iter().find(|r| r.end - r.start >= bytes);
    let place = place.ok_or(too_little)?.start;
    if !spare.claimed.get() {
        let claimed = spare.device.claim(&spare.ram, false);
        claimed.map_err(|e| Error::from_errno("restore", e))?;
        spare.claimed.set(true);
    }
    Ok(Scratch::Claimed(spare.device, place))
}

/// Derives a key; the memory that it took is wiped.
///
/// # Errors
///
/// [`Error::KdfMemory`]; those of the system.
pub fn derive(passphrase: &[u8], source: &KeySource, scratch: &Scratch) -> Result<MasterKey> {
    let KeySource::Passphrase {
        salt,
        memory,
        passes,
        lanes,
    } = *source
    else {
        return Err(Error::NoKey("the image's key is no passphrase"));
    };
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(odd)?;
    argon2id(passphrase, &salt, params, scratch)
}

fn odd(_: argon2::Error) -> Error {
    Error::NoKey("what the image asks of the passphrase's derivation is out of range")
}

fn argon2id(
    passphrase: &[u8],
    salt: &[u8],
    params: Params,
    scratch: &Scratch,
) -> Result<MasterKey> {
    let (memory, count) = (params.m_cost(), params.block_count());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = MasterKey::blank();
    let mut run = |blocks: &mut [Block]| {
        let out = key.bytes_mut();
        let done = argon2.hash_password_into_with_memory(passphrase, salt, out, &mut *blocks);
        blocks.iter_mut().for_each(Zeroize::zeroize);
        done.map_err(odd)
    };
    match scratch {
        Scratch::Own => {
            let mut blocks = Vec::new();
            let reserved = blocks.try_reserve_exact(count);
            reserved.map_err(|_| Error::KdfMemory {
                need: memory,
                have: available(),
            })?;
            blocks.resize(count, Block::new());
            run(&mut blocks)?;
        }
        Scratch::Claimed(device, at) => {
            let bytes = (count * Block::SIZE).next_multiple_of(PAGE_SIZE as usize);
            let failed = |e| Error::io("memory for the passphrase", e);
            let mut mapped = device.map(*at, bytes, true).map_err(failed)?;
            run(&mut mapped.blocks_mut()[..count])?;
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys() {
        // Two of those that the reference program is tested with: passphrase and salt, 2 passes.
        for (kib, wanted) in [
            (
                256,
                "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
            ),
            (
                65536,
                "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
            ),
        ] {
            let params = Params::new(kib, 2, 1, Some(32)).unwrap();
            let key = argon2id(b"password", b"somesalt", params, &Scratch::Own).unwrap();
            assert_eq!(kjump_image::hex(key.bytes()), wanted);
        }
    }

    #[test]
    fn a_key_is_of_all_that_it_comes_from() {
        let source = |salt, passes| KeySource::Passphrase {
            salt: [salt; 16],
            memory: 64,
            passes,
            lanes: 1,
        };
        let key = |passphrase: &[u8], source| derive(passphrase, &source, &Scratch::Own).unwrap();
        let one = key(b"x", source(1, 1));
        assert!(one == key(b"x", source(1, 1)));
        for other in [
            key(b"y", source(1, 1)),
            key(b"x", source(2, 1)),
            key(b"x", source(1, 2)),
        ] {
            assert!(other != one);
        }
        assert!(derive(b"x", &KeySource::File, &Scratch::Own).is_err());
    }

    #[test]
    fn memory_that_is_not_there() {
        let source = |memory| KeySource::Passphrase {
            salt: [0; 16],
            memory,
            passes: 1,
            lanes: 1,
        };
        assert!(matches!(scratch(&source(8), None), Ok(Scratch::Own)));
        let e = scratch(&source(u32::MAX), None).err().unwrap();
        assert_eq!(e.exit_code(), 12, "{e}");
        assert_eq!(memory_for_new(1 << 20).unwrap(), 1 << 10);
    }
}
