//! Hibernation: what A asks (`request`), what B saves and how (`pages`, `guards`, `save`), how C brings
//! it back (`restore`) or goes on to the normal kernel (`go_on`), and what the machine is, as all three see it (`machine`).

pub mod go_on;
pub mod guards;
pub mod machine;
pub mod pages;
pub mod peer;
pub mod request;
pub mod restore;
pub mod save;
pub mod watch;
