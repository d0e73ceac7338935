//! Addresses of hosts.
