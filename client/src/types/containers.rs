//! Containers, and single values.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;
use steward_wire::{Value as Any, value};

use crate::args::Args;
use crate::call::Name;
use crate::proxy::decode_proxy;
use crate::session::Delivered;
use crate::types::{RLock, Typed as _, typed};
use crate::{Call, Error, Proxy};

typed! {
    /// A dict, in insertion order. Keys are equal as Python's are: `1`, `1.0` and `true` are one.
    ///
    /// A method takes keys and values in any form that encodes as theirs do (`&str` for `String`), and another container as
    /// a value of this process or as a proxy of the same host.
    ///
    /// ```no_run
    /// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
    /// let counts = manager.dict::<String, i64>().await?;
    /// counts.insert("ada", &1).await?;
    /// let sum = counts.incr("ada", &2).await?;
    /// assert_eq!((sum, counts.get("bob").await?), (3, None));
    /// # Ok(())
    /// # }
    /// ```
    Dict<K, V> = "dict"
}

typed! {
    /// A list. Indexes count from the end when negative; slices are [`Slice`](List::slice)s as Python's.
    List<T> = "list"
}

typed! {
    /// A set, in insertion order.
    Set<T> = "set"
}

typed! {
    /// One value.
    Value<T> = "Value"
}

typed! {
    /// Numbers of one C type.
    Array<T> = "Array"
}

typed! {
    /// Named attributes of any types.
    Namespace = "Namespace"
}

/// Walks over a container in pages, as [`List::iter`] and its like give it.
///
/// ```no_run
/// # async fn example(list: steward_client::List<u32>) -> Result<(), steward_client::Error> {
/// let mut items = list.iter().await?;
/// while let Some(item) = items.next().await? {
///     println!("{item}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Iter<T> {
    proxy: Proxy,
    page: VecDeque<T>,
    is_exhausted: bool,
}

/// Items of one page; the host may send fewer.
const PAGE_ITEMS: u64 = 1024;

impl<T: DeserializeOwned + Send + 'static> Iter<T> {
    fn call(proxy: &Proxy, method: &'static str) -> Call<Self> {
        proxy.call_name(Name::Static(method), (), |proxy, delivered| {
            Ok(Self { proxy: decode_proxy(proxy, delivered)?, page: VecDeque::new(), is_exhausted: false })
        })
    }

    /// The next item; `None` at the end. Dropping the future in the middle may lose a page.
    ///
    /// # Errors
    /// Raised `RuntimeError` once a dict has changed size.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        if self.page.is_empty() && !self.is_exhausted {
            self.page = self.proxy.call_static::<VecDeque<T>>("next_many", (PAGE_ITEMS,)).await?;
            self.is_exhausted = self.page.is_empty();
        }
        Ok(self.page.pop_front())
    }

    /// As [`Iter::next`], blocking the thread.
    ///
    /// # Errors
    /// As [`Iter::next`].
    pub fn next_wait(&mut self) -> Result<Option<T>, Error> {
        crate::call::wait(self.next())
    }
}

/// The operation of an `update_in`, with its arguments behind the path.
fn update_in<R: DeserializeOwned>(
    proxy: &Proxy,
    path: &(impl Serialize + ?Sized),
    operation: &str,
    args: &[&dyn Encode],
) -> Call<R> {
    let args = args.iter().fold(Args::new().arg(path).arg(operation), |all, arg| arg.append(all));
    proxy.call_static("update_in", args)
}

/// Something that serde serializes, behind a reference: arguments of different types in one slice.
pub trait Encode {
    /// Appends it as an argument.
    #[doc(hidden)]
    fn append(&self, args: Args) -> Args;
}

impl<T: Serialize> Encode for T {
    fn append(&self, args: Args) -> Args {
        args.arg(self)
    }
}

impl<K, V> Dict<K, V> {
    /// Sets the value of a key.
    pub fn insert<Q: Serialize + ?Sized, W: Serialize + ?Sized>(&self, key: &Q, value: &W) -> Call<()> {
        self.proxy.call_static("__setitem__", (key, value))
    }

    /// The value of a key, if it is there.
    pub fn get<Q: Serialize + ?Sized>(&self, key: &Q) -> Call<Option<V>>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("get", (key,))
    }

    /// The value of a key that must be there.
    ///
    /// # Errors
    /// Raised `KeyError` if it is not.
    pub fn get_item<Q: Serialize + ?Sized>(&self, key: &Q) -> Call<V>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("__getitem__", (key,))
    }

    /// The values of several keys, `None` for each that is not there.
    pub fn get_many<Q: Serialize>(&self, keys: &[Q]) -> Call<Vec<Option<V>>>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("get_many", (keys,))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// Raised `KeyError` if it is not there.
    pub fn remove<Q: Serialize + ?Sized>(&self, key: &Q) -> Call<()> {
        self.proxy.call_static("__delitem__", (key,))
    }

    /// Removes a key and returns its value.
    ///
    /// # Errors
    /// Raised `KeyError` if it is not there.
    pub fn pop<Q: Serialize + ?Sized>(&self, key: &Q) -> Call<V>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("pop", (key,))
    }

    /// Removes a key and returns its value, or `default` if it is not there.
    pub fn pop_or<Q: Serialize + ?Sized, W: Serialize + ?Sized>(&self, key: &Q, default: &W) -> Call<V>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("pop", (key, default))
    }

    /// Removes and returns the newest pair.
    ///
    /// # Errors
    /// Raised `KeyError` if the dict is empty.
    pub fn popitem(&self) -> Call<(K, V)>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        self.proxy.call_static("popitem", ())
    }

    /// The value of a key, which is set to `default` first if it is missing.
    pub fn setdefault<Q: Serialize + ?Sized, W: Serialize + ?Sized>(&self, key: &Q, default: &W) -> Call<V>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("setdefault", (key, default))
    }

    /// Whether a key is there.
    pub fn contains<Q: Serialize + ?Sized>(&self, key: &Q) -> Call<bool> {
        self.proxy.call_static("__contains__", (key,))
    }

    /// How many keys there are.
    pub fn len(&self) -> Call<u64> {
        self.proxy.call_static("__len__", ())
    }

    /// Removes all keys.
    pub fn clear(&self) -> Call<()> {
        self.proxy.call_static("clear", ())
    }

    /// The whole dict, without its order.
    pub fn copy(&self) -> Call<HashMap<K, V>>
    where
        K: DeserializeOwned + Eq + Hash,
        V: DeserializeOwned,
    {
        self.proxy.call_static("copy", ())
    }

    /// All pairs, in order.
    pub fn items(&self) -> Call<Vec<(K, V)>>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        self.proxy.call_static("items", ())
    }

    /// All keys, in order.
    pub fn keys(&self) -> Call<Vec<K>>
    where
        K: DeserializeOwned,
    {
        self.proxy.call_static("keys", ())
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> Call<Vec<V>>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("values", ())
    }

    /// Walks over the keys.
    pub fn iter(&self) -> Call<Iter<K>>
    where
        K: DeserializeOwned + Send + 'static,
    {
        Iter::call(&self.proxy, "__iter__")
    }

    /// Walks over the keys, newest first.
    pub fn reversed(&self) -> Call<Iter<K>>
    where
        K: DeserializeOwned + Send + 'static,
    {
        Iter::call(&self.proxy, "__reversed__")
    }

    /// Takes over the pairs of a map or of another dict, in one step.
    pub fn update<M: Serialize + ?Sized>(&self, pairs: &M) -> Call<()> {
        self.proxy.call_static("update", (pairs,))
    }

    /// The pairs of both, those of `other` where a key is in both; this dict stays as it is.
    pub fn union<M: Serialize + ?Sized>(&self, other: &M) -> Call<HashMap<K, V>>
    where
        K: DeserializeOwned + Eq + Hash,
        V: DeserializeOwned,
    {
        self.proxy.call_static("__or__", (other,))
    }

    /// Adds `amount` to the value of a key, 0 if it is missing, in one step, and returns the sum.
    ///
    /// # Errors
    /// Raised `TypeError` if the value is no number.
    pub fn incr<Q: Serialize + ?Sized, W: Serialize + ?Sized>(&self, key: &Q, amount: &W) -> Call<V>
    where
        V: DeserializeOwned,
    {
        self.proxy.call_static("incr", (key, amount))
    }

    /// Replaces the value of a key if it equals `expected`, in one step; says whether it did.
    pub fn compare_and_set<Q: Serialize + ?Sized, W: Serialize + ?Sized>(
        &self,
        key: &Q,
        expected: &W,
        new: &W,
    ) -> Call<bool> {
        self.proxy.call_static("compare_and_set", (key, expected, new))
    }

    /// Applies an operation to what is nested at `path`, in one step: the remedy for changing a copy.
    pub fn update_in<R: DeserializeOwned>(
        &self,
        path: &(impl Serialize + ?Sized),
        operation: &str,
        args: &[&dyn Encode],
    ) -> Call<R> {
        update_in(&self.proxy, path, operation, args)
    }
}

/// A slice as it travels.
fn slice(start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Any {
    let part = |part: Option<i64>| part.map_or(Any::Null, Any::Int);
    Any::Tuple(vec![part(start), part(stop), part(step)])
}

impl<T> List<T> {
    /// The item at a place.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn get(&self, index: i64) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("__getitem__", (index,))
    }

    /// The items from `start` to before `stop`, every `step`th; `None` as in Python.
    ///
    /// # Errors
    /// Raised `ValueError` if `step` is 0.
    pub fn slice(&self, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("__getitem__", (slice(start, stop, step),))
    }

    /// Replaces the item at a place.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn set<Q: Serialize + ?Sized>(&self, index: i64, item: &Q) -> Call<()> {
        self.proxy.call_static("__setitem__", (index, item))
    }

    /// Replaces a slice by `items`.
    ///
    /// # Errors
    /// Raised `ValueError` if a slice with a step is of another size.
    pub fn set_slice<Q: Serialize>(
        &self,
        start: Option<i64>,
        stop: Option<i64>,
        step: Option<i64>,
        items: &[Q],
    ) -> Call<()> {
        self.proxy.call_static("__setitem__", (slice(start, stop, step), items))
    }

    /// Removes the item at a place.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn delete(&self, index: i64) -> Call<()> {
        self.proxy.call_static("__delitem__", (index,))
    }

    /// Removes a slice.
    pub fn delete_slice(&self, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Call<()> {
        self.proxy.call_static("__delitem__", (slice(start, stop, step),))
    }

    /// Adds an item at the end.
    pub fn append<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<()> {
        self.proxy.call_static("append", (item,))
    }

    /// Adds all of `items` at the end: a sequence or a proxy of one.
    pub fn extend<Q: Serialize + ?Sized>(&self, items: &Q) -> Call<()> {
        self.proxy.call_static("extend", (items,))
    }

    /// Inserts an item before a place.
    pub fn insert<Q: Serialize + ?Sized>(&self, index: i64, item: &Q) -> Call<()> {
        self.proxy.call_static("insert", (index, item))
    }

    /// Removes and returns the last item.
    ///
    /// # Errors
    /// Raised `IndexError` if the list is empty.
    pub fn pop(&self) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("pop", ())
    }

    /// Removes and returns the item at a place.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn pop_at(&self, index: i64) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("pop", (index,))
    }

    /// Removes the first item that is equal.
    ///
    /// # Errors
    /// Raised `ValueError` if there is none.
    pub fn remove<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<()> {
        self.proxy.call_static("remove", (item,))
    }

    /// The place of the first item that is equal.
    ///
    /// # Errors
    /// Raised `ValueError` if there is none.
    pub fn index<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<u64> {
        self.proxy.call_static("index", (item,))
    }

    /// How many items are equal.
    pub fn count<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<u64> {
        self.proxy.call_static("count", (item,))
    }

    /// Whether an item is equal.
    pub fn contains<Q: Serialize + ?Sized>(&self, item: &Q) -> Call<bool> {
        self.proxy.call_static("__contains__", (item,))
    }

    /// How many items there are.
    pub fn len(&self) -> Call<u64> {
        self.proxy.call_static("__len__", ())
    }

    /// Removes all items.
    pub fn clear(&self) -> Call<()> {
        self.proxy.call_static("clear", ())
    }

    /// All items.
    pub fn copy(&self) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("copy", ())
    }

    /// Turns the order around.
    pub fn reverse(&self) -> Call<()> {
        self.proxy.call_static("reverse", ())
    }

    /// Sorts the items, stably; `reverse` for the largest first.
    ///
    /// # Errors
    /// Raised `TypeError` for items that have no order; the list then stays as it was.
    pub fn sort(&self, reverse: bool) -> Call<()> {
        self.proxy.call_static("sort", Args::new().keyword("reverse", &reverse))
    }

    /// The items of both, in a list of this process.
    pub fn concat<Q: Serialize + ?Sized>(&self, other: &Q) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("__add__", (other,))
    }

    /// The items `n` times over, in a list of this process.
    pub fn repeat(&self, n: u64) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("__mul__", (n,))
    }

    /// Walks over the items and sees later changes.
    pub fn iter(&self) -> Call<Iter<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        Iter::call(&self.proxy, "__iter__")
    }

    /// Walks over the items from the last to the first.
    pub fn reversed(&self) -> Call<Iter<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        Iter::call(&self.proxy, "__reversed__")
    }

    /// Adds `amount` to the number at a place in one step and returns the sum.
    ///
    /// # Errors
    /// Raised `IndexError`, and `TypeError` if it is no number.
    pub fn incr<Q: Serialize + ?Sized>(&self, index: i64, amount: &Q) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("incr", (index, amount))
    }

    /// Replaces the item at a place if it equals `expected`, in one step; says whether it did.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn compare_and_set<Q: Serialize + ?Sized>(&self, index: i64, expected: &Q, new: &Q) -> Call<bool> {
        self.proxy.call_static("compare_and_set", (index, expected, new))
    }

    /// Applies an operation to what is nested at `path`, in one step: the remedy for changing a copy.
    pub fn update_in<R: DeserializeOwned>(
        &self,
        path: &(impl Serialize + ?Sized),
        operation: &str,
        args: &[&dyn Encode],
    ) -> Call<R> {
        update_in(&self.proxy, path, operation, args)
    }
}

impl<T> Set<T> {
    /// Adds an element.
    pub fn add<Q: Serialize + ?Sized>(&self, element: &Q) -> Call<()> {
        self.proxy.call_static("add", (element,))
    }

    /// Removes an element.
    ///
    /// # Errors
    /// Raised `KeyError` if it is not there.
    pub fn remove<Q: Serialize + ?Sized>(&self, element: &Q) -> Call<()> {
        self.proxy.call_static("remove", (element,))
    }

    /// Removes an element if it is there.
    pub fn discard<Q: Serialize + ?Sized>(&self, element: &Q) -> Call<()> {
        self.proxy.call_static("discard", (element,))
    }

    /// Removes and returns an element.
    ///
    /// # Errors
    /// Raised `KeyError` if the set is empty.
    pub fn pop(&self) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("pop", ())
    }

    /// Whether an element is there.
    pub fn contains<Q: Serialize + ?Sized>(&self, element: &Q) -> Call<bool> {
        self.proxy.call_static("__contains__", (element,))
    }

    /// How many elements there are.
    pub fn len(&self) -> Call<u64> {
        self.proxy.call_static("__len__", ())
    }

    /// Removes all elements.
    pub fn clear(&self) -> Call<()> {
        self.proxy.call_static("clear", ())
    }

    /// All elements, in order.
    pub fn copy(&self) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("copy", ())
    }

    /// Walks over a copy of the elements.
    pub fn iter(&self) -> Call<Iter<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        Iter::call(&self.proxy, "__iter__")
    }
}

macro_rules! set_operations {
    ($($(#[$doc:meta])* $name:ident -> $result:ty = $method:literal;)+) => {
        impl<T> Set<T> { $(
            $(#[$doc])*
            pub fn $name<Q: Serialize + ?Sized>(&self, other: &Q) -> Call<$result>
            where
                T: DeserializeOwned,
            {
                self.proxy.call_static($method, (other,))
            }
        )+ }
    };
}

set_operations! {
    /// The elements of either. `other`, here and below: a sequence, a set, or a proxy of one.
    union -> Vec<T> = "union";
    /// The elements that are in both.
    intersection -> Vec<T> = "intersection";
    /// The elements that `other` lacks.
    difference -> Vec<T> = "difference";
    /// The elements that are in exactly one of the two.
    symmetric_difference -> Vec<T> = "symmetric_difference";
    /// Adds the elements of `other`, in one step.
    update -> () = "update";
    /// Keeps only what `other` has, too.
    intersection_update -> () = "intersection_update";
    /// Removes the elements of `other`.
    difference_update -> () = "difference_update";
    /// Keeps what is in exactly one of the two.
    symmetric_difference_update -> () = "symmetric_difference_update";
    /// Whether no element is in both.
    isdisjoint -> bool = "isdisjoint";
    /// Whether `other` has all elements of this set.
    issubset -> bool = "issubset";
    /// Whether this set has all elements of `other`.
    issuperset -> bool = "issuperset";
}

impl<T> Value<T> {
    /// The value.
    pub fn get(&self) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("get", ())
    }

    /// Replaces the value.
    pub fn set<Q: Serialize + ?Sized>(&self, value: &Q) -> Call<()> {
        self.proxy.call_static("set", (value,))
    }

    /// Adds to the number in one step and returns the sum.
    ///
    /// # Errors
    /// Raised `TypeError` if the value is no number.
    pub fn add<Q: Serialize + ?Sized>(&self, amount: &Q) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("add", (amount,))
    }

    /// Replaces the value if it equals `expected`, in one step; says whether it did.
    pub fn compare_and_set<Q: Serialize + ?Sized>(&self, expected: &Q, new: &Q) -> Call<bool> {
        self.proxy.call_static("compare_and_set", (expected, new))
    }

    /// The lock that belongs to the value.
    pub fn get_lock(&self) -> Call<RLock> {
        self.proxy.call_name(Name::Static("get_lock"), (), lock)
    }
}

fn lock(proxy: &Proxy, delivered: Delivered) -> Result<RLock, Error> {
    RLock::from_proxy(decode_proxy(proxy, delivered)?)
}

impl<T> Array<T> {
    /// The number at a place.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn get(&self, index: i64) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("__getitem__", (index,))
    }

    /// Replaces the number at a place.
    ///
    /// # Errors
    /// Raised `IndexError`; `OverflowError` if the C type cannot hold it.
    pub fn set<Q: Serialize + ?Sized>(&self, index: i64, number: &Q) -> Call<()> {
        self.proxy.call_static("__setitem__", (index, number))
    }

    /// The numbers from `start` to before `stop`, every `step`th; `None` as in Python.
    ///
    /// # Errors
    /// Raised `ValueError` if `step` is 0.
    pub fn slice(&self, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_name(Name::Static("__getitem__"), (slice(start, stop, step),), numbers)
    }

    /// All numbers.
    pub fn copy(&self) -> Call<Vec<T>>
    where
        T: DeserializeOwned,
    {
        self.slice(None, None, None)
    }

    /// Whether an equal number is there.
    pub fn contains<Q: Serialize + ?Sized>(&self, number: &Q) -> Call<bool> {
        self.proxy.call_static("__contains__", (number,))
    }

    /// Adds `amount` to the number at a place in one step and returns the sum.
    ///
    /// # Errors
    /// Raised `IndexError`; `OverflowError` if the C type cannot hold the sum, and then nothing has changed.
    pub fn incr<Q: Serialize + ?Sized>(&self, index: i64, amount: &Q) -> Call<T>
    where
        T: DeserializeOwned,
    {
        self.proxy.call_static("incr", (index, amount))
    }

    /// Replaces the number at a place if it equals `expected`, in one step; says whether it did.
    ///
    /// # Errors
    /// Raised `IndexError` if there is none.
    pub fn compare_and_set<Q: Serialize + ?Sized>(&self, index: i64, expected: &Q, new: &Q) -> Call<bool> {
        self.proxy.call_static("compare_and_set", (index, expected, new))
    }

    /// The lock that belongs to the array.
    pub fn get_lock(&self) -> Call<RLock> {
        self.proxy.call_name(Name::Static("get_lock"), (), lock)
    }

    /// How many numbers there are.
    pub fn len(&self) -> Call<u64> {
        self.proxy.call_static("__len__", ())
    }
}

/// An array's numbers, without its typecode.
fn numbers<T: DeserializeOwned>(_: &Proxy, delivered: Delivered) -> Result<Vec<T>, Error> {
    let wrong = |cause: String| Error::Decode { wanted: "Array", cause };
    let list = match Any::decode(&delivered.reply.payload) {
        Ok(Any::Array(_, numbers)) => Any::List(numbers),
        Ok(_) => return Err(wrong("no array".into())),
        Err(malformed) => return Err(wrong(malformed.to_string())),
    };
    value::to_serde(&list.to_vec()).map_err(|error| wrong(error.to_string()))
}

impl Namespace {
    /// The value of an attribute.
    ///
    /// # Errors
    /// Raised `AttributeError` if there is none of this name.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Call<T> {
        self.proxy.call_static("__getattribute__", (name,))
    }

    /// Sets an attribute.
    pub fn set<Q: Serialize + ?Sized>(&self, name: &str, value: &Q) -> Call<()> {
        self.proxy.call_static("__setattr__", (name, value))
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// Raised `AttributeError` if there is none of this name.
    pub fn delete(&self, name: &str) -> Call<()> {
        self.proxy.call_static("__delattr__", (name,))
    }

    /// Adds `amount` to an attribute, 0 if it is missing, in one step, and returns the sum.
    ///
    /// # Errors
    /// Raised `TypeError` if it is no number.
    pub fn incr<T: DeserializeOwned>(&self, name: &str, amount: &(impl Serialize + ?Sized)) -> Call<T> {
        self.proxy.call_static("incr", (name, amount))
    }

    /// Replaces an attribute if it equals `expected`, in one step; says whether it did.
    pub fn compare_and_set<Q: Serialize + ?Sized>(&self, name: &str, expected: &Q, new: &Q) -> Call<bool> {
        self.proxy.call_static("compare_and_set", (name, expected, new))
    }
}
