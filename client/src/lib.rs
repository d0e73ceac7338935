//! Steward's Rust client: objects in a host that several programs share, through proxies.
//!
//! A [`Manager`] is a session with a host. It makes typed proxies ([`Queue`], [`Dict`], [`Lock`]…) and general ones
//! ([`Proxy`]) for any type the host has, plugins included. Every method of a proxy makes a [`Call`]: awaiting it sends it,
//! and before that it takes a timeout, a guard, an owner.
//!
//! ```no_run
//! # async fn example() -> Result<(), steward_client::Error> {
//! use std::time::Duration;
//! use steward_client::{Manager, Queue};
//!
//! let manager = Manager::connect("local").await?;
//! let jobs: Queue<String> = manager.named("jobs").await?;
//! let job = jobs.get().timeout(Duration::from_secs(5)).await?;
//!
//! let (lock, done) = (manager.lock().await?, manager.dict::<String, u64>().await?);
//! let held = lock.acquire().await?;
//! done.insert(&job, &1).guard(&held).await?;
//! held.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! What a failure means is its [`Error::effect`]. A connection that is lost is made again, and the session goes on: calls in
//! flight take longer and still happen at most once. Only when the session has ended (this client was silent for longer than
//! its lease, or the host is gone) are calls in flight *unknown* and later ones refused, and a new [`Manager`] is needed.
//! [`Manager::on_event`] tells of both.
//!
//! [`blocking`] is the same for threads. [`context`] reads and writes the hosts that are known by name.

#![forbid(unsafe_code)]

mod args;
pub mod blocking;
mod call;
mod connect;
pub mod context;
mod core;
mod describe;
mod error;
mod events;
mod lane;
mod lease;
mod manager;
mod owner;
mod proxy;
mod reconnect;
mod request;
mod session;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod start;
#[doc(hidden)]
pub mod transport;
mod types;

pub use args::{Args, IntoArgs, Keywords};
pub use call::{Call, Calling};
pub use connect::{ConnectOptions, Fork};
pub use core::Version;
pub use error::{ConfigError, Error, StartError};
pub use events::SessionEvent;
pub use manager::{
    DeadlockLink, Manager, ObjectInfo, PluginInfo, PluginVersion, RegisterOptions, Registered, TypeCount,
};
pub use owner::Owner;
pub use proxy::{Answer, Item, Proxy};
pub use start::{HostProcess, StartOptions};
pub use steward_wire::auth::AuthKey;
pub use steward_wire::describe::{Isolation, MethodInfo, Param, ParamKind, TypeInfo};
pub use steward_wire::frame::Grant;
pub use steward_wire::{Effect, Fault, Ident, Token, Value as AnyValue};
pub use types::{
    Array, Barrier, BoundedSemaphore, Condition, Dict, Encode, Event, Held, Iter, JoinableQueue, Leased, LifoQueue,
    List, Lock, Namespace, PriorityQueue, Queue, QueueOptions, RLock, Semaphore, Set, Typed, Value,
};
