// SPDX-License-Identifier: GPL-2.0

//! Which C symbols the module's Rust code really uses: the undefined symbols of its objects.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

/// Symbols that no binding declares because the compiler uses them by itself, and why each is
/// right. 64-bit division is not among them: on i386 the kernel has no such function.
const COMPILERS_OWN: &[(&str, &str)] = &[
    (
        "memcpy",
        "pointers and a size; rustc >= 1.91 passes them in registers",
    ),
    ("memmove", "as memcpy"),
    ("memset", "as memcpy"),
    ("memcmp", "as memcpy"),
    ("bcmp", "as memcpy"),
    ("strlen", "a pointer"),
    (
        "__fentry__",
        "the tracer's hook, called by the prologue without parameters",
    ),
    ("mcount", "as __fentry__"),
    ("__stack_chk_fail", "no parameters"),
    ("__x86_return_thunk", "a jump target, no parameters"),
    ("_GLOBAL_OFFSET_TABLE_", "no function"),
    ("__this_module", "a variable, of modpost's"),
];

/// Prefix of thunks for indirect calls, one for each register.
const THUNK: &str = "__x86_indirect_thunk_";

/// Whether the compiler uses the symbol by itself and is right to.
pub fn is_compilers_own(symbol: &str) -> bool {
    symbol.starts_with(THUNK) || COMPILERS_OWN.iter().any(|(name, _)| *name == symbol)
}

/// The C symbols that an object of Rust's leaves undefined; of an object that was compiled from
/// C or assembly, none.
pub fn undefined(file: &Path) -> Result<BTreeSet<String>> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let object = object::File::parse(&*bytes)
        .with_context(|| format!("{} is no object file", file.display()))?;
    let names = |undefined_only: bool| {
        object
            .symbols()
            .filter(move |symbol| symbol.is_undefined() || !undefined_only)
            .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
            .filter(|name| !name.is_empty())
    };
    if !names(false).any(|name| is_mangled(&name)) {
        return Ok(BTreeSet::new());
    }
    Ok(names(true).filter(|name| !is_mangled(name)).collect())
}

/// Whether a name is rustc's (v0 mangling, which the kernel uses).
fn is_mangled(name: &str) -> bool {
    name.starts_with("_R")
}
