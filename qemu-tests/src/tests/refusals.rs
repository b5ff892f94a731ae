// SPDX-License-Identifier: GPL-2.0

//! \[refusals\]: what cannot be is refused, each with a line and a code of its own, and A takes no
//! harm: by the command, by ioctls that the command would not make, and under lockdown.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump::{self, exit, refuses};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    refuses(&mut vm, "kjump status", exit::NO_MODULE, "module missing")?;
    refuses(
        &mut vm,
        "kjump load /boot/lean",
        exit::NO_MODULE,
        "module missing",
    )?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    let pages = kjump::number(&kjump::status(&mut vm)?, "allocated_pages")?;

    by_the_command(&mut vm)?;
    for (case, answers) in IOCTLS {
        by_ioctl(&mut vm, case, answers)?;
    }
    // Nothing is left of all that was begun.
    let status = kjump::status(&mut vm)?;
    ensure!(status["state"] == "empty", "{status}");
    ensure!(
        kjump::number(&status, "allocated_pages")? == pages,
        "pages are left: {status}"
    );

    // While a jump is under way, nobody unloads, loads or jumps.
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    refuses(
        &mut vm,
        "kjump load /boot/spin",
        exit::ALREADY_LOADED,
        "something is loaded already",
    )?;
    kjump::jump_and_return(&mut vm, "")?;
    by_ioctl(&mut vm, "away", AWAY)?;
    workload.healthy(&mut vm, before)?;

    // Last, as there is no way back: lockdown.
    vm.sh("echo integrity >/sys/kernel/security/lockdown")?;
    refuses(&mut vm, "kjump jump", exit::NOT_PERMITTED, "locked down")?;
    vm.sh("kjump unload")?;
    refuses(
        &mut vm,
        "kjump load /boot/lean",
        exit::NOT_PERMITTED,
        "locked down",
    )?;
    by_ioctl(&mut vm, "locked", LOCKED)?;
    let before = workload.progress(&mut vm)?;
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}

fn by_the_command(vm: &mut Vm) -> Result<()> {
    let nobody = "guest nobody /bin/kjump";
    refuses(
        vm,
        &format!("{nobody} load /boot/lean"),
        exit::NOT_ROOT,
        "not root",
    )?;
    refuses(vm, &format!("{nobody} jump"), exit::NOT_ROOT, "not root")?;
    refuses(vm, "kjump jump", exit::NOTHING_LOADED, "nothing is loaded")?;
    refuses(
        vm,
        "kjump unload",
        exit::NOTHING_LOADED,
        "nothing is loaded",
    )?;
    refuses(vm, "kjump back", exit::NOT_PEER, "no peer")?;

    vm.sh("head -c 200000 /boot/lean >/run/short; head -c 3000 /boot/spin >/run/short-elf")?;
    vm.sh("truncate -s 40M /run/large; truncate -s 1M /run/zeros; mkdir -p /run/dir")?;
    let files = [
        ("/init", exit::NOT_KERNEL, "not a kernel"),
        ("/dev/null", exit::NOT_KERNEL, "not a kernel"),
        ("/run/zeros", exit::NOT_KERNEL, "not a kernel"),
        ("/run/short", exit::TRUNCATED, "truncated kernel"),
        ("/run/short-elf", exit::TRUNCATED, "truncated kernel"),
        ("/run/none", exit::FAILURE, "/run/none"),
        ("/run/dir", exit::FAILURE, "/run/dir"),
        (
            "/boot/outside",
            exit::SEGMENT_OUTSIDE,
            "lies outside the window",
        ),
        (
            "/boot/overlap",
            exit::SEGMENT_OVERLAP,
            "overlaps another one",
        ),
        ("/boot/wrap", exit::SEGMENT_WRAPS, "wraps around 4 GiB"),
        (
            "/boot/lean --initrd /run/large",
            exit::INITRD_DOES_NOT_FIT,
            "initrd does not fit",
        ),
        ("/boot/lean --initrd /run/none", exit::FAILURE, "/run/none"),
        ("/boot/lean --window 0", exit::WINDOW_ZERO, "zero size"),
        (
            "/boot/lean --window 0x1000001",
            exit::WINDOW_UNALIGNED,
            "not page-aligned",
        ),
        (
            "/boot/lean --window 4M",
            exit::KERNEL_DOES_NOT_FIT,
            "does not fit",
        ),
        (
            "/boot/lean --window 2G",
            exit::WINDOW_TOO_LARGE,
            "larger than low memory",
        ),
        (
            "/boot/lean --window 0xfffff000",
            exit::WINDOW_TOO_LARGE,
            "larger than low memory",
        ),
    ];
    for (arguments, code, words) in files {
        refuses(vm, &format!("kjump load {arguments}"), code, words)?;
    }
    let usage = vm.run("kjump load")?;
    ensure!(
        usage.rc == exit::USAGE,
        "kjump load without a kernel: {}",
        usage.rc
    );
    Ok(())
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const EDOM: i32 = 33;
const ERANGE: i32 = 34;
const ENODATA: i32 = 61;
const EOVERFLOW: i32 = 75;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;
const EADDRINUSE: i32 = 98;
const EADDRNOTAVAIL: i32 = 99;
const EINPROGRESS: i32 = 115;

/// What `guest ioctl CASE` must be answered, line by line.
type Answers = &'static [(&'static str, i32)];

const IOCTLS: &[(&str, Answers)] = &[
    (
        "versions",
        &[
            ("prepare", EPROTONOSUPPORT),
            ("segment", EPROTONOSUPPORT),
            ("commit", EPROTONOSUPPORT),
            ("jump", EPROTONOSUPPORT),
            ("back", EPROTONOSUPPORT),
            ("unload", EPROTONOSUPPORT),
            ("status", EPROTONOSUPPORT),
        ],
    ),
    (
        "pointers",
        &[
            ("prepare", EFAULT),
            ("prepare-kernel", EFAULT),
            ("segment", EFAULT),
            ("segment-kernel", EFAULT),
            ("commit", EFAULT),
            ("commit-kernel", EFAULT),
            ("jump", EFAULT),
            ("jump-kernel", EFAULT),
            ("back", EFAULT),
            ("back-kernel", EFAULT),
            ("unload", EFAULT),
            ("unload-kernel", EFAULT),
            ("status", EFAULT),
            ("status-kernel", EFAULT),
            // There is no handoff here, which is found out first.
            ("handoff", ENODEV),
            ("handoff-kernel", ENODEV),
            ("contents", EFAULT),
            ("contents-wrap", EFAULT),
        ],
    ),
    (
        "windows",
        &[
            ("zero", EDOM),
            ("unaligned", EINVAL),
            ("huge", ERANGE),
            ("beyond-4g", ERANGE),
            ("all-ones", EINVAL),
            ("flags", EOPNOTSUPP),
        ],
    ),
    (
        "segments",
        &[
            ("before-prepare", ENODATA),
            ("prepare", 0),
            ("outside", EADDRNOTAVAIL),
            ("across-end", EADDRNOTAVAIL),
            ("hole", EADDRNOTAVAIL),
            ("page-zero", EADDRNOTAVAIL),
            ("wrap", EOVERFLOW),
            ("wrap-64", EOVERFLOW),
            ("memsz-huge", EOVERFLOW),
            ("empty", EINVAL),
            ("unaligned", EINVAL),
            ("bufsz-beyond", EINVAL),
            ("good", 0),
            ("overlap", EADDRINUSE),
            ("overlap-around", EADDRINUSE),
            ("entry-outside", EADDRNOTAVAIL),
            ("entry-again", ENODATA),
            ("prepare-again", 0),
            ("good-again", 0),
            ("commit", 0),
            ("segment-late", ENODATA),
            ("prepare-late", EEXIST),
            ("unload", 0),
        ],
    ),
    (
        "order",
        &[
            ("commit", ENODATA),
            ("jump", ENODATA),
            ("jump-flags", EOPNOTSUPP),
            ("back", ENODEV),
            ("unload", ENODATA),
            ("handoff", ENODEV),
            ("unknown", ENOTTY),
            ("other-size", ENOTTY),
        ],
    ),
    (
        "two",
        &[
            ("first", 0),
            ("second", EBUSY),
            ("second-segment", EBUSY),
            ("second-unload", EBUSY),
            ("second-status", 0),
            ("after-close", 0),
        ],
    ),
    (
        "nobody",
        &[
            ("open", EACCES),
            ("prepare", EPERM),
            ("jump", EPERM),
            ("segment", EPERM),
            ("commit", EPERM),
            ("back", EPERM),
            ("unload", EPERM),
            ("status", EPERM),
            ("handoff", EPERM),
            ("request", EPERM),
            ("label", EPERM),
            ("select", EPERM),
            ("list", EPERM),
            ("claim", EPERM),
            ("enter", EPERM),
            ("read", EPERM),
            ("write", EPERM),
            ("mmap", EPERM),
            ("kimgcore", EACCES),
        ],
    ),
];

const LOCKED: Answers = &[
    ("prepare", EPERM),
    ("jump", EPERM),
    ("claim", EPERM),
    ("enter", EPERM),
    ("back-to", EPERM),
];

const AWAY: Answers = &[
    ("jump", 0),
    ("unload", EINPROGRESS),
    ("prepare", EINPROGRESS),
    ("jump-again", EINPROGRESS),
];

/// A case of the raw ioctls.
fn by_ioctl(vm: &mut Vm, case: &str, wanted: Answers) -> Result<()> {
    let output = vm.run_for(&format!("guest ioctl {case}"), kjump::JUMP)?;
    let said = output.ok().with_context(|| format!("guest ioctl {case}"))?;
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(name, errno)| format!("{name} errno {errno}"))
        .collect();
    for (got, wanted) in said.lines().zip(&wanted) {
        ensure!(
            got == wanted,
            "ioctl {case}: \"{got}\", wanted \"{wanted}\""
        );
    }
    ensure!(said.lines().count() == wanted.len(), "ioctl {case}: {said}");
    Ok(())
}
