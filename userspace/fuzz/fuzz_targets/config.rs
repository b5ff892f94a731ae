// SPDX-License-Identifier: GPL-2.0

//! The configuration file.
#![no_main]

use std::path::Path;

use kjump::untrusted::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match Config::from_text(Path::new("/etc/kjump.toml"), &text) {
        Ok(config) => {
            config.command_line("ro console=ttyS0 quiet");
            config.initrd();
        }
        Err(e) => assert_eq!(e.to_string().lines().count(), 1, "{e}"),
    }
});
