// SPDX-License-Identifier: GPL-2.0

//! bindgen's output, kept apart: nothing outside `sys` names it.

#![allow(
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

include!(env!("KJUMP_BINDINGS"));
