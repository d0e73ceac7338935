//! Large calls: each takes a stream of its own, or on a Unix socket a further connection, so that small ones do not wait behind it.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::{Flight, Pipe, Session, Shared, Which};
use crate::connect::{Dialer, Link};
use crate::core::Class;
use crate::error::Error;
use crate::lane::Lane;
use crate::request::Request;

/// Bulk calls that are being sent at once; further callers wait. Each fills its stream's window, of which the host gives 256 KiB
/// each and four together: the lane always finds room.
pub(super) const BULK_CALLS_MAX: usize = 3;

impl Session {
    pub(super) async fn send_bulk(
        self: &Arc<Self>,
        permit: SemaphorePermit<'_>,
        class: Class,
        request: Request,
    ) -> Result<Flight, Error> {
        // One permit for each call while it is being sent: that bounds the frames in memory.
        let _sending = self.bulk.acquire().await.expect("the semaphore is never closed");
        let target = request.target();
        let mut named = request.named();
        let seq = {
            let mut state = self.shared.state.lock();
            self.is_usable(&state)?;
            state.core.send_bulk(class, target, &mut named)
        };
        permit.forget();
        let flight = Flight { session: Some(Arc::clone(self)), seq, target, named };
        let mut frame = Vec::with_capacity(request.bytes_max());
        request.frame(seq).put(None, &mut frame);
        drop(request);
        let frame = Bytes::from(frame);
        // From here on every new connection sends it again, so that what goes wrong with this one does not matter.
        self.shared.state.lock().core.made(seq, frame.clone());
        match self.dialer.is_quic() {
            true => self.shared.send_stream(frame).await,
            false => self.send_further(frame).await,
        }
        Ok(flight)
    }

    /// Sends a frame by the further connection of a session on a Unix socket, which is made for the first one.
    async fn send_further(&self, frame: Bytes) {
        // The caller's thread may have no runtime: dialling needs one. The task is joined here.
        let (shared, dialer) = (Arc::clone(&self.shared), Arc::clone(&self.dialer));
        let made = self.runtime.spawn(async move { shared.further_connection(&dialer).await }).await;
        if !matches!(made, Ok(true)) {
            return;
        }
        let sent = self.with_room(Which::Bulk, |state| {
            let pipe = state.pipes[Which::Bulk as usize].as_mut()?;
            pipe.out.extend_from_slice(&frame);
            pipe.waker.clone()
        });
        if let Ok(Some(lane)) = sent.await {
            lane.wake();
        }
    }
}

impl Shared {
    /// Sends a frame on a stream of its own. Should that fail the connection is lost, and the next one sends it again.
    pub(crate) async fn send_stream(&self, frame: Bytes) {
        let Some(quic) = self.state.lock().quic.clone() else { return };
        let Ok((send, receive)) = quic.open_bi().await else { return };
        let mut send = ResetOnDrop(Some(send));
        if send.write_all(frame).await.is_err() {
            return;
        }
        let lane = {
            let mut state = self.state.lock();
            state.adopted.push((quic.stable_id(), receive));
            state.lane(Which::Main)
        };
        lane.into_iter().for_each(Waker::wake);
    }

    /// Makes the further connection of a session on a Unix socket, if there is none; says whether there is one now.
    pub(crate) async fn further_connection(self: &Arc<Self>, dialer: &Arc<Dialer>) -> bool {
        let mut dialling = dialer.begin().await;
        let generation = {
            let state = self.state.lock();
            if !state.is_connected() || state.pipes[Which::Bulk as usize].is_some() {
                return state.is_connected();
            }
            state.generation
        };
        match dialling.dial().await {
            Ok(Link { sink, frames, .. }) => {
                let mut state = self.state.lock();
                if state.generation != generation || !state.is_connected() {
                    return false;
                }
                state.pipes[Which::Bulk as usize] = Some(Pipe::new(sink));
                drop(state);
                tokio::spawn(Lane::run_further(Arc::clone(self), frames, generation));
                true
            }
            Err(error) => {
                self.break_off(generation, &error.to_string());
                false
            }
        }
    }

    /// Sends again what goes by other ways than the lane.
    pub(crate) async fn send_again(self: &Arc<Self>, dialer: &Arc<Dialer>, frames: Vec<Bytes>) {
        for frame in frames {
            if dialer.is_quic() {
                self.send_stream(frame).await;
            } else if self.further_connection(dialer).await {
                let lane = {
                    let mut state = self.state.lock();
                    // The frames are kept anyway until their replies are there, so room is not waited for.
                    let pipe = state.pipes[Which::Bulk as usize].as_mut();
                    pipe.map(|pipe| {
                        pipe.out.extend_from_slice(&frame);
                        pipe.waker.clone()
                    })
                };
                lane.flatten().into_iter().for_each(Waker::wake);
            }
        }
    }
}

/// A bulk call's stream: given up before all of it is written, it is reset, so that no half frame looks whole.
struct ResetOnDrop(Option<quinn::SendStream>);

impl ResetOnDrop {
    async fn write_all(&mut self, bytes: Bytes) -> Result<(), quinn::WriteError> {
        if let Some(stream) = &mut self.0 {
            stream.write_chunk(bytes).await?;
        }
        // From here on dropping it finishes it, which sends what is buffered.
        self.0.take().map_or(Ok(()), |mut stream| stream.finish().map_err(Into::into))
    }
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            let _ = stream.reset(0u32.into());
        }
    }
}
