// SPDX-License-Identifier: GPL-2.0

//! What A and B have on board beside the usual.

use std::fs;
use std::io::Write;

use anyhow::Result;
use flate2::write::GzEncoder;
use flate2::Compression;

use crate::artifacts::Kernel;
use crate::cpio::Cpio;
use crate::initramfs;
use crate::story::Story;
use crate::vm::Config;

/// Counts in B's own memory how often it was run: its exit code.
const COUNT: &str = "#!/bin/busybox sh
n=$(/bin/busybox cat /run/count 2>/dev/null)
n=$((${n:-0} + 1))
echo $n >/run/count
exit $n
";

/// What one would type in B with kexec-tools. Their `kexec -e` is what leaves.
const TOOLS: &str = r#"#!/bin/busybox sh
entry=$(/bin/busybox sed -n 's/.*kexec_jump_back_entry=\(0x[0-9a-f]*\).*/\1/p' /proc/cmdline)
/bin/kexec -c --load-jump-back-helper --entry=$entry
echo "tools: kexec-tools' helper: $?"
/bin/kjump kexec --load-jump-back-helper --entry=$entry
echo "tools: kjump's helper: $?"
/bin/kexec -e
echo "tools: entered again"
/bin/kexec -e
echo "tools: entered a second time"
exit 7
"#;

/// Takes A's page tables away from the helper, in A's control page, and gives them back; once it is told that
/// they are where the local APIC is, which keeps it in mind that a register that it does not have was
/// read, and A's other CPU would not start. Then a list of pages that never ends, and an entry where nobody is.
const LOST: &str = r#"#!/bin/busybox sh
entry=$(/bin/busybox sed -n 's/.*kexec_jump_back_entry=\(0x[0-9a-f]*\).*/\1/p' /proc/cmdline)
cr3=$((entry / 4096 * 4096 + 2056))
was=$(/bin/busybox devmem $cr3 32)
/bin/busybox devmem $cr3 32 0
/bin/kjump back
echo "lost: back: $?"
/bin/busybox devmem $cr3 32 0xfee00000
/bin/kjump back
echo "lost: device: $?"
/bin/busybox devmem $cr3 32 $was
head=$((entry / 4096 * 4096))
list=$((head + 2076))
was=$(/bin/busybox devmem $head 32)
first=$(/bin/busybox devmem $list 32)
/bin/busybox devmem $head 32 $((head + 2))
/bin/busybox devmem $list 32 $((head + 2))
/bin/kjump back
echo "lost: circle: $?"
/bin/busybox devmem $head 32 $was
/bin/busybox devmem $list 32 $first
echo 0x1000 >/run/kjump.entry
/bin/kjump back
echo "lost: stale: $?"
/bin/busybox rm /run/kjump.entry
"#;

/// More for A's initramfs: kexec-tools in the place of kjump's `kexec`, the kernel with PAE, and
/// two initramfs of B's without the module.
pub fn add(story: &Story, config: &mut Config) -> Result<()> {
    let artifacts = &story.artifacts;
    let mut more = Cpio::default()
        .file("boot/bare.cpio.gz", &bare(story, false)?)
        .file("boot/tools.cpio.gz", &bare(story, true)?)
        .file("boot/pae", &fs::read(artifacts.bzimage(Kernel::Pae))?);
    more = initramfs::debian(artifacts, "kexec-tools", more)?;
    initramfs::append(story, config, "a-interop.cpio", more)
}

/// An initramfs of B's without the module, with kexec-tools or without.
fn bare(story: &Story, tools: bool) -> Result<Vec<u8>> {
    let artifacts = &story.artifacts;
    let mut bare = Cpio::default();
    for directory in ["bin", "dev", "lib", "proc", "run", "sys", "tmp"] {
        bare = bare.directory(directory);
    }
    bare = bare
        .device("dev/console", 5, 1)
        .file("init", &fs::read(artifacts.kjump())?)
        .file("bin/busybox", &fs::read(artifacts.busybox())?)
        .file("bin/count", COUNT.as_bytes());
    if tools {
        bare = bare
            .symlink("bin/kjump", "../init")
            .file("bin/tools", TOOLS.as_bytes())
            .file("bin/lost", LOST.as_bytes());
        bare = initramfs::debian(artifacts, "kexec-tools", bare)?;
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    packed.write_all(&bare.finish())?;
    Ok(packed.finish()?)
}
