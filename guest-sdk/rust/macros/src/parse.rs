//! What an `impl` under `#[object]` says.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, Lit, LitBool,
    LitStr, Meta, Pat, PatType, PathArguments, Result, ReturnType, Token, Type, Visibility,
};

/// The type.
pub(crate) struct Object {
    pub(crate) typeid: String,
    /// The Rust type's, which errors show.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) doc: String,
    pub(crate) saves: bool,
    pub(crate) constructor: Callable,
    pub(crate) methods: Vec<Callable>,
    /// Names of the lines that methods wait in.
    pub(crate) lines: Vec<String>,
    pub(crate) hooks: Vec<(Hook, Ident)>,
}

/// The constructor or a method.
pub(crate) struct Callable {
    pub(crate) name: Ident,
    pub(crate) public_name: String,
    pub(crate) doc: String,
    pub(crate) takes_context: bool,
    pub(crate) params: Vec<Param>,
    /// What it gives, `Result` taken off.
    pub(crate) output: TokenStream,
    /// In Python's words.
    pub(crate) result_type: &'static str,
    pub(crate) fallible: bool,
    pub(crate) read_only: bool,
    /// How its calls wait, and the place of their line among the object's.
    pub(crate) line: Option<(LineKind, usize)>,
    pub(crate) timeout: Option<Expr>,
    pub(crate) returns: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    Fifo,
    All,
}

pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) type_name: &'static str,
    pub(crate) kind: ParamKind,
    /// The expression, and the same as people write it.
    pub(crate) default: Option<(TokenStream, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    Normal,
    KeywordOnly,
    Rest,
    Keywords,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    OwnerLost,
    Tick,
    Cancelled,
    Undelivered,
    Returned,
    Load,
}

impl Object {
    /// Reads the attribute and the `impl`, from which it takes the attributes that are for this macro alone.
    pub(crate) fn parse(attribute: TokenStream, item: &mut ItemImpl) -> Result<Self> {
        let (mut version, mut saves, mut typeid) = (None, true, None);
        let parser = syn::meta::parser(|meta: ParseNestedMeta<'_>| {
            if meta.path.is_ident("version") {
                version = Some(meta.value()?.parse::<LitStr>()?);
            } else if meta.path.is_ident("saves") {
                saves = meta.value()?.parse::<LitBool>()?.value;
            } else if meta.path.is_ident("name") {
                typeid = Some(meta.value()?.parse::<LitStr>()?.value());
            } else {
                return Err(meta.error("expected `version = \"1.0.0\"`, `name = \"Type\"` or `saves = false`"));
            }
            Ok(())
        });
        syn::parse::Parser::parse2(parser, attribute)?;
        let version = version
            .ok_or_else(|| Error::new(item.span(), "an object has a version: #[object(version = \"1.0.0\")]"))?;
        let parts = version.value().split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        if parts != 3 || version.value().split('.').count() != 3 {
            return Err(Error::new(version.span(), "a version is major.minor.patch, as in 1.0.0"));
        }
        if let Some(generics) = item.generics.params.first() {
            return Err(Error::new(generics.span(), "a type of plugin has no generic parameters"));
        }
        let name = match &*item.self_ty {
            Type::Path(path) if item.trait_.is_none() => path.path.segments.last().expect("a path has segments"),
            other => return Err(Error::new(other.span(), "#[object] stands before `impl Type`")),
        };
        let span = name.span();
        let name = name.ident.unraw().to_string();
        let typeid = typeid.unwrap_or_else(|| name.clone());

        let (mut constructor, mut methods, mut hooks, mut lines) = (None, Vec::new(), Vec::new(), Vec::new());
        for function in item.items.iter_mut().filter_map(|item| match item {
            ImplItem::Fn(function) => Some(function),
            _ => None,
        }) {
            let on = take(&mut function.attrs, "on")?;
            let method = take(&mut function.attrs, "method")?;
            if let Some(on) = on {
                hooks.push((hook(&on)?, function.sig.ident.clone()));
            } else if function.sig.ident == "new" && matches!(function.vis, Visibility::Public(_)) {
                constructor = Some(callable(function, None, &mut lines)?);
            } else if matches!(function.vis, Visibility::Public(_)) && function.sig.receiver().is_some() {
                methods.push(callable(function, method, &mut lines)?);
            } else if let Some(method) = method {
                return Err(Error::new(method.span(), "a method is a `pub fn` with `&self` or `&mut self`"));
            }
        }
        let constructor =
            constructor.ok_or_else(|| Error::new(span, format!("`{name}` has no constructor: `pub fn new`")))?;
        let doc = match documentation(&item.attrs) {
            doc if doc.is_empty() => constructor.doc.clone(),
            doc => doc,
        };
        let version = version.value();
        Ok(Self { typeid, name, version, doc, saves, constructor, methods, lines, hooks })
    }
}

fn hook(attribute: &Attribute) -> Result<Hook> {
    let name: Ident = attribute.parse_args()?;
    Ok(match name.to_string().as_str() {
        "owner_lost" => Hook::OwnerLost,
        "tick" => Hook::Tick,
        "cancelled" => Hook::Cancelled,
        "undelivered" => Hook::Undelivered,
        "returned" => Hook::Returned,
        "load" => Hook::Load,
        _ => {
            let hooks = "there are owner_lost, tick, cancelled, undelivered, returned and load";
            return Err(Error::new(name.span(), hooks));
        }
    })
}

fn callable(function: &mut ImplItemFn, attribute: Option<Attribute>, lines: &mut Vec<String>) -> Result<Callable> {
    let signature = &mut function.sig;
    if let Some(generic) = signature.generics.type_params().next() {
        return Err(Error::new(generic.span(), "a method has no generic parameters"));
    }
    if let Some(asyncness) = signature.asyncness {
        return Err(Error::new(asyncness.span(), "a method never blocks: return `pending()` instead of awaiting"));
    }
    let read_only = match signature.receiver() {
        Some(receiver) if receiver.reference.is_none() => {
            return Err(Error::new(receiver.span(), "a method takes `&self` or `&mut self`"));
        }
        Some(receiver) => receiver.mutability.is_none(),
        None => false,
    };

    let name = signature.ident.clone();
    let mut public_name = name.unraw().to_string();
    let (mut kind, mut line_name, mut timeout, mut returns) = (None, None, None, None);
    if let Some(attribute) = attribute.filter(|attribute| !matches!(attribute.meta, Meta::Path(_))) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("fifo") {
                kind = Some(LineKind::Fifo);
            } else if meta.path.is_ident("all") {
                kind = Some(LineKind::All);
            } else if meta.path.is_ident("line") {
                line_name = Some(meta.value()?.parse::<LitStr>()?);
            } else if meta.path.is_ident("timeout") {
                timeout = Some(meta.value()?.parse::<Expr>()?);
            } else if meta.path.is_ident("returns") {
                returns = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("name") {
                public_name = meta.value()?.parse::<LitStr>()?.value();
            } else {
                return Err(meta.error("expected fifo, all, line, timeout, returns or name"));
            }
            Ok(())
        })?;
    }
    let kind = match (kind, &line_name, &timeout) {
        (Some(LineKind::All), Some(line), _) => {
            return Err(Error::new(line.span(), "only methods that wait in turn (`fifo`) share a line"));
        }
        // Whoever names a line or an answer to the deadline waits in turn.
        (None, Some(_), _) | (None, _, Some(_)) => Some(LineKind::Fifo),
        (kind, ..) => kind,
    };
    let line = kind.map(|kind| {
        // A name that is no identifier of Rust's cannot meet one that the author gave.
        let line_name = line_name.map_or_else(|| format!("{name}()"), |line| line.value());
        let at = lines.iter().position(|line| *line == line_name).unwrap_or_else(|| {
            lines.push(line_name);
            lines.len() - 1
        });
        (kind, at)
    });

    let mut typed: Vec<&mut PatType> = Vec::new();
    for input in &mut signature.inputs {
        if let FnArg::Typed(param) = input {
            typed.push(param);
        }
    }
    let takes_context = typed.first().is_some_and(|param| is_context(&param.ty));
    let params = typed.into_iter().skip(usize::from(takes_context)).map(param).collect::<Result<_>>()?;
    let (output, result_type, fallible) = match &signature.output {
        ReturnType::Default => (quote!(()), "None", false),
        ReturnType::Type(_, ty) => match result_of(ty) {
            Some(inner) => (inner.to_token_stream(), python_type(inner), true),
            None => (ty.to_token_stream(), python_type(ty), false),
        },
    };
    let doc = documentation(&function.attrs);
    Ok(Callable {
        name,
        public_name,
        doc,
        takes_context,
        params,
        output,
        result_type,
        fallible,
        read_only,
        line,
        timeout,
        returns,
    })
}

fn param(param: &mut PatType) -> Result<Param> {
    let Pat::Ident(name) = &*param.pat else {
        return Err(Error::new(param.pat.span(), "a parameter is a name, which is also its keyword"));
    };
    let name = name.ident.unraw().to_string();
    let default = take(&mut param.attrs, "default")?;
    let mut kind = ParamKind::Normal;
    for (attribute, named) in
        [("keyword_only", ParamKind::KeywordOnly), ("rest", ParamKind::Rest), ("keywords", ParamKind::Keywords)]
    {
        if take(&mut param.attrs, attribute)?.is_some() {
            kind = named;
        }
    }
    let ty = (*param.ty).clone();
    let type_name = match kind {
        ParamKind::Rest | ParamKind::Keywords => "any",
        _ => python_type(&ty),
    };
    let default = default
        .map(|attribute| {
            let expression: Expr = attribute.parse_args()?;
            let text = python_literal(&expression);
            let is_text = matches!(&expression, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }));
            let expression = match last_ident(&ty) {
                Some(last) if is_text && last == "String" => quote!(::std::string::String::from(#expression)),
                _ => expression.to_token_stream(),
            };
            Ok::<_, Error>((expression, text))
        })
        .transpose()?;
    Ok(Param { name, ty, type_name, kind, default })
}

/// Takes an attribute out, if it is there once.
fn take(attributes: &mut Vec<Attribute>, name: &str) -> Result<Option<Attribute>> {
    let Some(at) = attributes.iter().position(|attribute| attribute.path().is_ident(name)) else { return Ok(None) };
    let attribute = attributes.remove(at);
    match attributes.iter().find(|attribute| attribute.path().is_ident(name)) {
        Some(second) => Err(Error::new(second.span(), format!("#[{name}] stands here twice"))),
        None => Ok(Some(attribute)),
    }
}

/// The lines of doc comments, without the space that starts each.
fn documentation(attributes: &[Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        })
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n").trim().to_owned()
}

fn last_ident(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => Some(&path.path.segments.last()?.ident),
        Type::Reference(reference) => last_ident(&reference.elem),
        _ => None,
    }
}

fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(_)) && last_ident(ty).is_some_and(|name| name == "Context")
}

/// `T` of a `Result<T>`.
fn result_of(ty: &Type) -> Option<&Type> {
    type_argument(ty, "Result")
}

fn type_argument<'a>(ty: &'a Type, of: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let first = Punctuated::<GenericArgument, Token![,]>::first(&arguments.args)?;
    match first {
        GenericArgument::Type(inner) if last.ident == of => Some(inner),
        _ => None,
    }
}

/// The type in Python's words, as far as its name tells.
fn python_type(ty: &Type) -> &'static str {
    if let Some(inner) = type_argument(ty, "Option") {
        return python_type(inner);
    }
    if let Type::Reference(reference) = ty {
        return python_type(&reference.elem);
    }
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => return "None",
        Type::Tuple(_) => return "tuple",
        Type::Array(_) | Type::Slice(_) => return "list",
        _ => {}
    }
    match last_ident(ty).map(ToString::to_string).as_deref() {
        Some("i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize") => "int",
        Some("f32" | "f64") => "float",
        Some("bool") => "bool",
        Some("str" | "String" | "char") => "str",
        Some("Bytes") => "bytes",
        Some("Vec" | "VecDeque") => "list",
        Some("HashMap" | "BTreeMap") => "dict",
        Some("HashSet" | "BTreeSet") => "set",
        Some("Handle") => "proxy",
        _ => "any",
    }
}

/// An expression as people write it in Python, where that is another way.
fn python_literal(expression: &Expr) -> String {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Bool(LitBool { value, .. }), .. }) => {
            if *value { "True" } else { "False" }.to_owned()
        }
        // `Some(x)` is x.
        Expr::Call(call) if call.func.to_token_stream().to_string() == "Some" => {
            call.args.first().map(python_literal).unwrap_or_default()
        }
        Expr::Unary(unary) => format!("{}{}", unary.op.to_token_stream(), python_literal(&unary.expr)),
        other => other.to_token_stream().to_string(),
    }
}
