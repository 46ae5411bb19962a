//! The two ways of capture, and how one test runs under each.

use tokio_postgres::Client;

use super::{Database, lag_bytes, slot_state};

/// How a daemon learns of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    /// From a replication slot.
    Replication,
    /// From a table that triggers fill.
    Outbox,
}

impl Capture {
    /// A database of the test's own that is to be followed this way.
    pub(crate) async fn database(self) -> Database {
        Database::create().await.captured_by(self)
    }

    /// As the configuration and events write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Capture::Replication => "replication",
            Capture::Outbox => "outbox",
        }
    }

    /// The server's process behind the daemon at work: the walsender of the slot, or who holds the
    /// outbox, once the triggers are there.
    pub(crate) async fn reader(self, client: &Client, slot: &str) -> Option<i32> {
        match self {
            Capture::Replication => slot_state(client, slot).await?.reader,
            Capture::Outbox => drainer(client).await,
        }
    }

    /// What the daemon has not taken for good: bytes of the log, or rows of the outbox.
    pub(crate) async fn left_behind(self, client: &Client, slot: &str) -> i64 {
        match self {
            Capture::Replication => lag_bytes(client, slot).await,
            Capture::Outbox => {
                let sql = "select count(*) from walhook.outbox";
                client.query_one(sql, &[]).await.unwrap().get(0)
            }
        }
    }
}

/// Who holds the outbox of this database.
async fn drainer(client: &Client) -> Option<i32> {
    let sql = "select pid from pg_locks
               where locktype = 'advisory' and granted and objsubid = 2 and objid = 2003331889
                   and classid = to_regclass('walhook.outbox')::oid
                   and database = (select oid from pg_database where datname = current_database())
                   and exists (select from pg_trigger where tgname like '!walhook%')";
    client.query_opt(sql, &[]).await.unwrap().map(|row| row.get(0))
}

/// Makes two tests of each of these functions: `name::replication` and `name::outbox`.
macro_rules! under_both_captures {
    ($($name:ident),+ $(,)?) => {
        $(
            mod $name {
                use crate::harness::Capture;

                #[tokio::test(flavor = "multi_thread")]
                async fn replication() {
                    super::$name(Capture::Replication).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn outbox() {
                    super::$name(Capture::Outbox).await;
                }
            }
        )+
    };
}

pub(crate) use under_both_captures;
