//! A host of shared objects: built-in types and plugins, served over QUIC and a Unix socket.
//!
//! The way of a call: a transport (`quic`, `unix`) carries a `lane`, whose frames `dispatch` takes to the `cell` of the
//! object; the cell steps its referent and the reply goes back by the lane it came from. `docs/ARCHITECTURE.md` is the map.

mod budget;
mod calls;
mod cell;
mod certificate;
mod clock;
mod counters;
mod dispatch;
pub mod guest;
mod host;
mod lane;
mod limits;
mod manager;
mod peers;
mod plugins;
mod pool;
mod quic;
mod registry;
mod session;
mod sign_in;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod table;
mod tenant;
mod unix;
mod waits;

pub use counters::Counters;
pub use host::{Config, Host, StartError, TenantConfig};
pub use limits::Limits;
pub use plugins::{InstallError, InstallOptions, LazyGuests};
pub use registry::{Constructor, PluginReport, RegisterError, Registered, Registration, Source, TYPEID_BYTES_MAX};
pub use steward_wire::auth::AuthKey;
pub use tenant::{Key, Role};
