//! `steward types`: what can be created and called.

use std::process::ExitCode;

use serde::Serialize;
use steward_client::{MethodInfo, Param, ParamKind, TypeCount, TypeInfo};

use super::connect::Connect;
use super::failure::{Failure, Outcome};
use super::format::{Format, print};
use super::repr::printable;
use super::target::unknown_type;

/// Lists the types and how many objects each has, or the methods of one type.
///
/// Counts need a key with the role admin, and are left out without. TRAPS and RECOVERED are a plugin's: calls that trapped since its
/// type was registered, and how often an object was made again after that.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Types {
    /// Type whose constructor and methods to show.
    typeid: Option<String>,

    #[command(flatten)]
    pub(crate) format: Format,

    #[command(flatten)]
    connect: Connect,
}

const EXAMPLES: &str = "\
Examples:
  steward types
  steward types Queue
  steward types | cut -f1                  # a pipe gets tabs and no header
  steward types RateLimiter --json";

impl Types {
    pub(crate) fn run(self) -> Outcome {
        let Self { typeid, format, connect } = self;
        let (types, counts) = connect.run(async |manager| {
            let mut types = manager.types().await?;
            if let Some(typeid) = &typeid {
                types.retain(|info| info.typeid == *typeid);
                if types.is_empty() {
                    return Err(unknown_type(&manager, typeid).await);
                }
            }
            let counts = match manager.type_counts().await.map_err(Failure::from) {
                Ok(counts) => Some(counts),
                Err(failure) if failure.is("Denied") => None,
                Err(failure) => return Err(failure),
            };
            Ok((types, counts))
        })?;
        match (&typeid, &types[..]) {
            (Some(_), [info]) => one(format, info)?,
            _ => {
                let counted = types.iter().map(|info| Counted::new(info, counts.as_deref())).collect::<Vec<_>>();
                let rows = counted.iter().map(Counted::row).collect::<Vec<_>>();
                format.table(&["type", "objects", "traps", "recovered", "summary"], &rows, &counted)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A type with what there is of it.
#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    info: &'a TypeInfo,
    /// None if the key may not know.
    objects: Option<u64>,
    /// None of a built-in type, too.
    traps: Option<u64>,
    recovered: Option<u64>,
}

impl<'a> Counted<'a> {
    fn new(info: &'a TypeInfo, counts: Option<&[TypeCount]>) -> Self {
        let count = counts.and_then(|counts| counts.iter().find(|count| count.typeid == info.typeid));
        Self {
            info,
            // What is not counted has none.
            objects: counts.map(|_| count.map_or(0, |count| count.objects)),
            traps: count.and_then(|count| count.traps),
            recovered: count.and_then(|count| count.recovered),
        }
    }

    fn row(&self) -> Vec<String> {
        let text = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
        let Self { info, objects, traps, recovered } = self;
        vec![info.typeid.clone(), text(*objects), text(*traps), text(*recovered), summary(&info.doc).to_owned()]
    }
}

fn one(format: Format, info: &TypeInfo) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    if !format.json && std::io::stdout().is_terminal() {
        return print(&manual(info));
    }
    let row = |method: &MethodInfo| vec![method.name.clone(), signature(method), summary(&method.doc).to_owned()];
    let exposed: Vec<_> = info.methods.iter().filter(|method| method.exposed).map(row).collect();
    format.table(&["method", "signature", "summary"], &exposed, info)
}

/// All there is to know about a type, as text.
pub(crate) fn manual(info: &TypeInfo) -> String {
    let mut text = format!("{}({})\n", printable(&info.typeid), params(&info.constructor));
    indent(&mut text, &info.doc);
    for method in info.methods.iter().filter(|method| method.exposed) {
        text.push_str(&format!("\n  {}\n", printable(&signature(method))));
        let mut abilities = Vec::new();
        if method.may_park {
            abilities.push("may wait");
        }
        if method.read_only {
            abilities.push("changes nothing");
        }
        indent(&mut text, &method.doc);
        if !abilities.is_empty() {
            text.push_str(&format!("      ({})\n", abilities.join(", ")));
        }
    }
    text
}

fn indent(text: &mut String, doc: &str) {
    for line in doc.trim().lines() {
        text.push_str(format!("      {}", printable(line)).trim_end());
        text.push('\n');
    }
}

fn summary(doc: &str) -> &str {
    doc.trim().lines().next().unwrap_or_default()
}

/// `acquire(n: float = 1) -> Held`.
pub(crate) fn signature(method: &MethodInfo) -> String {
    let returns = method.returns.as_ref().map(|typeid| format!(" -> {typeid}")).unwrap_or_default();
    format!("{}({}){returns}", method.name, params(&method.params))
}

fn params(params: &[Param]) -> String {
    let mut texts = Vec::new();
    let mut keywords_only = false;
    for param in params {
        // Python's bare star, once, unless `*args` stands for it.
        if param.kind == ParamKind::Rest {
            keywords_only = true;
        } else if param.kind == ParamKind::KeywordOnly && !keywords_only {
            keywords_only = true;
            texts.push("*".to_owned());
        }
        let stars = match param.kind {
            ParamKind::Rest => "*",
            ParamKind::Keywords => "**",
            ParamKind::Normal | ParamKind::KeywordOnly => "",
        };
        let type_name = match param.type_name.as_str() {
            "" => String::new(),
            name => format!(": {name}"),
        };
        let default = param.default.as_ref().map(|default| format!(" = {default}")).unwrap_or_default();
        texts.push(format!("{stars}{}{type_name}{default}", param.name));
    }
    printable(&texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_written_as_in_python() {
        let param = |name: &str, kind, default: Option<&str>| Param {
            name: name.into(),
            kind,
            type_name: if kind == ParamKind::Normal { "int".into() } else { String::new() },
            default: default.map(Into::into),
        };
        let method = MethodInfo {
            name: "call".into(),
            params: vec![
                param("a", ParamKind::Normal, None),
                param("b", ParamKind::Normal, Some("1")),
                param("c", ParamKind::KeywordOnly, Some("None")),
                param("d", ParamKind::KeywordOnly, None),
                param("rest", ParamKind::Keywords, None),
            ],
            returns: Some("Iterator".into()),
            ..MethodInfo::default()
        };
        assert_eq!(signature(&method), "call(a: int, b: int = 1, *, c = None, d, **rest) -> Iterator");
        let rest = [param("items", ParamKind::Rest, None), param("key", ParamKind::KeywordOnly, None)];
        assert_eq!(params(&rest), "*items, key");
    }
}
