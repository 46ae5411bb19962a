//! Tests of the real binary on real Postgres servers and real HTTP, one module a theme.

mod cli_plain;
