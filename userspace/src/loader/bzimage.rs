//! bzImages by the 32-bit boot protocol (`Documentation/arch/x86/boot.rst`).

use std::path::Path;

use super::{page_up, PAGE};
use crate::error::{Error, Result};

/// Offset of the setup header, in the file and in boot_params alike.
pub const SETUP_HEADER: usize = 0x1f1;
/// The header may not reach beyond this offset: boot_params has other things there.
const SETUP_HEADER_END: usize = 0x290;
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const BOOT_FLAG: usize = 0x1fe;
/// The jump's displacement: the header ends that many bytes after the jump.
const JUMP: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
/// The first version that tells the kernel's address and size at run time (Linux 2.6.31).
const MIN_VERSION: u16 = 0x20a;
const LOADED_HIGH: u8 = 1;
const SECTOR: usize = 512;
/// Larger ones are not read: no kernel is, and the memory is short.
pub const MAX_SIZE: u64 = 256 << 20;

/// What a bzImage says about itself.
#[derive(Clone, Debug)]
pub struct BzImage<'a> {
    /// The setup header, for offset [`SETUP_HEADER`] of boot_params.
    pub setup_header: &'a [u8],
    /// Where in the file the protected-mode part is, bytes; its first byte is the entry.
    pub code_start: u64,
    /// Its bytes.
    pub code_size: u64,
    /// Lowest address at which the kernel runs: below it, even a relocatable one moves itself up.
    pub pref_address: u64,
    /// May it run elsewhere than at `pref_address`?
    pub relocatable: bool,
    /// Alignment of its address if it is relocatable.
    pub alignment: u64,
    /// Bytes that it needs from its address on before it looks at the memory map.
    pub init_size: u64,
    /// Highest address that an initrd's last byte may have.
    pub initrd_addr_max: u64,
    /// Longest command line, without the NUL.
    pub cmdline_size: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// Bytes of a file that have its version text: all setup sectors.
pub const SETUP: usize = 64 * SECTOR;
/// Where the text is, counted from byte 0x200.
const KERNEL_VERSION: usize = 0x20e;

/// `uname -r` and `uname -v` of a kernel, from the first [`SETUP`] bytes of its file, as the build
/// wrote them: `RELEASE (USER@HOST) VERSION` (arch/x86/boot/version.c).
pub fn version(file: &[u8]) -> Option<(String, String)> {
    let at = usize::from(u16_at(file, KERNEL_VERSION)?);
    if at == 0 || !is_bzimage(file) {
        return None;
    }
    let text = file.get(at + 0x200..)?;
    let text = &text[..text.iter().position(|b| *b == 0)?];
    let text = std::str::from_utf8(text).ok()?;
    let (release, rest) = text.split_once(" (")?;
    let (_, version) = rest.split_once(") ")?;
    Some((release.into(), version.into()))
}

/// Does the file look like a bzImage at all? Enough of it to tell are its first 1024 bytes.
pub fn is_bzimage(file: &[u8]) -> bool {
    u16_at(file, BOOT_FLAG) == Some(0xaa55) && file.get(MAGIC..MAGIC + 4) == Some(b"HdrS")
}

/// Bytes of a file that have all that [`parse`] looks at.
pub const HEAD: usize = 1024;

/// Reads the headers from the file's first [`HEAD`] bytes; `size` is the whole file's, `path` is for
/// the messages.
pub fn parse<'a>(file: &'a [u8], size: u64, path: &Path) -> Result<BzImage<'a>> {
    let unsupported = |why: &str| Error::UnsupportedKernel {
        path: path.into(),
        why: why.into(),
    };
    let truncated = |what, need: u64| Error::TruncatedKernel {
        path: path.into(),
        what,
        need,
        have: size,
    };
    if !is_bzimage(file) {
        return Err(Error::NotKernel {
            path: path.into(),
            why: "no boot sector with HdrS".into(),
        });
    }
    let header = |need: usize| move || truncated("the setup header", need as u64);
    let version = u16_at(file, VERSION).ok_or_else(header(VERSION + 2))?;
    if version < MIN_VERSION {
        return Err(unsupported(&format!(
            "boot protocol {}.{:02} is too old; use Linux 2.6.31 or later (2.10)",
            version >> 8,
            version & 0xff
        )));
    }
    let byte = |at: usize| file.get(at).copied().ok_or_else(header(at + 1));
    let word = |at: usize| u32_at(file, at).ok_or_else(header(at + 4));
    if byte(LOADFLAGS)? & LOADED_HIGH == 0 {
        return Err(unsupported("it is a zImage, loaded low; build a bzImage"));
    }
    let init_size = u64::from(word(INIT_SIZE)?);
    let header_end = (MAGIC + usize::from(byte(JUMP)?)).min(SETUP_HEADER_END);
    let setup_header = file
        .get(SETUP_HEADER..header_end)
        .ok_or_else(|| truncated("the setup header", header_end as u64))?;
    let setup_sects = match byte(SETUP_SECTS)? {
        0 => 4,
        n => u64::from(n),
    };
    let code_start = (setup_sects + 1) * SECTOR as u64;
    let code_size = u64::from(word(SYSSIZE)?) * 16;
    if code_size > MAX_SIZE - code_start {
        return Err(unsupported("it is larger than 256 MiB; the file is broken"));
    }
    let code_end = code_start + code_size;
    if code_end > size {
        return Err(truncated("its compressed part", code_end));
    }
    let alignment = u64::from(word(KERNEL_ALIGNMENT)?);
    let pref_address = u64_at(file, PREF_ADDRESS).ok_or_else(header(PREF_ADDRESS + 8))?;
    let relocatable = byte(RELOCATABLE)? != 0;
    if code_size == 0 || init_size == 0 {
        return Err(unsupported(
            "it says that its size is 0; the file is broken",
        ));
    }
    if pref_address % PAGE != 0 || pref_address >= 1 << 32 {
        return Err(unsupported(
            "its preferred address makes no sense; the file is broken",
        ));
    }
    if relocatable && !alignment.is_power_of_two() {
        return Err(unsupported(
            "its alignment is no power of two; the file is broken",
        ));
    }
    Ok(BzImage {
        setup_header,
        code_start,
        code_size,
        pref_address,
        relocatable,
        alignment: alignment.max(PAGE),
        init_size: page_up(init_size.max(code_size)),
        initrd_addr_max: u64::from(word(INITRD_ADDR_MAX)?),
        cmdline_size: word(CMDLINE_SIZE)? as usize,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tiny bzImage: 4 setup sectors and `code` bytes of code.
    pub fn image(code: usize, pref: u64, init_size: u32, relocatable: bool) -> Vec<u8> {
        let mut f = vec![0u8; 5 * SECTOR];
        f[SETUP_SECTS] = 4;
        f[SYSSIZE..][..4].copy_from_slice(&(code as u32 / 16).to_le_bytes());
        f[BOOT_FLAG..][..2].copy_from_slice(&[0x55, 0xaa]);
        f[JUMP] = 0x6a;
        f[MAGIC..][..4].copy_from_slice(b"HdrS");
        f[VERSION..][..2].copy_from_slice(&0x20fu16.to_le_bytes());
        f[LOADFLAGS] = LOADED_HIGH;
        f[INITRD_ADDR_MAX..][..4].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        f[KERNEL_ALIGNMENT..][..4].copy_from_slice(&0x10_0000u32.to_le_bytes());
        f[RELOCATABLE] = relocatable.into();
        f[CMDLINE_SIZE..][..4].copy_from_slice(&2047u32.to_le_bytes());
        f[PREF_ADDRESS..][..8].copy_from_slice(&pref.to_le_bytes());
        f[INIT_SIZE..][..4].copy_from_slice(&init_size.to_le_bytes());
        f.resize(5 * SECTOR + code, 0xcc);
        f
    }

    fn code_of(file: &[u8]) -> u8 {
        parse(file, file.len() as u64, Path::new("k"))
            .map(|_| 0)
            .unwrap_or_else(|e| e.exit_code())
    }

    #[test]
    fn reads_a_whole_image() {
        let file = image(1600, 0x100000, 0x700001, true);
        let k = parse(&file[..HEAD], file.len() as u64, Path::new("k")).unwrap();
        assert_eq!(
            (k.code_size, k.init_size, k.pref_address),
            (1600, 0x701000, 0x100000)
        );
        assert_eq!(k.setup_header.len(), 0x202 + 0x6a - 0x1f1);
        assert!(file[k.code_start as usize..].iter().all(|b| *b == 0xcc) && k.relocatable);
    }

    #[test]
    fn a_version_is_read() {
        let mut file = image(1600, 0x100000, 0x700001, true);
        assert_eq!(version(&file), None);
        file[KERNEL_VERSION..][..2].copy_from_slice(&0x400u16.to_le_bytes());
        let text = b"7.3.4-x (me@here) #1 SMP Thu Jan 1\0";
        file[0x600..0x600 + text.len()].copy_from_slice(text);
        let expected = ("7.3.4-x".into(), "#1 SMP Thu Jan 1".into());
        assert_eq!(version(&file), Some(expected));
        file[KERNEL_VERSION..][..2].copy_from_slice(&0xffffu16.to_le_bytes());
        assert_eq!(version(&file), None);
    }

    #[test]
    fn every_truncation_is_refused() {
        let file = image(1600, 0x100000, 0x700000, true);
        for len in 0..file.len() {
            let code = code_of(&file[..len]);
            assert!(code == if len < 0x206 { 13 } else { 14 }, "{len}: {code}");
        }
        assert_eq!(code_of(&file), 0);
    }

    #[test]
    fn odd_headers_are_refused() {
        let changed = |at: usize, bytes: &[u8]| {
            let mut file = image(1600, 0x100000, 0x700000, true);
            file[at..at + bytes.len()].copy_from_slice(bytes);
            code_of(&file)
        };
        assert_eq!(changed(BOOT_FLAG, &[0]), 13);
        assert_eq!(changed(MAGIC, b"hdrs"), 13);
        assert_eq!(changed(VERSION, &[9, 2]), 15);
        assert_eq!(changed(VERSION, &[10, 2]), 0);
        assert_eq!(changed(LOADFLAGS, &[0]), 15);
        assert_eq!(changed(SETUP_SECTS, &[0]), 0);
        assert_eq!(changed(SETUP_SECTS, &[255]), 14);
        assert_eq!(changed(SYSSIZE, &[0xff; 4]), 15);
        assert_eq!(changed(SYSSIZE + 2, &[0xff]), 14);
        assert_eq!(changed(SYSSIZE, &[0; 4]), 15);
        assert_eq!(changed(INIT_SIZE, &[0; 4]), 15);
        assert_eq!(changed(KERNEL_ALIGNMENT, &[0; 4]), 15);
        assert_eq!(changed(PREF_ADDRESS, &[1]), 15);
        assert_eq!(changed(PREF_ADDRESS + 4, &[1]), 15);
        assert_eq!(changed(JUMP, &[0xff]), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut file in prop::collection::vec(any::<u8>(), 0..0x1000),
            marked in any::<bool>(),
        ) {
            if marked && file.len() > 0x300 {
                file[BOOT_FLAG..][..2].copy_from_slice(&[0x55, 0xaa]);
                file[MAGIC..][..4].copy_from_slice(b"HdrS");
            }
            let _ = parse(&file, file.len() as u64, Path::new("k"));
        }
    }
}
