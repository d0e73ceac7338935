//! `docs/types.md` has every type and method of the host, in their own words.
//!
//! What stands between the markers is written by this test: `STEWARD_REWRITE=1 cargo test -p steward-conformance --test types_page`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use steward_objects::{BUILTINS, Builtin, Param};
use steward_wire::describe::ParamKind;

const START: &str = "<!-- types: written by the test `types_page` -->\n";
const END: &str = "<!-- end of types -->\n";

fn parameters(params: &[Param]) -> String {
    let mut shown = Vec::new();
    for param in params {
        let name = param.name;
        if param.kind == ParamKind::KeywordOnly && !shown.iter().any(|before: &String| before == "*") {
            shown.push("*".to_owned());
        }
        shown.push(match (param.kind, param.default) {
            (ParamKind::Rest, _) => format!("*{name}"),
            (ParamKind::Keywords, _) => format!("**{name}"),
            (_, Some(default)) => format!("{name}: {} = {default}", param.type_name),
            (_, None) => format!("{name}: {}", param.type_name),
        });
    }
    format!("({})", shown.join(", "))
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace("  ", " ")
}

fn section(builtin: &Builtin) -> String {
    let mut page = format!("## `{}`\n\n{}\n\n", builtin.typeid, builtin.doc);
    if builtin.constructible {
        writeln!(page, "`{}{}`\n", builtin.typeid, parameters(builtin.constructor)).unwrap();
    } else {
        page.push_str("Not made by clients: methods of other types return it.\n\n");
    }
    page.push_str("| method | parks | reads | |\n|---|---|---|---|\n");
    for method in builtin.methods {
        let mark = |is: bool, word| if is { word } else { "" };
        let mut line = method.doc.split("\n\n").collect::<Vec<_>>().join(" ");
        if let Some(returns) = method.returns {
            write!(line, " The result is a proxy of type `{returns}`.").unwrap();
        }
        writeln!(
            page,
            "| `{}{}` | {} | {} | {} |",
            method.name,
            cell(&parameters(method.params)),
            mark(method.may_park, "parks"),
            mark(method.read_only, "reads"),
            cell(&line)
        )
        .unwrap();
    }
    page
}

#[test]
fn page_shows_every_type_and_method() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/types.md");
    let page = fs::read_to_string(&path).expect("the page is part of the sources");
    let (before, rest) = page.split_once(START).expect("the page has the first marker");
    let (_, after) = rest.split_once(END).expect("the page has the second marker");
    let sections: Vec<_> = BUILTINS.iter().map(|builtin| section(builtin)).collect();
    let expected = format!("{before}{START}\n{}\n{END}{after}", sections.join("\n"));
    if std::env::var_os("STEWARD_REWRITE").is_some() {
        fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/types.md is not what the types say: STEWARD_REWRITE=1 cargo test -p steward-conformance --test types_page"
    );
}
