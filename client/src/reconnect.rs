//! A session's connections, one after the other, until it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::connect::{DialError, Dialer, Link};
use crate::core::Ending;
use crate::events::SessionEvent;
use crate::lane::{Frames, Lane};
use crate::session::{Shared, now_ms};

/// The first attempt is made at once, the second after so long, and each further one after twice as long as the one before,
/// up to the second of these.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// How long whoever closes a session waits for its goodbye to be heard.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Ends the session should its runtime be shut down under it, so that no caller waits for ever.
struct Task(Arc<Shared>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.end(Ending { cause: "the runtime of its connection was shut down".into() });
    }
}

/// Serves a session until it ends.
pub(crate) async fn serve(session: Arc<Shared>, dialer: Arc<Dialer>, mut frames: Frames) {
    let _task = Task(Arc::clone(&session));
    let mut quic = session.quic();
    let mut closed = std::pin::pin!(closed(&session));
    loop {
        // A lane that is dropped has had its time to say goodbye. Nothing else is lost with it.
        let served = tokio::select! {
            served = Lane::run_main(&session, frames, quic) => served,
            () = &mut closed => Ok("session was closed, and the host does not answer".into()),
        };
        let cause = match served {
            Ok(cause) => return session.end(Ending { cause }),
            Err(cause) => cause,
        };
        session.unplugged();
        session.tell(&SessionEvent::Lost { cause });
        let link = tokio::select! {
            link = reconnect(&session, &dialer) => link,
            () = &mut closed => Err("session was closed while it had no connection".into()),
        };
        match link {
            Ok((link, since_ms)) => {
                quic = link.quic.clone();
                let bulk = session.plug(link.sink, link.quic, since_ms);
                frames = link.frames;
                if !bulk.is_empty() {
                    let (session, dialer) = (Arc::clone(&session), Arc::clone(&dialer));
                    // Ends with the connection, whose loss it then leaves to the lane.
                    tokio::spawn(async move { session.send_again(&dialer, bulk).await });
                }
            }
            Err(cause) => return session.end(Ending { cause }),
        }
    }
}

/// Waits until nobody uses the session any more, and then for a lease: after that a goodbye is of no use.
async fn closed(session: &Shared) {
    loop {
        let told = session.closing.notified();
        if session.state.lock().closing {
            tokio::time::sleep(GOODBYE_MAX).await;
            session.leave();
            let lease = Duration::from_millis(session.limits.lease_ms);
            return tokio::time::sleep(lease.saturating_sub(GOODBYE_MAX)).await;
        }
        told.await;
    }
}

/// Makes a new connection for the session and when its sign-in was begun; the error says why it has ended instead.
async fn reconnect(session: &Shared, dialer: &Dialer) -> Result<(Link, u64), String> {
    let start = Instant::now();
    let mut back_off = BACK_OFF;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let since_ms = now_ms();
        let mut dialling = dialer.begin().await;
        let dialled = tokio::select! {
            dialled = dialling.dial() => dialled,
            never = doubt(session) => match never {},
        };
        let cause = match dialled {
            Ok(link) => {
                session.tell(&SessionEvent::Resumed { after: start.elapsed(), attempts });
                return Ok((link, since_ms));
            }
            Err(DialError::Over(error)) => return Err(error.to_string()),
            Err(DialError::Failed(error)) => error.to_string(),
        };
        drop(dialling);
        if start.elapsed() >= dialer.patience() {
            return Err(format!("not connected again within {} ms: {cause}", dialer.patience().as_millis()));
        }
        tracing::debug!(address = %session.address, attempts, cause, "not connected again yet");
        let until = Instant::now() + dialer.jitter(back_off);
        tokio::select! {
            () = sleep_until(until) => {}
            never = doubt(session) => match never {},
        }
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Looks at the lease while there is no connection to do so.
async fn doubt(session: &Shared) -> std::convert::Infallible {
    loop {
        let until_ms = session.look_at_lease();
        match until_ms.checked_sub(now_ms()) {
            Some(left @ 1..) => tokio::time::sleep(Duration::from_millis(left)).await,
            _ => std::future::pending().await,
        }
    }
}
