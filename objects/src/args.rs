//! Arguments of a call, bound to parameters as Python binds them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use steward_wire::Malformed;
use steward_wire::cbor::Reader;
use steward_wire::describe::ParamKind;

use crate::{Fault, Param};

/// The arguments of one call, still encoded: `[[positional…], {keyword: …}]`, checked when they were received.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    item: &'a [u8],
    /// Whether a token stands anywhere inside.
    tokens: bool,
}

/// `[[], {}]`.
const NONE: &[u8] = &[0x82, 0x80, 0xa0];

impl<'a> Args<'a> {
    /// Arguments from a checked item; `tokens` as the check found.
    pub fn new(item: &'a [u8], tokens: bool) -> Self {
        Self { item, tokens }
    }

    /// No arguments.
    pub fn none() -> Self {
        Self { item: NONE, tokens: false }
    }

    /// The whole item.
    pub fn item(&self) -> &'a [u8] {
        self.item
    }

    /// Whether a token may stand anywhere inside.
    pub fn has_tokens(&self) -> bool {
        self.tokens
    }

    /// Binds the arguments to `params`: one slot for each, `None` where an optional one was left out. The slots
    /// of `*args` and `**kwargs` hold their items one after the other (for keywords: name, value, name, value…),
    /// `None` if there are none.
    ///
    /// `name` is the method's qualified name (`Queue.put`, `Barrier.__init__`), which errors show; they count
    /// `self` as CPython's do.
    ///
    /// Beside `**kwargs` a normal parameter takes no keyword, as in `dict.update(other, /, **kwargs)`: every
    /// name is free for the keywords.
    ///
    /// # Errors
    /// Raised: `TypeError`, found in the order and worded as CPython's. Refused: `Malformed`, if the item is not an array
    /// of positional arguments and a map of keywords.
    ///
    /// # Panics
    /// If `N` is not the number of `params`, or if `params` has both keyword-only parameters and `**kwargs`.
    pub fn bind<const N: usize>(&self, name: &str, params: &[Param]) -> Result<[Option<&'a [u8]>; N], Fault> {
        assert_eq!(N, params.len(), "one slot for each parameter of {name}");
        let mut slots = [None; N];
        if N == 0 && self.item == NONE {
            return Ok(slots);
        }

        let mut reader = Reader::new(self.item);
        if reader.array().map_err(malformed)? != 2 {
            return Err(malformed(Malformed::Frame("arguments are an array of two")));
        }
        let positional = params.iter().take_while(|param| param.kind == ParamKind::Normal).count();
        let given = reader.array().map_err(malformed)?;
        for slot in slots.iter_mut().take(positional.min(given)) {
            *slot = Some(reader.raw().map_err(malformed)?);
        }
        let surplus_start = reader.position();
        for _ in positional..given {
            reader.raw().map_err(malformed)?;
        }
        let surplus = &self.item[surplus_start..reader.position()];

        let keywords = reader.map().map_err(malformed)?;
        let type_error = |text: String| Err(Fault::raised("TypeError", format!("{name}() {text}")));
        if let Some(at) = params.iter().position(|param| param.kind == ParamKind::Keywords) {
            let keyword_only = params.iter().any(|param| param.kind == ParamKind::KeywordOnly);
            assert!(!keyword_only, "{name} has keyword-only parameters beside `**kwargs`");
            let start = reader.position();
            let mut seen = BTreeSet::new();
            for _ in 0..keywords {
                let keyword = keyword(&mut reader)?;
                if !seen.insert(keyword) {
                    return type_error(format!("got multiple values for keyword argument '{keyword}'"));
                }
                reader.raw().map_err(malformed)?;
            }
            slots[at] = (keywords > 0).then(|| &self.item[start..reader.position()]);
        } else {
            for _ in 0..keywords {
                let keyword = keyword(&mut reader)?;
                let named = |param: &Param| param.name == keyword && param.kind != ParamKind::Rest;
                let Some(at) = params.iter().position(named) else {
                    return type_error(format!("got an unexpected keyword argument '{keyword}'"));
                };
                if slots[at].is_some() {
                    return type_error(format!("got multiple values for argument '{keyword}'"));
                }
                slots[at] = Some(reader.raw().map_err(malformed)?);
            }
        }

        if given > positional {
            match params.iter().position(|param| param.kind == ParamKind::Rest) {
                Some(at) => slots[at] = Some(surplus),
                None => return type_error(too_many(params, &slots, positional, given)),
            }
        }
        for (kind, what) in [(ParamKind::Normal, "positional"), (ParamKind::KeywordOnly, "keyword-only")] {
            let is_missing =
                |(param, slot): &(&Param, &Option<_>)| param.kind == kind && param.default.is_none() && slot.is_none();
            let missing: Vec<&str> =
                params.iter().zip(&slots).filter(is_missing).map(|(param, _)| param.name).collect();
            if !missing.is_empty() {
                let (count, s) = (missing.len(), plural(missing.len()));
                return type_error(format!("missing {count} required {what} argument{s}: {}", listed(&missing)));
            }
        }
        Ok(slots)
    }
}

fn keyword<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
    reader.text().map_err(|error| match error {
        Malformed::Expected(..) => Fault::raised("TypeError", "keywords must be strings"),
        other => malformed(other),
    })
}

fn malformed(error: Malformed) -> Fault {
    Fault::refused("Malformed", format!("arguments: {error}"))
}

/// Words as CPython's `too_many_positional` (Python/ceval.c).
fn too_many(params: &[Param], slots: &[Option<&[u8]>], positional: usize, given: usize) -> String {
    let optional = params[..positional].iter().filter(|param| param.default.is_some()).count();
    let (most, given) = (positional + 1, given + 1);
    let takes = match optional {
        0 => format!("{most} positional argument{}", plural(most)),
        _ => format!("from {} to {most} positional arguments", most - optional),
    };
    let is_keyword_only = |(param, slot): &(&Param, &Option<_>)| param.kind == ParamKind::KeywordOnly && slot.is_some();
    match params.iter().zip(slots).filter(is_keyword_only).count() {
        // With `self` at least two were given, so the verb is never `was`.
        0 => format!("takes {takes} but {given} were given"),
        count => format!(
            "takes {takes} but {given} positional arguments (and {count} keyword-only argument{}) were given",
            plural(count)
        ),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `'a'`, `'a' and 'b'`, `'a', 'b', and 'c'`.
fn listed(names: &[&str]) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let before = match (at, names.len()) {
            (0, _) => "",
            (_, 2) => " and ",
            (at, count) if at + 1 == count => ", and ",
            _ => ", ",
        };
        write!(text, "{before}'{name}'").expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use steward_wire::cbor;

    use super::*;

    /// Arguments from small numbers: places, then keywords.
    fn item(places: &[i64], keywords: &[(&str, i64)]) -> Vec<u8> {
        let mut item = Vec::new();
        cbor::put_array(&mut item, 2);
        cbor::put_array(&mut item, places.len());
        for place in places {
            cbor::put_i64(&mut item, *place);
        }
        cbor::put_map(&mut item, keywords.len());
        for (name, value) in keywords {
            cbor::put_text(&mut item, name);
            cbor::put_i64(&mut item, *value);
        }
        item
    }

    fn bind<const N: usize>(
        params: [Param; N],
        places: &[i64],
        keywords: &[(&str, i64)],
    ) -> Result<[Option<Vec<u8>>; N], String> {
        let item = item(places, keywords);
        let slots = Args::new(&item, false).bind::<N>("T.f", &params).map_err(|fault| {
            assert_eq!(fault.kind, "TypeError");
            fault.message
        })?;
        Ok(slots.map(|slot| slot.map(<[u8]>::to_vec)))
    }

    const A: Param = Param::required("a", "int");
    const B: Param = Param::required("b", "int");
    const B2: Param = Param::optional("b", "int", "2");
    const K: Param = Param { default: None, ..Param::keyword("k", "int", "") };
    const L: Param = Param { default: None, ..Param::keyword("l", "int", "") };
    const L3: Param = Param::keyword("l", "int", "3");

    #[test]
    fn places_then_keywords_fill_the_slots() {
        assert_eq!(bind([A, B2], &[1], &[]), Ok([Some(vec![1]), None]));
        assert_eq!(bind([A, B2], &[1], &[("b", 5)]), Ok([Some(vec![1]), Some(vec![5])]));
        assert_eq!(bind([A, B2, L3], &[], &[("l", 7), ("a", 6)]), Ok([Some(vec![6]), None, Some(vec![7])]));
        assert_eq!(bind([], &[], &[]), Ok([]));
    }

    #[test]
    fn rest_and_keywords_hold_their_items_one_after_the_other() {
        let rest = Param::rest("args");
        let keywords = Param::keywords("kwargs");
        assert_eq!(bind([A, rest], &[1, 2, 3], &[]), Ok([Some(vec![1]), Some(vec![2, 3])]));
        assert_eq!(bind([A, rest], &[1], &[]), Ok([Some(vec![1]), None]));
        assert_eq!(
            bind([rest, keywords], &[1], &[("a", 2), ("args", 3)]),
            Ok([Some(vec![1]), Some(b"\x61a\x02\x64args\x03".to_vec())])
        );
        assert_eq!(bind([B2, keywords], &[], &[("b", 2)]), Ok([None, Some(b"\x61b\x02".to_vec())]));
    }

    #[test]
    fn refusals_are_worded_as_cpythons() {
        let check = |outcome: Result<_, String>, message: &str| {
            assert_eq!(outcome.map(|_: ()| ()), Err(message.to_owned()));
        };
        macro_rules! check {
            ($params:expr, $places:expr, $keywords:expr, $message:expr) => {
                check(bind($params, &$places, &$keywords).map(|_| ()), $message)
            };
        }
        check!([A, B], [], [], "T.f() missing 2 required positional arguments: 'a' and 'b'");
        check!([A, B], [1], [], "T.f() missing 1 required positional argument: 'b'");
        check!(
            [A, B, Param::required("c", "int")],
            [],
            [],
            "T.f() missing 3 required positional arguments: 'a', 'b', and 'c'"
        );
        check!([A, K, L], [1], [], "T.f() missing 2 required keyword-only arguments: 'k' and 'l'");
        check!([], [1], [], "T.f() takes 1 positional argument but 2 were given");
        check!([A], [1, 2], [], "T.f() takes 2 positional arguments but 3 were given");
        check!([A, B2], [1, 2, 3], [], "T.f() takes from 2 to 3 positional arguments but 4 were given");
        check!(
            [A, B, K, L],
            [1, 2, 3],
            [("k", 1), ("l", 2)],
            "T.f() takes 3 positional arguments but 4 positional arguments (and 2 keyword-only arguments) were given"
        );
        check!(
            [A, K],
            [1, 2],
            [("k", 1)],
            "T.f() takes 2 positional arguments but 3 positional arguments (and 1 keyword-only argument) were given"
        );
        check!([A, B2], [1], [("x", 2), ("y", 3)], "T.f() got an unexpected keyword argument 'x'");
        check!([A, B2], [1, 2, 3], [("a", 2)], "T.f() got multiple values for argument 'a'");
        check!([A, Param::rest("args")], [1], [("args", 2)], "T.f() got an unexpected keyword argument 'args'");
        check!([Param::keywords("k")], [], [("x", 2), ("x", 3)], "T.f() got multiple values for keyword argument 'x'");
    }

    #[test]
    fn items_of_another_shape_are_refused() {
        for item in [&b"\x00"[..], b"\x80", b"\x82\x80", b"\x82\x00\xa0", b"\x82\x81\xa0", b"\x82\x80\x80"] {
            let fault = Args::new(item, false).bind::<1>("T.f", &[B2]).unwrap_err();
            assert_eq!((fault.effect, fault.kind.as_str()), (crate::Effect::Refused, "Malformed"), "{item:02x?}");
        }
        let fault = Args::new(b"\x82\x80\xa1\x01\x02", false).bind::<1>("T.f", &[B2]).unwrap_err();
        assert_eq!(fault.message, "keywords must be strings");
    }
}
