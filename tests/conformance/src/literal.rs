//! Values as Python writes them: what stands between a call's parentheses in a case.

use std::collections::BTreeMap;

use steward_wire::{Token, Value};

/// Positional arguments, and those by keyword.
pub type Arguments = (Vec<Value>, Vec<(String, Value)>);

/// Reads `(1, 'two', n=3)` from the start of `text`; `names` are the objects of the case, which stand for their tokens.
///
/// Returns what follows, too.
///
/// # Errors
/// What was found where something else belongs.
pub fn arguments<'a>(text: &'a str, names: &BTreeMap<String, Token>) -> Result<(Arguments, &'a str), String> {
    let mut reader = Reader { text, names };
    reader.expect("(")?;
    let (mut places, mut keywords) = (Vec::new(), Vec::new());
    while !reader.eat(")") {
        let word = reader.word_ahead();
        let after = reader.text.trim_start()[word.len()..].trim_start();
        if !word.is_empty() && after.starts_with('=') {
            let word = word.to_owned();
            reader.text = &after[1..];
            keywords.push((word, reader.value()?));
        } else {
            places.push(reader.value()?);
        }
        if !reader.eat(",") {
            reader.expect(")")?;
            break;
        }
    }
    Ok(((places, keywords), reader.text))
}

struct Reader<'a, 'n> {
    text: &'a str,
    names: &'n BTreeMap<String, Token>,
}

impl<'a> Reader<'a, '_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.text.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("`{token}` belongs before `{}`", self.text)) }
    }

    fn word_ahead(&self) -> &'a str {
        let text = self.text.trim_start();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if starts { &text[..text.find(|c| !is_part(c)).unwrap_or(text.len())] } else { "" }
    }

    /// Values up to `end`, with commas between them; says whether a comma stood last.
    fn values(&mut self, end: &str) -> Result<(Vec<Value>, bool), String> {
        let (mut values, mut comma) = (Vec::new(), false);
        while !self.eat(end) {
            values.push(self.value()?);
            comma = self.eat(",");
            if !comma {
                self.expect(end)?;
                break;
            }
        }
        Ok((values, comma))
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.eat("[") {
            return Ok(Value::List(self.values("]")?.0));
        }
        if self.eat("(") {
            let (mut values, comma) = self.values(")")?;
            let is_group = values.len() == 1 && !comma;
            return Ok(if is_group { values.remove(0) } else { Value::Tuple(values) });
        }
        if self.eat("{") {
            return self.braces();
        }
        let text = self.text.trim_start();
        if text.starts_with('\'') {
            return Ok(Value::Text(self.quoted()?));
        }
        if text.starts_with("b'") {
            self.text = &text[1..];
            return Ok(Value::Bytes(self.quoted()?.into_bytes()));
        }
        match self.word_ahead() {
            "" => self.number(),
            word => {
                self.text = &text[word.len()..];
                match word {
                    "None" => Ok(Value::Null),
                    "True" => Ok(Value::Bool(true)),
                    "False" => Ok(Value::Bool(false)),
                    "set" => {
                        self.expect("(")?;
                        self.expect(")")?;
                        Ok(Value::Set(Vec::new()))
                    }
                    "array" => {
                        self.expect("(")?;
                        let Value::Text(typecode) = self.value()? else { return Err("a typecode is text".into()) };
                        self.expect(",")?;
                        let Value::List(items) = self.value()? else { return Err("an array has a list".into()) };
                        self.expect(")")?;
                        Ok(Value::Array(typecode.chars().next().ok_or("a typecode is a letter")?, items))
                    }
                    name => match self.names.get(name) {
                        Some(token) => Ok(Value::Token(token.clone())),
                        None => Err(format!("no object is called `{name}`")),
                    },
                }
            }
        }
    }

    fn braces(&mut self) -> Result<Value, String> {
        if self.eat("}") {
            return Ok(Value::Map(Vec::new()));
        }
        let first = self.value()?;
        if !self.eat(":") {
            let mut values = vec![first];
            if self.eat(",") {
                values.extend(self.values("}")?.0);
            } else {
                self.expect("}")?;
            }
            return Ok(Value::Set(values));
        }
        let mut pairs = vec![(first, self.value()?)];
        while self.eat(",") {
            let key = self.value()?;
            self.expect(":")?;
            pairs.push((key, self.value()?));
        }
        self.expect("}")?;
        Ok(Value::Map(pairs))
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.expect("'")?;
        let end = self.text.find('\'').ok_or("a text has no end")?;
        let quoted = self.text[..end].to_owned();
        self.text = &self.text[end + 1..];
        Ok(quoted)
    }

    fn number(&mut self) -> Result<Value, String> {
        let text = self.text.trim_start();
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e');
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        self.text = &text[end..];
        let digits = &text[..end];
        let number = match digits.contains(['.', 'e']) {
            true => digits.parse().map(Value::Float).ok(),
            false => digits.parse().map(Value::Int).ok(),
        };
        number.ok_or_else(|| format!("`{text}` is no value"))
    }
}
