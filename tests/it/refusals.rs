//! Where going on would lose changes without a word, the daemon refuses: exit code 3, and a
//! sentence that says what was lost and what to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use walhook::throwaway::{Cluster, Options, StopMode};

use crate::harness::{
    Daemon, Database, Receiver, Request, Workspace, eventually, lag_bytes, slot_state,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const REFUSED: i32 = 3;

/// A database with one table, and a configuration that delivers it.
pub(crate) struct Fixture {
    pub(crate) database: Database,
    pub(crate) receiver: Receiver,
    pub(crate) workspace: Workspace,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        Fixture::on(Database::create().await).await
    }

    pub(crate) async fn on(database: Database) -> Fixture {
        create_table(&database).await;
        let receiver = Receiver::start().await;
        let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
            "main",
            &receiver.url("/"),
            "",
        );
        Fixture { database, receiver, workspace }
    }

    pub(crate) fn slot(&self) -> &str {
        self.workspace.slot()
    }

    pub(crate) async fn start(&self) -> Daemon {
        self.workspace.start(&self.database).await
    }

    /// Inserts a person and waits for the event.
    pub(crate) async fn deliver(&self, name: &str) {
        let before = self.receiver.count();
        self.insert(name).await;
        let requests = self.receiver.wait_for(before + 1, PATIENCE).await;
        assert_eq!(requests[before].json()["data"]["name"], name);
    }

    pub(crate) async fn insert(&self, name: &str) {
        self.database.execute(&format!("insert into person (name) values ('{name}')")).await;
    }

    /// Leaves a journal with a checkpoint, and no daemon.
    pub(crate) async fn run_once(&self) {
        let daemon = self.start().await;
        self.deliver("Ada").await;
        daemon.stop().await;
    }

    /// The daemon is to leave by itself, saying these words.
    pub(crate) async fn refused(&self, words: &[&str]) {
        let before = self.receiver.count();
        let finished = self.workspace.run(&["run"]).await;
        finished.assert(REFUSED, words);
        assert_eq!(self.receiver.count(), before, "it delivered all the same");
    }

    /// After somebody decided that the loss is to be accepted, changes flow again.
    async fn goes_on_when_accepted(&self) {
        let client = self.database.client().await;
        let before = slot_state(&client, self.slot()).await.and_then(|state| state.reader);
        let daemon = Daemon::spawn(self.workspace.command(&["run", "--accept-gap"]));
        daemon.streams(&client, self.slot(), before).await;
        let count = self.receiver.count();
        self.insert("accepted").await;
        let arrived = |request: &Arc<Request>| request.json()["data"]["name"] == "accepted";
        self.receiver
            .wait_until(PATIENCE, "a change after the gap", |requests| {
                requests[count.min(requests.len())..].iter().any(arrived)
            })
            .await;
        daemon.stop().await;
        let daemon = self.start().await;
        self.deliver("afterwards").await;
        daemon.stop().await;
    }

    /// The same configuration and journal, for another database.
    pub(crate) fn moved_to(self, database: Database) -> Fixture {
        let workspace = self.workspace.source(&database);
        Fixture { database, receiver: self.receiver, workspace }
    }

    /// Another database gets a slot and a publication by the names of this configuration.
    pub(crate) async fn set_up(&self, database: &Database) {
        create_table(database).await;
        let workspace = Workspace::new(&self.database)
            .source(database)
            .table("public.person", "person")
            .endpoint("main", &self.receiver.url("/"), "");
        workspace.run(&["setup"]).await.assert(0, &[]);
    }
}

async fn create_table(database: &Database) {
    database.execute("create table person (id serial primary key, name text)").await;
}

pub(crate) async fn drop_slot(fixture: &Fixture) {
    let client = fixture.database.client().await;
    let sql = "select pg_drop_replication_slot($1)";
    eventually(PATIENCE, "the slot is free to be dropped", async || {
        client.query(sql, &[&fixture.slot()]).await.ok().map(drop)
    })
    .await;
}

pub(crate) async fn own_cluster(options: Options) -> Arc<Cluster> {
    Arc::new(tokio::task::spawn_blocking(move || Cluster::start(&options)).await.unwrap().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_3_a_slot_that_went_past_the_checkpoint_is_refused() {
    let fixture = Fixture::new().await;
    fixture.run_once().await;
    fixture.insert("lost").await;
    let client = fixture.database.client().await;
    let sql = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    eventually(PATIENCE, "the slot is free to be advanced", async || {
        client.query(sql, &[&fixture.slot()]).await.ok().map(drop)
    })
    .await;
    // Whoever reads the slot now does not get what was lost, so it must not go on.
    fixture.insert("kept").await;
    fixture.refused(&["stored position", "lost", "--accept-gap"]).await;
    // And it is no better the second time.
    fixture.refused(&["stored position", "lost", "--accept-gap"]).await;
    fixture.goes_on_when_accepted().await;
    // Records have no order among each other.
    let names: BTreeSet<_> = fixture
        .receiver
        .requests_to("/")
        .iter()
        .map(|request| request.json()["data"]["name"].to_string())
        .collect();
    assert_eq!(
        Vec::from_iter(names),
        [r#""Ada""#, r#""accepted""#, r#""afterwards""#, r#""kept""#]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_11_a_dropped_slot_is_never_made_again_silently() {
    let fixture = Fixture::new().await;
    fixture.run_once().await;
    drop_slot(&fixture).await;
    fixture.refused(&[fixture.slot(), "walhook setup", "--accept-gap"]).await;
    let client = fixture.database.client().await;
    assert!(slot_state(&client, fixture.slot()).await.is_none(), "it made a new one silently");
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    fixture.goes_on_when_accepted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_11_a_slot_dropped_while_it_is_read() {
    let fixture = Fixture::new().await;
    let daemon = fixture.start().await;
    fixture.deliver("Ada").await;
    let client = fixture.database.client().await;
    let sql = "select pg_terminate_backend(active_pid), pg_drop_replication_slot(slot_name) \
               from pg_replication_slots where slot_name = $1";
    eventually(PATIENCE, "the slot is dropped before the daemon is back", async || {
        let _ = client.query(sql, &[&fixture.slot()]).await;
        slot_state(&client, fixture.slot()).await.is_none().then_some(())
    })
    .await;
    daemon.finished(PATIENCE).await.assert(REFUSED, &[fixture.slot()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_3_a_slot_dropped_and_made_again_is_a_gap() {
    let fixture = Fixture::new().await;
    fixture.run_once().await;
    drop_slot(&fixture).await;
    fixture.insert("lost").await;
    let client = fixture.database.client().await;
    let sql = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    client.query(sql, &[&fixture.slot()]).await.unwrap();
    fixture.refused(&["stored position", "lost"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_11_a_lost_slot() {
    let options = Options::new()
        .conf("max_slot_wal_keep_size = '1MB'")
        .conf("min_wal_size = '32MB'")
        .conf("max_wal_size = '48MB'");
    let cluster = own_cluster(options).await;
    let fixture = Fixture::on(Database::create_on(&cluster, "crm").await).await;
    fixture.run_once().await;
    let client = fixture.database.client().await;
    client.batch_execute("create table filler (text text)").await.unwrap();
    eventually(PATIENCE, "the slot is lost", async || {
        let fill = "insert into filler select repeat('x', 1000) from generate_series(1, 20000)";
        client.batch_execute(fill).await.unwrap();
        client.batch_execute("checkpoint").await.unwrap();
        let state = slot_state(&client, fixture.slot()).await?;
        (state.wal_status.as_deref() == Some("lost")).then_some(())
    })
    .await;
    fixture.refused(&[fixture.slot(), "max_slot_wal_keep_size", "walhook teardown"]).await;
}

/// The past is looked at with the catalog of the past: making the publication again does not help.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_21_a_publication_that_was_gone_for_a_while() {
    let fixture = Fixture::new().await;
    // From 18 on the server only warns, and not even that where it is told so.
    let quiet = format!("alter database {} set client_min_messages = error", fixture.slot());
    fixture.database.execute(&quiet).await;
    fixture.run_once().await;
    fixture.database.execute(&format!("drop publication {}", fixture.slot())).await;
    fixture.insert("lost").await;
    fixture.refused(&["publication", fixture.slot()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_21_a_publication_dropped_while_it_is_read() {
    let fixture = Fixture::new().await;
    let daemon = fixture.start().await;
    fixture.deliver("Ada").await;
    fixture.database.execute(&format!("drop publication {}", fixture.slot())).await;
    fixture.insert("lost").await;
    daemon.finished(PATIENCE).await.assert(REFUSED, &["publication", fixture.slot()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_33_a_clone_with_another_identifier() {
    let fixture = Fixture::new().await;
    fixture.run_once().await;
    let stranger = own_cluster(Options::new().own_identity()).await;
    let elsewhere = Database::create_on(&stranger, fixture.database.name()).await;
    fixture.set_up(&elsewhere).await;
    fixture.moved_to(elsewhere).refused(&["system identifier", "journal.path"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_33_another_database_of_the_cluster() {
    let cluster = own_cluster(Options::new()).await;
    let fixture = Fixture::on(Database::create_on(&cluster, "one").await).await;
    fixture.run_once().await;
    drop_slot(&fixture).await;
    let other = Database::create_on(&cluster, "two").await;
    fixture.set_up(&other).await;
    fixture.moved_to(other).refused(&["another database", "journal.path"]).await;
}

/// A backup that was restored: the same cluster by its identifier, at an earlier time.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_4_a_checkpoint_ahead_of_the_server() {
    let (later, earlier) = (own_cluster(Options::new()).await, own_cluster(Options::new()).await);
    let fixture = Fixture::on(Database::create_on(&later, "crm").await).await;
    let daemon = fixture.start().await;
    let noise = "create table noise as select repeat('x', 1000) from generate_series(1, 20000)";
    fixture.database.execute(noise).await;
    fixture.deliver("Ada").await;
    daemon.stop().await;

    let restored = Database::create_on(&earlier, "crm").await;
    fixture.set_up(&restored).await;
    let fixture = fixture.moved_to(restored);
    fixture.refused(&["stored position"]).await;
    // Nor was the server told a position it has not reached.
    let lag = lag_bytes(&fixture.database.client().await, fixture.slot()).await;
    assert!(lag >= 0, "the slot is {} bytes ahead of the server", -lag);
}

/// The new primary never had the last changes, and has written others in their place.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_4_a_standby_that_lagged_behind_took_over() {
    let primary = own_cluster(Options::new()).await;
    let fixture = Fixture::on(Database::create_on(&primary, "crm").await).await;
    let standby = primary.standby(&Options::new()).unwrap();
    standby.stop(StopMode::Fast).unwrap();
    fixture.run_once().await;
    primary.stop(StopMode::Fast).unwrap();

    standby.add_conf("primary_conninfo = ''").unwrap();
    standby.resume().unwrap();
    standby.promote().unwrap();
    let promoted = Database::existing_on(&Arc::new(standby), "crm");
    let noise = "create table noise as select repeat('x', 1000) from generate_series(1, 20000)";
    promoted.execute(noise).await;
    let fixture = fixture.moved_to(promoted);
    let workspace = Workspace::new(&fixture.database).table("public.person", "person").endpoint(
        "main",
        &fixture.receiver.url("/"),
        "",
    );
    workspace.run(&["setup"]).await.assert(0, &[]);
    fixture.refused(&["timeline", "stored position"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_slot_without_a_journal_is_adopted() {
    let fixture = Fixture::new().await;
    fixture.workspace.run(&["setup"]).await.assert(0, &[]);
    fixture.insert("before the daemon").await;
    let daemon = fixture.start().await;
    let requests = fixture.receiver.wait_for(1, PATIENCE).await;
    assert_eq!(requests[0].json()["data"]["name"], "before the daemon");
    daemon.says("taking the slot where it stands", PATIENCE).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_slot_nor_journal_names_the_command() {
    let fixture = Fixture::new().await;
    let Fixture { database, receiver, workspace } = fixture;
    let workspace = workspace.toml("[source]\ncreate = false");
    let finished = workspace.run(&["run"]).await;
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.stderr.contains("walhook setup"), "{}", finished.stderr);
    assert!(slot_state(&database.client().await, workspace.slot()).await.is_none());

    // What it names does help.
    workspace.run(&["setup"]).await.assert(0, &[]);
    let fixture = Fixture { database, receiver, workspace };
    fixture.run_once().await;
    fixture.workspace.run(&["teardown"]).await.assert(0, &[]);
    let client = fixture.database.client().await;
    assert!(slot_state(&client, fixture.slot()).await.is_none());
}

/// An idle database lets go of the log its neighbours write, and what it confirmed meanwhile is no
/// gap after a restart, in whatever way the daemon ended.
#[tokio::test(flavor = "multi_thread")]
async fn hazard_10_idleness_is_no_gap_and_holds_no_log() {
    let cluster = own_cluster(Options::new()).await;
    let neighbour = Database::create_on(&cluster, "neighbour").await;
    neighbour.execute("create table noise (text text)").await;
    let fixture = Fixture::on(Database::create_on(&cluster, "idle").await).await;
    let client = fixture.database.client().await;
    let noise = "insert into noise select repeat('x', 1000) from generate_series(1, 5000)";

    for killed in [false, true] {
        let mut daemon = fixture.start().await;
        fixture.deliver("Ada").await;
        neighbour.execute(noise).await;
        eventually(PATIENCE, "the slot lets go of its neighbour's log", async || {
            (lag_bytes(&client, fixture.slot()).await < 256 * 1024).then_some(())
        })
        .await;
        if killed {
            daemon.sigkill().await;
        } else {
            daemon.stop().await;
        }
        neighbour.execute(noise).await;
    }
    let before = fixture.receiver.count();
    let daemon = fixture.start().await;
    fixture.deliver("Grace").await;
    assert_eq!(fixture.receiver.count(), before + 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_another_kind_is_not_called_lost() {
    let fixture = Fixture::new().await;
    let client = fixture.database.client().await;
    let sql = "select pg_create_physical_replication_slot($1)::text";
    client.query_one(sql, &[&fixture.slot()]).await.unwrap();
    let workspace = fixture.workspace.toml("[source]\ncreate = false");
    let finished = workspace.run(&["run"]).await;
    finished.assert(2, &["is a physical slot", "source.slot"]);
    let sql = "select pg_drop_replication_slot($1)::text";
    client.query_one(sql, &[&workspace.slot()]).await.unwrap();
}
