//! Snapshots: the places that have names (`store`), the hooks that roll disks back too (`hooks`), and
//! filesystems that stand still meanwhile (`frozen`), also if this program is killed (`guardian`); what was where
//! one goes (`before`).

pub mod before;
pub mod frozen;
pub mod guardian;
pub mod hooks;
pub mod store;
