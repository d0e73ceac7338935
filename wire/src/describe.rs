//! What a type offers, as data: the answer to `Describe`, and what a plugin says of itself.

use serde::{Deserialize, Serialize};

/// A type: its constructor and its methods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TypeInfo {
    /// The registered name.
    pub typeid: String,
    /// For people, the first line a summary.
    pub doc: String,
    /// Parameters of the constructor.
    pub constructor: Vec<Param>,
    /// The methods, in the order of their indexes.
    pub methods: Vec<MethodInfo>,
}

/// A method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MethodInfo {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// For people, the first line a summary.
    pub doc: String,
    /// It changes nothing, so a repeat of the call may simply run again.
    pub read_only: bool,
    /// A call may park, so it takes a deadline.
    pub may_park: bool,
    /// What it answers, as [`Param::type_name`] has it; empty if nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result_type: String,
    /// The result becomes an object of this type, of which the caller gets a proxy.
    pub returns: Option<String>,
    /// Whether clients may call it.
    pub exposed: bool,
}

/// A parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name, which is also its keyword.
    pub name: String,
    /// How it takes arguments.
    pub kind: ParamKind,
    /// Its type for people and for bindings: `int`, `float`, `str`, `bytes`, `bool`, `list`, `dict`, `any`….
    pub type_name: String,
    /// The default as people write it (`None`, `1`, `"x"`); `None` if the argument is required.
    pub default: Option<String>,
}

/// How a parameter takes arguments; Python's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamKind {
    /// By place or by keyword.
    #[default]
    Normal,
    /// By keyword only.
    KeywordOnly,
    /// `*args`: all further places.
    Rest,
    /// `**kwargs`: all further keywords.
    Keywords,
}

/// What keeps the objects of a plugin's type apart. Chosen where it is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each has a Store: a trap, and all memory, is one object's affair.
    #[default]
    Object,
    /// Many lie in one Store, with one memory and one sandbox for all, and cost little. For types that save: a trap costs its call, and
    /// each of the others is made again with its next one. Tenants never share.
    Shared,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Object => "object",
            Self::Shared => "shared",
        })
    }
}

/// By the names that people give: `object`, `shared`.
impl std::str::FromStr for Isolation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "object" => Ok(Self::Object),
            "shared" => Ok(Self::Shared),
            _ => Err(format!("`{name}` is none of object, shared")),
        }
    }
}
