//! The ways in which a change stream goes wrong, each provoked against a real server.
//!
//! | | what goes wrong, and what walhook does | test |
//! |---|---|---|
//! | 1 | The wrong position acknowledged, or one too early: it is the end of a commit, and never beyond what the journal holds durably. | `position::hazard_1_…` |
//! | 2 | A server that crashed rewinds the slot: the stream starts from walhook's own checkpoint, so nothing comes again. | `outage::hazard_2_…` |
//! | 3 | The slot has gone past the checkpoint, and the server skips what lies between without a word: the two are compared once the stream has started, and a gap is refused. | `refusals::hazard_3_…` |
//! | 4 | The checkpoint is ahead of the server, or on a history the server left: compared before the start, and refused. | `refusals::hazard_4_…` (a standby promoted in time: `standby`) |
//! | 5 | Log positions are shared by rows: an id is made of cluster, database, commit and ordinal, and a replay gives the same bytes. | `position::hazard_5_…`, and every [`story`] |
//! | 6 | Rows lie in the log in another order than that of their commits: commits decide. | `position::hazard_6_…` |
//! | 7 | A snapshot overlaps the stream: snapshots are not built yet, so there is none to test. | |
//! | 8 | The server drops a reader that is silent because an endpoint is slow: feedback has its own timer. | `outage::hazard_8_…` |
//! | 9 | A reader that never confirms holds up the server's shutdown: what is in the journal is confirmed, whatever endpoints do. | `shutdown::hazard_9_…` |
//! | 10 | An idle database pins the log of its neighbours: the position of keepalives is confirmed, and stored. | `refusals::hazard_10_…` |
//! | 11 | The slot is lost or dropped: refused, never made again silently; the danger is shown before. | `refusals::hazard_11_…`, `liveness::hazard_11_…` (`idle_replication_slot_timeout`: `standby`) |
//! | 12 | Making a slot hangs behind an open transaction: whose it is is said. | `liveness::hazard_12_…` |
//! | 13 | The slot is still held by a connection that is gone: it is waited for. | `liveness::hazard_13_…` |
//! | 14 | Large transactions fill the memory, or come though they are rolled back: sent when committed, journaled piece by piece. | `liveness::hazard_14_…` |
//! | 15 | Large values that were not touched are not sent: taken from the old row, or named under `unchanged`; never null. | `data::hazard_15_…` |
//! | 16 | The columns beside a replica identity look null in old rows: they are left out. An identity that tells less than one thinks is warned of, and one that would break the application's updates is not published. | `data::hazard_16_…` |
//! | 17 | A key changes: one event, in the order of both records; across partitions Postgres makes it a deletion and a creation. | `data::hazard_17_…`, `partitions::hazard_17_…` |
//! | 18 | The table changes its shape: each row is read by the description the stream gives of its time. (Only types are asked of the catalog: values of one that was dropped meanwhile come as their text.) | `ddl::hazard_18_…` |
//! | 19 | Partitions come under their root's name or their own: as the publication says, and `check` and the daemon say what stays silent. (Up to 14, the server does not notice in a running stream that a partition was attached or detached: warned of.) | `partitions::hazard_19_…` |
//! | 20 | One TRUNCATE is about many tables: one event for each. | `data::hazard_20_…`, `partitions::hazard_20_…` |
//! | 21 | The publication changes, or is gone for a while, and what was not published then never comes: followed as it changes, and refused when it is gone. | `publication::hazard_21_…`, `refusals::hazard_21_…` |
//! | 22 | Generated columns are not sent: `check` says so. | `generated::hazard_22_…` |
//! | 23 | Prepared transactions: they come when they are committed. | `data::hazard_23_…` |
//! | 24 | Messages outside of transactions come at once and even if rolled back: they have ids of their own. | `data::hazard_24_…` |
//! | 25 | Changes that were themselves replicated come back. | `origins::hazard_25_…` |
//! | 26 | Settings of role and database change the text of values: pinned. | `encoding::hazard_26_…` |
//! | 27 | Types beside the common ones: as `to_jsonb` renders them. | `rendering` |
//! | 28 | A database without an encoding holds what is not UTF-8. | `encodings` |
//! | 29 | A failover without the slot is a gap. | `standby` |
//! | 30 | The ways to log in: all that libpq has, for both connections. | `replication_client::connecting::hazard_30_…` |
//! | 31 | Poolers that do not pass replication on: named in the error. | `connections::hazard_31_…` |
//! | 32 | Timeouts of the database end idle sessions: switched off for ours. | `connections::hazard_32_…` |
//! | 33 | A clone with the production's configuration: refused by its system identifier; a physical copy shares that and is refused for its missing or younger slot. (A copy of everything, with slots and journal, in the very state of the original, cannot be told from it.) | `refusals::hazard_33_…`, `connections::hazard_33_…` |
//! | 34 | Clocks are wrong: nothing is ordered by them, and every attempt is signed with the daemon's own. | `connections::hazard_34_…` |

use std::time::Duration;

use crate::harness::Database;

mod connections;
mod data;
mod ddl;
mod encoding;
mod generated;
mod liveness;
mod partitions;
mod position;
mod publication;
mod story;

pub(crate) use story::{Story, summary};

const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the server is of this major version or a newer one.
pub(crate) async fn is_at_least(database: &Database, major: i32) -> bool {
    let sql = "select current_setting('server_version_num')::int4 / 10000";
    database.client().await.query_one(sql, &[]).await.unwrap().get::<_, i32>(0) >= major
}
