//! Where saved pages may lie.

use kjump_abi::Range;

use crate::layout::BLOCK;

/// Pages of some RAM above a window, as page numbers.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Half-open ranges of page numbers; ascending, with gaps between them.
    ranges: Vec<(u64, u64)>,
}

impl Bounds {
    /// Whole pages of `ram` from `floor` (bytes) up. `None` if the ranges do not ascend or a range
    /// is empty.
    pub fn new(ram: &[Range], floor: u64) -> Option<Self> {
        let page = BLOCK as u64;
        let mut whole: Vec<Range> = Vec::with_capacity(ram.len());
        for range in ram {
            if range.start >= range.end {
                return None;
            }
            match whole.last_mut() {
                Some(last) if range.start < last.end => return None,
                Some(last) if range.start == last.end => last.end = range.end,
                _ => whole.push(*range),
            }
        }
        let pages = |r: &Range| (r.start.max(floor).div_ceil(page), r.end / page);
        let ranges = whole.iter().map(pages).filter(|(a, b)| a < b).collect();
        Some(Self { ranges })
    }

    /// Whether all of these pages are inside.
    pub fn has(&self, pfn: u64, count: u64) -> bool {
        let i = self.ranges.partition_point(|(start, _)| *start <= pfn);
        let Some((_, end)) = i.checked_sub(1).and_then(|i| self.ranges.get(i)) else {
            return false;
        };
        pfn.checked_add(count).is_some_and(|last| last <= *end)
    }

    /// Pages in all.
    pub fn pages(&self) -> u64 {
        self.ranges.iter().map(|(a, b)| b - a).sum()
    }

    /// Whether all of these are inside `other`.
    pub fn inside(&self, other: &Bounds) -> bool {
        self.ranges.iter().all(|(a, b)| other.has(*a, b - a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn whole_pages_above_the_floor() {
        let ram = [
            range(0, 0x9fc00),
            range(0x100000, 0x1800000),
            range(0x1800000, 0x2000800),
            range(0x1_0000_0000, 0x1_0000_1000),
        ];
        let b = Bounds::new(&ram, 16 << 20).unwrap();
        assert_eq!(b.ranges, [(0x1000, 0x2000), (0x100000, 0x100001)]);
        assert_eq!(b.pages(), 0x1001);
        // Over the seam of two ranges that touch.
        assert!(b.has(0x17ff, 2) && b.has(0x1000, 0x1000));
        assert!(!b.has(0x1000, 0x1001) && !b.has(0xfff, 2) && !b.has(0, 1));
        assert!(!b.has(0x1001, u64::MAX));
        assert!(b.inside(&Bounds::new(&ram, 8 << 20).unwrap()));
        assert!(!Bounds::new(&ram, 8 << 20).unwrap().inside(&b));
    }

    #[test]
    fn ranges_must_ascend() {
        assert!(Bounds::new(&[range(4096, 4096)], 0).is_none());
        assert!(Bounds::new(&[range(8192, 12288), range(0, 4096)], 0).is_none());
        assert!(Bounds::new(&[range(0, 8192), range(4096, 12288)], 0).is_none());
        assert_eq!(Bounds::new(&[], 0).unwrap().pages(), 0);
        let top = Bounds::new(&[range(0, u64::MAX)], u64::MAX).unwrap();
        assert!(!top.has(u64::MAX / 4096, 1));
    }
}
