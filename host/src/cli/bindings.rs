//! `steward bindings`: typed proxies of a plugin's types, for clients.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use steward_client::{MethodInfo, Param, ParamKind, TypeInfo};
use steward_host::guest::Plugin;

use super::failure::{Failure, Outcome, Status};
use super::format::print;
use super::plugins;

/// Writes typed proxies of a plugin's types: a module for a program that uses a client.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bindings {
    /// Language of the program: rust.
    #[arg(value_parser = ["rust"])]
    lang: String,

    /// The component.
    plugin: PathBuf,

    /// File to write. [default: standard output]
    #[arg(long, short)]
    output: Option<PathBuf>,

    /// Writes nothing: exits with 1 if the file is not what would be written.
    #[arg(long, requires = "output")]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  steward bindings rust limiter.wasm -o src/limiter.rs
  steward bindings rust limiter.wasm -o src/limiter.rs --check      # in CI

Then, with `mod limiter;` and the crate steward-client:
  let api = RateLimiter::create_named(&manager, \"api\", 10.0, None).await?;
  api.acquire(Some(2.0)).timeout(Duration::from_secs(5)).await?;";

impl Bindings {
    pub(crate) fn run(self) -> Outcome {
        let guests = plugins::guests(plugins::authors_config())?;
        let plugin = plugins::load(&guests, &self.plugin)?;
        let text = module(&plugin);
        let Some(output) = self.output else {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        };
        if self.check {
            let command = format!("steward bindings rust {} -o {}", self.plugin.display(), output.display());
            return match std::fs::read_to_string(&output) {
                Ok(present) if present == text => Ok(ExitCode::SUCCESS),
                _ => {
                    let message = format!("{} is not what the plugin says", output.display());
                    Err(Failure::new(Status::Raised, "Stale", message).hint(command))
                }
            };
        }
        steward_build::write_whole(&output, text.as_bytes()).map_err(super::build::failed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Names that a proxy has already.
const TAKEN: [&str; 8] = ["create", "create_named", "named", "proxy", "from_proxy", "with_owner", "clone", "eq"];

/// Words of Rust that may stand for a name behind `r#`; the others get a `_`.
const KEYWORDS: [&str; 46] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move",
    "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where",
];

/// The module: a struct a type, a method a method.
fn module(plugin: &Plugin) -> String {
    let mut types = String::new();
    for offered in plugin.types() {
        put_type(&mut types, offered.info(), offered.version());
    }
    let uses = |name: &str| types.contains(name);
    let mut imports = vec!["Args", "Call", "Error", "Manager", "Proxy", "Typed"];
    imports.extend(["AnyValue"].into_iter().filter(|name| uses(name)));
    imports.sort_unstable();
    let mut text =
        "//! Typed proxies of a plugin. Written by `steward bindings rust`, which writes it anew: do not edit.\n\n"
            .to_owned();
    text.push_str(
        "#![allow(dead_code, unreachable_pub, clippy::all, reason = \"written by a program, for whatever may be called\")]\n\n",
    );
    match (uses("DeserializeOwned"), uses("impl Serialize")) {
        (true, true) => text.push_str("use serde::{Serialize, de::DeserializeOwned};\n"),
        (true, false) => text.push_str("use serde::de::DeserializeOwned;\n"),
        (false, true) => text.push_str("use serde::Serialize;\n"),
        (false, false) => {}
    }
    put(&mut text, format_args!("use steward_client::{{{}}};\n", imports.join(", ")));
    text + &types
}

fn put_type(out: &mut String, info: &TypeInfo, version: &str) {
    let (typeid, name) = (&info.typeid, type_name(&info.typeid));
    out.push('\n');
    put_doc(out, "", &info.doc);
    put(out, format_args!("///\n/// Version {version}.\n"));
    put(
        out,
        format_args!(
            "#[derive(Clone, Debug, PartialEq, Eq)]
pub struct {name} {{
    proxy: Proxy,
}}

impl Typed for {name} {{
    const TYPEID: &'static str = {typeid:?};

    fn from_proxy(proxy: Proxy) -> Result<Self, Error> {{
        if proxy.typeid() != Self::TYPEID {{
            let cause = format!(\"object {{}} is a `{{}}`\", proxy.ident(), proxy.typeid());
            return Err(Error::Decode {{ wanted: Self::TYPEID, cause }});
        }}
        Ok(Self {{ proxy }})
    }}

    fn proxy(&self) -> &Proxy {{
        &self.proxy
    }}
}}

impl {name} {{
"
        ),
    );
    let (params, args) = parameters(&info.constructor);
    let more = if params.is_empty() { String::new() } else { format!(", {params}") };
    put(
        out,
        format_args!(
            "    /// Creates an object, which lives for as long as somebody refers to it.
    pub async fn create(manager: &Manager{more}) -> Result<Self, Error> {{
{args}        Self::from_proxy(manager.create(Self::TYPEID, args).await?)
    }}

    /// The object of this name, created if there is none.
    pub async fn create_named(manager: &Manager, name: &str{more}) -> Result<Self, Error> {{
{args}        Self::from_proxy(manager.create_named(name, Self::TYPEID, args).await?)
    }}

    /// The object of this name, created with the type's defaults if there is none.
    pub async fn named(manager: &Manager, name: &str) -> Result<Self, Error> {{
        manager.named(name).await
    }}
"
        ),
    );
    // CPython's name for a copy of the value is no identifier; every proxy has it.
    for method in info.methods.iter().filter(|method| method.exposed && !method.name.starts_with('#')) {
        put_method(out, method);
    }
    out.push_str("}\n");
}

fn put_method(out: &mut String, method: &MethodInfo) {
    let (params, args) = parameters(&method.params);
    let params = if params.is_empty() { String::new() } else { format!(", {params}") };
    let (generics, result, call) = match &method.returns {
        Some(_) => ("", "Proxy".to_owned(), "call_proxy"),
        None => match result_type(&method.result_type) {
            Some(result) => ("", result, "call"),
            None if method.result_type == "list" => ("<T: DeserializeOwned>", "Vec<T>".to_owned(), "call"),
            None => ("<T: DeserializeOwned>", "T".to_owned(), "call"),
        },
    };
    out.push('\n');
    put_doc(out, "    ", &method.doc);
    let fn_name = identifier(&method.name, &TAKEN);
    put(
        out,
        format_args!(
            "    pub fn {fn_name}{generics}(&self{params}) -> Call<{result}> {{
{args}        self.proxy.{call}({:?}, args)
    }}
",
            method.name
        ),
    );
}

/// Parameters of a function, and the lines that make arguments of them.
fn parameters(params: &[Param]) -> (String, String) {
    // Behind places that may be left out no more places can follow by name, as in Python.
    let has_rest = params.iter().any(|param| param.kind == ParamKind::Rest);
    let (mut list, mut optional) = (Vec::new(), Vec::new());
    let mut places = "        let args = Args::new()".to_owned();
    let mut rest = String::new();
    for param in params {
        let name = identifier(&param.name, &["manager", "name", "args"]);
        match param.kind {
            ParamKind::Rest => {
                list.push(format!("{name}: &[{}]", owned_type(element(&param.type_name))));
                put(
                    &mut rest,
                    format_args!("        let args = {name}.iter().fold(args, |args, item| args.arg(item));\n"),
                );
            }
            ParamKind::Keywords => {
                list.push(format!("{name}: &[(&str, {})]", owned_type(element(&param.type_name))));
                put(
                    &mut rest,
                    format_args!(
                        "        let args = {name}.iter().fold(args, |args, (key, value)| args.keyword(key, value));\n"
                    ),
                );
            }
            ParamKind::Normal | ParamKind::KeywordOnly => {
                let (ty, expression) = param_type(&param.type_name, &name);
                let by_name = param.kind == ParamKind::KeywordOnly;
                if param.default.is_some() && (by_name || !has_rest) {
                    let (ty, expression) = match ty.as_str() {
                        // Nobody could write the type of a `None`.
                        "&(impl Serialize + ?Sized)" => ("Option<&AnyValue>".to_owned(), name.clone()),
                        _ => (format!("Option<{ty}>"), expression),
                    };
                    list.push(format!("{name}: {ty}"));
                    optional.push(format!(
                        "        let args = match {name} {{\n            Some({name}) => args.keyword({:?}, {expression}),\n            None => args,\n        }};\n",
                        param.name
                    ));
                } else {
                    list.push(format!("{name}: {ty}"));
                    match by_name {
                        true => {
                            optional.push(format!("        let args = args.keyword({:?}, {expression});\n", param.name))
                        }
                        false => put(&mut places, format_args!(".arg({expression})")),
                    }
                }
            }
        }
    }
    (list.join(", "), format!("{places};\n{}{rest}", optional.concat()))
}

/// The type of a parameter, and its value for an encoder.
fn param_type(type_name: &str, name: &str) -> (String, String) {
    let (ty, expression) = match type_name {
        "int" => ("i64", format!("&{name}")),
        "float" => ("f64", format!("&{name}")),
        "bool" => ("bool", format!("&{name}")),
        "str" => ("&str", name.to_owned()),
        "bytes" => ("&[u8]", format!("&steward_client::AnyValue::Bytes({name}.to_vec())")),
        "proxy" => ("&Proxy", name.to_owned()),
        _ => match result_type(type_name) {
            Some(ty) if type_name.starts_with("list[") => {
                return (format!("&[{}]", &ty["Vec<".len()..ty.len() - 1]), name.to_owned());
            }
            Some(ty) if type_name.contains('[') => return (format!("&{ty}"), name.to_owned()),
            _ => ("&(impl Serialize + ?Sized)", name.to_owned()),
        },
    };
    (ty.to_owned(), expression)
}

/// The type of a result; none if only the caller can know it.
fn result_type(type_name: &str) -> Option<String> {
    let inside = |name: &str| type_name.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']');
    if let Some(item) = inside("list") {
        return Some(format!("Vec<{}>", owned_type(item)));
    }
    Some(
        match type_name {
            "int" => "i64",
            "float" => "f64",
            "bool" => "bool",
            "str" => "String",
            "None" => "()",
            "proxy" => "Proxy",
            _ => return None,
        }
        .to_owned(),
    )
}

/// A type that holds its value, whatever that is.
fn owned_type(type_name: &str) -> String {
    result_type(type_name.trim()).unwrap_or_else(|| "AnyValue".to_owned())
}

/// What `list[int]` holds, if it says so.
fn element(type_name: &str) -> &str {
    type_name.split_once('[').and_then(|(_, item)| item.strip_suffix(']')).unwrap_or(type_name)
}

/// A type's name: one that begins small is written as Rust writes types.
fn type_name(typeid: &str) -> String {
    typeid.split('_').filter(|word| !word.is_empty()).map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

fn identifier(name: &str, taken: &[&str]) -> String {
    if KEYWORDS.contains(&name) {
        format!("r#{name}")
    } else if taken.contains(&name) || ["self", "Self", "super", "crate", "_"].contains(&name) {
        format!("{name}_")
    } else {
        name.to_owned()
    }
}

fn put_doc(out: &mut String, indent: &str, doc: &str) {
    let doc = if doc.trim().is_empty() { "(Its author says nothing of it.)" } else { doc.trim() };
    for line in doc.lines() {
        // Text of the author's never ends the comment: it is one line at a time, and a line feed is what ends it.
        out.push_str(format!("{indent}/// {}", line.replace('\r', " ")).trim_end());
        out.push('\n');
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes anything");
}
