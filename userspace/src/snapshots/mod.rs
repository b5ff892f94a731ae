//! Snapshots: the places that have names (`store`), the hooks that roll disks back too (`hooks`), and
//! filesystems that stand still meanwhile (`frozen`).

pub mod frozen;
pub mod hooks;
pub mod store;
