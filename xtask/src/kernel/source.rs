// SPDX-License-Identifier: GPL-2.0

//! The kernel's source, patched: what the user gives with `KJUMP_KERNEL_SRC`, else Debian's
//! package.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{bail, Context, Result};

use crate::{
    apt::Mirror,
    artifacts,
    sh::{self, say},
};

const PACKAGE: &str = "linux-source-7.3";
const VERSION: &str = "7.3.4-1~bpo13+1";
const SHA256: &str = "703e369ddd4cce971452f5a593ee55df3a5c10c83caf0fa0df039633ed181ee3";
const SUITE: &str = "trixie-backports";
/// Suites that may have the same series once the backport has moved on.
const OTHER_SUITES: &[&str] = &["forky", "sid"];

/// A patched source tree in the cache.
pub struct Source {
    /// The tree.
    pub dir: PathBuf,
    /// Hash of what it was made from.
    pub key: String,
}

/// What a tree is made from.
enum Origin {
    /// A Debian source package.
    Deb(PathBuf),
    /// A tar archive with one directory on top.
    Tar(PathBuf),
    /// A directory, to be copied: it is not ours to patch.
    Dir(PathBuf),
}

/// The user's own source.
fn given() -> Result<Option<PathBuf>> {
    let Some(given) = env::var_os("KJUMP_KERNEL_SRC").filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let path = fs::canonicalize(&given)
        .with_context(|| format!("KJUMP_KERNEL_SRC: no {}", Path::new(&given).display()))?;
    Ok(Some(path))
}

/// The source tree, if it is there already. No look at the archive is needed then.
pub fn cached() -> Result<Option<Source>> {
    let complete = |identity: &str| Ok(Some(Source::of(identity)?).filter(Source::is_complete));
    if let Some(path) = given()? {
        return complete(&identity(&path)?);
    }
    if let Some(pinned) = complete(SHA256)? {
        return Ok(Some(pinned));
    }
    match fs::read_to_string(substitute()?) {
        Ok(hash) => complete(hash.trim()),
        Err(_) => Ok(None),
    }
}

/// Names the hash of the package that was taken because the pinned one was gone.
fn substitute() -> Result<PathBuf> {
    Ok(artifacts::cache()?
        .join("src")
        .join(format!("instead-of-{}", &SHA256[..16])))
}

/// Finds or makes the source tree.
pub fn ensure() -> Result<Source> {
    if let Some(source) = cached()? {
        return Ok(source);
    }
    if let Some(path) = given()? {
        let source = Source::of(&identity(&path)?)?;
        let origin = if path.is_dir() {
            Origin::Dir(path)
        } else {
            Origin::Tar(path)
        };
        return make(source, &origin);
    }
    let deb = fetch()?;
    let hash = sh::sha256_of(&deb)?;
    if hash != SHA256 {
        say(format_args!(
            "warning: {} is not the pinned {VERSION}",
            deb.display()
        ));
        sh::write(&substitute()?, hash.as_bytes())?;
    }
    make(Source::of(&hash)?, &Origin::Deb(deb))
}

/// What is applied to any source.
fn patch() -> PathBuf {
    artifacts::repo().join("qemu-tests/kernels/rust-i386.patch")
}

impl Source {
    /// The tree made from what has this hash.
    fn of(identity: &str) -> Result<Self> {
        let key = sh::hash([identity, &sh::read(&patch())?]);
        let dir = artifacts::cache()?.join("src").join(&key[..16]);
        Ok(Source { dir, key })
    }

    fn stamp(&self) -> PathBuf {
        self.dir.with_extension("complete")
    }

    fn is_complete(&self) -> bool {
        self.stamp().exists()
    }
}

/// Unpacks and patches a tree that is not complete; its stamp is written last.
fn make(source: Source, origin: &Origin) -> Result<Source> {
    if source.is_complete() {
        return Ok(source);
    }
    sh::remove_dir(&source.dir)?;
    sh::create_dir(&source.dir)?;
    say(format_args!(
        "unpacking the kernel's source to {}",
        source.dir.display()
    ));
    unpack(origin, &source.dir)?;
    if !source.dir.join("Kbuild").exists() {
        bail!(
            "{}: no kernel source (no Kbuild in it)",
            source.dir.display()
        );
    }
    apply(&patch(), &source.dir)?;
    sh::write(&source.stamp(), b"")?;
    Ok(source)
}

/// The pinned package from the cache or the archive, else the nearest thing to it.
fn fetch() -> Result<PathBuf> {
    let debs = artifacts::cache()?.join("debs");
    let cached = debs.join(format!("{PACKAGE}_{VERSION}_all.deb"));
    if cached.exists() && sh::sha256_of(&cached)? == SHA256 {
        return Ok(cached);
    }
    let mirror = Mirror::of_this_machine()?;
    sh::create_dir(&debs)?;
    say(format_args!(
        "fetching {PACKAGE} {VERSION} from Debian's {SUITE} (167 MB)"
    ));
    let arch = sh::output(sh::command("dpkg").arg("--print-architecture"))?;
    let download = |suite, package: &str| mirror.download(suite, arch.trim(), package, &debs);
    let gone = match download(SUITE, &format!("{PACKAGE}={VERSION}")) {
        Ok(deb) if sh::sha256_of(&deb)? == SHA256 => return Ok(deb),
        Ok(deb) => bail!("{}: its hash is not the pinned one", deb.display()),
        Err(e) => e,
    };
    say(format_args!("warning: {gone:#}"));
    for suite in [&[SUITE], OTHER_SUITES].concat() {
        match download(suite, PACKAGE) {
            Ok(deb) => return Ok(deb),
            Err(e) => say(format_args!("{e:#}")),
        }
    }
    bail!("no source of the kernel: set KJUMP_KERNEL_SRC to a directory or archive of Linux 7.3")
}

/// Fills an empty directory.
fn unpack(origin: &Origin, dir: &Path) -> Result<()> {
    let script = match origin {
        Origin::Deb(_) => {
            "dpkg-deb --fsys-tarfile \"$1\" | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' \
             | tar -xJ --strip-components=1 -C \"$2\""
        }
        Origin::Tar(_) => "tar -x --strip-components=1 -C \"$2\" -f \"$1\"",
        Origin::Dir(_) => "cp -a --reflink=auto \"$1/.\" \"$2\" && rm -rf \"$2/.git\"",
    };
    let (Origin::Deb(from) | Origin::Tar(from) | Origin::Dir(from)) = origin;
    let mut bash = sh::command("bash");
    bash.args(["-euc", &format!("set -o pipefail; {script}"), "unpack"])
        .arg(from)
        .arg(dir);
    sh::output(&mut bash).map(drop)
}

/// Applies the Rust patch, unless the tree has it.
fn apply(patch: &Path, dir: &Path) -> Result<()> {
    let run = |options: &[&str]| {
        let mut command = sh::command("patch");
        command
            .args(["-p1", "--batch", "--directory"])
            .arg(dir)
            .args(options);
        command.stdin(fs::File::open(patch)?).stderr(Stdio::piped());
        let out = command.output().context("cannot run `patch`")?;
        Ok::<_, anyhow::Error>((out.status.success(), out.stdout))
    };
    if run(&["--reverse", "--dry-run", "--force"])?.0 {
        return Ok(());
    }
    let (applied, said) = run(&["--forward"])?;
    if !applied {
        let said = String::from_utf8_lossy(&said);
        bail!(
            "{} does not fit this kernel's source:\n{said}",
            patch.display()
        );
    }
    Ok(())
}

/// What tells one given source from another: an archive's hash, a directory's list of files.
fn identity(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return sh::sha256_of(path);
    }
    let mut files = Vec::new();
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                if entry.file_name() != ".git" {
                    todo.push(entry.path());
                }
                continue;
            }
            let meta = entry.metadata()?;
            files.push(format!(
                "{} {} {}.{}",
                entry.path().display(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec()
            ));
        }
    }
    files.sort();
    Ok(sh::hash(files))
}
