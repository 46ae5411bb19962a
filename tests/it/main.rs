//! Tests of the real binary on real Postgres servers and real HTTP, one module a theme.

mod catalog;
mod check;
mod crash;
mod harness;
mod harness_itself;
mod hostile;
mod outage;
mod refusals;
mod setup;
mod shutdown;
mod tpcb;
