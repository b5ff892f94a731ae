// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask build`: kernels, modules, programs and the peer's initramfs, in `build/i386/`.

use anyhow::Result;

use crate::{
    artifacts::{self, Kernel},
    busybox, debian,
    initramfs::Initramfs,
    kernel, module, programs, setup, stock,
    tools::Tools,
};

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these kernels, with their modules (default: all)
    #[arg(long, value_enum, value_name = "NAME")]
    kernel: Vec<Kernel>,
    /// Only kernels: no module, no program, no initramfs
    #[arg(long)]
    kernels_only: bool,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> Result<()> {
    let kernels = match &options.kernel[..] {
        [] => &Kernel::ALL,
        some => some,
    };
    if options.kernels_only {
        setup::ensure()?;
        return kernel::ensure(kernels, &Tools::find()?).map(drop);
    }
    build(kernels)
}

/// Builds everything for these kernels.
pub fn build(kernels: &[Kernel]) -> Result<()> {
    setup::ensure()?;
    let tools = Tools::find()?;
    // The quick things first: their mistakes show before minutes of kernel build.
    programs::build()?;
    busybox::ensure()?;
    debian::ensure()?;
    stock::ensure()?;
    let kernels = kernel::ensure(kernels, &tools)?;
    kernels
        .iter()
        .try_for_each(|kernel| module::build(kernel, &tools))?;
    // Modules of kernels that were built earlier go in too.
    let with_module: Vec<Kernel> = Kernel::ALL
        .into_iter()
        .filter(|k| k.module().exists() && k.release().exists())
        .collect();
    let (smp, others): (Vec<Kernel>, Vec<Kernel>) = with_module
        .iter()
        .partition(|&&kernel| kernel == Kernel::LeanSmp);
    Initramfs::peer(&others)?.write(&artifacts::initramfs())?;
    // One of its own: each module takes memory of a window.
    Initramfs::peer(&smp)?.write(&artifacts::initramfs_smp())?;
    if with_module.contains(&Kernel::Lean) {
        Initramfs::rootfs()?.write(&artifacts::rootfs())?;
        Initramfs::rootfs_makedumpfile()?.write(&artifacts::rootfs_makedumpfile())?;
    }
    Ok(())
}
