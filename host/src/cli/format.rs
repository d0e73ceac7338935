//! Data on stdout: for a terminal, for a pipe, or as JSON.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use steward_client::AnyValue as Value;

use super::failure::{Failure, Status};
use super::repr::printable;
use super::{json, repr};

/// How results are printed.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Prints JSON, and errors as JSON on stderr.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Format {
    /// Prints a result: as Python shows it on a terminal, as lines and tabs to a pipe. `None` prints nothing there.
    pub(crate) fn value(self, value: &Value) -> Result<(), Failure> {
        match value {
            value if self.json => line(&json::text(value)),
            Value::Null => Ok(()),
            value if io::stdout().is_terminal() => line(&repr::repr(value)),
            value => print(&tsv(value)),
        }
    }

    /// Prints rows under their columns; a pipe gets the rows alone. `data` is what JSON gets.
    pub(crate) fn table(self, columns: &[&str], rows: &[Vec<String>], data: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            return self.data(data);
        }
        if !io::stdout().is_terminal() {
            return print(&rows.iter().map(|row| tabbed(row.iter().map(String::as_str))).collect::<String>());
        }
        if rows.is_empty() {
            return Ok(());
        }
        let header: Vec<String> = columns.iter().map(|column| column.to_ascii_uppercase()).collect();
        let shown: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&shown) {
            let mut cells = String::new();
            for (place, cell) in row.iter().enumerate() {
                let width =
                    std::iter::once(&header).chain(&shown).map(|row| row[place].chars().count()).max().unwrap_or(0);
                // A column without a name holds marks; anywhere else, nothing is something to see.
                let shown = if cell.is_empty() && !header[place].is_empty() { "-" } else { cell };
                cells.push_str(&format!("{shown:<width$}  "));
            }
            text.push_str(cells.trim_end());
            text.push('\n');
        }
        print(&text)
    }

    /// Prints what JSON gets.
    pub(crate) fn data(self, data: &impl Serialize) -> Result<(), Failure> {
        line(&serde_json::to_string(data).expect("what is printed has texts for keys"))
    }
}

/// Prints one line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints text that is complete. Whoever stops reading has enough: that is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Status::Raised, "OutputFailed", format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something to people, on stderr. Nobody may be there to read it: that is no error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line for each item of a list or set and each pair of a map, tabs between what such an item holds.
fn tsv(value: &Value) -> String {
    match value {
        Value::List(items) | Value::Set(items) | Value::FrozenSet(items) => items.iter().map(record).collect(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| tabbed([&*field(key), &*field(value)])).collect(),
        value => record(value),
    }
}

fn record(value: &Value) -> String {
    match value {
        Value::List(items) | Value::Tuple(items) => {
            tabbed(items.iter().map(field).collect::<Vec<_>>().iter().map(|s| &**s))
        }
        value => tabbed([&*field(value)]),
    }
}

/// Text as it is, everything else as JSON.
fn field(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        value => json::text(value),
    }
}

/// One line of fields. A tab or line break inside one is written `\t`, `\n`, and a backslash `\\`.
fn tabbed<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (place, field) in fields.into_iter().enumerate() {
        if place > 0 {
            line.push('\t');
        }
        for char in field.chars() {
            match char {
                '\\' => line.push_str("\\\\"),
                '\t' => line.push_str("\\t"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                char => line.push(char),
            }
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, lines: &str) {
        assert_eq!(tsv(&json::parse(written).unwrap()), lines);
    }

    #[test]
    fn pipe_gets_a_line_an_item_and_a_tab_between_fields() {
        check("7", "7\n");
        check(r#""a b""#, "a b\n");
        check(r#"["a", 1, null]"#, "a\n1\nnull\n");
        check(r#"[["a", 1], {"$tuple": ["b", 2]}]"#, "a\t1\nb\t2\n");
        check(r#"{"a": 1, "b": [2, 3]}"#, "a\t1\nb\t[2,3]\n");
        check(r#"{"$tuple": [1, "x"]}"#, "1\tx\n");
        check("[]", "");
    }

    #[test]
    fn fields_never_break_their_line() {
        check(r#"["a\tb\nc\\"]"#, "a\\tb\\nc\\\\\n");
    }
}
