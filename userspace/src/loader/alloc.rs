//! First-fit allocation of physical memory: RAM, less what is taken. Ranges are half-open and
//! consist of whole pages.

use super::{page_down, page_up};

/// Free physical memory.
#[derive(Clone, Debug)]
pub struct Free(Vec<(u64, u64)>);

impl Free {
    /// The whole pages of `ram` below `limit`, page 0 left out: it holds the firmware's data.
    pub fn new(ram: impl IntoIterator<Item = (u64, u64)>, limit: u64) -> Self {
        let mut free: Vec<(u64, u64)> = ram
            .into_iter()
            .map(|(start, end)| (page_up(start).max(super::PAGE), page_down(end.min(limit))))
            .filter(|(start, end)| start < end)
            .collect();
        free.sort_unstable();
        // Merge what touches or overlaps, so that no page is given out twice.
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(free.len());
        for (start, end) in free {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Free(merged)
    }

    /// Takes `[start, end)`, rounded outwards, whether it was free or not.
    pub fn take(&mut self, start: u64, end: u64) {
        let (start, end) = (page_down(start), page_up(end));
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        for &(s, e) in &self.0 {
            rest.extend(
                [(s, e.min(start)), (s.max(end), e)]
                    .into_iter()
                    .filter(|(s, e)| s < e),
            );
        }
        self.0 = rest;
    }

    /// Is all of `[start, end)` free?
    pub fn has(&self, start: u64, end: u64) -> bool {
        self.0.iter().any(|&(s, e)| s <= start && end <= e)
    }

    /// The lowest address in `[min, max)`, a multiple of `align`, with `size` free bytes; `None`
    /// too if `align` is no power of two.
    pub fn lowest(&self, size: u64, align: u64, min: u64, max: u64) -> Option<u64> {
        if !align.is_power_of_two() {
            return None;
        }
        self.0.iter().find_map(|&(s, e)| {
            let at = s.max(min).checked_add(align - 1)? & !(align - 1);
            (at.checked_add(size)? <= e.min(max)).then_some(at)
        })
    }

    /// The highest page-aligned address in `[min, max)` with `size` free bytes.
    pub fn highest(&self, size: u64, min: u64, max: u64) -> Option<u64> {
        self.0.iter().rev().find_map(|&(s, e)| {
            let at = page_down(e.min(max).checked_sub(size)?);
            (at >= s.max(min)).then_some(at)
        })
    }

    /// Bytes of the largest free piece in `[min, max)`.
    pub fn largest(&self, min: u64, max: u64) -> u64 {
        let size = |&(s, e): &(u64, u64)| page_down(e.min(max)).saturating_sub(page_up(s.max(min)));
        self.0.iter().map(size).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pc() -> Free {
        Free::new([(0, 0x9fc00), (0x100000, 0x1000000)], 16 << 20)
    }

    #[test]
    fn whole_pages_without_page_0() {
        assert_eq!(pc().0, [(0x1000, 0x9f000), (0x100000, 0x1000000)]);
        assert!(Free::new([(0, 0x1000), (0x5001, 0x5fff)], u64::MAX)
            .0
            .is_empty());
    }

    #[test]
    fn touching_ranges_are_one() {
        assert!(Free::new([(0x3000, 0x5000), (0x1000, 0x3000)], u64::MAX).has(0x1000, 0x5000));
    }

    #[test]
    fn lowest_at_its_limits() {
        let f = pc();
        assert_eq!(f.lowest(0x1000, 0x1000, 0, u64::MAX), Some(0x1000));
        assert_eq!(f.lowest(0x9e000, 0x1000, 0, u64::MAX), Some(0x1000));
        assert_eq!(f.lowest(0x9e001, 0x1000, 0, u64::MAX), Some(0x100000));
        assert_eq!(f.lowest(0xf00000, 0x100000, 0, u64::MAX), Some(0x100000));
        assert_eq!(f.lowest(0xf00001, 0x100000, 0, u64::MAX), None);
        assert_eq!(
            f.lowest(0xd00000, 0x200000, 0x100000, u64::MAX),
            Some(0x200000)
        );
        assert_eq!(f.lowest(0xe00001, 0x200000, 0x100000, u64::MAX), None);
        assert_eq!(f.lowest(1, 3, 0, u64::MAX), None);
        assert_eq!(f.lowest(u64::MAX, 1, 1, u64::MAX), None);
    }

    #[test]
    fn highest_at_its_limits() {
        let f = pc();
        assert_eq!(f.highest(0x1000, 0, u64::MAX), Some(0xfff000));
        assert_eq!(f.highest(1, 0, 0x200800), Some(0x200000));
        assert_eq!(f.highest(0xf00000, 0x100000, u64::MAX), Some(0x100000));
        assert_eq!(f.highest(0xf00001, 0x100000, u64::MAX), None);
        assert_eq!(f.largest(0x100000, u64::MAX), 0xf00000);
        assert_eq!(f.largest(0, 0x100000), 0x9e000);
        assert_eq!(f.largest(0x2000000, u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn what_is_taken_is_never_given(
            takes in prop::collection::vec((0u64..0x1100000, 0u64..0x200000), 0..20),
            size in 1u64..0x400000,
        ) {
            let mut f = pc();
            for (start, len) in &takes {
                f.take(*start, start + len);
            }
            for at in [f.lowest(size, 4096, 0, u64::MAX), f.highest(size, 0, u64::MAX)] {
                let Some(at) = at else { continue };
                prop_assert!(pc().has(at, at + size));
                prop_assert!(takes.iter().all(|(s, l)| *l == 0 || at + size <= *s || s + l <= at));
            }
        }
    }
}
