// SPDX-License-Identifier: GPL-2.0

//! What `cargo xtask` is made of: one module a subcommand, and what they share. [`artifacts`] knows
//! where everything that is built lies, [`kernel`] and [`module`] build what runs in the guests.

pub mod apt;
pub mod artifacts;
pub mod build;
pub mod busybox;
pub mod check;
pub mod debian;
pub mod ffi;
pub mod fuzz;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod miri;
pub mod module;
pub mod programs;
pub mod setup;
pub mod sh;
pub mod soak;
pub mod stack;
pub mod stock;
pub mod test;
pub mod tools;
