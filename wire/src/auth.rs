//! The sign-in handshake as pure functions.
