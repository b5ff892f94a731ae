// SPDX-License-Identifier: GPL-2.0

//! How a parameter of an `extern "C"` function travels on i386, as far as its type tells.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use quote::ToTokens;
use syn::{
    visit::{self, Visit},
    Fields, GenericArgument, PathArguments, Type,
};

/// What a name stands for.
#[derive(Clone)]
enum Definition {
    /// `type X = …` or `use … as X`.
    Alias(Rc<Type>),
    /// A struct or union; for a `#[repr(transparent)]` one of our own sources, its field.
    Aggregate(Option<Rc<Type>>),
    /// An enum by its `repr`; `None` if there is none or variants have fields.
    Enum(Option<String>),
}

/// Type definitions of several files. Names are looked up by their last path segment, in the
/// asking file first, then everywhere.
#[derive(Default)]
pub struct Types {
    files: Vec<HashMap<String, Definition>>,
}

/// Where a file's definitions are; handed out by [`Types::add`].
pub type FileId = usize;

/// Why a type cannot be a parameter.
#[derive(Debug, PartialEq, Eq)]
pub enum Hazard {
    /// 64 bits or more, by the primitive's name.
    Wide(String),
    /// A struct, union, array or tuple by value.
    ByValue,
    /// A reference or pointer with a length or a vtable beside it.
    Fat,
    /// No definition was found.
    Unknown(String),
}

impl Types {
    /// Adds a file's definitions. In bindgen's output `#[repr(transparent)]` is C's struct all
    /// the same, and C passes a struct as a struct.
    pub fn add(&mut self, file: &syn::File, generated: bool) -> FileId {
        let mut collector = Collector {
            definitions: HashMap::new(),
            generated,
        };
        collector.visit_file(file);
        self.files.push(collector.definitions);
        self.files.len() - 1
    }

    /// Whether a parameter of this type, written in `file`, arrives where the other language
    /// expects it.
    pub fn check(&self, ty: &Type, file: FileId) -> Result<(), Hazard> {
        self.check_type(ty, file, &mut HashSet::new())
    }

    fn check_type(&self, ty: &Type, file: FileId, seen: &mut Seen) -> Result<(), Hazard> {
        match ty {
            Type::Paren(inner) => self.check_type(&inner.elem, file, seen),
            Type::Group(inner) => self.check_type(&inner.elem, file, seen),
            Type::Reference(reference) => thin(&reference.elem),
            Type::Ptr(pointer) => thin(&pointer.elem),
            Type::FnPtr(_) | Type::Never(_) => Ok(()),
            Type::Tuple(tuple) if tuple.elems.is_empty() => Ok(()),
            Type::Tuple(_) | Type::Array(_) => Err(Hazard::ByValue),
            Type::Path(path) if path.qself.is_none() => self.check_path(path, file, seen),
            other => Err(Hazard::Unknown(text(other))),
        }
    }

    fn check_path(
        &self,
        path: &syn::TypePath,
        file: FileId,
        seen: &mut Seen,
    ) -> Result<(), Hazard> {
        let Some(last) = path.path.segments.last() else {
            return Err(Hazard::Unknown(text(path)));
        };
        let name = last.ident.to_string();
        let inner = match &last.arguments {
            PathArguments::AngleBracketed(arguments) => {
                arguments.args.iter().find_map(|argument| match argument {
                    GenericArgument::Type(ty) => Some(ty),
                    _ => None,
                })
            }
            _ => None,
        };
        match (name.as_str(), inner) {
            ("NonNull" | "Box" | "Pin", Some(inner)) => thin(inner),
            ("Option" | "MaybeUninit" | "ManuallyDrop" | "UnsafeCell" | "Cell", Some(inner)) => {
                self.check_type(inner, file, seen)
            }
            _ => match primitive(&name) {
                Some(verdict) => verdict,
                None => self.check_name(&name, file, seen),
            },
        }
    }

    /// A name defined in several files, none of them the asking one, must fit by each definition.
    fn check_name(&self, name: &str, file: FileId, seen: &mut Seen) -> Result<(), Hazard> {
        let everywhere = 0..self.files.len();
        let own = self.files[file].contains_key(name);
        let files = if own { file..file + 1 } else { everywhere };
        let mut known = false;
        for file in files {
            let Some(definition) = self.files[file].get(name) else {
                continue;
            };
            known = true;
            if !seen.insert((file, name.to_owned())) {
                // An alias of the same name elsewhere (`use x as x`), met before.
                continue;
            }
            match definition {
                Definition::Alias(ty) => self.check_alias(name, ty, file, seen)?,
                Definition::Aggregate(Some(field)) => self.check_type(field, file, seen)?,
                Definition::Aggregate(None) | Definition::Enum(None) => {
                    return Err(Hazard::ByValue);
                }
                Definition::Enum(Some(repr)) => primitive(repr).unwrap_or(Ok(()))?,
            }
        }
        if known {
            Ok(())
        } else {
            Err(Hazard::Unknown(name.to_owned()))
        }
    }

    /// `use a::x as x` and `type x = y::x` name a definition of another file.
    fn check_alias(
        &self,
        name: &str,
        ty: &Type,
        file: FileId,
        seen: &mut Seen,
    ) -> Result<(), Hazard> {
        let same = matches!(ty, Type::Path(p)
            if p.path.segments.last().is_some_and(|last| last.ident == name));
        if !same {
            return self.check_type(ty, file, seen);
        }
        if let Some(verdict) = primitive(name) {
            return verdict;
        }
        (0..self.files.len())
            .filter(|other| *other != file && self.files[*other].contains_key(name))
            .try_for_each(|other| self.check_name(name, other, seen))
    }
}

/// Definitions on the way from a name to what it stands for.
type Seen = HashSet<(FileId, String)>;

/// A pointer to `target` is one register wide unless `target` has no size.
fn thin(target: &Type) -> Result<(), Hazard> {
    match target {
        Type::Slice(_) | Type::TraitObject(_) | Type::ImplTrait(_) => Err(Hazard::Fat),
        Type::Path(path) if path.path.is_ident("str") || path.path.is_ident("CStr") => {
            Err(Hazard::Fat)
        }
        Type::Paren(inner) => thin(&inner.elem),
        Type::Group(inner) => thin(&inner.elem),
        _ => Ok(()),
    }
}

/// The verdict on Rust's and C's own types; `long` is the kernel's, 32 bits wide.
fn primitive(name: &str) -> Option<Result<(), Hazard>> {
    match name {
        "i8" | "u8" | "i16" | "u16" | "i32" | "u32" | "isize" | "usize" | "bool" | "char"
        // An unsigned int where a pointer has 32 bits (asm-generic/posix_types.h); bindgen leaves it
        // undefined, as it takes size_t for usize.
        | "__kernel_size_t"
        | "f32" | "c_void" | "c_char" | "c_schar" | "c_uchar" | "c_short" | "c_ushort"
        | "c_int" | "c_uint" | "c_long" | "c_ulong" | "c_float" => Some(Ok(())),
        "i64" | "u64" | "i128" | "u128" | "f64" | "c_longlong" | "c_ulonglong" | "c_double" => {
            let width = match name {
                "c_longlong" => "i64",
                "c_ulonglong" => "u64",
                "c_double" => "f64",
                other => other,
            };
            Some(Err(Hazard::Wide(width.to_owned())))
        }
        _ => None,
    }
}

/// Source text of a type, without the spaces that tokens are printed with.
pub fn text(ty: &impl ToTokens) -> String {
    let spaced = ty.to_token_stream().to_string();
    let tight = [" :: ", ":: ", " ::", " <", "< ", " >", "& ", "* "];
    let parts = ["::", "::", "::", "<", "<", ">", "&", "*"];
    tight
        .iter()
        .zip(parts)
        .fold(spaced, |text, (from, to)| text.replace(from, to))
}

struct Collector {
    definitions: HashMap<String, Definition>,
    generated: bool,
}

impl Collector {
    fn define(&mut self, name: &syn::Ident, definition: Definition) {
        self.definitions.insert(name.to_string(), definition);
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.define(&item.ident, Definition::Alias(Rc::new((*item.ty).clone())));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let transparent = repr(&item.attrs).is_some_and(|r| r == "transparent");
        let field = match &item.fields {
            Fields::Named(fields) => fields.named.first(),
            Fields::Unnamed(fields) => fields.unnamed.first(),
            Fields::Unit => None,
        };
        let field = field.filter(|_| transparent && !self.generated);
        self.define(
            &item.ident,
            Definition::Aggregate(field.map(|f| Rc::new(f.ty.clone()))),
        );
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.define(&item.ident, Definition::Aggregate(None));
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let plain = item.variants.iter().all(|v| v.fields.is_empty());
        let repr = repr(&item.attrs).filter(|_| plain);
        self.define(&item.ident, Definition::Enum(repr));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        // Types inside functions count too; bindgen's functions have none.
        if !self.generated {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, _: &'ast syn::ItemImpl) {}

    fn visit_use_rename(&mut self, item: &'ast syn::UseRename) {
        if let Ok(ty) = syn::parse_str(&item.ident.to_string()) {
            self.define(&item.rename, Definition::Alias(Rc::new(ty)));
        }
    }
}

/// The first word of `#[repr(…)]`.
fn repr(attrs: &[syn::Attribute]) -> Option<String> {
    let attr = attrs.iter().find(|attr| attr.path().is_ident("repr"))?;
    let ident: syn::Ident = attr
        .parse_args_with(|input: syn::parse::ParseStream<'_>| {
            let first = input.parse()?;
            input.parse::<proc_macro2::TokenStream>()?;
            Ok(first)
        })
        .ok()?;
    Some(ident.to_string())
}
