//! What a plugin says of itself, checked.

use std::collections::HashSet;

use steward_wire::describe::{MethodInfo, Param, ParamKind, TypeInfo};

use super::bindings::steward::plugin::types as wit;

/// Bounds of what a plugin says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribeLimits {
    /// Types of one plugin.
    pub types_max: usize,
    /// Methods of one type.
    pub methods_max: usize,
    /// Parameters of one method or constructor.
    pub params_max: usize,
    /// Bytes of a name.
    pub name_bytes_max: usize,
    /// Bytes of one documentation text or default.
    pub doc_bytes_max: usize,
}

impl Default for DescribeLimits {
    fn default() -> Self {
        Self { types_max: 64, methods_max: 256, params_max: 64, name_bytes_max: 128, doc_bytes_max: 16 << 10 }
    }
}

/// What is wrong with a plugin's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDescription {
    /// There is nothing in it.
    #[error("it offers no types")]
    Empty,
    /// More of something than is allowed.
    #[error("{of} has {count} {what}, limit is {limit}")]
    TooMany {
        /// Types, methods, parameters, bytes.
        what: &'static str,
        /// Whose.
        of: String,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A name that is not an identifier.
    #[error("`{name}` of {of} is not a name: letters, digits and `_`, the first one not a digit")]
    BadName {
        /// The name, cut if it is long.
        name: String,
        /// Whose.
        of: String,
    },
    /// A name that occurs twice.
    #[error("`{name}` occurs twice in {of}")]
    Twice {
        /// The name.
        name: String,
        /// Where.
        of: String,
    },
    /// A version that is not `major.minor.patch`.
    #[error("version `{version}` of {of} is not major.minor.patch")]
    BadVersion {
        /// The version, cut if it is long.
        version: String,
        /// Whose.
        of: String,
    },
    /// Parameters that Python could not have.
    #[error("parameter `{name}` of {of} cannot stand where it does")]
    BadOrder {
        /// The parameter.
        name: String,
        /// Whose.
        of: String,
    },
}

/// A type as its plugin describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub(super) info: TypeInfo,
    pub(super) version: String,
    pub(super) saves: bool,
}

pub(super) fn check(types: Vec<wit::TypeInfo>, limits: &DescribeLimits) -> Result<Vec<Described>, BadDescription> {
    if types.is_empty() {
        return Err(BadDescription::Empty);
    }
    at_most("types", "the plugin", types.len(), limits.types_max)?;
    let mut typeids = HashSet::new();
    types
        .into_iter()
        .map(|described| {
            let typeid = name(described.typeid, "the plugin", limits)?;
            once(&mut typeids, &typeid, "the plugin")?;
            version(&described.version, &typeid)?;
            doc(&described.doc, &typeid, limits)?;
            at_most("methods", &typeid, described.methods.len(), limits.methods_max)?;
            let mut names = HashSet::new();
            let methods = described
                .methods
                .into_iter()
                .map(|method| {
                    // CPython's name for a copy of the value is no identifier.
                    let method_name = match method.name.as_str() {
                        super::GET_VALUE => method.name,
                        _ => name(method.name, &typeid, limits)?,
                    };
                    once(&mut names, &method_name, &typeid)?;
                    let of = format!("{typeid}.{method_name}");
                    doc(&method.doc, &of, limits)?;
                    at_most("bytes in a type's name", &of, method.result_type.len(), limits.name_bytes_max)?;
                    Ok(MethodInfo {
                        params: params(method.params, &of, limits)?,
                        name: method_name,
                        doc: method.doc,
                        read_only: method.read_only,
                        may_park: method.may_park,
                        result_type: method.result_type,
                        returns: method.returns.map(|typeid| name(typeid, &of, limits)).transpose()?,
                        exposed: true,
                    })
                })
                .collect::<Result<_, _>>()?;
            let constructor = params(described.constructor_params, &typeid, limits)?;
            let info = TypeInfo { typeid, doc: described.doc, constructor, methods };
            Ok(Described { info, version: described.version, saves: described.saves })
        })
        .collect()
}

fn params(params: Vec<wit::Param>, of: &str, limits: &DescribeLimits) -> Result<Vec<Param>, BadDescription> {
    at_most("parameters", of, params.len(), limits.params_max)?;
    let mut names = HashSet::new();
    // Python's order: by place, required before optional; `*rest`; by keyword only; `**keywords`.
    let mut furthest = 0;
    params
        .into_iter()
        .map(|param| {
            let param_name = name(param.name, of, limits)?;
            once(&mut names, &param_name, of)?;
            at_most("bytes in a type's name", of, param.type_name.len(), limits.name_bytes_max)?;
            doc(param.default.as_deref().unwrap_or_default(), of, limits)?;
            let (kind, rank) = match (param.kind, &param.default) {
                (wit::ParamKind::Normal, None) => (ParamKind::Normal, 0),
                (wit::ParamKind::Normal, Some(_)) => (ParamKind::Normal, 1),
                (wit::ParamKind::Rest, _) => (ParamKind::Rest, 2),
                (wit::ParamKind::KeywordOnly, _) => (ParamKind::KeywordOnly, 3),
                (wit::ParamKind::Keywords, _) => (ParamKind::Keywords, 4),
            };
            let only_one = matches!(kind, ParamKind::Rest | ParamKind::Keywords);
            if rank < furthest || (only_one && rank == furthest) {
                return Err(BadDescription::BadOrder { name: param_name, of: of.to_owned() });
            }
            furthest = rank;
            Ok(Param { name: param_name, kind, type_name: param.type_name, default: param.default })
        })
        .collect()
}

fn name(name: String, of: &str, limits: &DescribeLimits) -> Result<String, BadDescription> {
    at_most("bytes in a name", of, name.len(), limits.name_bytes_max)?;
    // ASCII, as names become attributes and logs in several languages.
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(name)
    } else {
        Err(BadDescription::BadName { name, of: of.to_owned() })
    }
}

fn version(version: &str, of: &str) -> Result<(), BadDescription> {
    let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
    if numbers.len() == 3 && numbers.iter().all(Result::is_ok) && !version.contains('+') {
        Ok(())
    } else {
        Err(BadDescription::BadVersion { version: version.chars().take(32).collect(), of: of.to_owned() })
    }
}

fn doc(doc: &str, of: &str, limits: &DescribeLimits) -> Result<(), BadDescription> {
    at_most("bytes in a text", of, doc.len(), limits.doc_bytes_max)
}

fn once(seen: &mut HashSet<String>, name: &str, of: &str) -> Result<(), BadDescription> {
    if seen.insert(name.to_owned()) {
        Ok(())
    } else {
        Err(BadDescription::Twice { name: name.to_owned(), of: of.to_owned() })
    }
}

fn at_most(what: &'static str, of: &str, count: usize, limit: usize) -> Result<(), BadDescription> {
    if count <= limit { Ok(()) } else { Err(BadDescription::TooMany { what, of: of.to_owned(), count, limit }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, kind: wit::ParamKind, default: Option<&str>) -> wit::Param {
        wit::Param { name: name.into(), kind, type_name: "any".into(), default: default.map(Into::into) }
    }

    fn described(methods: Vec<wit::MethodInfo>, constructor_params: Vec<wit::Param>, version: &str) -> wit::TypeInfo {
        wit::TypeInfo {
            typeid: "Counter".into(),
            version: version.into(),
            doc: "Counts.".into(),
            constructor_params,
            methods,
            saves: true,
        }
    }

    fn refusal(types: Vec<wit::TypeInfo>) -> String {
        check(types, &DescribeLimits::default()).unwrap_err().to_string()
    }

    #[test]
    fn keeps_what_a_plugin_says() {
        let method = wit::MethodInfo {
            name: "#GETVALUE".into(),
            params: vec![param("a", wit::ParamKind::Normal, None), param("b", wit::ParamKind::KeywordOnly, Some("1"))],
            doc: "A copy.".into(),
            read_only: true,
            may_park: false,
            result_type: "any".into(),
            returns: Some("Counter".into()),
        };
        let types = check(vec![described(vec![method], vec![], "1.20.3")], &DescribeLimits::default()).unwrap();
        assert_eq!(types[0].version, "1.20.3");
        assert!(types[0].saves);
        let info = &types[0].info;
        assert_eq!((info.typeid.as_str(), info.doc.as_str()), ("Counter", "Counts."));
        assert_eq!(info.methods[0].name, "#GETVALUE");
        assert!(info.methods[0].read_only && info.methods[0].exposed && !info.methods[0].may_park);
        assert_eq!(info.methods[0].returns.as_deref(), Some("Counter"));
        assert_eq!(info.methods[0].params[1].kind, ParamKind::KeywordOnly);
        assert_eq!(info.methods[0].params[1].default.as_deref(), Some("1"));
    }

    #[test]
    fn refuses_parameters_out_of_pythons_order() {
        use wit::ParamKind::{KeywordOnly, Keywords, Normal, Rest};
        let good = vec![
            param("a", Normal, None),
            param("b", Normal, Some("1")),
            param("c", Rest, None),
            param("d", KeywordOnly, None),
            param("e", KeywordOnly, Some("1")),
            param("f", Keywords, None),
        ];
        assert!(check(vec![described(vec![], good, "1.0.0")], &DescribeLimits::default()).is_ok());
        for bad in [
            [param("a", Normal, Some("1")), param("b", Normal, None)],
            [param("a", Rest, None), param("b", Rest, None)],
            [param("a", Keywords, None), param("b", KeywordOnly, None)],
        ] {
            let refused = refusal(vec![described(vec![], bad.to_vec(), "1.0.0")]);
            assert_eq!(refused, "parameter `b` of Counter cannot stand where it does");
        }
    }

    #[test]
    fn refuses_versions_that_do_not_compare() {
        for version in ["", "1", "1.0", "1.0.0.0", "1.0.x", "1.0.+1", "1.0.0-rc1"] {
            let refused = refusal(vec![described(vec![], vec![], version)]);
            assert_eq!(refused, format!("version `{version}` of Counter is not major.minor.patch"));
        }
    }

    #[test]
    fn refuses_a_type_twice_and_none_at_all() {
        let counter = described(vec![], vec![], "1.0.0");
        assert_eq!(refusal(vec![counter.clone(), counter]), "`Counter` occurs twice in the plugin");
        assert_eq!(refusal(vec![]), "it offers no types");
    }
}
