//! `check`: every fault is found, with what to do about it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::NoTls;
use walhook::postgres::slot::{WalStatus, slot};
use walhook::source::{Finding, Severity, SourceOptions, check, setup};
use walhook::throwaway::{Cluster, Options};

use crate::harness::{Database, Receiver, Workspace, eventually};
use crate::hazards::is_at_least;
use crate::setup::{options, set_up};

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn checked(database: &Database, options: &SourceOptions) -> Vec<Finding> {
    check::check(&database.client().await, options).await.unwrap()
}

/// The one finding of this severity whose sentence holds `words`; its remedy holds `remedy`.
#[track_caller]
pub(crate) fn assert_found(findings: &[Finding], severity: Severity, words: &str, remedy: &str) {
    let mut found = findings.iter().filter(|finding| finding.sentence.contains(words));
    let finding = found.next().unwrap_or_else(|| panic!("{words:?} in {findings:#?}"));
    assert_eq!((finding.severity, found.next()), (severity, None), "{finding:?}");
    let given = finding.remedy.as_deref().unwrap_or_default();
    assert!(given.contains(remedy), "{finding:?}");
}

pub(crate) fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.is_error()).collect()
}

#[tokio::test]
async fn a_database_that_is_ready_has_no_errors() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key, name text)").await;
    let mut options = options(&database, &["person"]);
    let findings = checked(&database, &options).await;
    assert_eq!(errors(&findings).len(), 2, "{findings:#?}");
    for finding in errors(&findings) {
        assert_eq!(finding.sentence, "does not exist");
        assert!(finding.remedy.as_ref().unwrap().contains("walhook setup"), "{finding:?}");
    }
    options.create = true;
    assert!(errors(&checked(&database, &options).await).is_empty());
    options.create = false;

    set_up(&database, &options).await.unwrap();
    let findings = checked(&database, &options).await;
    assert!(errors(&findings).is_empty(), "{findings:#?}");
    assert_found(&findings, Severity::Note, "no `previous`", "REPLICA IDENTITY FULL");
    assert_found(&findings, Severity::Note, "max_slot_wal_keep_size is -1", "pg_reload_conf");
}

#[tokio::test]
async fn faults_of_tables_are_found() {
    let database = Database::create().await;
    database
        .execute(
            "create table people (id int primary key);
             create table keyless (a int);
             create unlogged table fleeting (id int primary key);
             create view seen as select * from people;
             create table by_index (id int primary key, code text not null unique);
             alter table by_index replica identity using index by_index_code_key;
             create table full_identity (id int primary key);
             create table derived (id int primary key, upper int generated always as (id + 1) stored);
             alter table full_identity replica identity full;
             create table measure (at int primary key) partition by range (at);
             create table measure_1 partition of measure for values from (0) to (10);
             create table parent (id int primary key);
             create table child () inherits (parent);",
        )
        .await;
    let names = [
        "poeple",
        "keyless",
        "fleeting",
        "seen",
        "by_index",
        "full_identity",
        "derived",
        "measure",
        "measure_1",
        "parent",
    ];
    let options = options(&database, &names);
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "does not exist in", "did you mean public.people?");
    assert_found(
        &findings,
        Severity::Error,
        "no primary key and no other replica identity: publishing it would make",
        "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;",
    );
    assert_found(&findings, Severity::Error, "is unlogged", "SET LOGGED");
    assert_found(&findings, Severity::Error, "is a view", "tables it reads from");
    assert_found(&findings, Severity::Warning, "USING INDEX", "REPLICA IDENTITY DEFAULT");
    assert_found(&findings, Severity::Ok, "primary key id, REPLICA IDENTITY FULL", "");
    // From 18 on, the publication that setup makes sends them.
    let unsent = findings.iter().any(|f| f.sentence.contains("generated columns"));
    assert_eq!(unsent, !is_at_least(&database, 18).await, "{findings:#?}");
    assert_found(&findings, Severity::Note, "TRUNCATE of a single partition", "");
    assert_found(&findings, Severity::Error, "is a partition of", "follow its root");
    assert_found(&findings, Severity::Note, "has child tables", "");
}

#[tokio::test]
async fn faults_of_the_publication_are_found() {
    let database = Database::create().await;
    database
        .execute(
            "create table a (id int primary key); create table b (id int primary key);
             create table keyless (id int);
             create table measure (at int primary key) partition by range (at);
             create publication p for table a with (publish = 'insert, delete');
             create publication everything for all tables;",
        )
        .await;
    let named = |name: &str, tables: &[&str]| SourceOptions {
        publication: name.to_owned(),
        ..options(&database, tables)
    };
    let findings = checked(&database, &named("p", &["a", "b", "measure"])).await;
    assert_found(
        &findings,
        Severity::Error,
        "does not publish public.b",
        "ALTER PUBLICATION \"p\" ADD TABLE ONLY \"public\".\"b\"",
    );
    assert_found(
        &findings,
        Severity::Error,
        "partitioned tables under",
        "via_partition_root = true",
    );
    assert_found(&findings, Severity::Warning, "does not publish update, truncate", "SET (publish");
    let findings = checked(&database, &named("everything", &["a"])).await;
    assert_found(&findings, Severity::Warning, "fail now", "single tables");
    let findings = checked(&database, &named("everything", &["keyless"])).await;
    assert_found(&findings, Severity::Error, "fail now", "publish = 'insert'");
    let findings = checked(&database, &named(&"x".repeat(64), &["a"])).await;
    assert_found(&findings, Severity::Error, "a name of 64 bytes", "");
}

#[tokio::test]
async fn faults_of_the_slot_are_found() {
    let database = Database::create().await;
    let other = Database::create().await;
    database.execute("create table a (id int primary key)").await;
    let mut options = options(&database, &["a"]);
    set_up(&database, &options).await.unwrap();
    let client = database.client().await;

    let own = options.slot.clone();
    for (suffix, create, words) in [
        (
            "plugin",
            "select pg_create_logical_replication_slot($1, 'test_decoding')",
            "test_decoding",
        ),
        ("physical", "select pg_create_physical_replication_slot($1)", "is a physical slot"),
        (
            "temporary",
            "select pg_create_logical_replication_slot($1, 'pgoutput', true)",
            "temporary",
        ),
    ] {
        options.slot = format!("{own}_{suffix}");
        client.execute(create, &[&options.slot]).await.unwrap();
        let findings = checked(&database, &options).await;
        assert_found(&findings, Severity::Error, words, "pg_drop_replication_slot");
        client.execute("select pg_drop_replication_slot($1)", &[&options.slot]).await.unwrap();
    }
    options.slot = own;
    let elsewhere = check::check(&other.client().await, &options).await.unwrap();
    assert_found(&elsewhere, Severity::Error, "belongs to database", "set another slot");
    options.slot = "Bad name".to_owned();
    assert_found(&checked(&database, &options).await, Severity::Error, "refuses", "another slot");
}

#[tokio::test]
async fn faults_of_the_role_are_found() {
    let database = Database::create().await;
    let role = format!("{}_ro\"le", database.name());
    let quoted = role.replace('"', "\"\"");
    database
        .execute(&format!("create table a (id int primary key); create role \"{quoted}\" login"))
        .await;
    // as some managed servers do
    database.execute("revoke execute on function pg_control_system() from public").await;
    let mut config: tokio_postgres::Config = database.url().parse().unwrap();
    let (client, connection) = config.user(&role).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let options = options(&database, &["a"]);
    let findings = check::check(&client, &options).await.unwrap();
    let grant = format!("GRANT CREATE ON DATABASE \"{}\" TO \"{quoted}\"", database.name());
    assert_found(
        &findings,
        Severity::Error,
        "lacks REPLICATION",
        &format!("\"{quoted}\" REPLICATION;"),
    );
    assert_found(&findings, Severity::Error, "lacks CREATE", &grant);
    assert_found(&findings, Severity::Error, "only its owner may publish", "CREATE PUBLICATION");

    // somebody else's publication that lacks a table
    database
        .execute(&format!("create publication \"{}\"", options.publication.replace('"', "\"\"")))
        .await;
    let findings = check::check(&client, &options).await.unwrap();
    assert_found(&findings, Severity::Error, "may not change publication", "ADD TABLE");
    database.execute(&format!("drop role \"{quoted}\"")).await;
}

#[tokio::test]
async fn servers_that_cannot_are_told_apart() {
    let cluster = Options::new()
        .conf("wal_level = replica")
        .conf("max_replication_slots = 1")
        .conf("max_wal_senders = 0");
    let cluster = Arc::new(Cluster::start(&cluster).unwrap());
    let database = Database::create_on(&cluster, "old").await;
    let client = database.client().await;
    client.batch_execute("create database ascii encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'").await.unwrap();
    client.execute("select pg_create_physical_replication_slot('taken')", &[]).await.unwrap();
    let options = options(&database, &[]);
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "wal_level is replica", "ALTER SYSTEM SET wal_level");
    assert_found(
        &findings,
        Severity::Error,
        "all 1 replication slots",
        "max_replication_slots = 2",
    );
    assert_found(
        &findings,
        Severity::Error,
        "all 0 replication connections",
        "max_wal_senders = 1",
    );
    let error = set_up(&database, &options).await.unwrap_err();
    assert!(error.to_string().contains("wal_level"), "{error}");
    let findings = checked(&Database::existing_on(&cluster, "ascii"), &options).await;
    assert_found(&findings, Severity::Warning, "SQL_ASCII", "UTF8");
}

#[tokio::test]
async fn a_lost_slot_is_found() {
    let cluster = Options::new()
        .conf("max_slot_wal_keep_size = 1MB")
        .conf("min_wal_size = 32MB")
        .conf("max_wal_size = 32MB");
    let cluster = Arc::new(Cluster::start(&cluster).unwrap());
    let database = Database::create_on(&cluster, "lost").await;
    database.execute("create table a (id int primary key)").await;
    let options = options(&database, &["a"]);
    set_up(&database, &options).await.unwrap();
    let client = database.client().await;
    let mut at_risk = false;
    eventually(PATIENCE, "the slot is lost", async || {
        client
            .batch_execute("select pg_switch_wal(); create table x (); drop table x;")
            .await
            .unwrap();
        let found = slot(&client, &options.slot).await.unwrap().unwrap();
        if found.wal_status == Some(WalStatus::Unreserved) {
            at_risk = true;
            let findings = checked(&database, &options).await;
            let words = if found.is_lost() { "is lost" } else { "about to be lost" };
            assert!(
                findings.iter().any(|finding| finding.sentence.contains(words)),
                "{findings:#?}"
            );
        }
        client.batch_execute(if at_risk { "checkpoint" } else { "select 1" }).await.unwrap();
        found.is_lost().then_some(())
    })
    .await;
    let findings = checked(&database, &options).await;
    assert_found(&findings, Severity::Error, "is lost", "walhook teardown");
    let error = set_up(&database, &options).await.unwrap_err();
    assert!(error.to_string().contains("is lost"), "{error}");
}

#[tokio::test]
async fn a_standby_is_told_apart() {
    let primary = Arc::new(Cluster::start(&Options::new()).unwrap());
    let database = Database::create_on(&primary, "main").await;
    database.execute("create table a (id int primary key)").await;
    let standby = Arc::new(primary.standby(&Options::new()).unwrap());
    let client = Database::existing_on(&standby, "postgres").client().await;
    let options = options(&database, &[]);
    let findings = check::check(&client, &options).await.unwrap();
    assert!(findings.iter().any(|finding| finding.sentence.contains("this is a standby")));
    let plan = setup::plan(&client, &options).await.unwrap();
    assert_found(&plan.blocked, Severity::Error, "on a standby", "on the primary: CREATE PUB");
}

#[tokio::test]
async fn the_command_reports_everything_at_once() {
    let database = Database::create().await;
    database.execute("create table person (id int primary key)").await;
    let receiver = Receiver::start().await;
    // Its port stays taken.
    let gone = Receiver::start().await;
    gone.down().await;
    let workspace = Workspace::new(&database).table("public.person", "person").endpoint(
        "main",
        &receiver.url("/"),
        "",
    );
    let ready = workspace.run(&["check"]).await;
    assert_eq!(ready.code, Some(0), "{ready:?}");
    assert!(ready.stdout.ends_with("\nready\n"), "{}", ready.stdout);
    assert_eq!(receiver.count(), 0, "a check sends nothing");

    let workspace =
        workspace.table("public.persons", "x").endpoint("gone", &gone.url("/secret-path"), "");
    let faulty = workspace.run(&["check", "--json"]).await;
    assert_eq!(faulty.code, Some(1), "{faulty:?}");
    assert!(!faulty.stdout.contains("secret-path"));
    let report: serde_json::Value = serde_json::from_str(&faulty.stdout).unwrap();
    assert_eq!(report["errors"], 2, "{report:#}");
    let findings = report["findings"].as_array().unwrap();
    let subjects = findings.iter().filter(|finding| finding["severity"] == "error");
    let subjects: Vec<_> = subjects.map(|finding| finding["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["table public.persons", "endpoint gone"]);

    let nowhere = workspace.toml("[source]\nurl = 'postgres://nobody@127.0.0.1:1/nowhere'");
    let failed = nowhere.run(&["check"]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("could not connect to nobody@127.0.0.1:1"), "{failed:?}");
}
