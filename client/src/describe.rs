//! What the host's types offer: asked for once per session, however many calls need it at once.
//!
//! Those that wait for a description carry its call on together. So nobody depends on the one that began it: that one may be
//! given up, or simply not be polled any more.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use parking_lot::Mutex;
use steward_wire::describe::TypeInfo;
use steward_wire::{Ident, value};
use tokio::sync::Notify;

use crate::core::Class;
use crate::error::Error;
use crate::proxy::decode_error;
use crate::request::Request;
use crate::session::Session;

/// The methods of a type, by name.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) info: TypeInfo,
    indexes: HashMap<String, u16>,
}

impl Table {
    fn new(info: TypeInfo) -> Self {
        let indexes =
            info.methods.iter().zip(0..=u16::MAX).map(|(method, index)| (method.name.clone(), index)).collect();
        Self { info, indexes }
    }

    /// The method's index and whether it may park.
    pub(crate) fn method(&self, name: &str) -> Option<(u16, bool)> {
        let index = *self.indexes.get(name)?;
        Some((index, self.info.methods.get(usize::from(index))?.may_park))
    }
}

/// What a session knows of types, by typeid.
#[derive(Default)]
pub(crate) struct Tables(Mutex<HashMap<String, Known>>);

enum Known {
    Table(Arc<Table>),
    /// Somebody waits for it, while this can be upgraded.
    Asked(Weak<Fetch>),
}

impl Tables {
    /// Remembers a type's description for later proxies.
    pub(crate) fn learn(&self, info: TypeInfo) -> Arc<Table> {
        let table = Arc::new(Table::new(info));
        self.0.lock().insert(table.info.typeid.clone(), Known::Table(Arc::clone(&table)));
        table
    }

    /// The description of a type, asked of its object `ident` unless it is known or on its way.
    ///
    /// # Errors
    /// Those of asking by `ident`: what others have asked in vain is asked again.
    pub(crate) async fn table(session: &Arc<Session>, typeid: &str, ident: Ident) -> Result<Arc<Table>, Error> {
        loop {
            let (fetch, is_mine) = {
                let mut known = session.tables.0.lock();
                let asked = match known.get(typeid) {
                    Some(Known::Table(table)) => return Ok(Arc::clone(table)),
                    Some(Known::Asked(fetch)) => fetch.upgrade(),
                    None => None,
                };
                match asked {
                    Some(fetch) => (fetch, false),
                    None => {
                        let fetch = Arc::new(Fetch::new(Self::ask(Arc::clone(session), typeid.to_owned(), ident)));
                        known.insert(typeid.to_owned(), Known::Asked(Arc::downgrade(&fetch)));
                        (fetch, true)
                    }
                }
            };
            match fetch.table().await {
                Some(table) => return Ok(table),
                None if is_mine => return Err(fetch.error()),
                None => {}
            }
        }
    }

    async fn ask(session: Arc<Session>, typeid: String, ident: Ident) -> Result<Arc<Table>, Error> {
        let described = session.call(Class::Running, Request::DescribeObject(ident)).await.and_then(|delivered| {
            let [info] =
                value::to_serde::<[TypeInfo; 1]>(&delivered.reply.payload).map_err(decode_error::<TypeInfo>)?;
            Ok(info)
        });
        match described {
            Ok(info) => Ok(session.tables.learn(info)),
            Err(error) => {
                // Before anybody hears of it: whoever asks again must not find this.
                let mut known = session.tables.0.lock();
                if let Some(Known::Asked(_)) = known.get(&typeid) {
                    known.remove(&typeid);
                }
                Err(error)
            }
        }
    }
}

/// A description that is being asked for. When nobody waits for it any more, it is given up.
struct Fetch {
    stage: Mutex<Stage>,
    /// Apart, since the session keeps the waker: it must not keep the call.
    progress: Arc<Progress>,
}

enum Stage {
    Asking(Pin<Box<dyn Future<Output = Result<Arc<Table>, Error>> + Send>>),
    Known(Arc<Table>),
    /// The error is for the one that began it: it may be about its object, and not about the type.
    Failed(Option<Error>),
}

impl Fetch {
    fn new(asking: impl Future<Output = Result<Arc<Table>, Error>> + Send + 'static) -> Self {
        Self { stage: Mutex::new(Stage::Asking(Box::pin(asking))), progress: Arc::default() }
    }

    /// Waits for the description; `None` if there will be none.
    async fn table(&self) -> Option<Arc<Table>> {
        loop {
            // Told of everything that happens from here on.
            let progress = self.progress.0.notified();
            if let Poll::Ready(table) = self.carry_on() {
                return table;
            }
            progress.await;
        }
    }

    /// Polls the call in the name of all who wait.
    fn carry_on(&self) -> Poll<Option<Arc<Table>>> {
        let (table, is_news) = {
            let mut stage = self.stage.lock();
            let is_news = if let Stage::Asking(asking) = &mut *stage {
                let waker = Waker::from(Arc::clone(&self.progress));
                let asked = ready!(asking.as_mut().poll(&mut Context::from_waker(&waker)));
                *stage = asked.map_or_else(|error| Stage::Failed(Some(error)), Stage::Known);
                true
            } else {
                false
            };
            (if let Stage::Known(table) = &*stage { Some(Arc::clone(table)) } else { None }, is_news)
        };
        if is_news {
            self.progress.0.notify_waiters();
        }
        Poll::Ready(table)
    }

    /// # Panics
    /// Unless it has failed, and if it was called before.
    fn error(&self) -> Error {
        let Stage::Failed(error) = &mut *self.stage.lock() else { unreachable!("it has failed") };
        error.take().expect("one has begun it")
    }
}

/// Wakes whoever waits for a description.
#[derive(Default)]
struct Progress(Notify);

impl Wake for Progress {
    fn wake(self: Arc<Self>) {
        self.0.notify_waiters();
    }
}
