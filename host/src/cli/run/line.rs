//! What a line of the prompt says: calls as Python writes them, and a few words beside them.

use steward_client::{AnyValue as Value, Token};

use super::stage::Wrong;
use crate::cli::json;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    /// Nothing.
    Empty,
    /// `r = RateLimiter(rate=1)`, `r.acquire() &`.
    Call {
        /// The name that its result gets.
        name: Option<String>,
        /// A type or an object.
        target: String,
        /// None to create.
        method: Option<String>,
        /// Its arguments, encoded as a call's.
        args: Arguments,
        /// Do not wait for it.
        background: bool,
    },
    /// `r`.
    Show(String),
    /// `+1s`, in milliseconds.
    Advance(u64),
    /// `as s2`.
    As(String),
    /// `drop s2`, `bye s2`.
    End {
        session: String,
        orderly: bool,
    },
    /// `cancel 1`, `deadline 1`.
    GiveUp {
        job: u32,
        deadline: bool,
    },
    Jobs,
    Help(Option<String>),
    /// `reload`, `reload FILE`.
    Reload(Option<String>),
    /// `save r FILE`.
    Save {
        name: String,
        file: String,
    },
    /// `load r FILE`.
    Load {
        name: String,
        file: String,
    },
    Quit,
}

/// Arguments of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arguments {
    pub(super) places: Vec<Value>,
    pub(super) keywords: Vec<(String, Value)>,
}

/// Reads a line. `token` gives the object of a name.
pub(super) fn parse(text: &str, token: impl Fn(&str) -> Option<Token>) -> Result<Line, Wrong> {
    let text = uncommented(text).trim();
    if let Some(duration) = text.strip_prefix('+') {
        return milliseconds(duration).map(Line::Advance).ok_or_else(|| {
            Wrong::new(format!("`{text}` is no time to go on")).hint("as `+1s`, `+500ms`, `+2m`, `+1h`")
        });
    }
    let mut words = text.split_whitespace();
    let (first, second, third) = (words.next().unwrap_or_default(), words.next(), words.next());
    let more = third.is_some();
    let in_file = || match (second, third, words.clone().next()) {
        (Some(name), Some(file), None) if is_name(name) => Ok((name.to_owned(), file.to_owned())),
        _ => Err(Wrong::new(format!("`{first}` takes the name of an object, and a file"))
            .hint(format!("as `{first} x x.state`"))),
    };
    let session = || match second {
        Some(name) if is_name(name) && !more => Ok(name.to_owned()),
        _ => Err(Wrong::new(format!("`{first}` takes the name of a session")).hint(format!("as `{first} s2`"))),
    };
    let job = || match second.and_then(|number| number.parse().ok()) {
        Some(number) if !more => Ok(number),
        _ => Err(Wrong::new(format!("`{first}` takes the number of a call that waits")).hint("`jobs` lists them")),
    };
    let optional = || match second {
        Some(_) if more => Err(Wrong::new(format!("`{first}` takes one word"))),
        word => Ok(word.map(str::to_owned)),
    };
    // A word that stands before `=`, `.` or `(` is a name, whatever it is.
    match first {
        "" => Ok(Line::Empty),
        _ if second == Some("=") => call(text, token),
        "as" => session().map(Line::As),
        "drop" => session().map(|session| Line::End { session, orderly: false }),
        "bye" => session().map(|session| Line::End { session, orderly: true }),
        "cancel" => job().map(|job| Line::GiveUp { job, deadline: false }),
        "deadline" => job().map(|job| Line::GiveUp { job, deadline: true }),
        "jobs" if second.is_none() => Ok(Line::Jobs),
        "help" => optional().map(Line::Help),
        "reload" => optional().map(Line::Reload),
        "save" => in_file().map(|(name, file)| Line::Save { name, file }),
        "load" => in_file().map(|(name, file)| Line::Load { name, file }),
        "quit" | "exit" if second.is_none() => Ok(Line::Quit),
        name if second.is_none() && is_name(name) => Ok(Line::Show(name.to_owned())),
        _ => call(text, token),
    }
}

fn call(text: &str, token: impl Fn(&str) -> Option<Token>) -> Result<Line, Wrong> {
    let form = || {
        Wrong::new(format!("`{text}` is no line that can be run"))
            .hint("as `x = Type(1, n=2)`, `x.method()`, `x.method() &`; `help` lists what else there is")
    };
    let (text, background) = match text.strip_suffix('&') {
        Some(text) => (text.trim_end(), true),
        None => (text, false),
    };
    let (head, args) = text.split_once('(').ok_or_else(form)?;
    let args = args.strip_suffix(')').ok_or_else(form)?;
    let (name, head) = match head.split_once('=') {
        Some((name, head)) => (Some(name.trim()), head.trim()),
        None => (None, head.trim()),
    };
    let (target, method) = match head.split_once('.') {
        Some((target, method)) => (target, Some(method)),
        None => (head, None),
    };
    if ![Some(target), name, method].into_iter().flatten().all(is_name) {
        return Err(form());
    }
    let mut arguments = Arguments::default();
    for argument in split(args, ',')? {
        match argument.split_once('=') {
            Some((keyword, value)) if is_name(keyword.trim()) => {
                arguments.keywords.push((keyword.trim().to_owned(), self::value(value, &token)?));
            }
            _ if !arguments.keywords.is_empty() => {
                return Err(Wrong::new("positional argument follows keyword argument"));
            }
            _ => arguments.places.push(value(argument, &token)?),
        }
    }
    let owned = str::to_owned;
    Ok(Line::Call {
        name: name.map(owned),
        target: owned(target),
        method: method.map(owned),
        args: arguments,
        background,
    })
}

/// A value: as JSON has it, as Python has it, or the name of an object.
fn value(text: &str, token: &impl Fn(&str) -> Option<Token>) -> Result<Value, Wrong> {
    let text = text.trim();
    match json::parse(text) {
        Ok(value) => return Ok(value),
        Err(json::JsonError::Form(message)) => return Err(Wrong::new(message)),
        Err(json::JsonError::Syntax(_)) => {}
    }
    let inside = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
    let values = |items: &str| -> Result<Vec<Value>, Wrong> {
        split(items, ',')?.into_iter().map(|item| value(item, token)).collect()
    };
    match text {
        "None" => return Ok(Value::Null),
        "True" => return Ok(Value::Bool(true)),
        "False" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(number) = text.strip_prefix('+').and_then(|text| json::parse(text).ok()) {
        return Ok(number);
    }
    if let Some(items) = inside('[', ']') {
        return values(items).map(Value::List);
    }
    if let Some(items) = inside('(', ')') {
        let items = values(items)?;
        // Without a comma, these are only brackets.
        return Ok(match <[Value; 1]>::try_from(items) {
            Ok([item]) if !text.trim_end_matches(')').trim_end().ends_with(',') => item,
            Ok([item]) => Value::Tuple(vec![item]),
            Err(items) => Value::Tuple(items),
        });
    }
    if let Some(items) = inside('{', '}') {
        let pairs: Vec<_> = split(items, ',')?;
        let is_map = pairs.first().is_none_or(|pair| split(pair, ':').is_ok_and(|parts| parts.len() == 2));
        if !is_map {
            return values(items).map(Value::Set);
        }
        let pair = |pair: &&str| match split(pair, ':')?[..] {
            [key, of] => Ok((value(key, token)?, value(of, token)?)),
            _ => Err(Wrong::new(format!("`{pair}` is no pair of a dict"))),
        };
        return pairs.iter().map(pair).collect::<Result<_, _>>().map(Value::Map);
    }
    if let Some(quoted) = text.strip_prefix('b').filter(|rest| rest.starts_with(['"', '\''])) {
        return match string(quoted) {
            Some(chars) if chars.chars().all(|char| u32::from(char) < 256) => {
                Ok(Value::Bytes(chars.chars().map(|char| char as u8).collect()))
            }
            _ => Err(Wrong::new(format!("`{text}` is no bytes"))),
        };
    }
    if let Some(text) = string(text) {
        return Ok(Value::Text(text));
    }
    match token(text) {
        Some(token) => Ok(Value::Token(token)),
        None => Err(Wrong::new(format!("`{text}` is neither a value nor the name of an object"))
            .hint(format!("text stands in quotes: `\"{text}\"`"))),
    }
}

/// A string in quotes of either kind, with Python's common escapes.
fn string(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let mut chars = text.strip_prefix(quote)?.strip_suffix(quote).filter(|_| text.len() >= 2)?.chars();
    let mut out = String::new();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                '0' => out.push('\0'),
                'x' => {
                    let digits: String = [chars.next()?, chars.next()?].iter().collect();
                    out.push(char::from(u8::from_str_radix(&digits, 16).ok()?));
                }
                escaped @ ('\\' | '"' | '\'') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            char if char == quote => return None,
            char => out.push(char),
        }
    }
    Some(out)
}

/// The parts of a text between separators that stand in no quotes and no brackets. A separator at the end is none.
fn split(text: &str, separator: char) -> Result<Vec<&str>, Wrong> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, char) in outside_quotes(text) {
        match char {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            char if char == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + char.len_utf8();
            }
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    if depth != 0 {
        return Err(Wrong::new(format!("brackets in `{text}` do not match")));
    }
    if !text[start..].trim().is_empty() {
        parts.push(text[start..].trim());
    }
    match parts.iter().find(|part| part.is_empty()) {
        Some(_) => Err(Wrong::new(format!("something is missing in `{text}`"))),
        None => Ok(parts),
    }
}

/// The text before a `#` that stands in no quotes.
fn uncommented(text: &str) -> &str {
    let comment = outside_quotes(text)
        .find(|(at, char)| *char == '#' && text[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(text, |(at, _)| &text[..at])
}

/// The characters that stand in no quotes, and their places.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut escaped) = (None, false);
    text.char_indices().filter(move |(_, char)| match quote {
        Some(open) => {
            if escaped {
                escaped = false;
            } else if *char == '\\' {
                escaped = true;
            } else if *char == open {
                quote = None;
            }
            false
        }
        None if matches!(char, '"' | '\'') => {
            quote = Some(*char);
            false
        }
        None => true,
    })
}

fn milliseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|char: char| char.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3_600e3,
        _ => return None,
    };
    let ms = number.trim().parse::<f64>().ok()? * unit_ms;
    // A year is enough for anybody; the clock cannot overflow.
    (0.0..=366.0 * 86_400e3).contains(&ms).then_some(ms.round() as u64)
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && chars.all(|char| char == '_' || char.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Line, String> {
        let token = |name: &str| {
            let token = Token { typeid: "T".into(), ident: steward_client::Ident(7), address: None };
            (name == "obj").then_some(token)
        };
        parse(text, token).map_err(|wrong| wrong.message)
    }

    #[track_caller]
    fn argument(text: &str, expected: &str) {
        let Ok(Line::Call { args, .. }) = read(&format!("x.f({text})")) else { panic!("{text}: {:?}", read(text)) };
        assert_eq!(json::text(&args.places[0]), expected, "{text}");
    }

    #[test]
    fn values_are_written_as_in_json_and_as_in_python() {
        argument("1", "1");
        argument("'a, b)'", "\"a, b)\"");
        argument(r#""a\"b" "#, r#""a\"b""#);
        argument("[1, (2, 'x'), {3}]", r#"[1,{"$tuple":[2,"x"]},{"$set":[3]}]"#);
        argument("{'a': None, 'b': [True]}", r#"{"a":null,"b":[true]}"#);
        argument("{}", "{}");
        argument("()", r#"{"$tuple":[]}"#);
        argument("(1,)", r#"{"$tuple":[1]}"#);
        argument("(1)", "1");
        argument(r"b'h\x00i'", r#"{"$bytes":"aABp"}"#);
        argument(r#"{"$set": [1]}"#, r#"{"$set":[1]}"#);
        argument("obj", r#"{"$ref":"T#7"}"#);
        argument("[obj]", r#"[{"$ref":"T#7"}]"#);
        assert_eq!(read("x.f(nobody)").unwrap_err(), "`nobody` is neither a value nor the name of an object");
    }

    #[test]
    fn line_is_a_call_a_name_or_a_word_of_its_own() {
        let Ok(Line::Call { name, target, method, args, background }) = read("r = T(1, n=2)  # why") else { panic!() };
        assert_eq!((name.as_deref(), &*target, method, background), (Some("r"), "T", None, false));
        assert_eq!((args.places.len(), args.keywords.len()), (1, 1));
        assert!(matches!(read("r.f('#') &"), Ok(Line::Call { background: true, .. })));
        assert!(matches!(read("help = T()"), Ok(Line::Call { .. })), "a name may be any word");
        assert_eq!(read("r"), Ok(Line::Show("r".into())));
        assert_eq!(read("+1.5s"), Ok(Line::Advance(1_500)));
        assert_eq!(read("as s2"), Ok(Line::As("s2".into())));
        assert_eq!(read("cancel 3"), Ok(Line::GiveUp { job: 3, deadline: false }));
        assert_eq!(read("save r a.b"), Ok(Line::Save { name: "r".into(), file: "a.b".into() }));
        assert_eq!(read("load r a.b"), Ok(Line::Load { name: "r".into(), file: "a.b".into() }));
        assert_eq!(read("  # nothing"), Ok(Line::Empty));
        for wrong in [
            "+1",
            "as",
            "as a b",
            "save r",
            "load r a b",
            "cancel x",
            "r.f(",
            "r.f)",
            "1 + 1",
            "r.f(1,,2)",
            "r.f([1)",
            "r.f(a=1, 2)",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
