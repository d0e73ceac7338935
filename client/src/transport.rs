//! What both ends of a QUIC connection set alike: how often packets are acknowledged, and what is known of the path to this
//! machine itself. Public for the host alone.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn::{AckFrequencyConfig, TransportConfig, VarInt};
use quinn_proto::RttEstimator;

/// Packets that the peer may receive before it acknowledges.
const ACK_ELICITING_THRESHOLD: u32 = 10;
/// First size of packets to this machine itself, where the path is known; 12,000 and more hang.
const LOOPBACK_MTU: u16 = 6_500;

/// The settings that both ends share. `is_loopback`: the peer is on this machine.
pub fn transport(is_loopback: bool) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_ELICITING_THRESHOLD));
    let mut transport = TransportConfig::default();
    transport.datagram_receive_buffer_size(None).ack_frequency_config(Some(acks));
    if is_loopback {
        transport.initial_mtu(LOOPBACK_MTU).congestion_controller_factory(Arc::new(Loopback));
    }
    transport
}

/// Makes the [`Controller`] of a connection within this machine: nothing is held back until something was lost.
///
/// quinn paces what it sends, by a timer of a millisecond, and everything of a connection at once: a small frame would wait
/// with a large one. A loopback interface has no queue to protect but the receiver's socket, which flow control keeps
/// from overflowing unless very many send at a time. When it does, a packet is lost, and Cubic takes over for good.
struct Loopback;

impl ControllerFactory for Loopback {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Lossless { cubic: Arc::new(CubicConfig::default()).build(now, current_mtu), has_lost: false })
    }
}

/// quinn does not pace within windows beyond 4 GiB.
const UNPACED: u64 = 1 << 40;

struct Lossless {
    cubic: Box<dyn Controller>,
    has_lost: bool,
}

impl Controller for Lossless {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.has_lost = true;
        self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.has_lost { self.cubic.window() } else { UNPACED }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), has_lost: self.has_lost })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is paced until a packet is lost; then the window is Cubic's, also for a path that follows this one.
    #[test]
    fn first_loss_hands_over_to_cubic() {
        let now = Instant::now();
        let mut controller = Arc::new(Loopback).build(now, LOOPBACK_MTU);
        assert!(controller.window() > u64::from(u32::MAX));
        controller.on_congestion_event(now, now, false, 6_500);
        let window = controller.window();
        assert!(window <= u64::from(u32::MAX), "{window} after a loss");
        assert_eq!(controller.clone_box().window(), window);
    }
}
