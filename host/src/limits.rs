//! Every bound of a host, with its default and what happens when it is reached.

/// Bounds of a host. [`Limits::shared`] is for hosts that serve several people, [`Limits::private`]
/// for one that a program starts for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest frame from a client, without its length. A larger one closes the connection.
    pub request_bytes_max: usize,
    /// Largest frame to a client. A larger result is replaced by a raised `ReplyTooLarge`.
    pub reply_bytes_max: usize,
    /// Frames above this travel on a stream of their own where the transport has streams.
    pub bulk_bytes_min: usize,
    /// Nesting of a received item. A deeper one closes the connection.
    pub depth_max: u32,
    /// Items in a received frame. More close the connection.
    pub items_max: u64,
    /// Time for a frame to arrive once its first byte has, and for a peer to take some more of what it is sent. Then the connection
    /// closes.
    pub frame_ms_max: u64,
    /// Bytes that wait to be sent on a lane before the host stops reading from it.
    pub unsent_bytes_max: usize,

    /// Connections of all transports. More are refused.
    pub connections_max: usize,
    /// Connections of one network source (a /24 or /56). More are refused.
    pub connections_per_source_max: usize,
    /// Connections that have not signed in. More are refused.
    pub half_open_max: usize,
    /// Half-open QUIC connections above which a peer must first prove its address (RFC 9000, section 8.1.2).
    pub half_open_retry: usize,
    /// Streams that a client may have open at once. Further ones wait, on its side.
    pub streams_max: u32,
    /// Streams that a client may open in a second, those that it resets included, once it has opened `stream_opens_burst_max`.
    /// Further ones wait; its lane is served meanwhile.
    pub stream_opens_per_s_max: u32,
    /// Streams that a client may open at once before that counts.
    pub stream_opens_burst_max: u32,
    /// Receive window of one QUIC stream.
    pub stream_window_bytes: u32,
    /// Receive window of a signed-in QUIC connection.
    pub connection_window_bytes: u32,
    /// Send window of a QUIC connection.
    pub send_window_bytes: u64,
    /// Silence after which a QUIC connection is given up.
    pub idle_ms: u64,
    /// Silence after which a QUIC connection is probed.
    pub keep_alive_ms: u64,

    /// Time to sign in. Then the connection closes.
    pub sign_in_ms: u64,
    /// Least time that a failed sign-in takes.
    pub sign_in_failure_ms_min: u64,
    /// Failed sign-ins of one source with one key in a minute. Further ones wait, up to a minute.
    pub sign_in_failures_max: u32,

    /// How long a silent session lives.
    pub lease_ms: u64,
    /// How long an object whose token left its session lives without anything that keeps it.
    pub token_grace_ms: u64,
    /// Calls of a session that run and do not wait. The client keeps to it by waiting; more are refused, retryably.
    pub calls_running_max: u32,
    /// Calls of a session that wait or may wait, until their replies are acknowledged. One that may is let in beyond it as one
    /// that runs; if it comes to wait it is refused, retryably.
    pub calls_parked_max: u32,
    /// Replies of a session to other calls that are not acknowledged. The client keeps to it; further calls are refused, retryably.
    pub reply_rows_max: u32,
    /// Bytes of those.
    pub reply_row_bytes_max: u64,

    /// Sessions of a tenant. More are refused at sign-in.
    pub sessions_max: usize,
    /// Objects of a tenant. Creating more is refused.
    pub objects_max: usize,
    /// Bytes that a tenant may keep: what its objects store, replies that are not acknowledged, calls that wait for a busy object. Beyond
    /// them calls that may store more are refused, retryably.
    pub tenant_bytes_max: u64,
    /// Components that a tenant's clients on other machines may have compiled in an hour. More are refused, retryably. What comes by the
    /// Unix socket does not count: it comes from who runs the host.
    pub uploads_per_hour_max: usize,
    /// Calls parked on one object. More are refused, retryably.
    pub waiters_max: usize,
    /// Inputs that wait for one object while it is being stepped. More calls are refused, retryably.
    pub inbox_max: usize,
    /// Plugins' steps at once, of types that are not known to be quick; those run where their calls arrive. More wait, and
    /// tenants take turns.
    pub guest_steps_max: usize,
    /// Of these a tenant's; one less than all at most, if there are several. More wait.
    pub guest_steps_per_tenant_max: usize,
    /// How long a draining host waits for its clients to take what it sent.
    pub drain_ms: u64,
}

impl Limits {
    /// For hosts that serve several people: `steward serve`.
    pub fn shared() -> Self {
        Self {
            request_bytes_max: 1 << 20,
            reply_bytes_max: 4 << 20,
            bulk_bytes_min: 64 << 10,
            depth_max: 32,
            items_max: 65_536,
            frame_ms_max: 10_000,
            unsent_bytes_max: 1 << 20,
            connections_max: 20_000,
            connections_per_source_max: 256,
            half_open_max: 1_000,
            half_open_retry: 200,
            streams_max: 64,
            stream_opens_per_s_max: 2_000,
            stream_opens_burst_max: 4_000,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 1 << 20,
            send_window_bytes: 1 << 20,
            idle_ms: 30_000,
            keep_alive_ms: 10_000,
            sign_in_ms: 5_000,
            sign_in_failure_ms_min: 250,
            sign_in_failures_max: 5,
            lease_ms: 10_000,
            token_grace_ms: 10_000,
            calls_running_max: 256,
            calls_parked_max: 10_000,
            reply_rows_max: 1_024,
            reply_row_bytes_max: 8 << 20,
            sessions_max: 2_000,
            objects_max: 10_000,
            tenant_bytes_max: 256 << 20,
            uploads_per_hour_max: 10,
            waiters_max: 10_000,
            inbox_max: 20_000,
            guest_steps_max: 64,
            guest_steps_per_tenant_max: 8,
            drain_ms: 5_000,
        }
    }

    /// For a host that a program starts for itself: CPython's managers know no limits, so these only
    /// keep accidents from taking the machine.
    pub fn private() -> Self {
        Self {
            request_bytes_max: 256 << 20,
            reply_bytes_max: 256 << 20,
            items_max: 50_000_000,
            objects_max: 1_000_000,
            tenant_bytes_max: half_of_memory(),
            // Its tenant is alone.
            guest_steps_per_tenant_max: 64,
            uploads_per_hour_max: usize::MAX,
            ..Self::shared()
        }
    }

    pub(crate) fn check(&self) -> steward_wire::Limits {
        steward_wire::Limits { depth_max: self.depth_max, items_max: self.items_max }
    }
}

/// Half of the machine's memory.
fn half_of_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into()) / 2
}
