//! Arguments of calls: tuples for places, [`Keywords`] for names, [`args!`](crate::args!) for both.

use serde::Serialize;
use steward_wire::{cbor, value};

use crate::error::Error;

/// The encoded arguments of a call without any.
pub(crate) const NONE: &[u8] = &[0x82, 0x80, 0xa0];

/// Encoded arguments, positional and by keyword.
///
/// ```
/// use steward_client::args;
/// let arguments = args![1, "two", timeout = 3.0, parts = vec![4, 5]];
/// # let _ = arguments;
/// ```
#[derive(Debug, Default)]
pub struct Args {
    positional: Vec<u8>,
    positional_count: usize,
    keywords: Vec<u8>,
    keywords_count: usize,
    failed: Option<Error>,
}

impl Args {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more positional argument. What cannot be encoded is reported by the call.
    #[must_use]
    pub fn arg<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.positional_count += 1;
        self.failed = self.failed.or(put(value, &mut self.positional).err());
        self
    }

    /// The same with one more keyword argument.
    #[must_use]
    pub fn keyword<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        self.keywords_count += 1;
        cbor::put_text(&mut self.keywords, name);
        self.failed = self.failed.or(put(value, &mut self.keywords).err());
        self
    }

    /// The same with one more positional argument, which is encoded already.
    #[must_use]
    pub fn item(mut self, item: &[u8]) -> Self {
        self.positional_count += 1;
        self.positional.extend_from_slice(item);
        self
    }
}

/// Makes [`Args`]: values for places, `name = value` for keywords, in this order. Values are borrowed.
#[macro_export]
macro_rules! args {
    () => { $crate::Args::new() };
    ($($rest:tt)+) => { $crate::__args!([$crate::Args::new()] $($rest)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __args {
    ([$args:expr]) => { $args };
    ([$args:expr] $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::__args!([$args.keyword(stringify!($name), &$value)] $($($rest)*)?)
    };
    ([$args:expr] $value:expr $(, $($rest:tt)*)?) => {
        $crate::__args!([$args.arg(&$value)] $($($rest)*)?)
    };
}

/// A struct or map whose fields are the keywords of a call.
#[derive(Clone, Copy, Debug)]
pub struct Keywords<T>(pub T);

/// What can be the arguments of a call: a tuple of anything that serde serializes, [`Keywords`], [`Args`].
pub trait IntoArgs {
    /// The arguments, encoded as `[[positional…], {keyword: …}]`.
    ///
    /// # Errors
    /// [`Error::Encode`] if a value has no encoding.
    fn into_args(self) -> Result<Vec<u8>, Error>;
}

impl IntoArgs for Args {
    fn into_args(self) -> Result<Vec<u8>, Error> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut item = Vec::with_capacity(self.positional.len() + self.keywords.len() + 12);
        cbor::put_array(&mut item, 2);
        cbor::put_array(&mut item, self.positional_count);
        item.extend_from_slice(&self.positional);
        cbor::put_map(&mut item, self.keywords_count);
        item.extend_from_slice(&self.keywords);
        Ok(item)
    }
}

impl<T: Serialize> IntoArgs for Keywords<T> {
    fn into_args(self) -> Result<Vec<u8>, Error> {
        let mut item = vec![NONE[0], NONE[1]];
        let start = item.len();
        put(&self.0, &mut item)?;
        match item.get(start).map(|first| first >> 5) {
            Some(5) => Ok(item),
            _ => Err(Error::Encode("keywords are the fields of a struct or map".into())),
        }
    }
}

impl IntoArgs for () {
    fn into_args(self) -> Result<Vec<u8>, Error> {
        Ok(NONE.to_vec())
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => { $(
        impl<$($name: Serialize),+> IntoArgs for ($($name,)+) {
            #[expect(non_snake_case, reason = "the types' names serve for their values")]
            fn into_args(self) -> Result<Vec<u8>, Error> {
                let ($($name,)+) = self;
                let mut item = Vec::with_capacity(32);
                cbor::put_array(&mut item, 2);
                cbor::put_array(&mut item, [$(stringify!($name)),+].len());
                $(put(&$name, &mut item)?;)+
                cbor::put_map(&mut item, 0);
                Ok(item)
            }
        }
    )+ };
}

tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }

/// Appends one value as an item.
pub(crate) fn put<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    value::put_serde(value, out).map_err(|error| Error::Encode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use steward_wire::Value;

    use super::*;

    fn decoded(args: impl IntoArgs) -> String {
        let item = args.into_args().unwrap();
        let Value::List(parts) = Value::decode(&item).unwrap() else { panic!("arguments are a list") };
        format!("{parts:?}")
    }

    #[test]
    fn macro_tuples_and_keywords_agree() {
        assert_eq!(decoded(args![]), decoded(()));
        assert_eq!(decoded(args![1, "a"]), decoded((1, "a")));
        #[derive(Serialize)]
        struct Named {
            n: u8,
        }
        assert_eq!(decoded(args![n = 1 + 1]), decoded(Keywords(Named { n: 2 })));
        assert_eq!(decoded(args![7, n = 2,]), "[List([Int(7)]), Map([(Text(\"n\"), Int(2))])]");
    }

    #[test]
    fn keywords_that_have_no_names_are_refused() {
        assert!(matches!(Keywords([1]).into_args(), Err(Error::Encode(_))));
    }

    #[test]
    fn value_that_cannot_be_encoded_fails_the_call_it_is_for() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("never"))
            }
        }
        assert!(matches!(args![1, Never, 2].into_args(), Err(Error::Encode(cause)) if cause.contains("never")));
    }
}
