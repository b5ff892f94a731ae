//! kjump's shared definitions as a crate, for the command, the tests and anybody else.
//!
//! The definitions themselves are in `uapi.rs`, which the kernel module includes as it is.
#![no_std]

mod uapi;
pub use uapi::*;
