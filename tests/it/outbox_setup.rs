//! The outbox and its triggers: what `setup` and `teardown` make of a database, and what the triggers
//! write.

mod harm;
mod rows;
mod world;

use walhook::postgres::TablePattern;
use walhook::postgres::pattern::NamePattern;
use walhook::source::watch::Watch;
use walhook::source::{OutboxPolicy, Progress, Severity, TableSpec, check, setup, teardown};

use crate::harness::Database;
use crate::setup::done;
use world::{World, outbox_options};

#[tokio::test]
async fn setup_and_teardown_do_everything_once() {
    let world = World::new("create table a (id int primary key); create table b (x text)").await;
    let mut options = outbox_options(&["a"]);
    let client = world.client().await;
    let plan = setup::plan(&client, &options).await.unwrap();
    assert_eq!((plan.steps.len(), plan.blocked.len()), (3, 0), "{plan:?}");
    assert_eq!(done(&world.set_up(&options).await.unwrap()), 3);
    let again = world.set_up(&options).await.unwrap();
    assert_eq!(done(&again), 0, "{again:?}");
    options.tables.push(TableSpec::exact("public", "b"));
    assert_eq!(done(&world.set_up(&options).await.unwrap()), 1);
    let findings = check::check(&client, &options).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity < Severity::Warning), "{findings:?}");
    world.run("insert into a values (1); insert into b values ('x'); truncate b").await;
    assert_eq!(world.told().await, ["I a {id}", "I b -", "T b -"]);

    // a table that leaves
    options.tables.pop();
    assert_eq!(done(&world.set_up(&options).await.unwrap()), 1);
    world.run("insert into b values ('y')").await;
    assert!(world.told().await.is_empty());

    // unread rows keep it alive
    world.run("insert into a values (2)").await;
    let torn = world.tear_down(&options).await.unwrap();
    assert_eq!(done(&torn), 1);
    let warned =
        |step: &Progress| matches!(step, Progress::Note(n) if n.sentence.contains("1 row "));
    assert!(torn.iter().any(warned), "{torn:?}");
    world.run("insert into a values (3)").await;
    assert_eq!(world.told().await, ["I a {id}"]);
    assert_eq!(done(&world.tear_down(&options).await.unwrap()), 1);
    assert_eq!(done(&world.tear_down(&options).await.unwrap()), 0);
    let row = client.query_one("select to_regnamespace('walhook') is null", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));

    let plan = teardown::plan(&client, &options).await.unwrap();
    assert!(plan.steps.is_empty() && plan.blocked.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn setups_at_once_all_succeed() {
    let world = World::new("create table a (id int primary key); create table b (id int)").await;
    let options = outbox_options(&["a", "b"]);
    let all = tokio::join!(
        world.set_up(&options),
        world.set_up(&options),
        world.set_up(&options),
        world.set_up(&options)
    );
    for progress in [all.0, all.1, all.2, all.3] {
        progress.unwrap();
    }
    assert_eq!(done(&world.set_up(&options).await.unwrap()), 0);
    world.run("insert into a values (1)").await;
    assert_eq!(world.told().await, ["I a {id}"]);
    let all = tokio::join!(world.tear_down(&options), world.tear_down(&options));
    assert!(all.0.is_ok() && all.1.is_ok(), "{all:?}");
}

/// What a migration tool runs is what `setup` runs.
#[tokio::test]
async fn the_dry_run_s_statements_make_the_same() {
    let tables = "create table a (id int primary key, \"wei\"\"rd \\ ü\" text);
                  create table p (id int primary key) partition by range (id);
                  create table p1 partition of p for values from (0) to (10)";
    let (one, two) = (World::new(tables).await, World::new(tables).await);
    let mut options = outbox_options(&["a", "p"]);
    options.tables[0].exclude = vec!["wei\"rd \\ ü".to_owned()];
    options.tables[1].filter = Some("id > 1 -- a comment".to_owned());
    one.set_up(&options).await.unwrap();
    let client = two.client().await;
    let plan = setup::plan(&client, &options).await.unwrap();
    for _ in 0..2 {
        for step in &plan.steps {
            client.batch_execute(&format!("{};", step.sql)).await.unwrap();
        }
    }
    let plan = setup::plan(&client, &options).await.unwrap();
    assert!(plan.steps.is_empty(), "{plan:?}");
    let what = "select p.proname || md5(p.prosrc) || coalesce(p.proconfig::text, '') \
                    || coalesce(p.proacl::text, '') from pg_proc p
                where p.pronamespace = 'walhook'::regnamespace and p.proname !~ '[0-9]'
                union all
                select c.relname || coalesce(c.reloptions::text, '') || coalesce(c.relacl::text, '')
                from pg_class c where c.relnamespace = 'walhook'::regnamespace
                union all
                select t.tgrelid::regclass || t.tgenabled::text || t.tgtype from pg_trigger t
                order by 1";
    let of = async |client: &tokio_postgres::Client| {
        let rows = client.query(what, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    assert_eq!(of(&one.client().await).await, of(&client).await);
}

/// A role with the rights that `check` asks for, and no others.
#[tokio::test]
async fn what_is_missing_is_said_and_is_enough() {
    let world = World::new("create table a (id int primary key)").await;
    let role = world.role("login").await;
    let options = outbox_options(&["a"]);
    let client = world.client().await;
    client.batch_execute(&format!("set role {role}")).await.unwrap();
    let plan = setup::plan(&client, &options).await.unwrap();
    let remedies: Vec<String> =
        plan.blocked.iter().filter_map(|finding| finding.remedy.clone()).collect();
    assert_eq!(remedies.len(), 2, "{plan:?}");
    world.run(&remedies.join(" ")).await;
    let watcher = world.client().await;
    let wait = std::time::Duration::from_secs(60);
    setup::setup(&client, &watcher, &options, wait, &mut |_| {}).await.unwrap();
    let findings = check::check(&client, &options).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity < Severity::Warning), "{findings:?}");
    world.run("insert into a values (1)").await;
    let drained = client.execute("delete from walhook.outbox", &[]).await.unwrap();
    assert_eq!(drained, 1);
    // the table belongs to another role, who alone may end its triggers
    let plan = teardown::plan(&client, &options).await.unwrap();
    assert!(plan.steps.is_empty(), "{plan:?}");
    assert!(plan.notes[0].remedy.as_ref().unwrap().contains("DROP TRIGGER"), "{plan:?}");
    world.run("drop table a").await;
    world
        .as_role(&role, async |client| {
            let plan = teardown::plan(&client, &options).await.unwrap();
            assert_eq!(plan.steps.len(), 1, "{plan:?}");
            client.batch_execute(&plan.steps[0].sql).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn tables_that_no_trigger_can_follow() {
    let world = World::new(
        "create unlogged table u (id int); create view v as select 1 as id;
         create table o (id int)",
    )
    .await;
    let client = world.client().await;
    let plan = setup::plan(&client, &outbox_options(&["u", "v", "oo"])).await.unwrap();
    let blocked: Vec<&str> = plan.blocked.iter().map(|finding| &*finding.subject).collect();
    assert_eq!(blocked, ["table public.v", "table public.oo"]);
    world.set_up(&outbox_options(&["u"])).await.unwrap();
    world.run("insert into u values (1)").await;
    assert_eq!(world.told().await, ["I u -"]);
}

#[tokio::test]
async fn new_tables_of_a_pattern_and_what_somebody_did() {
    let world = World::new("create table a (id int primary key, other int not null)").await;
    let mut options = outbox_options(&[]);
    options.tables.push(TableSpec {
        pattern: TablePattern::new(
            NamePattern::Exact("public".to_owned()),
            NamePattern::Glob("*".to_owned()),
        ),
        ..TableSpec::exact("", "")
    });
    world.set_up(&options).await.unwrap();
    let client = world.client().await;
    let mut watch = Watch::default();
    let look = watch.look(&client, &options, true).await.unwrap();
    assert!(look.steps.is_empty() && look.findings.is_empty(), "{look:?}");

    world.run("create table b (id int primary key)").await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert_eq!(look.new, [("public".to_owned(), "b".to_owned())]);
    assert_eq!(look.steps.len(), 1);
    client.batch_execute(&look.steps[0].sql).await.unwrap();
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.steps.is_empty() && look.findings.is_empty(), "{look:?}");

    // another key
    world.run("alter table a drop constraint a_pkey, add primary key (other)").await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert_eq!((look.steps.len(), look.findings.len()), (1, 1), "{look:?}");
    client.batch_execute(&look.steps[0].sql).await.unwrap();
    world.run("insert into a values (1, 2)").await;
    assert_eq!(world.told().await, ["I a {other}"]);

    // what somebody decided stays as it is, and is said
    world.run("alter table a disable trigger all").await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.steps.is_empty(), "{look:?}");
    assert!(look.findings[0].sentence.contains("switched off"), "{look:?}");
    let look = watch.look(&client, &options, true).await.unwrap();
    assert_eq!(look.steps.len(), 1);
    client.batch_execute(&look.steps[0].sql).await.unwrap();
    let look = watch.look(&client, &options, false).await.unwrap();
    assert!(look.findings.is_empty(), "{look:?}");

    world.run("drop table a").await;
    let look = watch.look(&client, &options, false).await.unwrap();
    assert_eq!(look.gone, [(("public".to_owned(), "a".to_owned()), None)]);
}

#[tokio::test]
async fn a_bounded_outbox_drops_its_oldest_rows() {
    let world = World::new("create table a (id int primary key)").await;
    let mut options = outbox_options(&["a"]);
    if let Some(spec) = &mut options.outbox {
        (spec.max_rows, spec.policy) = (500, OutboxPolicy::DropOldest);
    }
    world.set_up(&options).await.unwrap();
    for from in (0..5_000).step_by(100) {
        world.run(&format!("insert into a select {from} + g from generate_series(1, 100) g")).await;
    }
    let client = world.client().await;
    let sql = "select count(*) filter (where op = 'I'), max((new ->> 'id')::int) filter (where op = 'I'), \
                      sum((new ->> 'dropped')::int) filter (where op = 'L') from walhook.outbox";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (waiting, last, dropped): (i64, i32, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(waiting <= 600, "{waiting}");
    assert_eq!((last, waiting + dropped), (5_000, 5_000));
    // and none with the other policy
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    world.run("insert into a select g from generate_series(10001, 12000) g").await;
    let row = client.query_one("select count(*) from walhook.outbox where op = 'I'", &[]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), waiting + 2_000);
}

/// From triggers to logical replication.
#[tokio::test]
async fn triggers_end_in_favour_of_a_slot() {
    let world = World::new("create table a (id int primary key)").await;
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    world.run("insert into a values (1); select walhook.emit('before')").await;
    let options = crate::setup::options(world.database(), &["a"]);
    let client = world.client().await;
    world.set_up(&options).await.unwrap();
    world.run("insert into a values (2); select walhook.emit('behind')").await;
    assert_eq!(world.told().await, ["I a {id}", "M - -"]);
    let sql = "select s.switched_lsn < pg_current_wal_insert_lsn()
                   and s.switched_lsn > r.confirmed_flush_lsn
               from walhook.state s, pg_replication_slots r where r.slot_name = $1";
    let row = client.query_one(sql, &[&options.slot]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    // it goes when the slot has passed it, and not before
    let plan = setup::plan(&client, &options).await.unwrap();
    assert!(plan.steps.is_empty() && !plan.notes.is_empty(), "{plan:?}");
    let pass = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    client.query_one(pass, &[&options.slot]).await.unwrap();
    world.set_up(&options).await.unwrap();
    let row = client.query_one("select to_regclass('walhook.outbox') is null", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    world.run("select walhook.emit('still')").await;
    let _: &Database = world.database();
}
