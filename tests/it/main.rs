//! Tests of the real binary on real Postgres servers and real HTTP, one module a theme.

mod catalog;
mod check;
mod commands;
mod crash;
mod data;
mod demo;
mod harness;
mod harness_itself;
mod hostile;
mod outage;
mod refusals;
mod rendering;
mod setup;
mod shutdown;
mod tpcb;
