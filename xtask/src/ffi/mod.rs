// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask ffi-check`: no function that crosses between Rust and C may have a 64-bit or a
//! by-value struct parameter.
//!
//! The i386 kernel is compiled with `-mregparm=3`. rustc has that flag too, but passes 64-bit
//! integers and structs on the stack where C expects them in registers (rust-lang/rust#145694),
//! and nothing warns. 64-bit *results* are right. The check reads
//!
//! 1. the module's Rust objects, for the C functions that are really called, and bindgen's output
//!    for their signatures;
//! 2. the module's Rust sources, for callbacks, foreign functions and function pointers.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
use syn::Type;

use crate::{
    artifacts::{self, Kernel},
    kernel::{self, Built},
    module, setup, sh,
    tools::Tools,
};

mod files;
mod functions;
mod symbols;
#[cfg(test)]
mod tests;
mod types;

pub use files::files_in;
use files::thinned;
use functions::{Border, Function};
use types::{FileId, Hazard, Types};

/// Options of `cargo xtask ffi-check`.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Check against these bindings only (default: what is built for each kernel)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    bindings: Vec<PathBuf>,
    /// Check the Rust sources in these directories only (default: kmod and arch)
    #[arg(long, value_name = "DIR", num_args = 1..)]
    source: Vec<PathBuf>,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> Result<()> {
    let repo = artifacts::repo();
    let sources = match &options.source[..] {
        [] => vec![repo.join("kmod"), repo.join("arch")],
        given => given.to_vec(),
    };
    if !options.bindings.is_empty() || !options.source.is_empty() {
        let input = Input {
            bindings: options.bindings.clone(),
            sources,
            objects: Vec::new(),
        };
        return input.check()?.verdict("");
    }
    setup::ensure()?;
    let tools = Tools::find()?;
    for built in kernel::ensure(&Kernel::ALL, &tools)? {
        module::build(&built, &tools)?;
        let name = format!(" (kernel {})", built.kernel.name());
        Input::of(&built, sources.clone())?
            .check()?
            .verdict(&name)?;
    }
    Ok(())
}

/// What one check reads.
pub struct Input {
    /// bindgen's output.
    bindings: Vec<PathBuf>,
    /// Directories with Rust sources.
    sources: Vec<PathBuf>,
    /// Objects of the module.
    objects: Vec<PathBuf>,
}

/// What a check found.
#[derive(Default)]
pub struct Report {
    called: usize,
    callbacks: usize,
    findings: Vec<String>,
}

impl Input {
    /// What the build for a kernel left behind: bindings and objects.
    fn of(built: &Built, sources: Vec<PathBuf>) -> Result<Self> {
        let out = module::output_dir(built.kernel);
        let mut bindings = Vec::new();
        files_in(&out, "rs", &mut bindings)?;
        files_in(&built.dir.join("rust/bindings"), "rs", &mut bindings)?;
        files_in(&built.dir.join("rust/uapi"), "rs", &mut bindings)?;
        bindings.retain(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().contains("generated"))
        });
        let mut objects = Vec::new();
        files_in(&out.join("kmod"), "o", &mut objects)?;
        if objects.is_empty() {
            bail!("no objects in {}", out.display());
        }
        Ok(Input {
            bindings,
            sources,
            objects,
        })
    }

    fn check(&self) -> Result<Report> {
        let mut types = Types::default();
        let mut report = Report::default();
        let mut read = |file: &Path, generated: bool| {
            let mut text = sh::read(file)?;
            if generated {
                text = thinned(&text);
            }
            let parsed = syn::parse_file(&text)
                .with_context(|| format!("{} is no Rust source", file.display()))?;
            let border = if generated {
                Border::of_bindings(&parsed)
            } else {
                Border::of(&parsed)
            };
            let id = types.add(&parsed, generated);
            let name = file
                .strip_prefix(artifacts::repo())
                .unwrap_or(file)
                .display()
                .to_string();
            Ok::<_, anyhow::Error>(Place { name, id, border })
        };
        let mut places = self
            .bindings
            .iter()
            .map(|file| read(file, true))
            .collect::<Result<Vec<_>>>()?;
        let ours = places.len();
        let mut sources = Vec::new();
        for source in &self.sources {
            files_in(source, "rs", &mut sources)?;
        }
        for file in &sources {
            places.push(read(file, false)?);
        }

        for place in &places[ours..] {
            report.callbacks += place.border.callbacks.len();
            let declared = place.border.foreign.values();
            for function in place
                .border
                .callbacks
                .iter()
                .chain(&place.border.pointers)
                .chain(declared)
            {
                report.function(function, place, &types);
            }
            for line in &place.border.hidden {
                report.findings.push(format!(
                    "{}:{line}: a macro with an `extern` function in it: write it outside of \
                     macros, where it can be checked",
                    place.name
                ));
            }
        }
        let mut called = BTreeSet::new();
        for object in &self.objects {
            called.extend(symbols::undefined(object)?);
        }
        for symbol in called {
            report.called(&symbol, &places, &types);
        }
        report.findings.sort();
        report.findings.dedup();
        Ok(report)
    }
}

/// A file that was read.
struct Place {
    /// Its path, for messages.
    name: String,
    /// Its types.
    id: FileId,
    /// Its functions.
    border: Border,
}

impl Report {
    /// Prints it; findings are an error.
    fn verdict(&self, of: &str) -> Result<()> {
        for finding in &self.findings {
            println!("{finding}");
        }
        match self.findings.len() {
            0 => println!(
                "ffi-check{of}: {} functions called, {} callbacks, all parameters fit registers",
                self.called, self.callbacks
            ),
            n => bail!("ffi-check{of}: {n} findings"),
        }
        Ok(())
    }

    /// Checks a symbol that the module's Rust code uses.
    fn called(&mut self, symbol: &str, places: &[Place], types: &Types) {
        let found = places
            .iter()
            .find_map(|place| Some((place, place.border.foreign.get(symbol)?)));
        let is_variable = || {
            places
                .iter()
                .any(|p| p.border.variables.iter().any(|v| v == symbol))
        };
        match found {
            Some((place, function)) => {
                self.called += 1;
                self.function(function, place, types);
            }
            None if symbols::is_compilers_own(symbol) || is_variable() => {}
            None => self.findings.push(format!(
                "{symbol}: used by the module's Rust code, but declared in no binding, so its \
                 parameters cannot be checked"
            )),
        }
    }

    /// Checks the parameters and the result of one function.
    fn function(&mut self, function: &Function, place: &Place, types: &Types) {
        let mut find = |what: String| {
            let (file, line, name) = (&place.name, function.line, &function.name);
            self.findings
                .push(format!("{file}:{line}: function `{name}`: {what}"));
        };
        for (number, ty) in (1..).zip(&function.parameters) {
            if let Err(hazard) = types.check(ty, place.id) {
                find(format!("parameter {number} {}", explain(ty, &hazard)));
            }
        }
        if let Some(ty) = &function.result {
            // 64 bits come back in EDX:EAX for both.
            match types.check(ty, place.id) {
                Ok(()) | Err(Hazard::Wide(_)) => {}
                Err(hazard) => find(format!("result {}", explain(ty, &hazard))),
            }
        }
    }
}

/// What is wrong with a type, and what to do.
fn explain(ty: &Type, hazard: &Hazard) -> String {
    let name = types::text(ty);
    match hazard {
        Hazard::Wide(primitive) => {
            let bits = if primitive.ends_with("128") { 128 } else { 64 };
            let alias = if *primitive == name {
                String::new()
            } else {
                format!(" (= {primitive})")
            };
            format!("`{name}`{alias} is {bits} bits wide; pass a pointer or two halves")
        }
        Hazard::ByValue => format!("`{name}` is a struct or union by value; pass a pointer"),
        Hazard::Fat => format!("`{name}` is two words wide; pass a thin pointer and a length"),
        Hazard::Unknown(what) => {
            format!("`{name}`: no definition of `{what}` found, so it cannot be checked")
        }
    }
}
