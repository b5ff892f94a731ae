// SPDX-License-Identifier: GPL-2.0

//! What `cargo xtask` is made of. The tests use two parts of it as a library: [`artifacts`] knows
//! where everything that is built lies, [`initramfs`] writes initramfs images.

pub mod apt;
pub mod artifacts;
pub mod build;
pub mod busybox;
pub mod check;
pub mod ffi;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod module;
pub mod programs;
pub mod setup;
pub mod sh;
pub mod test;
pub mod tools;
