// SPDX-License-Identifier: GPL-2.0

//! Finds what crosses the border in a source file: foreign functions, `extern "C"` functions,
//! pointers to such.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    parse::{Parse, ParseStream},
    spanned::Spanned,
    visit::{self, Visit},
    Abi, FnArg, ForeignItem, ReceiverKind, ReturnType, Token, Type,
};

/// A signature at the border.
pub struct Function {
    /// Its name, or what it is.
    pub name: String,
    /// Line in its file.
    pub line: usize,
    /// Types of its parameters.
    pub parameters: Vec<Type>,
    /// What it returns, unless that is nothing.
    pub result: Option<Type>,
}

/// All that one file says about the border.
#[derive(Default)]
pub struct Border {
    /// Foreign functions by the symbol that is linked.
    pub foreign: HashMap<String, Function>,
    /// Symbols of foreign variables.
    pub variables: Vec<String>,
    /// Functions that C or assembly calls.
    pub callbacks: Vec<Function>,
    /// Pointers to functions that follow C's convention.
    pub pointers: Vec<Function>,
    /// Lines of macros in which functions of C's convention hide from this reader.
    pub hidden: Vec<usize>,
    /// Macros of this file that make such functions of a list of signatures: name, line, and
    /// whether an invocation has been read.
    makers: Vec<(String, usize, bool)>,
}

impl Border {
    /// Reads all of a file.
    pub fn of(file: &syn::File) -> Self {
        let mut border = Border::default();
        border.visit_file(file);
        let unused = border.makers.iter().filter(|(_, _, used)| !used);
        border.hidden.extend(unused.map(|(_, line, _)| *line));
        border
    }

    /// Reads only the foreign items of bindgen's output: its pointer types are C's business until
    /// one of our own sources names one.
    pub fn of_bindings(file: &syn::File) -> Self {
        let mut border = Border::default();
        for item in &file.items {
            if let syn::Item::ForeignMod(block) = item {
                border.add_foreign(block);
            }
        }
        border
    }

    fn add_foreign(&mut self, block: &syn::ItemForeignMod) {
        for item in &block.items {
            match item {
                ForeignItem::Fn(item) => {
                    let symbol = link_name(&item.attrs, &item.sig.ident);
                    self.foreign.insert(symbol, of_signature(&item.sig));
                }
                ForeignItem::Static(item) => {
                    self.variables.push(link_name(&item.attrs, &item.ident));
                }
                _ => {}
            }
        }
    }

    fn add_callback(&mut self, signature: &syn::Signature) {
        if is_foreign(signature.abi.as_ref()) {
            self.callbacks.push(of_signature(signature));
        }
    }
}

impl<'ast> Visit<'ast> for Border {
    fn visit_item_foreign_mod(&mut self, block: &'ast syn::ItemForeignMod) {
        self.add_foreign(block);
        visit::visit_item_foreign_mod(self, block);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add_callback(&item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add_callback(&item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add_callback(&item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_type_fn_ptr(&mut self, ty: &'ast syn::TypeFnPtr) {
        if is_foreign(ty.abi.as_ref()) {
            self.pointers.push(Function {
                name: "extern \"C\" fn(…)".into(),
                line: line(ty.span()),
                parameters: ty.inputs.iter().map(|input| input.ty.clone()).collect(),
                result: result_of(&ty.output),
            });
        }
        visit::visit_type_fn_ptr(self, ty);
    }

    /// A `macro_rules!` with `extern "C" fn` in it is fine if what it is invoked with is a list of
    /// signatures: those are checked.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        match &item.ident {
            Some(name) if hides_extern_fn(&item.mac.tokens) => {
                self.makers
                    .push((name.to_string(), line(name.span()), false));
            }
            _ => self.visit_macro(&item.mac),
        }
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let maker = self
            .makers
            .iter_mut()
            .find(|(name, ..)| item.path.is_ident(name));
        match maker {
            Some(maker) => {
                maker.2 = true;
                match item.parse_body::<Signatures>() {
                    Ok(Signatures(functions)) => self.pointers.extend(functions),
                    Err(_) => self.hidden.push(line(item.span())),
                }
            }
            None if hides_extern_fn(&item.tokens) => self.hidden.push(line(item.span())),
            None => {}
        }
    }
}

/// `name(argument: Type, …) -> Type;`, any number of times, with attributes.
struct Signatures(Vec<Function>);

impl Parse for Signatures {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut functions = Vec::new();
        while !input.is_empty() {
            input.call(syn::Attribute::parse_outer)?;
            let name: syn::Ident = input.parse()?;
            let arguments;
            syn::parenthesized!(arguments in input);
            let arguments = arguments.parse_terminated(FnArg::parse, Token![,])?;
            let result = result_of(&input.parse()?);
            input.parse::<Token![;]>()?;
            functions.push(Function {
                name: name.to_string(),
                line: line(name.span()),
                parameters: arguments.iter().map(argument_type).collect(),
                result,
            });
        }
        Ok(Signatures(functions))
    }
}

/// Any convention but Rust's; without a name it is C's.
fn is_foreign(abi: Option<&Abi>) -> bool {
    abi.is_some_and(|abi| {
        abi.name
            .as_ref()
            .is_none_or(|name| !name.value().starts_with("Rust"))
    })
}

fn of_signature(signature: &syn::Signature) -> Function {
    Function {
        name: signature.ident.to_string(),
        line: line(signature.ident.span()),
        parameters: signature.inputs.iter().map(argument_type).collect(),
        result: result_of(&signature.output),
    }
}

fn argument_type(argument: &FnArg) -> Type {
    match argument {
        FnArg::Receiver(receiver) => receiver_type(receiver),
        FnArg::Typed(typed) => (*typed.ty).clone(),
    }
}

/// `self` by value is of a type that only its impl tells: left as `Self`, which is unknown.
fn receiver_type(receiver: &syn::Receiver) -> Type {
    match &receiver.kind {
        ReceiverKind::Typed(_, ty) => (**ty).clone(),
        ReceiverKind::Reference(..) => syn::parse_quote!(&Self),
        _ => syn::parse_quote!(Self),
    }
}

fn result_of(output: &ReturnType) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => Some((**ty).clone()),
    }
}

fn line(span: Span) -> usize {
    span.start().line
}

/// The symbol of a foreign item.
fn link_name(attrs: &[syn::Attribute], ident: &syn::Ident) -> String {
    let renamed = attrs
        .iter()
        .filter(|attr| attr.path().is_ident("link_name"))
        .find_map(|attr| match &attr.meta.require_name_value().ok()?.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(name),
                ..
            }) => Some(name.value()),
            _ => None,
        });
    // bindgen writes "\u{1}name" where the assembler's name is meant as it is.
    renamed
        .unwrap_or_else(|| ident.to_string())
        .trim_start_matches('\u{1}')
        .to_owned()
}

/// Whether the tokens have an `extern "…" fn` or `extern "…" {` in them.
fn hides_extern_fn(tokens: &TokenStream) -> bool {
    let mut after_extern = false;
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Group(group) => {
            let found = after_extern || hides_extern_fn(&group.stream());
            after_extern = false;
            found
        }
        TokenTree::Ident(word) if word == "extern" => {
            after_extern = true;
            false
        }
        TokenTree::Ident(word) => std::mem::take(&mut after_extern) && word == "fn",
        TokenTree::Literal(_) => false,
        TokenTree::Punct(_) => {
            after_extern = false;
            false
        }
    })
}
