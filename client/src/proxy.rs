//! Proxies: the client's stand-ins for objects in the host.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use steward_wire::describe::TypeInfo;
use steward_wire::frame::Grant;
use steward_wire::{Ident, Token, cbor::Reader, value};

use crate::args::IntoArgs;
use crate::call::{Call, Name};
use crate::core::Version;
use crate::describe::{Table, Tables};
use crate::error::Error;
use crate::owner::Owner;
use crate::session::{Delivered, Session};

/// A proxy of an object of any type.
///
/// A clone is another handle of the same object: it costs no message. When the last handle of an object in this
/// session goes, the host is told within 5 ms, and what nobody refers to any more goes there.
/// Two proxies are equal when they stand for the same object of the same host.
///
/// A proxy is a value, too: as an argument, or inside a list or struct that is one, it travels as a token, and whoever
/// reads it gets a proxy of the same object.
///
/// ```no_run
/// # async fn example(manager: steward_client::Manager) -> Result<(), steward_client::Error> {
/// use std::time::Duration;
/// let limiter = manager.create("RateLimiter", steward_client::args![rate = 10.0]).await?;
/// let free: f64 = limiter.call("available", ()).await?;
/// limiter.call::<()>("acquire", (2.0,)).timeout(Duration::from_secs(1)).await?;
/// # let _ = free; Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Proxy {
    pub(crate) handle: Arc<Handle>,
    pub(crate) owner: Owner,
}

/// What the clones of a proxy share: one count in the session's table, given back on drop.
pub(crate) struct Handle {
    pub(crate) session: Arc<Session>,
    pub(crate) typeid: String,
    pub(crate) ident: Ident,
    table: OnceLock<Arc<Table>>,
}

impl Handle {
    /// The type's methods, if they were asked for already.
    pub(crate) fn known_table(&self) -> Option<&Table> {
        self.table.get().map(|table| &**table)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.session.let_go([self.ident]);
    }
}

impl Proxy {
    pub(crate) fn new(session: Arc<Session>, token: Token, owner: Owner) -> Self {
        session.hold(token.ident);
        Self::held(session, token, owner)
    }

    /// A proxy whose handle is counted already.
    pub(crate) fn held(session: Arc<Session>, token: Token, owner: Owner) -> Self {
        let handle = Handle { session, typeid: token.typeid, ident: token.ident, table: OnceLock::new() };
        Self { handle: Arc::new(handle), owner }
    }

    /// The proxy of the host itself.
    pub(crate) fn host(session: Arc<Session>, owner: Owner) -> Self {
        Self::new(session, Token { typeid: "Manager".into(), ident: Ident::HOST, address: None }, owner)
    }

    /// The name of the object's type.
    pub fn typeid(&self) -> &str {
        &self.handle.typeid
    }

    /// The object's number.
    pub fn ident(&self) -> Ident {
        self.handle.ident
    }

    /// What names this object outside the session, in a file for example; [`crate::Manager::proxy`] turns it back
    /// into a proxy. A token holds no reference, but the host is told that it leaves: even if nothing else keeps the object, it
    /// stays for a grace period (10 s by default) for whoever gets the token.
    pub fn token(&self) -> Token {
        self.handle.session.share(self.handle.ident);
        self.outside_token()
    }

    fn outside_token(&self) -> Token {
        let address = Some(self.handle.session.shared.address.clone());
        Token { typeid: self.handle.typeid.clone(), ident: self.handle.ident, address }
    }

    /// The same proxy, calling as another [`Owner`].
    #[must_use]
    pub fn with_owner(&self, owner: Owner) -> Self {
        Self { handle: Arc::clone(&self.handle), owner }
    }

    /// Calls a method whose result is a value of type `T`. It is sent when the [`Call`] is awaited.
    ///
    /// # Errors
    /// From the call: raised whatever the method raises; refused `NotExposed`, `UnknownIdent`, and others that the
    /// host decides; unknown if the connection is lost with the call in flight; poisoned if the object has failed.
    pub fn call<T: DeserializeOwned>(&self, method: &str, args: impl IntoArgs) -> Call<T> {
        self.call_name(self.name(method), args, decode)
    }

    /// Calls a method whose result is an object, and gives a proxy of it.
    ///
    /// # Errors
    /// As [`Proxy::call`]; the call fails with [`Error::Decode`] if the result is no token.
    pub fn call_proxy(&self, method: &str, args: impl IntoArgs) -> Call<Proxy> {
        self.call_name(self.name(method), args, decode_proxy)
    }

    /// Calls a method and leaves the result encoded.
    ///
    /// # Errors
    /// As [`Proxy::call`].
    pub fn call_item(&self, method: &str, args: impl IntoArgs) -> Call<Item> {
        self.call_name(self.name(method), args, |proxy, delivered| Ok(Item { owner: proxy.owner, delivered }))
    }

    /// Calls a method and gives whatever the host answers, faults too, with the answer's place in the life of the object. For
    /// those who check what others rely on.
    ///
    /// # Errors
    /// As [`Proxy::call`], but for those that the host answered with: they are in the [`Answer`].
    pub fn call_answer(&self, method: &str, args: impl IntoArgs) -> Call<Answer> {
        let decode = |proxy: &Proxy, delivered: Delivered| {
            let (version, owner) = (delivered.reply.version, proxy.owner);
            Ok(Answer { version, result: delivered.returned().map(|delivered| Item { owner, delivered }) })
        };
        self.call_name(self.name(method), args, decode).taking_faults()
    }

    /// A method, by its number if that is known.
    fn name(&self, method: &str) -> Name {
        let known = self.handle.known_table().and_then(|table| table.method(method));
        known.map_or_else(|| Name::Owned(method.to_owned()), |(index, may_park)| Name::Index(index, may_park))
    }

    /// For methods that this crate knows.
    pub(crate) fn call_static<T: DeserializeOwned>(&self, method: &'static str, args: impl IntoArgs) -> Call<T> {
        self.call_name(Name::Static(method), args, decode)
    }

    pub(crate) fn call_name<T>(
        &self,
        method: Name,
        args: impl IntoArgs,
        decode: fn(&Proxy, Delivered) -> Result<T, Error>,
    ) -> Call<T> {
        let args = within(&self.handle.session, self.owner, || args.into_args());
        Call::new(self.clone(), method, args, decode)
    }

    /// A copy of the object's value.
    ///
    /// # Errors
    /// As [`Proxy::call`]; types without a value of their own raise.
    pub fn value<T: DeserializeOwned>(&self) -> Call<T> {
        self.call_name(Name::Index(0xffff, false), (), decode)
    }

    /// The object as text, as Python's `str(proxy)` gives it.
    ///
    /// # Errors
    /// As [`Proxy::call`].
    pub fn str(&self) -> Call<String> {
        self.call_name(Name::Index(0xfffe, false), (), decode)
    }

    /// The object as text for programmers, as Python's `repr` of the object itself gives it.
    ///
    /// # Errors
    /// As [`Proxy::call`].
    pub fn repr(&self) -> Call<String> {
        self.call_name(Name::Index(0xfffd, false), (), decode)
    }

    /// What the object's type offers.
    ///
    /// # Errors
    /// Refused if the host no longer knows the type; [`Error::Connection`].
    pub async fn describe(&self) -> Result<TypeInfo, Error> {
        Ok(self.table().await?.info.clone())
    }

    /// The type's methods, asked for once per typeid and session.
    pub(crate) async fn table(&self) -> Result<&Table, Error> {
        let handle = &*self.handle;
        if let Some(table) = handle.table.get() {
            return Ok(table);
        }
        let table = Tables::table(&handle.session, &handle.typeid, handle.ident).await?;
        Ok(handle.table.get_or_init(|| table))
    }
}

/// The proxy that a `Create` is answered with: a token, or a list of it and the type's description.
pub(crate) fn created(session: &Arc<Session>, owner: Owner, delivered: &Delivered) -> Result<Proxy, Error> {
    let payload = &delivered.reply.payload[..];
    let mut reader = Reader::new(payload);
    let (token, info) = match payload.first().map(|first| first >> 5) {
        Some(4) => {
            let items = reader.array().map_err(Error::malformed::<Proxy>)?;
            let token = reader.raw().map_err(Error::malformed::<Proxy>)?;
            let info = if items > 1 && !reader.null() { reader.raw().ok() } else { None };
            (token, info)
        }
        _ => (payload, None),
    };
    let token = value::token_of(token).ok_or_else(|| not_a_token(payload))?;
    if let Some(info) = info {
        session.tables.learn(value::to_serde(info).map_err(decode_error::<TypeInfo>)?);
    }
    Ok(Proxy::new(Arc::clone(session), token.to_token(), owner))
}

fn not_a_token(payload: &[u8]) -> Error {
    Error::Decode { wanted: "Proxy", cause: format!("no token, but {} bytes of something else", payload.len()) }
}

pub(crate) fn decode_error<T>(error: value::ConvertError) -> Error {
    Error::Decode { wanted: std::any::type_name::<T>(), cause: error.to_string() }
}

pub(crate) fn decode<T: DeserializeOwned>(proxy: &Proxy, delivered: Delivered) -> Result<T, Error> {
    let payload = &delivered.reply.payload;
    if delivered.reply.pins.is_empty() {
        return value::to_serde(payload).map_err(decode_error::<T>);
    }
    within(&proxy.handle.session, proxy.owner, || value::to_serde(payload)).map_err(decode_error::<T>)
}

pub(crate) fn decode_proxy(proxy: &Proxy, delivered: Delivered) -> Result<Proxy, Error> {
    let payload = &delivered.reply.payload;
    let token = value::token_of(payload).ok_or_else(|| not_a_token(payload))?;
    Ok(Proxy::new(Arc::clone(&proxy.handle.session), token.to_token(), proxy.owner))
}

/// A result as it travelled: one encoded item. The objects that it names stay until it is dropped.
#[derive(Debug)]
pub struct Item {
    owner: Owner,
    delivered: Delivered,
}

impl Item {
    /// The encoding (CBOR).
    pub fn bytes(&self) -> &[u8] {
        &self.delivered.reply.payload
    }

    /// The object's version that the result shows.
    pub fn version(&self) -> Version {
        self.delivered.reply.version
    }

    /// The grant that came with it: its fence, and whether the previous holder was lost.
    pub fn grant(&self) -> Option<Grant> {
        self.delivered.reply.grant
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`Error::Decode`] if it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        within(&self.delivered.session, self.owner, || value::to_serde(self.bytes())).map_err(decode_error::<T>)
    }
}

/// What a host answered a call with.
#[derive(Debug)]
pub struct Answer {
    /// The result, or what the method raised, or why the call was refused.
    pub result: Result<Item, Error>,
    /// Where it stands in the life of its object.
    pub version: Version,
}

thread_local! {
    /// The session that values are being encoded for or decoded from: serde hands nothing through.
    static SCOPE: RefCell<Option<(Arc<Session>, Owner)>> = const { RefCell::new(None) };
}

/// Runs `coding` with proxies inside values belonging to `session`.
pub(crate) fn within<R>(session: &Arc<Session>, owner: Owner, coding: impl FnOnce() -> R) -> R {
    struct Restore(Option<(Arc<Session>, Owner)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            SCOPE.with(|scope| *scope.borrow_mut() = before);
        }
    }
    let before = SCOPE.with(|scope| scope.borrow_mut().replace((Arc::clone(session), owner)));
    let _restore = Restore(before);
    coding()
}

impl Serialize for Proxy {
    /// A token: without address for the host that it is sent to, with it anywhere else. With ciborium only, as
    /// [`Token`] is.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let session = &self.handle.session;
        let is_inside =
            SCOPE.with(|scope| matches!(&*scope.borrow(), Some((current, _)) if Arc::ptr_eq(current, session)));
        let mut token = if is_inside { self.outside_token() } else { self.token() };
        if is_inside {
            token.address = None;
        }
        token.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    /// Only from the result of a call: elsewhere a token belongs to no session; see [`crate::Manager::proxy`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let token = Token::deserialize(deserializer)?;
        let scope = SCOPE.with(|scope| scope.borrow().clone());
        let Some((session, owner)) = scope else {
            return Err(D::Error::custom("a proxy is only read from the result of a call"));
        };
        match &token.address {
            Some(address) if *address != session.shared.address => {
                Err(D::Error::custom(format_args!("object is kept by another host, `{address}`")))
            }
            _ => Ok(Self::new(session, token, owner)),
        }
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        self.handle.ident == other.handle.ident
            && self.handle.session.shared.address == other.handle.session.shared.address
    }
}

impl Eq for Proxy {}

impl Hash for Proxy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle.ident.hash(state);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<proxy of {} {} at {}>", self.handle.typeid, self.handle.ident, self.handle.session.shared.address)
    }
}
