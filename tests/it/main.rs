//! Tests of the real binary on real Postgres servers and real HTTP, one module a theme.

mod catalog;
mod check;
mod cli_plain;
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
mod replication_client;
mod setup;
mod shutdown;
mod tables;
mod tpcb;
