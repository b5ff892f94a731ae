//! What the running kernel will compare a stream with: its memory map, and how many frames it has.

use std::fs;
use std::path::Path;

use kjump_abi::crc32;

use super::stream::Kernel;
use crate::error::{Error, Result};
use crate::loader::memmap;

/// Reads both.
pub fn here() -> Result<Kernel> {
    let path = "/proc/zoneinfo";
    let zones = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    Ok(Kernel {
        e820: e820(Path::new("/sys/firmware/memmap"))?,
        frames: present(&zones),
    })
}

/// `get_num_physpages`: the frames that all zones have.
fn present(zones: &str) -> u32 {
    let frames = |line: &str| -> Option<u32> {
        let mut words = line.split_whitespace();
        (words.next()? == "present")
            .then(|| words.next()?.parse().ok())
            .flatten()
    };
    zones.lines().filter_map(frames).sum()
}

/// CRC-32 of `struct e820_table`: the number of entries and, packed, start, size and type of each,
/// in the kernel's order.
fn e820(folder: &Path) -> Result<u32> {
    let missing = |why: String| Error::MemoryMap(format!("{}: {why}", folder.display()));
    let mut table = Vec::new();
    let mut count = 0u32;
    loop {
        let entry = folder.join(count.to_string());
        if !entry.exists() {
            break;
        }
        let file = |name: &str| {
            let text = fs::read_to_string(entry.join(name));
            text.map_err(|e| missing(format!("{count}/{name}: {e}")))
        };
        let number = |name: &str| {
            let text = file(name)?;
            let digits = text.trim().trim_start_matches("0x");
            u64::from_str_radix(digits, 16).map_err(|e| missing(format!("{count}/{name}: {e}")))
        };
        let (start, last) = (number("start")?, number("end")?);
        let kind = file("type")?;
        let kind = memmap::known_kind(kind.trim())
            .ok_or_else(|| missing(format!("memory of an unknown type, {}", kind.trim())))?;
        table.extend(start.to_le_bytes());
        table.extend(last.wrapping_sub(start).wrapping_add(1).to_le_bytes());
        table.extend(kind.to_le_bytes());
        count += 1;
    }
    if count == 0 {
        return Err(missing("not there (CONFIG_FIRMWARE_MEMMAP)".into()));
    }
    Ok(crc32(crc32(0, &count.to_le_bytes()), &table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted() {
        let zones = "Node 0, zone      DMA\n  pages free     3840\n        present  3998\n        \
                     managed  3840\nNode 0, zone   Normal\n        present  61422\n";
        assert_eq!(present(zones), 65420);
    }

    #[test]
    fn the_map_is_summed_up_as_the_kernel_has_it() {
        let folder = std::env::temp_dir().join(format!("kjump-e820-{}", std::process::id()));
        let entries = [
            ("0x0", "0x9fbff", "System RAM"),
            ("0x9fc00", "0x9ffff", "Reserved"),
        ];
        for (n, (start, end, kind)) in entries.iter().enumerate() {
            let entry = folder.join(n.to_string());
            fs::create_dir_all(&entry).unwrap();
            for (name, text) in [("start", start), ("end", end), ("type", kind)] {
                fs::write(entry.join(name), format!("{text}\n")).unwrap();
            }
        }
        let mut table = vec![2, 0, 0, 0];
        for (start, size, kind) in [(0u64, 0x9_fc00u64, 1u32), (0x9_fc00, 0x400, 2)] {
            table.extend(start.to_le_bytes());
            table.extend(size.to_le_bytes());
            table.extend(kind.to_le_bytes());
        }
        assert_eq!(e820(&folder).unwrap(), crc32(0, &table));
        fs::write(folder.join("1/type"), "Something\n").unwrap();
        assert!(e820(&folder).unwrap_err().to_string().contains("Something"));
        fs::remove_dir_all(&folder).unwrap();
        assert!(e820(&folder).is_err());
    }
}
