//! The cluster all tests share, a database for each of them, and what the server says of a slot.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};
use walhook::throwaway::{Cluster, Options};

use super::{Capture, pause};

/// Started by the first test that needs it; its watchdog removes it when the test run ends.
fn shared() -> &'static Arc<Cluster> {
    static SHARED: OnceLock<Arc<Cluster>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(Cluster::start(&Options::new()).unwrap()))
}

/// A database of one test's own.
pub(crate) struct Database {
    cluster: Arc<Cluster>,
    name: String,
    capture: Capture,
}

impl Database {
    /// A new one on the shared cluster, dropped at the end with its slots.
    pub(crate) async fn create() -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Database::create_on(shared(), &name).await
    }

    /// A new one on the shared cluster, of another encoding than the cluster's.
    pub(crate) async fn create_encoded(encoding: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("encoded_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let database = Database::existing_on(shared(), &name);
        let client = connect(&shared().url("postgres")).await.unwrap();
        let create = format!(
            "create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' \
             template template0"
        );
        client.batch_execute(&create).await.unwrap();
        database
    }

    /// A new one on a cluster of the test's own, for tests that stop it or fill its log.
    pub(crate) async fn create_on(cluster: &Arc<Cluster>, name: &str) -> Database {
        let database = Database::existing_on(cluster, name);
        let client = connect(&cluster.url("postgres")).await.unwrap();
        client.batch_execute(&format!("create database {name}")).await.unwrap();
        database
    }

    /// One that came with the cluster, as a standby's do.
    pub(crate) fn existing_on(cluster: &Arc<Cluster>, name: &str) -> Database {
        Database {
            cluster: Arc::clone(cluster),
            name: name.to_owned(),
            capture: Capture::Replication,
        }
    }

    /// The same one, to be followed this way.
    pub(crate) fn captured_by(mut self, capture: Capture) -> Database {
        self.capture = capture;
        self
    }

    pub(crate) fn capture(&self) -> Capture {
        self.capture
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await.unwrap()
    }

    /// `None` while the server is down.
    pub(crate) async fn try_client(&self) -> Option<Client> {
        connect(&self.url()).await.ok()
    }

    /// Runs statements on a connection of their own.
    pub(crate) async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// SQL that sends an event without data when its transaction is committed.
    pub(crate) fn emit(&self, event: &str) -> String {
        match self.capture {
            Capture::Replication => format!(
                "select pg_logical_emit_message(true, 'walhook', '{{\"event\":\"{event}\"}}')"
            ),
            Capture::Outbox => format!("select walhook.emit('{event}')"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !Arc::ptr_eq(&self.cluster, shared()) {
            return;
        }
        let url = self.cluster.url("postgres");
        if wait_apart(drop_database(&url, &self.name)).is_err() {
            eprintln!("database {} stays behind until the end of the test run", self.name);
        }
    }
}

/// Waits for a future where nobody can await it, on a runtime of its own; an error if it panicked.
fn wait_apart<T: Send>(future: impl Future<Output = T> + Send) -> std::thread::Result<T> {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(future)).join())
}

/// Runs statements, in one transaction, from a test that is not async.
#[track_caller]
pub(crate) fn execute(url: &str, sql: &str) {
    let executed = wait_apart(async { connect(url).await?.batch_execute(sql).await });
    let executed = executed.expect("the statements are run");
    executed.unwrap_or_else(|error| panic!("{sql:.200}: {error:?}"));
}

async fn drop_database(url: &str, name: &str) {
    let client = connect(url).await.unwrap();
    let slots = "select slot_name::text, active_pid from pg_replication_slots where database = $1";
    for _ in 0..200 {
        let slots = client.query(slots, &[&name]).await.unwrap();
        if slots.is_empty() {
            break;
        }
        for slot in slots {
            let pid: Option<i32> = slot.get(1);
            if let Some(pid) = pid {
                client.query("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
            }
            let slot: &str = slot.get(0);
            // Fails as long as its walsender has not left.
            let _ = client.query("select pg_drop_replication_slot($1)", &[&slot]).await;
        }
        pause(Duration::from_millis(20)).await;
    }
    client.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What the server says of a slot.
#[derive(Clone, Debug)]
pub(crate) struct SlotState {
    /// The server's process that streams it to somebody. (A slot that is only just being created
    /// is called active, too.)
    pub(crate) reader: Option<i32>,
    pub(crate) wal_status: Option<String>,
}

/// `None` when there is no such slot.
pub(crate) async fn slot_state(client: &Client, slot: &str) -> Option<SlotState> {
    let sql = "select (select pid from pg_stat_replication
                       where pid = active_pid and state in ('catchup', 'streaming')), wal_status
               from pg_replication_slots where slot_name = $1";
    let row = client.query_opt(sql, &[&slot]).await.unwrap()?;
    Some(SlotState { reader: row.get(0), wal_status: row.get(1) })
}

/// How much log lies between what the slot's reader confirmed and the log's end.
pub(crate) async fn lag_bytes(client: &Client, slot: &str) -> i64 {
    let sql = "select (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint \
               from pg_replication_slots where slot_name = $1";
    client.query_one(sql, &[&slot]).await.unwrap().get(0)
}
