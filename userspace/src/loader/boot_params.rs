//! The page that Linux is handed at its start: `struct boot_params`
//! (`Documentation/arch/x86/zero-page.rst`), built as bytes at named offsets.

use std::ops::Range;

use super::bzimage::SETUP_HEADER;
use super::memmap::{Entry, MAX_ENTRIES};
use crate::error::{Error, Result};

/// Bytes of boot_params.
pub const SIZE: usize = 4096;

/// What of this kernel's own boot_params describes the machine and not the kernel.
const PASSED_ON: &[Range<usize>] = &[
    0x000..0x040, // screen_info
    0x070..0x078, // acpi_rsdp_addr
    0x140..0x1c0, // edid_info
    0x1e9..0x1eb, // eddbuf_entries, edd_mbr_sig_buf_entries
    0x290..0x2d0, // edd_mbr_sig_buffer
    0xd00..0xeec, // eddbuf
];
const E820_ENTRIES: usize = 0x1e8;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY_SIZE: usize = 20;
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const CMDLINE_SIZE: usize = 0x238;
const SETUP_DATA: usize = 0x250;

const _: () = {
    assert!(E820_TABLE + E820_ENTRY_SIZE * MAX_ENTRIES == 0xcd0);
    assert!(SETUP_HEADER < BOOT_FLAG && SETUP_DATA + 8 <= E820_TABLE);
};

/// The page under construction.
#[derive(Clone)]
pub struct BootParams(Box<[u8; SIZE]>);

impl BootParams {
    /// Starts from this kernel's own page, if it tells it, and the new kernel's setup header; an
    /// ELF has none, so Linux finds the fields it looks at filled in.
    pub fn new(own: Option<&[u8]>, setup_header: Option<&[u8]>) -> Self {
        let mut page = BootParams(Box::new([0; SIZE]));
        for range in PASSED_ON {
            if let Some(bytes) = own.and_then(|own| own.get(range.clone())) {
                page.put(range.start, bytes);
            }
        }
        match setup_header {
            Some(header) => page.put(SETUP_HEADER, header),
            None => {
                page.put(BOOT_FLAG, &[0x55, 0xaa]);
                page.put(MAGIC, b"HdrS");
                page.put(VERSION, &0x20f_u16.to_le_bytes());
                page.put(LOADFLAGS, &[1]);
                page.put32(INITRD_ADDR_MAX, 0x7fff_ffff);
                page.put32(KERNEL_ALIGNMENT, 0x10_0000);
                page.put32(CMDLINE_SIZE, 2047);
            }
        }
        page.put(TYPE_OF_LOADER, &[0xff]);
        page.put(SETUP_DATA, &[0; 8]);
        page
    }

    /// Where the kernel lies.
    pub fn code(&mut self, at: u32) {
        self.put32(CODE32_START, at);
    }

    /// Where the command line lies.
    pub fn command_line(&mut self, at: u32) {
        self.put32(CMD_LINE_PTR, at);
    }

    /// Where the initrd lies.
    pub fn initrd(&mut self, at: u32, size: u32) {
        self.put32(RAMDISK_IMAGE, at);
        self.put32(RAMDISK_SIZE, size);
    }

    /// The memory map.
    pub fn e820(&mut self, map: &[Entry]) -> Result<()> {
        let count = u8::try_from(map.len())
            .ok()
            .filter(|n| usize::from(*n) <= MAX_ENTRIES);
        let Some(count) = count else {
            let why = format!("it has {} entries, a kernel takes {MAX_ENTRIES}", map.len());
            return Err(Error::MemoryMap(format!("{why}; use another --window")));
        };
        self.put(E820_ENTRIES, &[count]);
        for (i, e) in map.iter().enumerate() {
            let at = E820_TABLE + i * E820_ENTRY_SIZE;
            self.put(at, &e.start.to_le_bytes());
            self.put(at + 8, &e.end.saturating_sub(e.start).to_le_bytes());
            self.put(at + 16, &e.kind.to_le_bytes());
        }
        Ok(())
    }

    /// The finished page.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = at
            .checked_add(bytes.len())
            .and_then(|end| self.0.get_mut(at..end))
        {
            place.copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memmap::{tests::PC, RAM};
    use super::*;

    #[test]
    fn fields_are_where_linux_looks() {
        let mut p = BootParams::new(None, None);
        p.code(0x10_0000);
        p.command_line(0x1_0000);
        p.initrd(0xf0_0000, 0x1234);
        p.e820(PC).unwrap();
        let b = p.into_bytes();
        let word = |at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
        assert_eq!(
            (b[0x1e8], b[0x210], b[0x211], &b[0x202..0x206]),
            (6, 0xff, 1, &b"HdrS"[..])
        );
        assert_eq!(
            [word(0x214), word(0x228), word(0x218), word(0x21c)],
            [0x10_0000, 0x1_0000, 0xf0_0000, 0x1234]
        );
        assert_eq!([word(0x2d0), word(0x2d8), word(0x2e0)], [0, 0x9fc00, RAM]);
        // A sentinel other than 0 would make the kernel clear half of the page.
        assert_eq!(b[0x1ef], 0);
    }

    #[test]
    fn passes_on_the_machine_and_no_kernel() {
        let own = vec![0xaa; SIZE];
        let b = BootParams::new(Some(&own), Some(&[0x11; 0x7b])).into_bytes();
        assert_eq!(
            (b[0], b[0x3f], b[0x40], b[0x70], b[0x78]),
            (0xaa, 0xaa, 0, 0xaa, 0)
        );
        assert_eq!((b[0x1e8], b[0x1e9], b[0x1eb]), (0, 0xaa, 0));
        assert_eq!((b[0x1f0], b[0x1f1], b[0x26b], b[0x26c]), (0, 0x11, 0x11, 0));
        assert_eq!((b[0xcff], b[0xd00], b[0xeeb], b[0xeec]), (0, 0xaa, 0xaa, 0));
        let short = BootParams::new(Some(&[0xaa; 0x50]), None).into_bytes();
        assert_eq!((short[0x3f], short[0x70]), (0xaa, 0));
    }

    #[test]
    fn room_for_128_ranges() {
        let map = |n: u64| -> Vec<_> {
            (0..n)
                .map(|i| Entry {
                    start: i << 16,
                    end: (i << 16) + 1,
                    kind: RAM,
                })
                .collect()
        };
        assert!(BootParams::new(None, None).e820(&map(128)).is_ok());
        assert_eq!(
            BootParams::new(None, None)
                .e820(&map(129))
                .unwrap_err()
                .exit_code(),
            19
        );
        assert_eq!(
            BootParams::new(None, None)
                .e820(&map(300))
                .unwrap_err()
                .exit_code(),
            19
        );
    }
}
