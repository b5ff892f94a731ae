//! `kjump bios`: services of the firmware, by interrupts of real mode.

use super::call::register;
use super::say;
use crate::call::shim::Registers;
use crate::call::{self, Call, Piece, Times};
use crate::cli::{Trust, Way};
use crate::error::{Error, Result};
use crate::parse;

/// Where a service finds and leaves what does not fit registers.
const BUFFER: u32 = 0x5000;
/// The carry flag, with which most services say that they failed.
const CARRY: u32 = 1;

/// Arguments of `bios`.
#[derive(Debug, clap::Args)]
pub struct BiosArgs {
    /// What to ask for.
    #[command(subcommand)]
    pub what: What,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
}

/// What to ask for.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Any service; prints the registers that it leaves
    Int {
        /// The interrupt, such as 0x15
        #[arg(value_parser = vector)]
        number: u8,
        /// What it is given, such as eax=0xe820
        #[arg(long = "in", value_name = "REG=VALUE", value_parser = register)]
        registers: Vec<(String, u32)>,
        /// The same for EAX
        #[arg(long, value_name = "VALUE", value_parser = parse::number)]
        eax: Option<u64>,
        /// Print that many bytes from 0x5000 on, in hexadecimal; it is free to be used
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        dump: usize,
        /// Make the call that many times, and tell what came of the last one
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
    },
    /// The memory map (INT 15h, EAX=E820h), as /proc/iomem has it
    E820,
    /// What the VGA BIOS can do (INT 10h, AX=4F00h)
    Vbe,
    /// Disks and their sizes (INT 13h, AH=41h and 48h)
    Edd,
}

fn vector(text: &str) -> std::result::Result<u8, String> {
    u8::try_from(parse::number(text)?).map_err(|_| "an interrupt is a number below 256".into())
}

/// Asks.
pub fn run(args: &BiosArgs) -> Result<u8> {
    let bios = Bios { way: &args.way };
    match &args.what {
        What::Int {
            number,
            registers,
            eax,
            dump,
            count,
        } => {
            let mut given = Registers::default();
            given.set(registers);
            if let Some(eax) = eax {
                given.eax = u32::try_from(*eax)
                    .map_err(|_| Error::Usage("--eax: a register has 32 bits".into()))?;
            }
            if *count == 0 {
                return Err(Error::Usage("--count 0: make it at least once".into()));
            }
            let (left, buffer, times) = bios.repeat(*number, given, &[], *count)?;
            say(left)?;
            if *count > 1 {
                say(times)?;
            }
            for line in buffer
                .get(..(*dump).min(buffer.len()))
                .unwrap_or_default()
                .chunks(16)
            {
                let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
                say(hex.join(" "))?;
            }
        }
        What::E820 => bios.e820()?,
        What::Vbe => bios.vbe()?,
        What::Edd => bios.edd()?,
    }
    Ok(0)
}

struct Bios<'a> {
    way: &'a Way,
}

impl Bios<'_> {
    /// Calls a service with what it finds in the buffer; gives registers and buffer as it leaves
    /// them.
    fn service(&self, number: u8, given: Registers, buffer: &[u8]) -> Result<(Registers, Vec<u8>)> {
        let (left, buffer, _) = self.repeat(number, given, buffer, 1)?;
        Ok((left, buffer))
    }

    /// The same, so many times; the buffer is found as it was left.
    fn repeat(
        &self,
        number: u8,
        given: Registers,
        buffer: &[u8],
        count: u32,
    ) -> Result<(Registers, Vec<u8>, Times)> {
        let given = Registers {
            flags: given.flags | 0x202,
            ..given
        };
        let mut full = buffer.to_vec();
        full.resize(0x1000, 0);
        let pieces = [
            Piece {
                at: call::ADDRESS.into(),
                bytes: call::interrupt(number),
            },
            Piece {
                at: BUFFER.into(),
                bytes: full.clone(),
            },
        ];
        // No deadline: firmware may go to protected mode and back, and must not meet an NMI there.
        let told = call::told(true, call::ADDRESS, given, None);
        let call = Call::load(&told, &pieces)?;
        let (left, times) = call.repeat((self.way, Trust::default()), count)?;
        call.read(BUFFER.into(), &mut full)?;
        Ok((left, full, times))
    }

    fn e820(&self) -> Result<()> {
        /// "SMAP"
        const SIGNATURE: u32 = 0x534d_4150;
        let mut next = 0;
        // More entries than any map has: a firmware that never ends is not followed for ever.
        for _ in 0..256 {
            let given = Registers {
                eax: 0xe820,
                ebx: next,
                ecx: 24,
                edx: SIGNATURE,
                edi: BUFFER,
                ..Registers::default()
            };
            let (left, buffer) = self.service(0x15, given, &[])?;
            if left.flags & CARRY != 0 || left.eax != SIGNATURE {
                break;
            }
            say(range(&buffer))?;
            next = left.ebx;
            if next == 0 {
                return Ok(());
            }
        }
        if next == 0 {
            return Err(refused("INT 15h, EAX=E820h"));
        }
        Ok(())
    }

    fn vbe(&self) -> Result<()> {
        let given = Registers {
            eax: 0x4f00,
            edi: BUFFER,
            ..Registers::default()
        };
        let (left, buffer) = self.service(0x10, given, b"VBE2")?;
        if left.eax & 0xffff != 0x004f || &buffer[..4] != b"VESA" {
            return Err(refused("INT 10h, AX=4F00h"));
        }
        let version = half(&buffer, 4);
        say(format_args!(
            "VBE {}.{}, {} KiB",
            version >> 8,
            version & 0xff,
            half(&buffer, 18) << 6
        ))
    }

    fn edd(&self) -> Result<()> {
        let mut found = false;
        for disk in 0x80..0x90 {
            let given = Registers {
                eax: 0x4100,
                ebx: 0x55aa,
                edx: disk,
                ..Registers::default()
            };
            let (left, _) = self.service(0x13, given, &[])?;
            if left.flags & CARRY != 0 || left.ebx & 0xffff != 0xaa55 {
                break;
            }
            let version = left.eax >> 8 & 0xff;
            // Parameters go to DS:SI; their size comes first.
            let given = Registers {
                eax: 0x4800,
                edx: disk,
                esi: BUFFER,
                ..Registers::default()
            };
            let (left, buffer) = self.service(0x13, given, &[26, 0])?;
            if left.flags & CARRY != 0 {
                break;
            }
            found = true;
            let (sectors, size) = (long(&buffer, 16), half(&buffer, 24));
            say(format_args!(
                "disk {disk:#x}: EDD {version:#x}, {sectors} sectors of {size} bytes"
            ))?;
        }
        if !found {
            return Err(refused("INT 13h, AH=41h and 48h"));
        }
        Ok(())
    }
}

fn refused(service: &str) -> Error {
    Error::Firmware {
        service: service.into(),
    }
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from(bytes[at]) | u32::from(bytes[at + 1]) << 8
}

fn long(bytes: &[u8], at: usize) -> u64 {
    (0..8).fold(0, |n, i| n | u64::from(bytes[at + i]) << (8 * i))
}

/// An entry of the map: base, length, type.
fn range(entry: &[u8]) -> String {
    let (start, length) = (long(entry, 0), long(entry, 8));
    let kind = long(entry, 16) as u32;
    let name = match kind {
        1 => "System RAM",
        2 => "Reserved",
        3 => "ACPI Tables",
        4 => "ACPI Non-volatile Storage",
        5 => "Unusable memory",
        _ => "Unknown",
    };
    format!(
        "{start:08x}-{:08x} : {name}",
        start.wrapping_add(length).wrapping_sub(1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_map() {
        let mut entry = [0; 24];
        entry[2] = 0x10;
        entry[10] = 0xf0;
        entry[16] = 1;
        assert_eq!(range(&entry), "00100000-00ffffff : System RAM");
        assert_eq!(vector("0x15"), Ok(0x15));
        assert!(vector("256").is_err());
    }
}
