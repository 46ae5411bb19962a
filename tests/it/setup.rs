//! `setup` and `teardown`: what they do, do again, refuse and wait for.

use std::time::Duration;

use tokio_postgres::Client;
use walhook::postgres::publication::publication;
use walhook::postgres::slot::slot;
use walhook::source::{Progress, SourceError, SourceOptions, TableSpec, check, setup, teardown};
use walhook::throwaway::Options;

use crate::harness::{Database, Workspace, eventually};
use crate::refusals::own_cluster;

const PATIENCE: Duration = Duration::from_secs(60);

/// Options for tables in `public`, with names of the database's own: slots are the cluster's.
pub(crate) fn options(database: &Database, tables: &[&str]) -> SourceOptions {
    SourceOptions {
        outbox: None,
        slot: format!("{}_slot", database.name()),
        publication: "wal\"hook's\nü".to_owned(),
        tables: tables.iter().map(|name| TableSpec::exact("public", *name)).collect(),
        failover: false,
        create: false,
    }
}

pub(crate) async fn set_up(
    database: &Database,
    options: &SourceOptions,
) -> Result<Vec<Progress>, SourceError> {
    let (client, watcher) = (database.client().await, database.client().await);
    let mut progress = Vec::new();
    let report = &mut |step| progress.push(step);
    setup::setup(&client, &watcher, options, PATIENCE, report).await?;
    Ok(progress)
}

async fn tear_down(
    database: &Database,
    options: &SourceOptions,
) -> Result<Vec<Progress>, SourceError> {
    let (client, watcher) = (database.client().await, database.client().await);
    let mut progress = Vec::new();
    let report = &mut |step| progress.push(step);
    teardown::teardown(&client, &watcher, options, PATIENCE, report).await?;
    Ok(progress)
}

pub(crate) fn done(progress: &[Progress]) -> usize {
    progress.iter().filter(|step| matches!(step, Progress::Done(_))).count()
}

async fn published(client: &Client, options: &SourceOptions) -> Vec<String> {
    let publication = publication(client, &options.publication).await.unwrap().unwrap();
    publication.tables.into_iter().map(|table| table.name).collect()
}

#[tokio::test]
async fn setup_and_teardown_do_everything_once() {
    let database = Database::create().await;
    let hostile = "quo\"te'\n; drop table a; -- ü";
    database
        .execute(&format!(
            "create table a (id int primary key); create table b (id int primary key);
             create table \"{}\" (id int primary key);",
            hostile.replace('"', "\"\"")
        ))
        .await;
    let client = database.client().await;
    let mut options = options(&database, &["a", hostile]);

    let plan = setup::plan(&client, &options).await.unwrap();
    assert_eq!((plan.steps.len(), plan.blocked.len()), (3, 0), "{plan:?}");
    assert_eq!(slot(&client, &options.slot).await.unwrap(), None, "a plan changes nothing");

    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 3);
    assert_eq!(published(&client, &options).await, ["a", hostile]);
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 0);

    options.tables.push(TableSpec::exact("public", "b"));
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 1);
    assert_eq!(published(&client, &options).await, ["a", "b", hostile]);

    // the dry run's statements are what teardown does
    let plan = teardown::plan(&client, &options).await.unwrap();
    assert_eq!(plan.steps.len(), 3);
    assert!(plan.steps[0].sql.contains("pg_drop_replication_slot"), "{plan:?}");
    assert!(plan.steps[2].sql.contains("DROP SCHEMA IF EXISTS walhook"), "{plan:?}");
    assert_eq!(done(&tear_down(&database, &options).await.unwrap()), 3);
    assert_eq!(slot(&client, &options.slot).await.unwrap(), None);
    assert_eq!(publication(&client, &options.publication).await.unwrap(), None);
    assert_eq!(done(&tear_down(&database, &options).await.unwrap()), 0);
}

#[tokio::test]
async fn setups_at_once_all_succeed() {
    let database = Database::create().await;
    database.execute("create table a (id int primary key)").await;
    let options = options(&database, &["a"]);
    let all = tokio::join!(
        set_up(&database, &options),
        set_up(&database, &options),
        set_up(&database, &options),
        set_up(&database, &options)
    );
    let all = [all.0, all.1, all.2, all.3].map(|progress| done(&progress.unwrap()));
    assert_eq!(all.iter().sum::<usize>(), 3, "each thing was made once: {all:?}");

    let client = database.client().await;
    database.execute("create table b (id int primary key)").await;
    let more = self::options(&database, &["a", "b"]);
    let all = tokio::join!(set_up(&database, &more), set_up(&database, &more));
    assert_eq!(done(&all.0.unwrap()) + done(&all.1.unwrap()), 1);
    assert_eq!(published(&client, &more).await, ["a", "b"]);
    let all = tokio::join!(tear_down(&database, &more), tear_down(&database, &more));
    assert!(all.0.is_ok() && all.1.is_ok(), "{all:?}");
}

#[tokio::test]
async fn setup_refuses_what_would_harm_the_application() {
    let database = Database::create().await;
    database.execute("create table a (id int primary key); create table keyless (id int);").await;
    let client = database.client().await;
    let options = options(&database, &["a", "keyless"]);
    let error = set_up(&database, &options).await.unwrap_err();
    assert_eq!(error.findings().len(), 1, "{error}");
    let remedy = error.findings()[0].remedy.clone().unwrap();
    assert!(remedy.contains("\"public\".\"keyless\" REPLICA IDENTITY FULL"), "{remedy}");
    assert_eq!(publication(&client, &options.publication).await.unwrap(), None);
    assert_eq!(slot(&client, &options.slot).await.unwrap(), None);

    // a slot that is older than its publication would never read what lies between
    database.execute("alter table keyless replica identity full").await;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    client.execute(create, &[&options.slot]).await.unwrap();
    let error = set_up(&database, &options).await.unwrap_err();
    assert!(error.to_string().contains("newer than the publication"), "{error}");
    tear_down(&database, &options).await.unwrap();
    assert_eq!(done(&set_up(&database, &options).await.unwrap()), 3);
}

/// Creating a slot waits for every open write transaction.
#[tokio::test]
async fn setup_says_whom_it_waits_for_and_gives_up() {
    // On a server of its own, where nobody else is waited for.
    let cluster = own_cluster(Options::new()).await;
    let database = Database::create_on(&cluster, "crm").await;
    database.execute("create table a (id int primary key)").await;
    let options = options(&database, &["a"]);
    let writer = database.client().await;
    let pid: i32 = writer.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    writer.batch_execute("begin; insert into a values (1)").await.unwrap();

    let (client, watcher) = (database.client().await, database.client().await);
    let mut progress = Vec::new();
    let wait = Duration::from_secs(2);
    let error = setup::setup(&client, &watcher, &options, wait, &mut |step| progress.push(step))
        .await
        .unwrap_err();
    assert!(error.is_timed_out() && error.to_string().contains(&pid.to_string()), "{error}");
    let waiting = progress.iter().any(
        |step| matches!(step, Progress::Waiting(whom) if whom.contains(&format!("process {pid}"))),
    );
    assert!(waiting, "{progress:?}");

    // a second setup, once the writer is done
    let (second, ()) = tokio::join!(set_up(&database, &options), async {
        eventually(PATIENCE, "the slot is being created", async || {
            slot(&watcher, &options.slot).await.unwrap().filter(|slot| slot.is_being_created())
        })
        .await;
        writer.batch_execute("commit").await.unwrap();
    });
    // The slot, and walhook.emit.
    assert_eq!(done(&second.unwrap()), 2);
}

#[tokio::test]
async fn teardown_leaves_alone_what_is_in_use_or_not_its_own() {
    let database = Database::create().await;
    database.execute("create table a (id int primary key)").await;
    let options = options(&database, &["a"]);
    // a session that creates a slot holds it as long as it waits
    let (writer, creator) = (database.client().await, database.client().await);
    let watcher = database.client().await;
    writer.batch_execute("begin; insert into a values (1)").await.unwrap();
    let name = options.slot.clone();
    let creating = tokio::spawn(async move {
        let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
        creator.execute(create, &[&name]).await
    });
    let active = eventually(PATIENCE, "the slot is active", async || {
        slot(&watcher, &options.slot).await.unwrap().filter(|slot| slot.active)
    })
    .await;
    let findings = check::check(&watcher, &options).await.unwrap();
    assert!(findings.iter().any(|finding| finding.sentence.contains("is being created by")));
    let error = tear_down(&database, &options).await.unwrap_err();
    let pid = active.active_pid.unwrap().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    writer.batch_execute("commit").await.unwrap();
    creating.await.unwrap().unwrap();
    assert_eq!(done(&tear_down(&database, &options).await.unwrap()), 1);

    let physical = "select pg_create_physical_replication_slot($1)";
    watcher.execute(physical, &[&options.slot]).await.unwrap();
    let error = tear_down(&database, &options).await.unwrap_err();
    assert!(error.to_string().contains("physical"), "{error}");
    watcher.execute("select pg_drop_replication_slot($1)", &[&options.slot]).await.unwrap();
}

/// The tables' owner creates the publication, and walhook's role the slot: what holds the log back
/// has to go even though the other half belongs to somebody else.
#[tokio::test]
async fn teardown_drops_the_slot_beside_a_publication_of_another_role() {
    let database = Database::create().await;
    let (name, publication) = (database.name(), "its_owners");
    let options = SourceOptions { publication: publication.into(), ..options(&database, &["a"]) };
    database
        .execute(&format!(
            "create table a (id int primary key); create publication \"{publication}\" for table a; \
             create role \"{name}\" login replication"
        ))
        .await;
    let as_walhook = format!("set session authorization \"{name}\"");
    let (client, watcher) = (database.client().await, database.client().await);
    client.batch_execute(&as_walhook).await.unwrap();
    watcher.batch_execute(&as_walhook).await.unwrap();
    let mut reported = Vec::new();
    let report = &mut |progress| reported.push(progress);
    setup::setup(&client, &watcher, &options, PATIENCE, report).await.unwrap();
    teardown::teardown(&client, &watcher, &options, PATIENCE, report).await.unwrap();
    assert_eq!(slot(&watcher, &options.slot).await.unwrap(), None);
    let stays = |progress: &Progress| matches!(progress, Progress::Present(what) if what.contains("DROP PUBLICATION"));
    assert!(reported.iter().any(stays), "{reported:?}");
    client.batch_execute("reset session authorization").await.unwrap();
    drop((client, watcher));
    let drop_all = format!("drop publication \"{publication}\"; drop role \"{name}\"");
    database.execute(&drop_all).await;
}

#[tokio::test]
async fn the_commands_print_what_they_do() {
    let database = Database::create().await;
    database
        .execute("create table person (id int primary key); create table keyless (id int);")
        .await;
    let workspace = Workspace::new(&database).table("public.person", "person");
    let name = database.name();
    workspace.run(&["status"]).await.assert(1, &[]);
    let plan = workspace.run(&["setup", "--dry-run"]).await;
    plan.assert(0, &[]);
    let create = format!("CREATE PUBLICATION \"{name}\" FOR TABLE ONLY \"public\".\"person\"");
    assert!(plan.stdout.contains(&create), "{}", plan.stdout);
    assert!(!workspace.run(&["setup"]).await.stdout.contains("ok "));
    let again = workspace.run(&["setup"]).await;
    again.assert(0, &[]);
    assert_eq!(again.stdout.lines().filter(|line| line.starts_with("ok ")).count(), 2);

    let status = workspace.run(&["status", "--json"]).await;
    status.assert(0, &[]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["source"]["slot"]["name"], *name);
    assert_eq!(status["source"]["slot"]["walStatus"], "reserved");
    assert_eq!(status["journal"]["exists"], false);

    let refused = workspace.table("public.keyless", "keyless").run(&["setup"]).await;
    refused.assert(1, &["no primary key", "REPLICA IDENTITY FULL", "nothing was done"]);
    let workspace = Workspace::new(&database);
    let plan = workspace.run(&["teardown", "--dry-run"]).await;
    assert!(plan.stdout.contains("pg_drop_replication_slot"), "{}", plan.stdout);
    workspace.run(&["teardown"]).await.assert(0, &[]);
    workspace.run(&["teardown"]).await.assert(0, &[]);
    assert_eq!(slot(&database.client().await, name).await.unwrap(), None);
}
