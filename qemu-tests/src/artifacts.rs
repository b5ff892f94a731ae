// SPDX-License-Identifier: GPL-2.0

//! What the guests are made of: kernels, modules and programs that `cargo xtask build` has put
//! into `build/i386/`. The file names there are an interface.

use std::path::{Path, PathBuf};

use anyhow::{bail, Result};

/// A test kernel, see `qemu-tests/kernels/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Kernel A: SMP, highmem, placed at 2 MiB.
    Full,
    /// The same with PAE, placed at 16 MiB.
    Pae,
    /// Kernel B: lives in 16 MiB.
    Lean,
    /// The same for several CPUs.
    LeanSmp,
}

impl Kernel {
    /// What distinguishes its files.
    fn suffix(self) -> &'static str {
        match self {
            Kernel::Full => "",
            Kernel::Pae => "-pae",
            Kernel::Lean => "-lean",
            Kernel::LeanSmp => "-lean-smp",
        }
    }
}

/// Which kernel is A where a test says [`Kernel::Full`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// The one that is usual.
    #[default]
    Full,
    /// The same with everything that finds mistakes; slower.
    Debug,
}

/// The directory with what has been built.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
    flavour: Flavour,
}

impl Artifacts {
    /// `$KJUMP_ARTIFACTS`, or `build/i386` of this checkout.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os("KJUMP_ARTIFACTS") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/i386"),
        };
        match dir.canonicalize() {
            Ok(dir) => Ok(Self {
                dir,
                flavour: Flavour::Full,
            }),
            Err(_) => bail!(
                "{} is not there: run `cargo xtask build` first",
                dir.display()
            ),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// With that kernel as A.
    pub fn flavour(&self, flavour: Flavour) -> Self {
        Self {
            flavour,
            ..self.clone()
        }
    }

    /// Whether A is the kernel that finds mistakes.
    pub fn is_debug(&self) -> bool {
        self.flavour == Flavour::Debug
    }

    /// A kernel's file.
    fn of(&self, kernel: Kernel, name: &str, end: &str) -> PathBuf {
        let suffix = match (kernel, self.flavour) {
            (Kernel::Full, Flavour::Debug) => "-debug",
            _ => kernel.suffix(),
        };
        self.dir.join(format!("{name}{suffix}{end}"))
    }

    /// The bootable image.
    pub fn bzimage(&self, kernel: Kernel) -> PathBuf {
        self.of(kernel, "bzImage", "")
    }

    /// The ELF file with symbols.
    pub fn vmlinux(&self, kernel: Kernel) -> PathBuf {
        self.of(kernel, "vmlinux", "")
    }

    /// kjump's module for that kernel.
    pub fn module(&self, kernel: Kernel) -> PathBuf {
        self.of(kernel, "kjump", ".ko")
    }

    /// The module of `qemu-tests/modules` for that kernel.
    pub fn trouble(&self, kernel: Kernel) -> PathBuf {
        self.of(kernel, "guest/trouble", ".ko")
    }

    /// The module of a device that does not freeze, for [`Kernel::Full`].
    pub fn stubborn(&self) -> PathBuf {
        self.dir.join("guest/stubborn.ko")
    }

    /// The command.
    pub fn kjump(&self) -> PathBuf {
        self.dir.join("kjump")
    }

    /// B's initramfs, whose /init is `kjump init`.
    pub fn peer_initramfs(&self) -> PathBuf {
        self.dir.join("initramfs.cpio.gz")
    }

    /// The same for [`Kernel::LeanSmp`].
    pub fn peer_initramfs_smp(&self) -> PathBuf {
        self.dir.join("initramfs-smp.cpio.gz")
    }

    /// The all-in-one initramfs of the seeds.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs.gz")
    }

    /// B's initramfs with a shell's usual tools and Debian's makedumpfile.
    pub fn rootfs_makedumpfile(&self) -> PathBuf {
        self.dir.join("rootfs-makedumpfile.gz")
    }

    /// Static busybox for A.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("busybox")
    }

    /// A package of Debian's for i386 (the list is in `xtask/src/debian.rs`): `bin/`, and `lib/`
    /// with the libraries that its programs need.
    pub fn debian(&self, package: &str) -> PathBuf {
        self.dir.join("debian").join(package)
    }

    /// A kernel of Debian's for i386, `686` or `686-pae` (see `xtask/src/stock.rs`): `vmlinuz`,
    /// `release`, and `modules/`, to be loaded in the order of their names.
    pub fn stock(&self, flavour: &str) -> PathBuf {
        self.dir.join("stock").join(flavour)
    }

    /// The programs of `qemu-tests/guest`.
    pub fn guest(&self) -> PathBuf {
        self.dir.join("guest/guest")
    }
}
