//! What an author should mend, and what an author should know.

use std::sync::Arc;

use steward_build::Made;
use steward_client::{MethodInfo, TypeInfo};
use steward_host::TYPEID_BYTES_MAX;
use steward_host::guest::{Birth, Plugin};
use steward_objects::{Args, Outbox};
use steward_wire::{Effect, Ident};

/// What a component may import.
const LENT: &str = "steward:plugin/";

/// Memory that an object may have from the start without anybody wondering, in bytes: one in Go has some 5 MiB, of which it touches
/// little.
const MEMORY_BYTES_USUAL: u64 = 8 << 20;

/// Words of Python, after a dot as elsewhere.
const PYTHON_KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Why no host of this release takes the component, whatever is inside.
pub(super) fn of_component(made: &Made, memory_bytes_max: usize) -> Vec<String> {
    let mut findings = Vec::new();
    findings.extend(made.other_world());
    if made.exported_world().is_none() && !made.exports.is_empty() {
        findings.push("it exports no `steward:plugin/referent`".to_owned());
    }
    for import in made.imports.iter().filter(|import| !import.starts_with(LENT)) {
        findings.push(format!("it imports `{import}`, which no host lends"));
    }
    if made.memory_bytes_min > memory_bytes_max as u64 {
        let (wanted, limit) = (made.memory_bytes_min, memory_bytes_max);
        findings.push(format!("each object has {wanted} bytes of memory from the start, limit is {limit}"));
    }
    findings
}

/// What keeps its types from being used.
pub(super) fn of_types(plugin: &Plugin) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, offered) in plugin.types().iter().enumerate() {
        let typeid = &offered.info().typeid;
        if steward_objects::builtin(typeid).is_some() {
            findings.push(format!(
                "type `{typeid}` has the name of a built-in type: a host registers it only under another"
            ));
        }
        if typeid.len() > TYPEID_BYTES_MAX {
            findings.push(format!(
                "the name of type `{typeid}` is {} bytes, limit is {TYPEID_BYTES_MAX}: a host registers it only under another",
                typeid.len()
            ));
        }
        // Without arguments it may well raise, but never trap.
        let birth = Birth { tenant: "check", ident: Ident(1), now_ms: 1_000, seed: 1 };
        if let Err(fault) = plugin.create(index, Args::none(), birth, &mut Outbox::new(1))
            && fault.effect != Effect::Raised
        {
            findings.push(format!("creating a `{typeid}` without arguments: {}", fault.message));
        }
    }
    findings
}

/// What works, but may surprise somebody.
pub(super) fn warnings(made: &Made, loaded: &Result<Arc<Plugin>, String>) -> Vec<String> {
    let mut warnings = Vec::new();
    if made.memory_bytes_min > MEMORY_BYTES_USUAL {
        warnings.push(format!("each object has {} KiB of memory from the start", made.memory_bytes_min >> 10));
    }
    let Ok(plugin) = loaded else { return warnings };
    for offered in plugin.types() {
        let info = offered.info();
        let typeid = &info.typeid;
        if !offered.saves() {
            warnings.push(format!("type `{typeid}` cannot be saved: its objects stay with this version, and a long one may end with a trap"));
        }
        if info.doc.trim().is_empty() {
            warnings.push(format!("type `{typeid}` has no documentation"));
        }
        for method in info.methods.iter().filter(|method| method.exposed) {
            warnings.extend(of_method(info, method));
        }
    }
    warnings
}

fn of_method(info: &TypeInfo, method: &MethodInfo) -> Vec<String> {
    let (typeid, name) = (&info.typeid, &method.name);
    // Python's own names explain themselves.
    let is_pythons = name.starts_with("__") || name.starts_with('#');
    let mut warnings = Vec::new();
    if method.doc.trim().is_empty() && !is_pythons {
        warnings.push(format!("method `{name}` of `{typeid}` has no documentation"));
    }
    if name.starts_with('_') && !is_pythons {
        warnings.push(format!("method `{name}` of `{typeid}` looks private: proxies in Python do not offer it"));
    }
    for name in std::iter::once(name).chain(method.params.iter().map(|param| &param.name)) {
        if PYTHON_KEYWORDS.contains(&name.as_str()) {
            warnings.push(format!(
                "`{name}` in `{typeid}.{}` is a word of Python, which cannot be written there",
                method.name
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn world_that_is_not_served_is_named_beside_the_one_that_is() {
        let made = |world: &str| Made { exports: vec![format!("steward:plugin/referent@{world}")], ..Made::default() };
        assert_eq!(of_component(&made("0.2.0"), 1), ["plugin was built for world 0.2, this host serves 0.1"]);
        assert_eq!(of_component(&made("0.1.7"), 1), Vec::<String>::new());
        let made = Made { imports: vec!["wasi:clocks/wall-clock@0.2.0".into()], ..made("0.1.0") };
        assert_eq!(of_component(&made, 1), ["it imports `wasi:clocks/wall-clock@0.2.0`, which no host lends"]);
    }
}
