//! A call's way out and its reply's way back: its turn, its frame, and what becomes of both once nobody wants them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use steward_wire::{Effect, Fault, Ident};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Session, State, UNSENT_BYTES_MAX, Which, now_ms};
use crate::core::{After, Class, Reply};
use crate::error::Error;
use crate::request::Request;

/// A call that was refused, and may succeed later, is sent again after so long, and further times after twice as long as the time
/// before, up to the second of these.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// The same of one that waits for this side's acknowledgements, which take milliseconds.
const ROOM_BACK_OFF_MAX: Duration = Duration::from_millis(80);

/// A call under way. Dropping it gives the call up.
pub(crate) struct Flight {
    /// None once the reply was fetched.
    pub(super) session: Option<Arc<Session>>,
    pub(super) seq: u64,
    pub(super) target: (Ident, u64),
    /// Objects that its arguments name, held until it is over.
    pub(super) named: Vec<Ident>,
}

impl Flight {
    /// The reply, or wakes `cx` when it is there.
    ///
    /// # Panics
    /// If it was fetched before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivered, Error>> {
        let session = self.session.as_ref().expect("a reply is fetched once");
        let Some(reply) = session.shared.state.lock().core.fetch(self.seq, cx.waker()) else { return Poll::Pending };
        self.let_go_of_named();
        let session = self.session.take().expect("it was just there");
        Poll::Ready(match reply {
            Ok(reply) => Ok(Delivered { session, reply }),
            Err(ending) => Err(Error::Unknown(ending.unknown())),
        })
    }

    /// Waits for the reply.
    async fn land(&mut self) -> Result<Delivered, Error> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn let_go_of_named(&mut self) {
        if let Some(session) = &self.session
            && !self.named.is_empty()
        {
            session.let_go(std::mem::take(&mut self.named));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.let_go_of_named();
        let Some(session) = &self.session else { return };
        let shared = &session.shared;
        let mut after = After::default();
        {
            let mut state = shared.state.lock();
            let (seq, target) = (self.seq, self.target);
            state.put(|core, out| core.abandon(seq, target, out));
            after.wakers.extend(state.lane(Which::Main));
            shared.put_releases(&mut state, &mut after);
        }
        shared.settle(after);
    }
}

/// When to send a call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Once it is its turn.
    InTurn,
    /// After a while, in which this side acknowledges what keeps the host from answering it.
    Acknowledged,
    /// After a while, if its deadline is later.
    Later,
}

/// A reply in its caller's hands. The objects that it names stay until it is dropped.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) session: Arc<Session>,
    pub(crate) reply: Reply,
}

impl Delivered {
    /// Whether a call is to be sent once more, and when: nothing has happened.
    pub(crate) fn again(&self, class: Class) -> Option<Again> {
        let fault = self.reply.refusal()?;
        match &*fault.kind {
            // One that was sent at once has taken the room which it had waited for.
            "TooManyParked" if class == Class::Parked => Some(Again::InTurn),
            // One that goes by the lane stays there: see `Core::arrive`.
            "TooManyReplies" | "TooManyCalls" if fault.retryable => Some(Again::Acknowledged),
            _ => fault.retryable.then_some(Again::Later),
        }
    }

    /// The same if it is a result, else the error that it is.
    pub(crate) fn returned(self) -> Result<Self, Error> {
        match self.reply.effect {
            Effect::Returned => Ok(self),
            effect => {
                let fault = Fault::read(effect, &self.reply.payload).map_err(Error::malformed::<Fault>)?;
                Err(Error::from_fault(fault))
            }
        }
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        if !self.reply.pins.is_empty() {
            self.session.let_go(std::mem::take(&mut self.reply.pins));
        }
    }
}

impl Session {
    /// Sends a request and waits for its reply, first for its turn if too many are under way. Dropping the future
    /// gives the call up: what the host has not begun never happens, and a lock that is granted all the same is released.
    pub(crate) async fn call(self: &Arc<Self>, class: Class, request: Request) -> Result<Delivered, Error> {
        self.deliver(class, request).await?.returned()
    }

    /// As [`Session::call`], and delivers replies that are no results as well.
    pub(crate) async fn deliver(self: &Arc<Self>, class: Class, request: Request) -> Result<Delivered, Error> {
        // Where as many wait as may, a call need not be one more that does, and may be the one that lets another go. One that
        // lets go of a lock always waits.
        let at_once = class == Class::Parked && !request.lets_go() && self.shared.parked.available_permits() == 0;
        let delivered =
            if at_once { self.deliver_at_once(request).await? } else { self.deliver_in_turn(class, request).await? };
        self.deliver_again(class, delivered).await
    }

    /// Sends a call again for as long as it is refused as one that may succeed later, and has time left. What has no deadline its
    /// caller decides about, unless this side makes the room that it needs: it might be sent for ever.
    pub(crate) async fn deliver_again(
        self: &Arc<Self>,
        class: Class,
        mut delivered: Delivered,
    ) -> Result<Delivered, Error> {
        // From the first refusal on, since a deadline counts from the arrival there.
        let mut until = None;
        let mut back_off = BACK_OFF;
        while let Some(again) = delivered.again(class)
            && let Some(mut request) = delivered.reply.refused.take().and_then(|sent| sent.into_request())
        {
            if again != Again::InTurn {
                let pause = self.dialer.jitter(back_off);
                back_off = (back_off * 2).min(if again == Again::Later { BACK_OFF_MAX } else { ROOM_BACK_OFF_MAX });
                if again == Again::Later {
                    let Some(deadline_ms) = request.deadline_ms() else { break };
                    let until = *until.get_or_insert_with(|| now_ms().saturating_add(*deadline_ms));
                    *deadline_ms = until.saturating_sub(now_ms().saturating_add(pause.as_millis() as u64));
                    if *deadline_ms == 0 {
                        break;
                    }
                }
                // The caller's thread may have no runtime. Should this one have ended, the call says so.
                let _ = self.runtime.spawn(tokio::time::sleep(pause)).await;
            }
            delivered = self.deliver_in_turn(class, request).await?;
        }
        Ok(delivered)
    }

    async fn deliver_in_turn(self: &Arc<Self>, class: Class, request: Request) -> Result<Delivered, Error> {
        let permit = self.permit(class).await?;
        self.launch(permit, class, request).await?.land().await
    }

    /// Delivers a call that may wait while there is no room for such. Until there is, it counts as one that runs: the host
    /// refuses it if it comes to wait, and nothing happened.
    async fn deliver_at_once(self: &Arc<Self>, request: Request) -> Result<Delivered, Error> {
        let permit = self.permit(Class::Running).await?;
        let mut flight = self.launch(permit, Class::Running, request).await?;
        let seq = flight.seq;
        let mut landed = std::pin::pin!(flight.land());
        let permit = tokio::select! {
            biased;
            delivered = &mut landed => return delivered,
            // Whoever has not got its turn when the reply comes leaves the line.
            permit = self.shared.parked.acquire() => permit,
        };
        if let Ok(permit) = permit
            && self.shared.state.lock().core.reclassify(seq, Class::Parked)
        {
            permit.forget();
            self.shared.running.add_permits(1);
        }
        landed.await
    }

    fn is_large(&self, request: &Request) -> bool {
        request.bytes_max() > self.shared.limits.bulk_bytes_min
    }

    async fn launch(
        self: &Arc<Self>,
        permit: SemaphorePermit<'_>,
        class: Class,
        request: Request,
    ) -> Result<Flight, Error> {
        let bytes = request.bytes_max();
        let limit = self.shared.limits.request_bytes_max;
        if bytes > limit {
            return Err(Error::Encode(format!("request is {bytes} bytes, limit is {limit}")));
        }
        if self.is_large(&request) {
            self.send_bulk(permit, class, request).await
        } else {
            self.send(permit, class, request).await
        }
    }

    fn permits(&self, class: Class) -> &Semaphore {
        match class {
            Class::Running => &self.shared.running,
            Class::Parked => &self.shared.parked,
        }
    }

    async fn permit(&self, class: Class) -> Result<SemaphorePermit<'_>, Error> {
        let semaphore = self.permits(class);
        match semaphore.try_acquire() {
            Ok(permit) => Ok(permit),
            Err(_) => semaphore.acquire().await.map_err(|_| self.is_usable(&self.shared.state.lock()).unwrap_err()),
        }
    }

    /// Whether new calls may be sent.
    pub(super) fn is_usable(&self, state: &State) -> Result<(), Error> {
        match (state.core.ended(), &state.draining) {
            (Some(ending), _) => Err(self.shared.lost(&ending.cause)),
            (None, Some(reason)) => Err(self.shared.lost(&format!("host is going away: {reason}"))),
            // It would come behind the goodbye.
            (None, None) if state.closing => Err(self.shared.lost("session was closed")),
            (None, None) => Ok(()),
        }
    }

    /// Waits for room in a lane, should there be one, and calls `then` under the lock.
    pub(super) async fn with_room<R>(&self, which: Which, mut then: impl FnMut(&mut State) -> R) -> Result<R, Error> {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            self.is_usable(&state)?;
            if let Some(pipe) = &mut state.pipes[which as usize]
                && pipe.unsent() >= UNSENT_BYTES_MAX
            {
                pipe.room.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(then(&mut state)))
        })
        .await
    }

    async fn send(
        self: &Arc<Self>,
        permit: SemaphorePermit<'_>,
        class: Class,
        request: Request,
    ) -> Result<Flight, Error> {
        let target = request.target();
        let mut request = Some(request);
        let sent = self
            .with_room(Which::Main, |state| state.send(class, request.take().expect("a request is sent once"), None));
        let (seq, lane) = sent.await?;
        permit.forget();
        lane.into_iter().for_each(Waker::wake);
        Ok(Flight { session: Some(Arc::clone(self)), seq, target, named: Vec::new() })
    }

    /// Sends a request that need not wait for its turn, and has `waker` woken for the reply. Gives it back where it must wait, or
    /// cannot be sent: [`Session::deliver`] does that, or says why.
    pub(crate) fn send_now(self: &Arc<Self>, class: Class, request: Request, waker: &Waker) -> Result<Flight, Request> {
        let limits = &self.shared.limits;
        if request.bytes_max() > limits.bulk_bytes_min.min(limits.request_bytes_max) {
            return Err(request);
        }
        let Ok(permit) = self.permits(class).try_acquire() else { return Err(request) };
        let target = request.target();
        let (seq, lane) = {
            let mut state = self.shared.state.lock();
            let has_room =
                state.pipes[Which::Main as usize].as_ref().is_some_and(|pipe| pipe.unsent() < UNSENT_BYTES_MAX);
            if !has_room || self.is_usable(&state).is_err() {
                return Err(request);
            }
            state.send(class, request, Some(waker))
        };
        permit.forget();
        lane.into_iter().for_each(Waker::wake);
        Ok(Flight { session: Some(Arc::clone(self)), seq, target, named: Vec::new() })
    }
}
