//! Typed proxies of the built-in types.
//!
//! Each is a [`Proxy`] that knows its methods and the types of its values; what a method does is the host's business
//! and documented there (`steward types`). Every method makes a [`Call`], which is sent when it is awaited, so that all of
//! them take a timeout and a guard. Names are those of Python; its operators have words (`__setitem__` is `set` or `insert`).

mod containers;
mod queue;
mod sync;

pub use containers::{Array, Dict, Encode, Iter, List, Namespace, Set, Value};
pub use queue::{JoinableQueue, Leased, LifoQueue, PriorityQueue, Queue, QueueOptions};
pub(crate) use sync::Hold;
pub use sync::{Barrier, BoundedSemaphore, Condition, Event, Held, Lock, RLock, Semaphore};

use crate::{Error, Proxy};

/// A proxy that knows its type.
pub trait Typed: Sized {
    /// The typeid it stands for.
    const TYPEID: &'static str;

    /// Takes a general proxy for one of this type.
    ///
    /// # Errors
    /// [`Error::Decode`] if the object is of another type.
    fn from_proxy(proxy: Proxy) -> Result<Self, Error>;

    /// The general proxy.
    fn proxy(&self) -> &Proxy;
}

/// Declares a typed proxy: a struct around [`Proxy`] with the abilities that all of them share.
macro_rules! typed {
    ($(#[$doc:meta])* $name:ident $(<$($parameter:ident),+>)? = $typeid:literal) => {
        $(#[$doc])*
        pub struct $name $(<$($parameter),+>)? {
            proxy: crate::Proxy,
            $(values: std::marker::PhantomData<fn() -> ($($parameter,)+)>,)?
        }

        impl $(<$($parameter),+>)? $name $(<$($parameter),+>)? {
            /// The same proxy, calling as another [`crate::Owner`].
            #[must_use]
            pub fn with_owner(&self, owner: crate::Owner) -> Self {
                Self { proxy: self.proxy.with_owner(owner), $(values: std::marker::PhantomData::<fn() -> ($($parameter,)+)>,)? }
            }

            /// The general proxy.
            pub fn proxy(&self) -> &crate::Proxy {
                &self.proxy
            }
        }

        impl $(<$($parameter),+>)? crate::types::Typed for $name $(<$($parameter),+>)? {
            const TYPEID: &'static str = $typeid;

            fn from_proxy(proxy: crate::Proxy) -> Result<Self, crate::Error> {
                if proxy.typeid() != $typeid {
                    let cause = format!("object {} is a `{}`", proxy.ident(), proxy.typeid());
                    return Err(crate::Error::Decode { wanted: $typeid, cause });
                }
                Ok(Self { proxy, $(values: std::marker::PhantomData::<fn() -> ($($parameter,)+)>,)? })
            }

            fn proxy(&self) -> &crate::Proxy {
                &self.proxy
            }
        }

        impl $(<$($parameter),+>)? Clone for $name $(<$($parameter),+>)? {
            fn clone(&self) -> Self {
                Self { proxy: self.proxy.clone(), $(values: std::marker::PhantomData::<fn() -> ($($parameter,)+)>,)? }
            }
        }

        impl $(<$($parameter),+>)? std::fmt::Debug for $name $(<$($parameter),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.proxy.fmt(f)
            }
        }

        impl $(<$($parameter),+>)? PartialEq for $name $(<$($parameter),+>)? {
            fn eq(&self, other: &Self) -> bool {
                self.proxy == other.proxy
            }
        }

        impl $(<$($parameter),+>)? Eq for $name $(<$($parameter),+>)? {}

        impl $(<$($parameter),+>)? std::hash::Hash for $name $(<$($parameter),+>)? {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.proxy.hash(state);
            }
        }

        impl $(<$($parameter),+>)? serde::Serialize for $name $(<$($parameter),+>)? {
            fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                self.proxy.serialize(serializer)
            }
        }

        impl<'de $($(, $parameter)+)?> serde::Deserialize<'de> for $name $(<$($parameter),+>)? {
            fn deserialize<Z: serde::Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
                let proxy = crate::Proxy::deserialize(deserializer)?;
                crate::types::Typed::from_proxy(proxy).map_err(serde::de::Error::custom)
            }
        }
    };
}
use typed;
