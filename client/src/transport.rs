//! What both ends of a QUIC connection set alike. Public for the host alone.

use quinn::{AckFrequencyConfig, TransportConfig, VarInt};

/// Packets that the peer may receive before it acknowledges.
const ACK_ELICITING_THRESHOLD: u32 = 10;
/// First size of packets to this machine itself, where the path has no smaller links; 12,000 and more stall in the kernel.
const LOOPBACK_MTU: u16 = 6_500;

/// The settings that both ends share. `is_loopback`: the peer is on this machine.
pub fn transport(is_loopback: bool) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_ELICITING_THRESHOLD));
    let mut transport = TransportConfig::default();
    transport.datagram_receive_buffer_size(None).ack_frequency_config(Some(acks));
    if is_loopback {
        transport.initial_mtu(LOOPBACK_MTU);
    }
    transport
}
