//! Tests of the real binary on real Postgres servers and real HTTP, one module a theme.

mod catalog;
mod check;
mod cli_plain;
mod commands;
mod crash;
mod data;
mod demo;
mod encodings;
mod harness;
mod harness_itself;
mod hazards;
mod hostile;
mod origins;
mod outage;
mod publication;
mod refusals;
mod rendering;
mod replication_client;
mod reports;
mod row_filters;
mod setup;
mod shutdown;
mod standby;
mod tables;
mod tpcb;
mod versions;
