//! The `#[object]` attribute of `steward-guest`, where it is documented.

mod parse;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{ItemImpl, parse_macro_input};

use parse::{Callable, Hook, LineKind, Object, ParamKind};

/// Makes a type of plugin out of an `impl`: see the documentation of `steward-guest`.
#[proc_macro_attribute]
pub fn object(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let mut item = parse_macro_input!(item as ItemImpl);
    match Object::parse(attribute.into(), &mut item) {
        Ok(object) => {
            let implementation = expand(&object, &item);
            quote! { #item #implementation }.into()
        }
        Err(error) => {
            // The impl stays, so that one mistake is not reported as many.
            let error = error.into_compile_error();
            quote! { #item #error }.into()
        }
    }
}

/// The implementations of `Object` and `ObjectType`.
fn expand(object: &Object, item: &ItemImpl) -> TokenStream {
    let self_type = &item.self_ty;
    let Object { typeid, name, version, doc, saves, .. } = object;

    let constructor_params = params(&object.constructor);
    let construct = call(&object.constructor, &format!("{name}.__init__"), &quote!(Self::new));

    let infos = object.methods.iter().map(|method| {
        let (name, doc, read_only, params) = (&method.public_name, &method.doc, method.read_only, params(method));
        let line = match &method.line {
            None => quote!(None),
            Some((LineKind::Fifo, at)) => quote!(Some(sg::Line::Fifo(#at))),
            Some((LineKind::All, at)) => quote!(Some(sg::Line::All(#at))),
        };
        let returns = option(method.returns.as_ref());
        let result_type = method.result_type;
        quote! {
            sg::Method {
                name: #name,
                params: #params,
                doc: #doc,
                read_only: #read_only,
                line: #line,
                result_type: #result_type,
                returns: #returns,
            }
        }
    });
    let calls = object.methods.iter().enumerate().map(|(at, method)| {
        let (at, function) = (u32::try_from(at).expect("a method for each number"), &method.name);
        let call = call(method, &format!("{name}.{}", method.public_name), &quote!(self.#function));
        quote! { #at => sg::encode(out, &{ #call }?), }
    });
    let timeouts = object.methods.iter().enumerate().filter_map(|(at, method)| {
        let (at, name) = (u32::try_from(at).expect("a method for each number"), timeout_name(method));
        method.timeout.as_ref().map(|_| quote! { #at => sg::encode(out, &self.#name(cx)?), })
    });
    let timeout_fns = object.methods.iter().filter_map(|method| {
        let (name, timeout, output) = (timeout_name(method), method.timeout.as_ref()?, &method.output);
        Some(quote! { fn #name(&self, cx: &sg::Context<'_>) -> sg::Result<#output> { let _ = cx; #timeout } })
    });

    let hooks = object.hooks.iter().filter_map(|(hook, name)| {
        Some(match hook {
            Hook::OwnerLost => quote! {
                fn owner_lost(&mut self, cx: &sg::Context<'_>, event: sg::OwnerLost) -> bool {
                    sg::Changed::changed(self.#name(cx, event))
                }
            },
            Hook::Tick => quote! {
                fn tick(&mut self, cx: &sg::Context<'_>) -> bool { sg::Changed::changed(self.#name(cx)) }
            },
            Hook::Cancelled => quote! {
                fn cancelled(&mut self, cx: &sg::Context<'_>, event: sg::Why) -> bool {
                    sg::Changed::changed(self.#name(cx, event))
                }
            },
            Hook::Undelivered => quote! {
                fn undelivered(&mut self, cx: &sg::Context<'_>, event: sg::Undelivered<'_>) -> bool {
                    sg::Changed::changed(self.#name(cx, event))
                }
            },
            Hook::Returned => quote! {
                fn returned(&mut self, cx: &sg::Context<'_>, event: sg::Returned<'_>) -> bool {
                    sg::Changed::changed(self.#name(cx, event))
                }
            },
            Hook::Load => return None,
        })
    });
    let (save, load) = if *saves {
        let own_load = object.hooks.iter().find(|(hook, _)| *hook == Hook::Load);
        let load = match own_load {
            Some((_, name)) => quote! {
                if from_version == #version { sg::load(state) } else { Self::#name(cx, state, from_version) }
            },
            None => quote!(sg::load(state)),
        };
        (quote!(sg::save(self)), load)
    } else {
        let refusal = format!("`{typeid}` does not save");
        let refusal = quote!(sg::raise("TypeError", #refusal));
        (refusal.clone(), refusal)
    };
    let lines = object.lines.len();

    quote! {
        const _: () = {
            use ::steward_guest as sg;

            impl #self_type {
                #(#timeout_fns)*
            }

            impl sg::Object for #self_type {
                fn call(
                    &mut self,
                    method: u32,
                    cx: &sg::Context<'_>,
                    args: &[u8],
                    out: &mut ::std::vec::Vec<u8>,
                ) -> sg::Result<()> {
                    let _ = (cx, args, &out);
                    match method {
                        #(#calls)*
                        _ => sg::raise("AttributeError", "there is no such method"),
                    }
                }

                fn timed_out(
                    &self,
                    method: u32,
                    cx: &sg::Context<'_>,
                    out: &mut ::std::vec::Vec<u8>,
                ) -> sg::Result<()> {
                    let _ = (cx, &out);
                    match method {
                        #(#timeouts)*
                        _ => sg::raise("TimeoutError", "the call waited until its deadline"),
                    }
                }

                #(#hooks)*

                fn save(&self) -> sg::Result<::std::vec::Vec<u8>> {
                    #save
                }
            }

            impl sg::ObjectType for #self_type {
                const INFO: sg::TypeInfo = sg::TypeInfo {
                    typeid: #typeid,
                    version: #version,
                    doc: #doc,
                    constructor: #constructor_params,
                    methods: &[#(#infos),*],
                    lines: #lines,
                    saves: #saves,
                };

                fn create(cx: &sg::Context<'_>, args: &[u8]) -> sg::Result<Self> {
                    #construct
                }

                fn load(cx: &sg::Context<'_>, state: &[u8], from_version: &str) -> sg::Result<Self> {
                    let _ = (cx, state, from_version);
                    #load
                }
            }
        };
    }
}

fn timeout_name(method: &Callable) -> Ident {
    format_ident!("__{}_timed_out", method.name)
}

fn option(text: Option<&String>) -> TokenStream {
    match text {
        Some(text) => quote!(Some(#text)),
        None => quote!(None),
    }
}

/// The parameters as a `&'static [Param]`.
fn params(callable: &Callable) -> TokenStream {
    let params = callable.params.iter().map(|param| {
        let (name, type_name) = (&param.name, param.type_name);
        let kind = match param.kind {
            ParamKind::Normal => quote!(Normal),
            ParamKind::KeywordOnly => quote!(KeywordOnly),
            ParamKind::Rest => quote!(Rest),
            ParamKind::Keywords => quote!(Keywords),
        };
        let default = option(param.default.as_ref().map(|(_, text)| text));
        quote! { sg::Param { name: #name, kind: sg::ParamKind::#kind, type_name: #type_name, default: #default } }
    });
    quote!(&[#(#params),*])
}

/// A block that binds the arguments, calls `function` and is a `Result` of what it gives.
fn call(callable: &Callable, name: &str, function: &TokenStream) -> TokenStream {
    let params = params(callable);
    let count = callable.params.len();
    // Names of our own: the parameters' might hide `cx` and the like.
    let locals: Vec<Ident> = (0..count).map(|at| Ident::new(&format!("arg{at}"), Span::mixed_site())).collect();
    let decoded = callable.params.iter().zip(&locals).enumerate().map(|(at, (param, local))| {
        let ty = &param.ty;
        let given = quote!(FUNCTION, &PARAMS[#at], &slots[#at]);
        let value = match (param.kind, &param.default) {
            (ParamKind::Rest, _) => quote!(sg::args::rest(#given)?),
            (ParamKind::Keywords, _) => quote!(sg::args::keywords(FUNCTION, PARAMS, &PARAMS[#at], &slots[#at])?),
            (_, None) => quote!(sg::args::required(#given)?),
            (_, Some((default, _))) => quote! {
                match sg::args::one(#given)? { Some(value) => value, None => #default }
            },
        };
        quote! { let #local: #ty = #value; }
    });
    let cx = callable.takes_context.then(|| quote!(cx,));
    let called = quote!(#function(#cx #(#locals),*));
    let result = if callable.fallible { called } else { quote!(sg::Result::Ok(#called)) };
    quote! {{
        const FUNCTION: &str = #name;
        static PARAMS: &[sg::Param] = #params;
        let mut slots: [sg::args::Slot<'_>; #count] = ::std::default::Default::default();
        sg::args::bind(FUNCTION, PARAMS, args, &mut slots)?;
        #(#decoded)*
        #result
    }}
}
