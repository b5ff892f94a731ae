// SPDX-License-Identifier: GPL-2.0

//! A static busybox for i386 guests: Debian's, of the machine's own suite.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    apt::Mirror,
    artifacts,
    sh::{self, say},
};

/// Puts busybox into `build/i386/`; fetches it when it is not in the cache.
pub fn ensure() -> Result<()> {
    let cached = artifacts::cache()?.join("tools/busybox-i386");
    if !cached.exists() {
        fetch(&cached)?;
    }
    sh::copy(&cached, &artifacts::busybox())
}

/// apt verifies the package against its suite's signature.
fn fetch(to: &Path) -> Result<()> {
    let mirror = Mirror::of_this_machine()?;
    say(format_args!(
        "fetching busybox-static for i386 from Debian's {}",
        mirror.codename
    ));
    let debs = artifacts::cache()?.join("debs");
    sh::create_dir(&debs)?;
    let deb = mirror.download(&mirror.codename, "i386", "busybox-static", &debs)?;
    let unpacked = debs.join(format!("busybox-{}", std::process::id()));
    sh::remove_dir(&unpacked)?;
    sh::output(
        sh::command("dpkg-deb")
            .arg("--extract")
            .arg(&deb)
            .arg(&unpacked),
    )?;
    // /bin before the merge of /usr, /usr/bin after it.
    let program = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .map(|path| unpacked.join(path))
        .find(|path| path.exists())
        .with_context(|| format!("no busybox in {}", deb.display()))?;
    sh::copy(&program, to)?;
    sh::remove_dir(&unpacked)?;
    fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
}
