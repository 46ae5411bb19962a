//! Following by triggers that fill an outbox: what there is of that in the database, and what there
//! should be.

pub(super) mod check;
mod facts;
mod orders;
pub(super) mod status;
pub(super) mod switch;
mod wish;

pub(super) use check::findings;
pub(super) use facts::gather;
pub(super) use orders::{Followed, followed, is_only_outdated, setup, steps, teardown};
