// SPDX-License-Identifier: GPL-2.0

//! The check on planted hazards, and on a module that has none.

use std::{fs, path::PathBuf};

use super::*;

/// bindgen's output for a kernel, as far as the tests need it.
const BINDINGS: &str = r#"
pub mod ffi { pub type c_int = i32; }
pub type __kernel_loff_t = ffi::c_longlong;
pub type loff_t = __kernel_loff_t;
pub type u64_ = ffi::c_ulonglong;
pub type phys_addr_t = u64_;
pub type resource_size_t = phys_addr_t;
pub type gfp_t = ffi::c_uint;
#[repr(C)]
pub struct pm_message { pub event: ffi::c_int }
pub type pm_message_t = pm_message;
#[repr(transparent)]
pub struct pgprot_t { pub pgprot: u32 }
#[repr(C)]
pub struct file { _unused: [u8; 0] }
unsafe extern "C" {
    pub fn dpm_suspend_start(state: pm_message_t) -> ffi::c_int;
    pub fn vfs_llseek(file: *mut file, offset: loff_t, whence: ffi::c_int) -> loff_t;
    pub fn alloc(gfp: gfp_t, file: *mut file) -> *mut ffi::c_void;
    #[link_name = "rust_helper_helped"]
    pub fn helped(prot: pgprot_t);
    pub static jiffies: ffi::c_ulong;
}
"#;

/// Findings on a source file, with the symbols of `called` used by the objects.
fn findings(source: &str, called: &[&str]) -> Vec<String> {
    let mut types = Types::default();
    let mut report = Report::default();
    let mut place = |text: &str, name: &str, generated: bool| {
        let file = syn::parse_file(text).unwrap();
        let border = if generated {
            Border::of_bindings(&file)
        } else {
            Border::of(&file)
        };
        Place {
            name: name.into(),
            id: types.add(&file, generated),
            border,
        }
    };
    let places = [
        place(BINDINGS, "bindings.rs", true),
        place(source, "source.rs", false),
    ];
    let border = &places[1].border;
    let all = border
        .callbacks
        .iter()
        .chain(&border.pointers)
        .chain(border.foreign.values());
    all.for_each(|function| report.function(function, &places[1], &types));
    called
        .iter()
        .for_each(|symbol| report.called(symbol, &places, &types));
    report.findings
}

#[track_caller]
fn assert_found(source: &str, called: &[&str], expected: &str) {
    let found = findings(source, called);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(expected), "{found:?}");
}

#[test]
fn a_clean_source_has_no_findings() {
    let source = r#"
        use bindings::gfp_t as Flags;
        #[repr(u32)] enum Action { Prepare, Post }
        #[repr(transparent)] struct Pfn(u32);
        type Hook = Option<unsafe extern "C" fn(*mut file, u32) -> u64>;
        unsafe extern "C" { fn wide_result(pfn: Pfn, flags: Flags) -> loff_t; }
        extern "C" fn notify(nb: *mut file, action: Action, data: *mut ffi::c_void) -> i32 { 0 }
        extern "C" fn on_return(file: &file, next: Option<NonNull<u8>>, n: usize) -> ! { loop {} }
        fn rust_only(offset: u64, state: pm_message_t) {}
    "#;
    assert_eq!(findings(source, &["alloc", "memcpy", "jiffies"]), [""; 0]);
}

#[test]
fn a_called_function_with_a_struct() {
    assert_found(
        "",
        &["dpm_suspend_start"],
        "function `dpm_suspend_start`: parameter 1 `pm_message_t` is a struct or union by value",
    );
}

#[test]
fn a_transparent_struct_of_c_is_a_struct() {
    assert_found(
        "",
        &["rust_helper_helped"],
        "parameter 1 `pgprot_t` is a struct",
    );
}

#[test]
fn a_called_function_with_an_offset() {
    assert_found(
        "",
        &["vfs_llseek"],
        "bindings.rs:18: function `vfs_llseek`: parameter 2 `loff_t` (= i64) is 64 bits wide",
    );
}

#[test]
fn a_callback_with_a_physical_address_of_pae() {
    assert_found(
        "extern \"C\" fn walk(start: resource_size_t) -> i32 { 0 }",
        &[],
        "source.rs:1: function `walk`: parameter 1 `resource_size_t` (= u64) is 64 bits wide",
    );
}

#[test]
fn a_callback_in_an_impl() {
    assert_found(
        "struct S; impl S { unsafe extern \"C\" fn seek(a: u32, b: u64) {} }",
        &[],
        "function `seek`: parameter 2 `u64` is 64 bits wide",
    );
}

#[test]
fn a_function_pointer_type() {
    assert_found(
        "type Freeze = unsafe extern \"C\" fn(state: bindings::pm_message_t) -> i32;",
        &[],
        "parameter 1 `bindings::pm_message_t` is a struct",
    );
}

#[test]
fn a_function_pointer_inside_an_expression() {
    assert_found(
        "fn f(p: usize) { let g: extern \"C\" fn(u64) = unsafe { core::mem::transmute(p) }; }",
        &[],
        "parameter 1 `u64`",
    );
}

#[test]
fn a_declared_function() {
    assert_found(
        "unsafe extern \"C\" { fn own(x: i64); }",
        &[],
        "function `own`: parameter 1 `i64`",
    );
}

#[test]
fn a_slice_a_tuple_and_an_array() {
    assert_found("extern \"C\" fn f(s: &[u8]) {}", &[], "two words");
    assert_found("extern \"C\" fn f(s: (u32, u32)) {}", &[], "by value");
    assert_found("extern \"C\" fn f(s: [u32; 2]) {}", &[], "by value");
}

#[test]
fn a_struct_as_result() {
    assert_found(
        "extern \"C\" fn f() -> pm_message_t {}",
        &[],
        "result `pm_message_t`",
    );
}

#[test]
fn what_cannot_be_known_is_a_finding() {
    assert_found(
        "extern \"C\" fn f(x: Mystery) {}",
        &[],
        "no definition of `Mystery`",
    );
    assert_found(
        "",
        &["mystery"],
        "mystery: used by the module's Rust code, but declared in no",
    );
    assert_found("", &["__udivdi3"], "__udivdi3");
}

#[test]
fn an_extern_function_in_a_macro_is_seen() {
    let file = syn::parse_file("m! { pub extern \"C\" fn f(x: u64) {} }\nn! { extern }").unwrap();
    assert_eq!(Border::of(&file).hidden, [1]);
}

#[test]
fn signatures_given_to_a_macro_are_checked() {
    let rules = "macro_rules! w { ($($n:ident($($a:ident: $t:ty),*);)*) => { $(fn $n(&self) -> \
                 unsafe extern \"C\" fn($($t),*);)* } }\n";
    let source = format!("{rules}w! {{ /// doc\n good(x: u32); bad(y: u32, x: loff_t) -> i32; }}");
    assert_found(
        &source,
        &[],
        "source.rs:3: function `bad`: parameter 2 `loff_t` (= i64)",
    );
    let hidden = |source: &str| Border::of(&syn::parse_file(source).unwrap()).hidden;
    assert_eq!(hidden(rules), [1], "never invoked");
    assert_eq!(
        hidden(&format!("{rules}w! {{ something else }}")),
        [2],
        "no list of signatures"
    );
}

#[test]
fn types_and_functions_survive_the_thinning_of_bindings() {
    let text = "pub const A: u32 = 1;\nimpl X {\n    fn f() {}\n}\npub type T = u64;\n\
                const _: () = {\n    [1];\n};\n#[repr(C)]\npub struct S {\n    a: u32,\n}\n";
    let thin = thinned(text);
    assert_eq!(
        thin.lines().count(),
        text.lines().count(),
        "line numbers stay"
    );
    let names = syn::parse_file(&thin).unwrap().items.len();
    assert_eq!(names, 2);
}

#[test]
fn directories_are_read() {
    let dir = std::env::temp_dir().join(format!("xtask-ffi-{}", std::process::id()));
    fs::create_dir_all(dir.join("src/deep")).unwrap();
    fs::write(dir.join("bindings_generated.rs"), BINDINGS).unwrap();
    fs::write(dir.join("src/deep/a.rs"), "extern \"C\" fn f(x: loff_t) {}").unwrap();
    let input = Input {
        bindings: vec![dir.join("bindings_generated.rs")],
        sources: vec![dir.join("src")],
        objects: Vec::<PathBuf>::new(),
    };
    let report = input.check().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!((report.callbacks, report.findings.len()), (1, 1));
    assert!(report.verdict("").is_err());
}
