//! Plugins that are registered, replaced and removed while the host runs.
//!
//! A component comes in the arguments of a call, or in parts of its own ([`upload`]) if it is larger than a frame. It is
//! compiled by threads of their own, one at a time, in the compiler's own process. Nothing of this outlives the host: what is to be
//! there at the next start is named to that start.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use steward_objects::{Args, Param};
use steward_wire::cbor::Reader;
use steward_wire::{Fault, frame, value};

use crate::budget::{Budget, Charge};
use crate::cell::{Answer, ReplyTo};
use crate::guest::{GuestConfig, GuestError, Guests, Isolation, LoadOptions, Plugin};
use crate::registry::{self, PluginReport, RegisterError, Registered, Registration, Source};
use crate::session::Session;
use crate::tenant::Tenant;

/// Guests that are set up when the first plugin is loaded; cloning shares them.
#[derive(Clone, Debug)]
pub struct LazyGuests(Arc<(GuestConfig, Mutex<Option<Guests>>)>);

impl LazyGuests {
    /// Nothing is set up yet.
    pub fn new(config: GuestConfig) -> Self {
        Self(Arc::new((config, Mutex::new(None))))
    }

    /// The guests, set up now if they are not.
    ///
    /// # Errors
    /// As [`Guests::new`].
    pub fn get(&self) -> Result<Guests, GuestError> {
        let (config, made) = &*self.0;
        let mut made = made.lock();
        let guests = match made.take() {
            Some(guests) => guests,
            None => Guests::new(config.clone())?,
        };
        Ok(made.insert(guests).clone())
    }
}

/// What of a plugin is registered, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallOptions {
    /// Only this type of the plugin. `None`: all.
    pub typeid: Option<String>,
    /// The name, if it is to be another one than the plugin's. For one type only.
    pub name: Option<String>,
    /// Methods that clients may call; `None`: all. For one type only, and only when it is new: a replaced type exposes what it
    /// was registered with.
    pub exposed: Option<Vec<String>>,
    /// Types whose names are taken are replaced, if a plugin's they are.
    pub replaces: bool,
    /// As [`LoadOptions::memory_bytes`].
    pub memory_bytes: Option<usize>,
    /// What keeps their objects apart. `None`: what did so before, where a type is replaced; else [`Isolation::Object`].
    pub isolation: Option<Isolation>,
}

/// Why a plugin is not registered.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The host has no such tenant.
    #[error("there is no tenant `{0}`")]
    UnknownTenant(String),
    /// The host was started without guests.
    #[error("this host takes no plugins while it runs")]
    NoGuests,
    /// Another component is being compiled.
    #[error("another plugin is being compiled")]
    Busy,
    /// A name, or what is exposed, can only be said of one type.
    #[error("the plugin has the types {0}: say which one")]
    WhichType(String),
    /// The component is not accepted.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The type is not.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

impl InstallError {
    fn fault(&self) -> Fault {
        let kind = match self {
            Self::UnknownTenant(_) | Self::NoGuests => "Unsupported",
            Self::Busy => "Busy",
            Self::WhichType(_) => "ValueError",
            Self::Guest(_) => "BadPlugin",
            Self::Register(RegisterError::Taken(_)) => "Taken",
            Self::Register(
                RegisterError::Unknown(_) | RegisterError::UnknownSource(_) | RegisterError::NotOffered { .. },
            ) => "UnknownType",
            Self::Register(_) => "BadRegistration",
        };
        let fault = Fault::refused(kind, self.to_string());
        if matches!(self, Self::Busy) { fault.retry() } else { fault }
    }
}

/// Compiles a component, or finds it compiled.
pub(crate) fn load(
    tenant: &Tenant,
    component: &[u8],
    memory_bytes: Option<usize>,
) -> Result<Arc<Plugin>, InstallError> {
    let shared = &tenant.shared;
    let guests = shared.guests.as_ref().ok_or(InstallError::NoGuests)?.get()?;
    let _turn = shared.compiling.try_lock().ok_or(InstallError::Busy)?;
    Ok(guests.load_unnamed(component, LoadOptions { memory_bytes })?)
}

/// Registers a plugin's types, all or none.
pub(crate) fn install(
    tenant: &Tenant,
    plugin: &Arc<Plugin>,
    options: InstallOptions,
) -> Result<Vec<Registered>, InstallError> {
    // What memory its objects have was decided when it was loaded.
    let InstallOptions { typeid, name, exposed, replaces, memory_bytes: _, isolation } = options;
    let chosen: Vec<&String> = match typeid {
        Some(typeid) => vec![&registry::offered(plugin, &typeid)?.info().typeid],
        None => plugin.types().iter().map(|offered| &offered.info().typeid).collect(),
    };
    if chosen.len() > 1 && (name.is_some() || exposed.is_some()) {
        let all: Vec<_> = chosen.iter().map(|typeid| typeid.as_str()).collect();
        return Err(InstallError::WhichType(all.join(", ")));
    }
    let registration = |offered: &String| {
        let source = Source::Plugin { plugin: plugin.clone(), typeid: offered.clone() };
        let typeid = name.as_ref().unwrap_or(offered);
        Registration { exposed: exposed.clone(), isolation, ..Registration::new(typeid, source) }
    };
    let registered = tenant.registry.install(chosen.into_iter().map(registration).collect(), replaces)?;
    for Registered { typeid, from, to, will_move, will_stay, note } in &registered {
        let (from, note) = (from.as_deref(), note.as_deref());
        tracing::info!(
            tenant = tenant.name,
            typeid,
            from,
            to,
            will_move,
            will_stay,
            note,
            "registered a plugin's type"
        );
    }
    Ok(registered)
}

/// Removes a plugin's type. Its objects go on, or are poisoned; how many there are.
pub(crate) fn remove(tenant: &Tenant, typeid: &str, poisons: bool) -> Result<usize, InstallError> {
    let kind = tenant.registry.remove(typeid)?;
    let objects = kind.objects();
    tracing::info!(tenant = tenant.name, typeid, objects, poisons, "removed a plugin's type");
    if poisons {
        kind.poison();
        for listed in tenant.table.list() {
            if Arc::ptr_eq(&listed.object.kind, &kind) {
                listed.object.cell.touch();
            }
        }
    }
    Ok(objects)
}

/// Calls one of the host's methods that concern plugins: `register`, `replace`, `remove` or `plugins`.
pub(crate) fn call(session: &Arc<Session>, to: ReplyTo, method: &str, args: Args<'_>) {
    let result = match method {
        "register" | "replace" => match Wanted::read(session, method, args) {
            Ok(wanted) => {
                if let Component::Bytes(_) = &wanted.component
                    && let Err(fault) = admit(&session.tenant, &to)
                {
                    return to.fail(&fault);
                }
                let tenant = session.tenant.clone();
                session.tenant.shared.pool.run_plugin(
                    &session.tenant,
                    Box::new(move || {
                        let plugin = wanted.component.plugin(&tenant, wanted.options.memory_bytes);
                        let installed = plugin.and_then(|plugin| install(&tenant, &plugin, wanted.options));
                        answer(to, installed.map_err(|error| error.fault()).and_then(|registered| encode(&registered)));
                    }),
                );
                return;
            }
            Err(fault) => Err(fault),
        },
        "remove" => removed(session, args),
        _ => args.bind::<0>(method, &[]).and_then(|_| {
            let plugins: Vec<PluginReport> = session.tenant.registry.plugins();
            encode(&plugins)
        }),
    };
    answer(to, result);
}

fn removed(session: &Session, args: Args<'_>) -> Result<Vec<u8>, Fault> {
    let params = [Param::required("typeid", "str"), Param::optional("force", "bool", "False")];
    let [typeid, force] = args.bind::<2>("remove", &params)?;
    let typeid: String = decode("typeid", "str", typeid)?.unwrap_or_default();
    let poisons = decode("force", "bool", force)?.unwrap_or(false);
    let objects = remove(&session.tenant, &typeid, poisons).map_err(|error| error.fault())?;
    encode(&objects)
}

fn answer(to: ReplyTo, result: Result<Vec<u8>, Fault>) {
    match result {
        Ok(payload) => to.answer(Answer::plain(&payload), false),
        Err(fault) => to.fail(&fault),
    }
}

/// The arguments of `register` and `replace`.
struct Wanted {
    component: Component,
    options: InstallOptions,
}

/// Where a component is.
enum Component {
    Bytes(Vec<u8>),
    /// It was uploaded and compiled.
    Loaded(Uploaded),
}

impl Wanted {
    fn read(session: &Session, method: &str, args: Args<'_>) -> Result<Self, Fault> {
        let params = [
            Param::required("component", "bytes"),
            Param::optional("typeid", "str", "None"),
            Param::optional("name", "str", "None"),
            Param::optional("exposed", "list[str]", "None"),
            Param::optional("memory_bytes", "int", "None"),
            Param::optional("isolation", "str", "None"),
        ];
        let [component, typeid, name, exposed, memory_bytes, isolation] = args.bind::<6>(method, &params)?;
        let component = component.unwrap_or_default();
        let component = match (Reader::new(component).bytes(), Reader::new(component).u64()) {
            (Ok(bytes), _) => Component::Bytes(bytes.to_vec()),
            (_, Ok(number)) => Component::Loaded(session.uploaded(number)?),
            _ => return Err(Fault::raised("TypeError", "component must be bytes or the number of an upload")),
        };
        let options = InstallOptions {
            typeid: decode("typeid", "str", typeid)?,
            name: decode("name", "str", name)?,
            exposed: decode("exposed", "a list of str", exposed)?,
            isolation: decode::<String>("isolation", "str", isolation)?
                .map(|name| name.parse().map_err(|error| Fault::raised("ValueError", format!("isolation: {error}"))))
                .transpose()?,
            replaces: method == "replace",
            memory_bytes: decode("memory_bytes", "a number of bytes", memory_bytes)?,
        };
        Ok(Self { component, options })
    }
}

impl Component {
    fn plugin(self, tenant: &Tenant, memory_bytes: Option<usize>) -> Result<Arc<Plugin>, InstallError> {
        match (self, memory_bytes) {
            (Self::Loaded(Uploaded { plugin, .. }), None) => Ok(plugin),
            // How large a memory may be decides where it lies, and so for what the code is compiled.
            (Self::Bytes(bytes), _) => load(tenant, &bytes, memory_bytes),
            (Self::Loaded(Uploaded { component, .. }), _) => load(tenant, &component, memory_bytes),
        }
    }
}

/// An optional argument; None stands for one that was left out.
fn decode<T: serde::de::DeserializeOwned>(name: &str, kind: &str, item: Option<&[u8]>) -> Result<Option<T>, Fault> {
    let decoded = item.map(value::to_serde::<Option<T>>).transpose();
    Ok(decoded.map_err(|_| Fault::raised("TypeError", format!("{name} must be {kind}")))?.flatten())
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    value::from_serde(value).map_err(|error| Fault::refused("Internal", error.to_string()))
}

/// A component that a session uploads. It has one at a time, whose bytes its tenant is charged for until the next one, or until the
/// session ends.
#[derive(Default)]
pub(crate) struct Upload {
    number: u64,
    total: usize,
    bytes: Vec<u8>,
    plugin: Option<Uploaded>,
    /// Given back when it goes.
    _charge: Charge,
}

/// A component that is here as a whole, and compiled.
#[derive(Clone)]
pub(crate) struct Uploaded {
    plugin: Arc<Plugin>,
    component: Arc<Vec<u8>>,
}

impl Upload {
    /// The component of this number, if all of it is here.
    pub(crate) fn plugin(&self, number: u64) -> Option<&Uploaded> {
        self.plugin.as_ref().filter(|_| self.number == number)
    }

    /// Adds a chunk; gives the whole after the last one.
    fn add(
        &mut self,
        part: &frame::Upload<'_>,
        bytes_max: usize,
        budget: &Arc<Budget>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if part.offset == 0 {
            let total = usize::try_from(part.total).unwrap_or(usize::MAX);
            if total > bytes_max {
                *self = Self::default();
                return Err(Fault::refused("TooLarge", format!("component is {total} bytes, limit is {bytes_max}")));
            }
            // What was here is given back first.
            *self = Self::default();
            budget.allows(total)?;
            let mut charge = Charge::to(Arc::clone(budget));
            charge.add(total as u64);
            *self = Self { number: part.upload, total, bytes: Vec::new(), plugin: None, _charge: charge };
        }
        let (has, comes) = (self.bytes.len(), part.chunk.len());
        let fits = part.upload == self.number && part.offset == has as u64 && part.total == self.total as u64;
        if !fits || has + comes > self.total || self.plugin.is_some() {
            let message = format!("chunk at {} of upload {} does not follow what is here", part.offset, part.upload);
            return Err(Fault::refused("BadUpload", message));
        }
        self.bytes.extend_from_slice(part.chunk);
        Ok((self.bytes.len() == self.total).then(|| std::mem::take(&mut self.bytes)))
    }
}

const HOUR_MS: u64 = 3_600_000;

/// When a tenant's components have come from other machines, within the last hour.
#[derive(Debug, Default)]
pub(crate) struct Uploads(VecDeque<u64>);

impl Uploads {
    /// Notes one more, if there were fewer than `max`; else says in how many milliseconds it may come.
    fn note(&mut self, now_ms: u64, max: usize) -> Result<(), u64> {
        while self.0.front().is_some_and(|at_ms| at_ms + HOUR_MS <= now_ms) {
            self.0.pop_front();
        }
        if self.0.len() >= max {
            return Err(self.0.front().map_or(HOUR_MS, |at_ms| at_ms + HOUR_MS - now_ms));
        }
        if max < usize::MAX {
            self.0.push_back(now_ms);
        }
        Ok(())
    }
}

/// Lets a component in that is to be compiled: it takes seconds of a processor.
fn admit(tenant: &Tenant, to: &ReplyTo) -> Result<(), Fault> {
    if matches!(to, ReplyTo::Client { lane, .. } if lane.is_own()) {
        return Ok(());
    }
    let max = tenant.shared.limits.uploads_per_hour_max;
    tenant.uploads.lock().note(tenant.shared.clock.now_ms(), max).map_err(|left_ms| {
        let message = format!(
            "{max} components came from other machines within an hour, limit is {max}; the next may come in {} s",
            left_ms.div_ceil(1_000)
        );
        Fault::refused("TooManyUploads", message).retry()
    })
}

/// Takes a part of a component. The last one is answered with descriptions of what the plugin offers.
pub(crate) fn upload(session: &Arc<Session>, to: ReplyTo, part: &frame::Upload<'_>) {
    let Some(guests) = &session.tenant.shared.guests else { return to.fail(&InstallError::NoGuests.fault()) };
    if part.offset == 0
        && let Err(fault) = admit(&session.tenant, &to)
    {
        return to.fail(&fault);
    }
    let bytes_max = guests.0.0.compile_limits.component_bytes_max;
    let whole = session.upload.lock().add(part, bytes_max, &session.tenant.budget);
    let component = match whole {
        Ok(Some(component)) => component,
        Ok(None) => return answer(to, encode(&())),
        Err(fault) => return to.fail(&fault),
    };
    let (session, tenant, number) = (session.clone(), session.tenant.clone(), part.upload);
    tenant.shared.pool.run_plugin(
        &tenant,
        Box::new(move || {
            let loaded = load(&session.tenant, &component, None).map_err(|error| error.fault());
            answer(
                to,
                loaded.and_then(|plugin| {
                    let infos: Vec<_> = plugin.types().iter().map(|offered| offered.info().clone()).collect();
                    let mut upload = session.upload.lock();
                    if upload.number == number {
                        upload.plugin = Some(Uploaded { plugin, component: Arc::new(component) });
                    }
                    encode(&infos)
                }),
            );
        }),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(upload: u64, offset: u64, total: u64, chunk: &[u8]) -> frame::Upload<'_> {
        frame::Upload { seq: 1, upload, offset, total, chunk }
    }

    /// An upload of a tenant that may keep so many bytes, of which a component may have five.
    fn upload(bytes_max: u64) -> (Upload, Arc<Budget>) {
        (Upload::default(), Arc::new(Budget::new(bytes_max)))
    }

    #[test]
    fn chunks_that_follow_each_other_are_the_whole() {
        let (mut upload, budget) = upload(5);
        assert_eq!(upload.add(&part(1, 0, 5, b"ab"), 5, &budget).unwrap(), None);
        assert_eq!(upload.add(&part(1, 2, 5, b"cde"), 5, &budget).unwrap(), Some(b"abcde".to_vec()));
        // Another one takes its place, however far it came.
        assert_eq!(upload.add(&part(2, 0, 5, b"ab"), 5, &budget).unwrap(), None);
        assert_eq!(upload.add(&part(3, 0, 1, b"x"), 5, &budget).unwrap(), Some(b"x".to_vec()));
    }

    #[test]
    fn chunks_that_do_not_follow_are_refused() {
        let (mut upload, budget) = upload(5);
        upload.add(&part(1, 0, 5, b"ab"), 5, &budget).unwrap();
        for bad in [part(1, 3, 5, b"x"), part(2, 2, 5, b"x"), part(1, 2, 6, b"x"), part(1, 2, 5, b"wxyz")] {
            assert_eq!(upload.add(&bad, 5, &budget).unwrap_err().kind, "BadUpload");
        }
        assert_eq!(upload.add(&part(1, 0, 6, b"x"), 5, &budget).unwrap_err().kind, "TooLarge");
        assert_eq!(upload.add(&part(1, 1, 6, b"x"), 5, &budget).unwrap_err().kind, "BadUpload");
    }

    #[test]
    fn tenant_is_charged_for_an_upload_until_it_goes() {
        let (mut upload, budget) = upload(9);
        upload.add(&part(1, 0, 5, b"ab"), 9, &budget).unwrap();
        assert_eq!(budget.used(), 5);
        let (mut another, _) = self::upload(0);
        let refused = another.add(&part(1, 0, 5, b"ab"), 9, &budget).unwrap_err();
        assert_eq!((refused.kind.as_str(), refused.retryable), ("OverQuota", true));
        // The next one takes the place of what is here.
        upload.add(&part(2, 0, 9, b"ab"), 9, &budget).unwrap();
        assert_eq!(budget.used(), 9);
        drop(upload);
        assert_eq!(budget.used(), 0);
        another.add(&part(1, 0, 5, b"ab"), 9, &budget).unwrap();
    }

    #[test]
    fn so_many_uploads_come_in_an_hour() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.note(5, 2), Ok(()));
        assert_eq!(uploads.note(1_000, 2), Ok(()));
        assert_eq!(uploads.note(2_000, 2), Err(HOUR_MS - 1_995));
        assert_eq!(uploads.note(HOUR_MS + 4, 2), Err(1));
        assert_eq!(uploads.note(HOUR_MS + 5, 2), Ok(()));
        assert_eq!(uploads.note(HOUR_MS + 6, 2), Err(994));
        assert_eq!(uploads.note(HOUR_MS + 7, 0), Err(993));
    }
}
