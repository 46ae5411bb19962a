//! The replication protocol
//! (<https://www.postgresql.org/docs/current/protocol-replication.html>), blocking: it is made for
//! a thread of its own, where a read costs one system call and no scheduler.
//!
//! [`ReplicationClient`] connects and speaks the commands; [`ReplicationClient::start`] turns it
//! into a [`ReplicationStream`], which yields messages in place out of its receive buffer.

mod auth;
mod buffer;
mod commands;
#[cfg(test)]
mod hostile_tests;
mod socket;
mod startup;
mod stream;
mod wire;

pub use commands::{
    CreateSlot, CreatedSlot, Snapshot, StartOptions, SystemIdentity, TimelineSwitch,
};
pub(crate) use commands::{POSTMASTER_START_TIME, alter_slot_command};
pub use startup::ReplicationClient;
pub use stream::{ReplicationMessage, ReplicationStream, StatusUpdate};
