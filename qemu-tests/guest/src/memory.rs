// SPDX-License-Identifier: GPL-2.0

//! Taking memory page by page, and knowing which frames it is.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::blocks::splitmix64;
use crate::failed;

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// Words of 32 bits in a page.
pub const WORDS: usize = PAGE / 4;

/// The words of page `index` under `seed`: xorshift32 from a start that depends on both. It has
/// 32-bit operations only, which matters when an emulated 32-bit CPU does it 100 million times.
pub fn page_words(seed: u64, index: u64) -> impl Iterator<Item = u32> {
    let mut x = (splitmix64(seed ^ splitmix64(index)) as u32) | 1;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x
    })
    .take(WORDS)
}

/// Anonymous, private, populated memory of this process; never unmapped.
pub struct Pages {
    start: *mut u32,
    count: usize,
}

impl Pages {
    /// Takes `count` pages, all present. `None` if the kernel has no address space left.
    pub fn take(count: usize) -> Option<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory
        // that Rust knows of.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        (start != libc::MAP_FAILED).then_some(Self {
            start: start.cast(),
            count,
        })
    }

    /// Number of pages.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Page `at`, as words.
    pub fn page(&mut self, at: usize) -> &mut [u32] {
        assert!(at < self.count);
        // SAFETY: the mapping is `count` pages long, readable and writable, initialised by the
        // kernel, and borrowed through `self` only.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at * WORDS), WORDS) }
    }

    /// Page frame numbers by /proc/self/pagemap; 0 where a page is not present.
    pub fn frames(&self) -> Result<Vec<u64>, String> {
        let file = File::open("/proc/self/pagemap").map_err(failed("pagemap"))?;
        let mut bytes = vec![0; self.count * 8];
        let first = self.start as usize / PAGE;
        file.read_exact_at(&mut bytes, first as u64 * 8)
            .map_err(failed("pagemap"))?;
        Ok(bytes
            .chunks_exact(8)
            .map(|entry| {
                let entry = u64::from_le_bytes(entry.try_into().expect("8 bytes"));
                // Bit 63: present; bits 0–54: the frame.
                if entry >> 63 == 1 {
                    entry & ((1 << 55) - 1)
                } else {
                    0
                }
            })
            .collect())
    }
}

/// A field of /proc/meminfo, in pages.
pub fn meminfo(field: &str) -> Result<usize, String> {
    let text = fs::read_to_string("/proc/meminfo").map_err(failed("/proc/meminfo"))?;
    let kib = text
        .lines()
        .find_map(|line| {
            line.strip_prefix(field)?
                .strip_prefix(':')?
                .trim()
                .split(' ')
                .next()
        })
        .and_then(|number| number.parse::<usize>().ok())
        .ok_or_else(|| format!("/proc/meminfo: no {field}"))?;
    Ok(kib / 4)
}

/// Writes a number to a file of /proc/sys/vm and gives what was there before.
pub fn vm_setting(name: &str, value: &str) -> Result<String, String> {
    let path = format!("/proc/sys/vm/{name}");
    let before = fs::read_to_string(&path).map_err(failed(&path))?;
    fs::write(&path, value).map_err(failed(&path))?;
    Ok(before.trim().to_string())
}

/// Takes free memory until only `100 - percent` per cent of what is free now is left, low zones
/// included, `each` page by page; leaves the kernel's settings as they were.
///
/// The kernel keeps ZONE_DMA (the window, that is) for those who ask for it: with
/// `lowmem_reserve_ratio` raised it does so no more, and with `min_free_kbytes` at what is to be
/// left, the zones above count as empty in time for the lowest to be taken too.
pub fn take_free(
    percent: u64,
    mut each: impl FnMut(u64, &mut [u32]),
) -> Result<(Vec<Pages>, usize), String> {
    const CHUNK: usize = 128;
    let free = meminfo("MemFree")?;
    let leave = free - free * percent as usize / 100;
    let ratio = vm_setting("lowmem_reserve_ratio", "1000000 1000000 1000000 1000000");
    let reserve = vm_setting("min_free_kbytes", &(leave * 4 * 8 / 10).to_string())?;
    let mut taken = Vec::new();
    let mut index = 0;
    while meminfo("MemFree")? > leave + CHUNK {
        let Some(mut pages) = Pages::take(CHUNK) else {
            break;
        };
        for at in 0..CHUNK {
            each(index, pages.page(at));
            index += 1;
        }
        taken.push(pages);
    }
    vm_setting("min_free_kbytes", &reserve)?;
    if let Ok(ratio) = ratio {
        vm_setting("lowmem_reserve_ratio", &ratio)?;
    }
    Ok((taken, free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_from_seed_and_index() {
        let page = |seed, index| page_words(seed, index).collect::<Vec<_>>();
        assert_eq!(page(1, 2), page(1, 2));
        assert_ne!(page(1, 2), page(1, 3));
        assert_ne!(page(1, 2), page(2, 2));
        assert_eq!(page(1, 2).len(), WORDS);
        assert!(page(1, 2).iter().all(|&word| word != 0));
    }

    #[test]
    fn pages_taken_have_frames() {
        let mut pages = Pages::take(3).expect("3 pages");
        pages.page(2)[5] = 7;
        assert_eq!(pages.page(2)[5], 7);
        assert_eq!(pages.frames().expect("pagemap").len(), 3);
    }
}
