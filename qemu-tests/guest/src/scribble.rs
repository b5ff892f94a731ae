// SPDX-License-Identifier: GPL-2.0

//! Taking all the memory there is: in B to write junk over it, in A to see that what the
//! allocator gives as zeroed is zero.

use crate::memory::{meminfo, vm_setting, Pages};
use crate::{number, Outcome};

/// `scribble`: writes over every page that this kernel will give, and prints how many.
///
/// It stops short of the OOM killer, whose report would count as a splat: at 256 KiB free.
pub fn run(_args: &[String]) -> Outcome {
    const LEAVE: usize = 64;
    vm_setting("min_free_kbytes", "64")?;
    // A large map of present pages would be of no use: one at a time, to the last.
    let mut pages = 0u32;
    while meminfo("MemFree")? > LEAVE {
        let Some(mut page) = Pages::take(1) else {
            break;
        };
        page.page(0).fill(0xdead_0000 | (pages & 0xffff));
        pages += 1;
    }
    println!("scribbled over {pages} pages");
    Ok(())
}

/// `alloccheck PERCENT`: takes PERCENT of the free memory, window included, and checks that each
/// fresh page reads as zero. With `init_on_free=1` the kernel does not clear a page when it gives
/// it out, so a free page that came back dirty from a jump shows here.
pub fn alloccheck(args: &[String]) -> Outcome {
    let mut dirty = 0u64;
    let (taken, _) = crate::memory::take_free(number(args, 0)?, |_, page| {
        dirty += u64::from(page.iter().any(|&word| word != 0));
    })?;
    let (mut pages, mut inside) = (0, 0);
    for chunk in &taken {
        pages += chunk.count();
        inside += chunk
            .frames()?
            .iter()
            .filter(|&&frame| frame != 0 && frame < 4096)
            .count();
    }
    if dirty != 0 {
        return Err(format!("{dirty} of {pages} fresh pages are not zero"));
    }
    println!("zero {pages}, {inside} in the window");
    Ok(())
}
