//! A program that has a key in its memory leaves no core dump.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// Bytes of a core dump. A file would be shorter than any, and is not made; and a program that
/// `core_pattern` names is not started for 1, though it is for 0: `coredump_pipe()` in Linux'
/// fs/coredump.c. One that listens on a socket (from Linux 6.16) is not kept from it.
const LIMIT: u64 = 1;

/// From now on this process, and what it starts, leaves no core dump. It stays readable for itself in
/// /proc, as it would not with `PR_SET_DUMPABLE`.
pub fn prevent() {
    let maximum = getrlimit(Resource::Core).maximum;
    let limit = Rlimit {
        current: Some(LIMIT),
        // `None` is no limit.
        maximum: maximum.map(|most| most.max(LIMIT)),
    };
    // Refused only where the most is 0 and this is not root: then there is no file either.
    let _ = setrlimit(Resource::Core, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_none() {
        prevent();
        let limit = getrlimit(Resource::Core).current;
        assert!(limit.is_some_and(|bytes| bytes <= LIMIT), "{limit:?}");
    }
}
