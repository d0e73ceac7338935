//! What a call is for and with: targets and arguments as people type them.

use std::str::FromStr;

use steward_client::{AnyValue as Value, Args, Error, Ident, Manager, Proxy, Token};

use super::failure::{Failure, Status, did_you_mean};
use super::json;

/// An object as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `jobs`: the object of this name.
    Name(String),
    /// `#41`.
    Ident(Ident),
    /// `Queue/jobs`: the object of this name, made if there is none.
    Make {
        /// Its type.
        typeid: String,
        /// Its name.
        name: String,
    },
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_prefix('#') {
            let number = number.parse().map_err(|_| format!("`{text}` is no ident, which is `#` and a number"))?;
            return Ok(Self::Ident(Ident(number)));
        }
        match text.split_once('/') {
            Some((typeid, name)) if !typeid.is_empty() && !name.is_empty() => {
                Ok(Self::Make { typeid: typeid.into(), name: name.into() })
            }
            None if !text.is_empty() => Ok(Self::Name(text.into())),
            _ => Err("a target is a name (`jobs`), an ident (`#41`), or `Type/name`".into()),
        }
    }
}

impl Target {
    /// The proxy of the object.
    pub(crate) async fn find(&self, manager: &Manager) -> Result<Proxy, Failure> {
        match self {
            Self::Name(name) => match manager.find(name).await {
                Ok(proxy) => Ok(proxy),
                Err(Error::Raised(fault)) if fault.kind == "KeyError" => Err(unknown_name(manager, name).await),
                Err(error) => Err(error.into()),
            },
            Self::Ident(ident) => {
                let token = Token { typeid: String::new(), ident: *ident, address: None };
                adopt(manager, token).await
            }
            Self::Make { typeid, name } => match manager.create_named(name, typeid, ()).await {
                Ok(proxy) => Ok(proxy),
                Err(error) => Err(creating(manager, typeid, error).await),
            },
        }
    }
}

/// A proxy with the right type for a token that people typed, which may be an ident alone.
async fn adopt(manager: &Manager, token: Token) -> Result<Proxy, Failure> {
    let typeid = manager.proxy(&token)?.describe().await?.typeid;
    Ok(manager.proxy(&Token { typeid, ..token })?)
}

async fn unknown_name(manager: &Manager, name: &str) -> Failure {
    let failure = Failure::new(Status::Refused, "UnknownName", format!("no object is named `{name}`"));
    // Only an admin may list names; without them there is still a fix.
    let objects = manager.objects().await.unwrap_or_default();
    let hint = did_you_mean(name, objects.iter().filter_map(|object| object.name.as_deref()));
    let hint = hint.unwrap_or_else(|| format!("`Type/{name}` makes it: `steward types` lists the types"));
    failure.hint(hint)
}

/// Why an object could not be created, with the type that was meant.
pub(crate) async fn creating(manager: &Manager, typeid: &str, error: Error) -> Failure {
    let failure = Failure::from(error);
    if failure.is("UnknownType") { unknown_type(manager, typeid).await } else { failure }
}

/// There is no such type.
pub(crate) async fn unknown_type(manager: &Manager, typeid: &str) -> Failure {
    let failure = Failure::new(Status::Refused, "UnknownType", format!("typeid `{typeid}` is not registered"));
    let types = manager.types().await.unwrap_or_default();
    let near = did_you_mean(typeid, types.iter().map(|info| info.typeid.as_str()));
    failure.hint(near.unwrap_or_else(|| "`steward types` lists those there are".into()))
}

/// Why a call failed, with the method that was meant.
pub(crate) async fn calling(proxy: &Proxy, method: &str, error: Error) -> Failure {
    let mut failure = Failure::from(error);
    if failure.is("NotExposed")
        && let Ok(info) = proxy.describe().await
    {
        let exposed = info.methods.iter().filter(|method| method.exposed).map(|method| method.name.as_str());
        let hint = did_you_mean(method, exposed);
        failure.hint = Some(hint.unwrap_or_else(|| format!("`steward types {}` lists its methods", info.typeid)));
    }
    failure
}

/// Arguments as people type them. What they hold in references stays for as long as this lives.
pub(crate) struct Arguments {
    pub(crate) args: Args,
    _held: Vec<Proxy>,
}

impl Arguments {
    /// Reads arguments, finding what their references leave out.
    pub(crate) async fn read(manager: &Manager, typed: &[String]) -> Result<Self, Failure> {
        let (mut args, mut held) = (Args::new(), Vec::new());
        for (place, text) in typed.iter().enumerate() {
            let (keyword, text) = split_keyword(text);
            let mut value = read_argument(text).map_err(|error| {
                Failure::usage(format!("argument {}: {error}", place + 1)).hint("see --help for the forms")
            })?;
            hold(manager, &mut value, &mut held).await?;
            args = match keyword {
                Some(name) => args.keyword(name, &value),
                None => args.item(&value.to_vec()),
            };
        }
        Ok(Self { args, _held: held })
    }
}

/// Completes every token inside a value and takes a reference, so that the object is still there when it arrives.
async fn hold(manager: &Manager, value: &mut Value, held: &mut Vec<Proxy>) -> Result<(), Failure> {
    match value {
        Value::Token(token) if token.address.as_deref().is_none_or(|address| address == manager.address()) => {
            let proxy = adopt(manager, token.clone()).await?;
            *token = Token { typeid: proxy.typeid().to_owned(), ident: proxy.ident(), address: None };
            held.push(proxy);
        }
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            for item in items {
                Box::pin(hold(manager, item, held)).await?;
            }
        }
        Value::Map(pairs) => {
            for (key, value) in pairs {
                Box::pin(hold(manager, key, held)).await?;
                Box::pin(hold(manager, value, held)).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// `n=2` is the keyword `n`; anything whose `=` is not behind a name is not.
fn split_keyword(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => (Some(name), value),
        _ => (None, text),
    }
}

fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && chars.all(|char| char == '_' || char.is_alphanumeric())
}

/// JSON if it parses as JSON, else text.
fn read_argument(text: &str) -> Result<Value, String> {
    match json::parse(text) {
        Ok(value) => Ok(value),
        Err(json::JsonError::Syntax(_)) => Ok(Value::Text(text.to_owned())),
        Err(json::JsonError::Form(message)) => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_idents_and_types_with_names() {
        assert_eq!("jobs".parse(), Ok(Target::Name("jobs".into())));
        assert_eq!("#41".parse(), Ok(Target::Ident(Ident(41))));
        assert_eq!("Queue/jobs".parse(), Ok(Target::Make { typeid: "Queue".into(), name: "jobs".into() }));
        for wrong in ["", "#", "#x", "/", "Queue/", "/jobs"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn argument_is_json_if_it_parses_and_text_if_not() {
        assert_eq!(read_argument("7"), Ok(Value::Int(7)));
        assert_eq!(read_argument("\"7\""), Ok(Value::Text("7".into())));
        assert_eq!(read_argument("hello world"), Ok(Value::Text("hello world".into())));
        assert_eq!(read_argument("[1"), Ok(Value::Text("[1".into())));
        assert_eq!(read_argument(""), Ok(Value::Text(String::new())));
        assert!(read_argument(r#"{"$bytes": 1}"#).is_err(), "what looks like a form must be one");
    }

    #[test]
    fn keyword_has_a_name_before_its_sign() {
        assert_eq!(split_keyword("n=2"), (Some("n"), "2"));
        assert_eq!(split_keyword("n="), (Some("n"), ""));
        assert_eq!(split_keyword("\"a=b\""), (None, "\"a=b\""));
        assert_eq!(split_keyword("1=2"), (None, "1=2"));
        assert_eq!(split_keyword("=2"), (None, "=2"));
        assert_eq!(split_keyword("{\"a=\": 1}"), (None, "{\"a=\": 1}"));
    }
}
