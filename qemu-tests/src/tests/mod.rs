// SPDX-License-Identifier: GPL-2.0

//! The stories, one file each. Their names are those of the project's list of what must hold.

mod framework;

use crate::runner::Test;

/// A test by default.
const fn test(
    name: &'static str,
    limit: u64,
    run: fn(&crate::story::Story) -> anyhow::Result<()>,
) -> Test {
    Test {
        name,
        long: false,
        limit,
        run,
    }
}

/// All tests, in the order in which they run.
pub const ALL: &[Test] = &[test("framework", 180, framework::run)];
