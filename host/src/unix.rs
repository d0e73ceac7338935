//! The Unix socket: the same lanes and the same sign-in for clients on this machine.
//!
//! The socket lies in a directory that only its user may enter, and the peer's credentials must agree with what it says of
//! itself: this protects against strangers, not against the same user.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steward_wire::auth::Channel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::host::Tenants;
use crate::lane::{self, Lane, LaneEnd, LaneKind};
use crate::peers::{Admission, Peers};
use crate::sign_in::{self, Peer};

/// How long accepting rests after the system refused, out of descriptors for example.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// A bound socket; its path is removed with it.
pub(crate) struct UnixSocket {
    listener: StdListener,
    path: PathBuf,
}

impl UnixSocket {
    /// Binds `path`, whose directory is made for this user alone if it is missing. A socket left behind by a host that is gone
    /// is replaced.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let (mode, owner) = std::fs::metadata(directory).map(|meta| (meta.mode() & 0o777, meta.uid()))?;
            if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
                let message =
                    format!("directory {} must be this user's with mode 0700, is {mode:04o}", directory.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
        let listener = match StdListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if StdStream::connect(path).is_ok() {
                    let message = "a host listens there already";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
                }
                std::fs::remove_file(path)?;
                StdListener::bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves a bound socket until the host ends.
pub(crate) async fn serve(tenants: Arc<Tenants>, peers: Arc<Peers>, socket: UnixSocket) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    let mut ending = tenants.shared.ending.subscribe();
    let mut connections = JoinSet::new();
    loop {
        // Both branches only wait; nothing is lost when one is dropped.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    while connections.try_join_next().is_some() {}
                    // Dropping the stream is the refusal: there is no place even to say so.
                    let Some(admission) = peers.admit(None) else { continue };
                    connections.spawn(connection(tenants.clone(), peers.clone(), stream, admission));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
            _ = ending.wait_for(Option::is_some) => break,
        }
    }
    drop((listener, socket));
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(tenants.shared.limits.drain_ms), drained).await;
    Ok(())
}

async fn connection(tenants: Arc<Tenants>, peers: Arc<Peers>, mut stream: UnixStream, mut admission: Admission) {
    let limits = &tenants.shared.limits;
    let Ok(credentials) = stream.peer_cred() else { return };
    let name = format!("uid {} pid {}", credentials.uid(), credentials.pid().unwrap_or_default());
    let (mut reader, mut writer) = stream.split();
    let peer = Peer { name, source: None, channel: Channel::Unix { client_uid: credentials.uid() } };
    let signing = sign_in::serve(&tenants, &peers, peer, &mut reader, &mut writer);
    let signed = match tokio::time::timeout(Duration::from_millis(limits.sign_in_ms), signing).await {
        Ok(Ok(signed)) => signed,
        Ok(Err(error)) => return tracing::debug!(%error, "sign-in failed"),
        Err(_) => return tracing::debug!("signing in took too long"),
    };
    admission.signed_in();
    let session = signed.session;
    let lane = Lane::new(limits, LaneKind::Whole);
    session.attach(&lane);
    let death = credentials.pid().and_then(process_death);
    let mut no_bulk = |_| {};
    let serving = lane::serve(&mut reader, &mut writer, signed.received, &lane, &session, &mut no_bulk);
    // A process may be dead while a fork of it still holds the socket. What it sent before, a goodbye perhaps, counts.
    let end = tokio::select! {
        biased;
        end = serving => end,
        () = ended(death.as_ref()) => {
            session.end(false);
            return tracing::debug!(session = session.id, "client's process has ended");
        }
    };
    tracing::debug!(session = session.id, reason = %end, "lane ended");
    if matches!(end, LaneEnd::Done) || session.is_ended() {
        return;
    }
    // A closed socket alone proves nothing: the client may come back, and is then looked after where it did. A dead process
    // does not. Meanwhile the socket is of no use to anybody.
    drop((stream, lane));
    let attached = session.attached.notified();
    if !session.lanes().is_empty() {
        return;
    }
    let mut ending = tenants.shared.ending.subscribe();
    let lease = Duration::from_millis(limits.lease_ms);
    tokio::select! {
        () = ended(death.as_ref()) => session.end(false),
        () = attached => {}
        _ = ending.wait_for(Option::is_some) => {}
        () = tokio::time::sleep(lease) => {}
    }
}

/// Becomes readable when a process ends; `None` where the system does not tell.
#[expect(
    deprecated,
    reason = "an owned descriptor keeps its number, which is what the sound way makes unsafe code promise"
)]
fn process_death(pid: i32) -> Option<AsyncFd<OwnedFd>> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    let death = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()?;
    AsyncFd::with_interest(death, Interest::READABLE).ok()
}

/// Waits for the end of a process.
async fn ended(death: Option<&AsyncFd<OwnedFd>>) {
    match death {
        Some(death) if death.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
