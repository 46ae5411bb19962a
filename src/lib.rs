//! walhook turns a Postgres database into a webhook source.
//!
//! A committed row change becomes an event such as `person.created`, is written to a local
//! journal, and is delivered as a signed HTTP request to every endpoint that asked for it: in
//! order for each record, at least once, under an id that never changes.
//!
//! # The way of one change
//!
//! ```text
//! Postgres ── capture ──Change──► event rules ──Event──► journal ──► dispatcher ──► HTTP endpoint
//!    ▲        replication            (pure)         (one SQLite file)  per endpoint     │
//!    └─ flushed LSN ◄── durable checkpoint ◄────────────┘  ▲                            │
//!                                                          └──── outcome, attempt ◄─────┘
//! ```
//!
//! # The rooms
//!
//! Imports run one way, from the top of this list to its bottom.
//!
//! - [`cli`]: one file per command; the only room besides `daemon` that sees the whole
//!   configuration.
//! - [`daemon`]: wires the rooms together and owns their tasks and the two-phase stop. It does no
//!   work of its own: it knows neither SQL nor HTTP.
//! - [`config`]: the file as written (raw) becomes the checked configuration (ready), which hands
//!   each room its own options. Secrets redact themselves. It connects to nothing.
//! - [`receiver`]: a local receiver of webhooks that verifies and shows them, for `walhook listen`
//!   and the demo. It knows neither the database nor the journal.
//! - [`delivery`]: one dispatcher per endpoint: order, attempts, retries, signatures. It knows the
//!   journal's sequence numbers and never a log position of Postgres.
//! - [`journal`]: the one durable thing: events, checkpoint, endpoint cursors, deliveries and
//!   attempts in one SQLite file. SQL and row ids stay inside. It knows of endpoints their names and
//!   which events they want, neither their URLs nor their secrets.
//! - [`event`]: turns a change into an event and its JSON. Pure: no I/O, no clock.
//! - [`capture`]: follows a database and yields its changes, transaction by transaction, and is told
//!   what is durable. It knows neither events nor endpoints.
//! - [`source`]: whether a database is ready to be followed, and making it so: the logic of check,
//!   setup and teardown. It knows Postgres only.
//! - [`throwaway`]: a Postgres cluster that lives as long as its owner, for the demo, tests and
//!   benches. It knows nothing of the other rooms but how to connect.
//! - [`postgres`]: log positions, connections, the replication protocol, pgoutput, the catalog. It
//!   never names an event, an endpoint or the journal.
//!
//! Two small files serve several rooms and know none: `clock`, the time as it is stored and shown,
//! and `terminal`, text that is safe to print.

// Where nothing can fail the code is to show it, or to return an error; tests may unwrap.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod capture;
pub mod cli;
mod clock;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod event;
pub mod journal;
pub mod postgres;
pub mod receiver;
pub mod source;
mod terminal;
pub mod throwaway;
