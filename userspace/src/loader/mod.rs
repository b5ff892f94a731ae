//! From a kernel file to the segments of a load. Nothing here talks to the module, and nothing is
//! `unsafe`: a hostile file can at worst be refused.

pub mod alloc;
pub mod boot_params;
pub mod bzimage;
pub mod elf;
pub mod memmap;
pub mod plan;

/// Bytes in a page.
pub const PAGE: u64 = kjump_abi::PAGE_SIZE;

/// `n` rounded down to a whole page.
pub const fn page_down(n: u64) -> u64 {
    n & !(PAGE - 1)
}

/// `n` rounded up to a whole page; the last page boundary where there is no such number.
pub const fn page_up(n: u64) -> u64 {
    page_down(n.saturating_add(PAGE - 1))
}
