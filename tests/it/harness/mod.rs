//! What the tests share: servers, the daemon, a receiver, load, and waiting without sleeping.

mod capture;
mod cluster;
mod counters;
mod daemon;
mod receiver;
mod request;
mod signature;
mod tpcb;
mod wait;
mod workspace;

pub(crate) use capture::{Capture, under_both_captures};
pub(crate) use cluster::{Database, execute, lag_bytes, slot_state};
pub(crate) use counters::Counters;
pub(crate) use daemon::{Daemon, Finished};
pub(crate) use receiver::{Answer, Receiver};
pub(crate) use request::{Request, position_of};
pub(crate) use tpcb::{TABLES as TPC_B_TABLES, TpcB};
pub(crate) use wait::{eventually, pause};
pub(crate) use workspace::{SECRET, Workspace, finish};
