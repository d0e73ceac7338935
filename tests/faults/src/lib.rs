//! The fault kit: clients and a host whose network and processes fail as a seed tells, and the check of what they saw.
//!
//! [`kit`] is a run with many client processes, [`cuts`] one with a single client whose replies are cut. [`udp`] and [`cutter`] are
//! the networks that fail, [`schedule`] says when, [`work`] what clients do meanwhile.

#![forbid(unsafe_code)]

pub mod caller;
pub mod client;
pub mod cuts;
pub mod cutter;
pub mod host;
pub mod journal;
pub mod kit;
pub mod objects;
pub mod process;
pub mod schedule;
pub mod udp;
pub mod work;
