// SPDX-License-Identifier: GPL-2.0

//! The stories, one file each. Their names are those of the project's list of what must hold.

mod framework;
mod jump;

use anyhow::Result;

use crate::runner::Test;
use crate::story::Story;

/// A test that runs by default, with the seconds after which it has hung.
const fn test(name: &'static str, limit: u64, run: fn(&Story) -> Result<()>) -> Test {
    Test {
        name,
        long: false,
        limit,
        run,
    }
}

/// All tests, in the order in which they run.
pub const ALL: &[Test] = &[
    test("framework", 180, framework::run),
    test("jump", 300, jump::run),
];
