//! Standbys: one takes over from the primary, or is itself what is followed.

mod failover_slot;
mod outbox;
mod own_slot;
mod promotion;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::Arc;
use std::time::Duration;

use walhook::throwaway::{Cluster, Options, StopMode};

use crate::harness::{Daemon, Database, Receiver, Workspace, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const REFUSED: i32 = 3;

/// A primary with one table in the database `crm`, its standby, and a configuration that names
/// both hosts.
struct Pair {
    primary: Arc<Cluster>,
    standby: Arc<Cluster>,
    on_primary: Database,
    on_standby: Database,
    receiver: Receiver,
    workspace: Workspace,
}

impl Pair {
    /// `words` are added to the connection string.
    async fn new(standby: Options, words: &str) -> Pair {
        let start = tokio::task::spawn_blocking(|| Cluster::start(&Options::new()).unwrap());
        let primary = Arc::new(start.await.unwrap());
        let on_primary = Database::create_on(&primary, "crm").await;
        // Whoever wants a slot for the standby itself finds it there.
        on_primary
            .execute(
                "create table person (id serial primary key, name text);
                 create table noise (text text);
                 select pg_create_physical_replication_slot('standby')",
            )
            .await;
        let standby = Arc::new(primary.standby(&standby).unwrap());
        let on_standby = Database::existing_on(&standby, "crm");
        let receiver = Receiver::start().await;
        let (one, other) = (primary.port(), standby.port());
        let hosts = format!("127.0.0.1:{one},127.0.0.1:{other}");
        let workspace = Workspace::new(&on_primary)
            .table("public.person", "person")
            .endpoint("main", &receiver.url("/"), "")
            .toml(&format!("[source]\nurl = 'postgres://postgres@{hosts}/crm{words}'"));
        Pair { primary, standby, on_primary, on_standby, receiver, workspace }
    }

    fn slot(&self) -> &str {
        self.workspace.slot()
    }

    async fn start_on_primary(&self) -> Daemon {
        self.workspace.start(&self.on_primary).await
    }

    /// Inserts a person and waits for the event, which must be the next one.
    async fn deliver(&self, database: &Database, name: &str) {
        let before = self.receiver.count();
        insert(database, name).await;
        let requests = self.receiver.wait_for(before + 1, PATIENCE).await;
        assert_eq!(requests[before].json()["data"]["name"], name);
    }

    /// The names of all persons that came, in order.
    fn delivered(&self) -> Vec<String> {
        let name = |request: &crate::harness::Request| request.json()["data"]["name"].clone();
        let requests = self.receiver.requests_to("/");
        requests.iter().map(|request| name(request).as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the standby has replayed all that the primary has written by now.
    async fn caught_up(&self) {
        let client = self.on_primary.client().await;
        let row = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap();
        let written: &str = row.get(0);
        let client = self.on_standby.client().await;
        let sql = format!("select pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
        eventually(PATIENCE, "the standby catches up", async || {
            client.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0).then_some(())
        })
        .await;
    }

    /// Puts the slot on the standby, which is stopped, as it is on the primary's disk now. Tools do
    /// that where Postgres itself cannot.
    fn carry_slot_over(&self) {
        let dir = |cluster: &Cluster| cluster.data_dir().join("pg_replslot").join(self.slot());
        let (from, to) = (dir(&self.primary), dir(&self.standby));
        let owner = fs::metadata(self.standby.data_dir()).unwrap();
        let hand_over = |path| chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::create_dir(&to).unwrap();
        fs::copy(from.join("state"), to.join("state")).unwrap();
        hand_over(to.join("state"));
        hand_over(to);
    }

    /// The primary goes down, the standby takes over.
    fn fail_over(&self) {
        self.primary.stop(StopMode::Fast).unwrap();
        self.standby.resume().unwrap();
        self.standby.promote().unwrap();
    }
}

async fn insert(database: &Database, name: &str) {
    database.execute(&format!("insert into person (name) values ('{name}')")).await;
}

/// Whether the server can do what a test is about; says so where it cannot.
fn has_version(pair: &Pair, oldest: u32, what: &str) -> bool {
    let version = pair.primary.binaries().version();
    if version < oldest {
        eprintln!("nothing to test: PostgreSQL {version} has no {what}, {oldest} has");
    }
    version >= oldest
}
