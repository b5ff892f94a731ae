// SPDX-License-Identifier: GPL-2.0

//! Where things lie: what is built (`build/i386/`, whose names are an interface) and the cache
//! that several checkouts share.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The test kernels. Their configurations are `qemu-tests/kernels/*.config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kernel {
    /// Kernel A, placed at 2 MiB.
    Full,
    /// Kernels B and C: live in a window of 16 MiB.
    Lean,
    /// `lean` for several CPUs.
    LeanSmp,
    /// `full` with PAE, placed at 16 MiB.
    Pae,
    /// `full` with what finds mistakes: locks, memory, undefined behaviour. Built when asked for.
    Debug,
}

impl Kernel {
    /// Those that are always built, in that order.
    pub const ALL: [Kernel; 4] = [Kernel::Full, Kernel::Lean, Kernel::LeanSmp, Kernel::Pae];

    /// As in file names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Full => "full",
            Kernel::Lean => "lean",
            Kernel::LeanSmp => "lean-smp",
            Kernel::Pae => "pae",
            Kernel::Debug => "debug",
        }
    }

    /// Configuration fragments, in the order in which they are laid over `tinyconfig`.
    pub fn fragments(self) -> &'static [&'static str] {
        match self {
            Kernel::Full => &["common.config", "full.config"],
            Kernel::Lean => &["common.config", "lean.config"],
            Kernel::LeanSmp => &["common.config", "lean.config", "lean-smp.config"],
            Kernel::Pae => &["common.config", "full.config", "pae.config"],
            Kernel::Debug => &["common.config", "full.config", "debug.config"],
        }
    }

    /// The compiler, where it is not the kernel's own choice. A kernel compiled for size fills and copies memory
    /// by `rep stosb` and `rep movsb`: slow on processors without fast ones (those before Ivy Bridge, emulated
    /// ones), and a quarter of a peer's boot there. (In KCFLAGS bindgen would trip over it.)
    pub fn compiler(self) -> Option<&'static str> {
        matches!(self, Kernel::Lean | Kernel::LeanSmp)
            .then_some("gcc -mstringop-strategy=rep_4byte")
    }

    /// `full` is the kernel meant when none is named.
    fn suffix(self) -> &'static str {
        match self {
            Kernel::Full => "",
            Kernel::Lean => "-lean",
            Kernel::LeanSmp => "-lean-smp",
            Kernel::Pae => "-pae",
            Kernel::Debug => "-debug",
        }
    }

    /// The bootable image.
    pub fn bzimage(self) -> PathBuf {
        dir().join(format!("bzImage{}", self.suffix()))
    }

    /// The ELF file, with symbols, and the types that debuggers ask for.
    pub fn vmlinux(self) -> PathBuf {
        dir().join(format!("vmlinux{}", self.suffix()))
    }

    /// The configuration it was built with.
    pub fn config(self) -> PathBuf {
        dir().join(format!("kernel{}.config", self.suffix()))
    }

    /// `uname -r`, one line.
    pub fn release(self) -> PathBuf {
        dir().join(format!("kernel{}.release", self.suffix()))
    }

    /// kjump's module for it.
    pub fn module(self) -> PathBuf {
        dir().join(format!("kjump{}.ko", self.suffix()))
    }

    /// The tests' module with bugs to be set off, for it.
    pub fn trouble(self) -> PathBuf {
        guest_programs().join(format!("trouble{}.ko", self.suffix()))
    }
}

/// Which kernel is A in the tests where that is [`Kernel::Full`] as a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// That one.
    #[default]
    Full,
    /// [`Kernel::Debug`] in its place.
    Debug,
}

impl Flavour {
    /// The kernels that tests need.
    pub fn kernels(self) -> Vec<Kernel> {
        let more = (self == Flavour::Debug).then_some(Kernel::Debug);
        Kernel::ALL.into_iter().chain(more).collect()
    }

    /// The option of `qemu-tests` that says so.
    pub fn option(self) -> Option<&'static str> {
        (self == Flavour::Debug).then_some("--kernel=debug")
    }
}

/// The checkout.
pub fn repo() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask/ lies in the checkout")
        .to_owned()
}

/// Where all that is built for i386 lands.
pub fn dir() -> PathBuf {
    repo().join("build/i386")
}

/// The command, static for i686.
pub fn kjump() -> PathBuf {
    dir().join("kjump")
}

/// The initramfs of a kernel B with several CPUs.
pub fn initramfs_smp() -> PathBuf {
    dir().join("initramfs-smp.cpio.gz")
}

/// The initramfs of kernels B and C.
pub fn initramfs() -> PathBuf {
    dir().join("initramfs.cpio.gz")
}

/// The all-in-one initramfs of the seeds, and the same with makedumpfile.
pub fn rootfs() -> PathBuf {
    dir().join("rootfs.gz")
}

/// See [`rootfs`].
pub fn rootfs_makedumpfile() -> PathBuf {
    dir().join("rootfs-makedumpfile.gz")
}

/// A static i386 busybox, for guests.
pub fn busybox() -> PathBuf {
    dir().join("busybox")
}

/// A package of Debian's for i386 guests, see [`debian`](crate::debian): `bin/`, and `lib/` with what
/// the programs need.
pub fn debian(package: &str) -> PathBuf {
    dir().join("debian").join(package)
}

/// A kernel of Debian's for i386, see [`stock`](crate::stock): `vmlinuz`, `release`, and `modules/`.
pub fn stock(flavour: &str) -> PathBuf {
    dir().join("stock").join(flavour)
}

/// The programs of `qemu-tests/guest`, static for i686.
pub fn guest_programs() -> PathBuf {
    dir().join("guest")
}

/// The module of a device that does not freeze, for `full`.
pub fn stubborn() -> PathBuf {
    guest_programs().join("stubborn.ko")
}

/// The cache outside the checkout: `$KJUMP_CACHE`, else `kjump` in the user's cache directory.
pub fn cache() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = set("KJUMP_CACHE") {
        return std::path::absolute(dir).context("KJUMP_CACHE is no usable path");
    }
    let base = match (
        set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()),
        set("HOME"),
    ) {
        (Some(dir), _) => dir,
        (None, Some(home)) => home.join(".cache"),
        (None, None) => anyhow::bail!("no cache directory: set KJUMP_CACHE or HOME"),
    };
    Ok(base.join("kjump"))
}
