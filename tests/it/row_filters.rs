//! Row filters that no publication applies: what capture over the library yields, or what triggers
//! write into the outbox.

mod recorder;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use walhook::capture::filter::Applied;
use walhook::capture::{RowFilters, TableFilter};
use walhook::postgres::TablePattern;
use walhook::postgres::lsn::Lsn;
use walhook::postgres::relation::RelationId;

use crate::harness::{Capture, Database, Workspace, eventually, slot_state, under_both_captures};
use recorder::Recorder;

under_both_captures!(
    a_whole_old_row_tells_who_comes_and_who_goes,
    inserts_need_no_identity_and_null_is_not_true,
    the_row_as_a_whole,
    a_column_s_collation_counts,
    hostile_names_and_types_of_all_kinds,
    a_row_that_cannot_be_evaluated_is_left_out_and_holds_up_nothing,
);

const PATIENCE: Duration = Duration::from_secs(60);

fn filter(table: &str, expression: &str) -> TableFilter {
    TableFilter {
        pattern: TablePattern::exact("public", table),
        expression: Some(expression.to_owned()),
    }
}

fn filters(table: &str, expression: &str) -> Arc<RowFilters> {
    Arc::new(RowFilters::new(vec![filter(table, expression)]))
}

/// What comes of `changes` to a table made by `table`, of which `expression` says what is wanted.
async fn changes(capture: Capture, table: &str, expression: &str, changes: &str) -> Vec<String> {
    let database = capture.database().await;
    database.execute(table).await;
    match capture {
        Capture::Replication => {
            let recorder = Recorder::start(&database, &filters("t", expression)).await;
            database.execute(changes).await;
            recorder.until_now(&database).await
        }
        Capture::Outbox => {
            let workspace = Workspace::new(&database).filtered_table("public.t", expression);
            workspace.run(&["setup"]).await.assert(0, &[]);
            database.execute(changes).await;
            recorded(&database).await
        }
    }
}

/// What the outbox has, as a [`Recorder`] tells it.
async fn recorded(database: &Database) -> Vec<String> {
    // A row's values, as JSON has them as text.
    let row = |row: &str| {
        format!(
            "(select string_agg(coalesce(value, 'null'), ',' order by place)
              from json_each_text({row}) with ordinality as columns (name, value, place))"
        )
    };
    let sql = format!(
        "select concat_ws(' ', case op when 'I' then 'insert' when 'U' then 'update'
                                 when 'D' then 'delete' when 'T' then 'truncate'
                                 when 'X' then 'error' end,
                          table_name, {}, case op when 'U' then '->' end, {})
         from walhook.outbox order by id",
        row("old"),
        row("case when op <> 'X' then new end")
    );
    let rows = database.client().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

const MOVES: &str = "
    insert into t values (1, 7, 'a'), (2, 8, 'b');
    update t set note = 'c' where id = 1;
    update t set note = 'd' where id = 2;
    update t set tenant = 8 where id = 1;
    update t set tenant = 7 where id = 2;
    delete from t where id = 1;
    delete from t where id = 2;
    truncate t";

async fn a_whole_old_row_tells_who_comes_and_who_goes(capture: Capture) {
    let table = "create table t (id int primary key, tenant int, note text);
                 alter table t replica identity full";
    assert_eq!(
        changes(capture, table, "tenant = 7", MOVES).await,
        [
            "insert t 1,7,a",
            "update t 1,7,a -> 1,7,c",
            "delete t 1,7,c",
            "insert t 2,7,d",
            "delete t 2,7,d",
            "truncate t",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_filter_uses_tells_it_too() {
    let table = "create table t (id int not null, tenant int not null, note text, \
                                 unique (tenant, id));
                 alter table t replica identity using index t_tenant_id_key";
    assert_eq!(
        changes(Capture::Replication, table, "tenant = 7", MOVES).await,
        [
            "insert t 1,7,a",
            "update t 1,7,c",
            "delete t key 1,7,null",
            "insert t 2,7,d",
            "delete t key 2,7,null",
            "truncate t",
        ]
    );
}

/// Only the new row can be judged, and a delete not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_filter_does_not_use_tells_nothing() {
    let table = "create table t (id int primary key, tenant int, note text)";
    let changed_key = format!(
        "{MOVES}; insert into t values (3, 7, 'e'); update t set id = 4 where id = 3;
         update t set id = 5, tenant = 8 where id = 4"
    );
    assert_eq!(
        changes(Capture::Replication, table, "tenant = 7", &changed_key).await,
        [
            "insert t 1,7,a",
            "update t 1,7,c",
            "update t 2,7,d",
            "delete t key 1,null,null",
            "delete t key 2,null,null",
            "truncate t",
            "insert t 3,7,e",
            "update t key 3,null,null -> 4,7,e",
        ]
    );
}

async fn inserts_need_no_identity_and_null_is_not_true(capture: Capture) {
    let table = "create table t (id int, tenant int); alter table t replica identity nothing";
    let inserts = "insert into t values (1, 7), (2, null), (3, 8), (null, 7)";
    assert_eq!(
        changes(capture, table, "tenant = 7", inserts).await,
        ["insert t 1,7", "insert t null,7"]
    );
}

/// A large value that did not change is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_were_not_sent() {
    let table = "create table t (id int primary key, wanted bool, big text);
                 alter table t alter big set storage external";
    let statements = "
        insert into t values (1, false, repeat('x', 9000)), (2, true, 'short');
        update t set wanted = true where id = 1;
        update t set wanted = null where id = 2";
    // The filter may be about what is not known: the change passes.
    let key_only = changes(Capture::Replication, table, "length(big) > 5000", statements).await;
    let (first, rest) = key_only.split_first().unwrap();
    assert!(first.starts_with("insert t 1,f,xxxx"), "{first}");
    assert_eq!(rest, ["update t 1,t,unchanged"]);
    // Here it is known, and a row that comes in comes whole.
    let table = format!("{table}; alter table t replica identity full");
    let full =
        changes(Capture::Replication, &table, "wanted and length(big) > 5000", statements).await;
    assert_eq!(full, [format!("insert t 1,t,{}", "x".repeat(9000))]);
}

/// The table's name stands for the whole row, which no column can be missing from, unless a column
/// is called like the table.
async fn the_row_as_a_whole(capture: Capture) {
    let table = "create table t (id int primary key, tenant text)";
    let rows = "insert into t values (1, 'ours'), (2, 'theirs')";
    let whole = "to_jsonb(t) ->> 'tenant' is distinct from 'theirs'";
    assert_eq!(changes(capture, table, whole, rows).await, ["insert t 1,ours"]);
    assert_eq!(
        changes(capture, table, "id > 0 and t::text = '(1,ours)'", rows).await,
        ["insert t 1,ours"]
    );
    assert_eq!(changes(capture, table, "t.tenant = 'ours'", rows).await, ["insert t 1,ours"]);
    let table = "create table t (id int primary key, t text)";
    let rows = "insert into t values (1, 'theirs'), (2, null)";
    assert_eq!(changes(capture, table, "t is null", rows).await, ["insert t 2,null"]);
    // What is used is found out for this, too: the key alone does not tell.
    let statements = format!("{rows}; delete from t");
    let expected = match capture {
        Capture::Replication => {
            ["insert t 2,null", "delete t key 1,null", "delete t key 2,null"].as_slice()
        }
        Capture::Outbox => ["insert t 2,null", "delete t 2,null"].as_slice(),
    };
    assert_eq!(changes(capture, table, "t.t is null", &statements).await, expected);
}

/// Two texts may be equal to a column that are not the same.
async fn a_column_s_collation_counts(capture: Capture) {
    let table = r#"create collation "any ""case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create domain name_of as text collate "any ""case";
        create table t (id int primary key, tenant text collate "any ""case", "by" name_of)"#;
    let rows = "insert into t values (1, 'ACME', 'x'), (2, 'Other', 'X'), (3, 'Other', 'Acme')";
    let wanted = "tenant <> 'acme' and \"by\" <> 'acme'";
    assert_eq!(changes(capture, table, wanted, rows).await, ["insert t 2,Other,X"]);
}

async fn hostile_names_and_types_of_all_kinds(capture: Capture) {
    let table = r#"
        create schema "s""\";
        create type "s""\"."mood; --" as enum ('so so', 'fi"ne');
        create domain "s""\".positive as int check (value > 0);
        create domain even as "s""\".positive check (value % 2 = 0);
        create type pair as (a int, "b "" c" text);
        create table t (
            "id" int primary key, "a "" b" "s""\"."mood; --", "Größe" even, "select" char(5),
            "$1" numeric(5,2)[], "ps" pair[], c1 "char", bits bit(3), "at" timestamptz, iv interval,
            j jsonb, "by" bytea, r int4range, f float8, ip inet, cash money, x xml, unused even)"#;
    let expression = r#""a "" b" = 'fi"ne' and "Größe" = 4 and "select" = 'ab' and length("select") = 2
        and "$1"[2] = 1.50 and (ps[1])."b "" c" = 'x,"y' and c1 = '\' and bits = B'101'
        and "at" = '2024-02-29 12:00+02' and iv = '1 day 2 hours' and j @> '{"a": [1]}'
        and "by" = '\x00ff' and 3 <@ r and f = 0.1::float8 + 0.2::float8 and ip << '10/8'
        and cash = 12.5::money and x is document and t.id > 0 -- a comment, and no end "#;
    let row = r#"'fi"ne', 4, 'ab', '{1.25,1.5}', array[(1, 'x,"y')::pair], '\', B'101',
        '2024-02-29 10:00+00', '26 hours'::interval, '{"a": [1, 2]}', '\x00ff', '[1,5)',
        0.1::float8 + 0.2::float8, '10.0.0.1', 12.5, '<a/>'"#;
    let row = row.replace("'26 hours'", "'1 day 2 hours'");
    let inserts = format!(
        r#"insert into t values (1, {row}, 2), (2, {row}, null), (-1, {row}, 2);
           insert into t (id, "a "" b") values (3, 'fi"ne');
           -- What the filter does not use may be what it likes by now.
           alter domain even add check (value > 100) not valid"#
    );
    let wanted = changes(capture, table, expression, &inserts).await;
    let ids: Vec<_> = wanted.iter().map(|change| change.split(',').next().unwrap()).collect();
    assert_eq!(ids, ["insert t 1", "insert t 2"], "{wanted:?}");
}

/// Rows from there on were filtered by the publication; and filters may be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_publication_applies_is_not_applied_again() {
    let database = Database::create().await;
    database.execute("create table t (id int primary key, tenant int)").await;
    let filters = filters("t", "tenant = 7");
    let recorder = Recorder::start(&database, &filters).await;
    let insert = async |id: i32, tenant: i32| {
        database.execute(&format!("insert into t values ({id}, {tenant})")).await;
        recorder.until_now(&database).await
    };
    assert!(insert(1, 8).await.is_empty());
    let client = database.client().await;
    let now = client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap();
    let now: Lsn = now.get::<_, &str>(0).parse().unwrap();
    let table = ("public".to_owned(), "t".to_owned());
    let oid = client.query_one("select 't'::regclass::oid", &[]).await.unwrap();
    let oid = RelationId(oid.get(0));
    let later = Lsn(now.0 + (1 << 40));
    filters.applied(filters.look(), HashMap::from([(table.clone(), (oid, later))]));
    assert!(insert(2, 8).await.is_empty(), "that is to come");
    let applied = HashMap::from([(table.clone(), (oid, now))]);
    let passed = let_pass(&filters, &applied, 100, &insert).await;
    let other = RelationId(oid.0 + 1);
    filters.applied(filters.look(), HashMap::from([(table, (other, now))]));
    assert_eq!(insert(7, 8).await.len(), passed, "another table had that name");
    filters.applied(filters.look(), HashMap::new());
    assert_eq!(insert(4, 8).await.len(), passed, "not any more");
    filters.replace(vec![filter("t", "tenant > 7")]);
    assert_eq!(insert(5, 9).await.last().unwrap(), "insert t 5,9");
    filters.replace(Vec::new());
    assert_eq!(insert(6, 0).await.last().unwrap(), "insert t 6,0");
}

/// Says that the publication applies a filter that it does not apply, until a row of tenant 8 passes,
/// and how many have come by then: the server may describe a table anew at any time, for reasons of
/// its own, and then walhook waits for another look.
async fn let_pass(
    filters: &RowFilters,
    applied: &Applied,
    first_id: i32,
    insert: &impl AsyncFn(i32, i32) -> Vec<String>,
) -> usize {
    for id in first_id..first_id + 50 {
        filters.applied(filters.look(), applied.clone());
        let seen = insert(id, 8).await;
        if seen.last().is_some_and(|last| *last == format!("insert t {id},8")) {
            return seen.len();
        }
    }
    panic!("the filter is applied though the publication is said to do it");
}

/// Whoever alters the publication between two looks at it makes no row of another tenant an event.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_altered_since_the_last_look_is_not_relied_on() {
    let database = Database::create().await;
    database.execute("create table t (id int primary key, tenant int)").await;
    let filters = filters("t", "tenant = 7");
    let recorder = Recorder::start(&database, &filters).await;
    let insert = async |id: i32, tenant: i32| {
        database.execute(&format!("insert into t values ({id}, {tenant})")).await;
        recorder.until_now(&database).await
    };
    let client = database.client().await;
    let version = client.query_one("show server_version_num", &[]).await.unwrap();
    if version.get::<_, &str>(0).parse::<u32>().unwrap() < 150_000 {
        // publications have no filters yet, and tables are not described anew when one is altered
        return;
    }
    let oid = client.query_one("select 't'::regclass::oid", &[]).await.unwrap();
    let since = (RelationId(oid.get(0)), Lsn(1));
    let applied = HashMap::from([(("public".to_owned(), "t".to_owned()), since)]);
    assert_eq!(insert(1, 7).await.len(), 1);
    let passed = let_pass(&filters, &applied, 100, &insert).await;
    let begun_before = filters.look();
    let name = database.name();
    database.execute(&format!("alter publication {name} set (publish = 'insert')")).await;
    assert_eq!(insert(3, 8).await.len(), passed, "nobody has looked since");
    filters.applied(begun_before, applied.clone());
    assert_eq!(insert(4, 8).await.len(), passed, "that look was too early");
    assert_eq!(let_pass(&filters, &applied, 200, &insert).await, passed + 1);
}

/// A row for which the expression fails is not one for which it is true.
async fn a_row_that_cannot_be_evaluated_is_left_out_and_holds_up_nothing(capture: Capture) {
    let table = "create table t (id int primary key, amount int, code text);
                 alter table t replica identity full";
    let statements = "
        insert into t values (1, 10, '1'), (2, 0, '1'), (3, 10, 'x'), (4, 20, '2');
        update t set amount = 10 where id = 2;
        update t set amount = 0 where id = 1";
    let expected = match capture {
        Capture::Replication => {
            ["insert t 1,10,1", "insert t 4,20,2", "insert t 2,10,1", "delete t 1,10,1"].as_slice()
        }
        // Each is told as a gap.
        Capture::Outbox => {
            ["insert t 1,10,1", "error t", "error t", "insert t 4,20,2", "error t", "error t"]
                .as_slice()
        }
    };
    assert_eq!(changes(capture, table, "100 / amount > code::int", statements).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_does_not_fit_holds_the_stream_until_it_does() {
    let database = Database::create().await;
    database.execute("create table t (id int primary key, tenant int)").await;
    let filters = filters("t", "client = 7");
    let recorder = Recorder::start(&database, &filters).await;
    let client = database.client().await;
    let before = slot_state(&client, database.name()).await.unwrap().reader;
    database.execute("insert into t values (1, 7), (2, 8)").await;
    eventually(PATIENCE, "it begins again", async || {
        let reader = slot_state(&client, database.name()).await?.reader?;
        (Some(reader) != before).then_some(())
    })
    .await;
    assert!(recorder.seen().is_empty());
    filters.replace(vec![filter("t", "tenant = 7")]);
    assert_eq!(recorder.until_now(&database).await, ["insert t 1,7"]);
}

/// The table of the stream is not that of the catalog.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_may_have_changed_meanwhile() {
    let database = Database::create().await;
    database.execute("create type mood as enum ('sad', 'happy')").await;
    database.execute("create table t (id int primary key, tenant int, m mood)").await;
    Recorder::prepare(&database).await;
    database
        .execute(
            "insert into t values (1, 7, 'happy'), (2, 8, 'happy'), (3, 7, 'sad');
             alter table t rename tenant to client;
             alter table t drop m;
             drop type mood",
        )
        .await;
    let filters = filters("t", "tenant = 7 and m = 'happy'");
    let recorder = Recorder::follow(&database, &filters);
    assert_eq!(recorder.until_now(&database).await, ["insert t 1,7,happy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_may_be_lost() {
    let database = Database::create().await;
    database.execute("create table t (id int primary key, tenant int)").await;
    let recorder = Recorder::start(&database, &filters("t", "tenant = 7")).await;
    database.execute("insert into t values (1, 7), (2, 8)").await;
    recorder.until_now(&database).await;
    for id in [10, 20, 30] {
        let lose = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where application_name = 'walhook' and datname = current_database()
                        and backend_type = 'client backend'";
        let client = database.client().await;
        let lost: i64 = client.query_one(lose, &[]).await.unwrap().get(0);
        assert!(lost > 0);
        let rows = format!("insert into t values ({id}, 7), ({id} + 1, 8)");
        database.execute(&rows).await;
        let seen = recorder.until_now(&database).await;
        assert_eq!(*seen.last().unwrap(), format!("insert t {id},7"), "{seen:?}");
    }
    assert_eq!(recorder.seen().len(), 4, "{:?}", recorder.seen());
}

/// The server hears from capture all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_is_filtered_without_silence() {
    let database = Database::create().await;
    let name = database.name();
    database.execute(&format!("alter database {name} set wal_sender_timeout = '3s'")).await;
    database.execute("create table t (id int primary key, tenant int)").await;
    // Twice as long in all as the server waits for a word.
    let slow = "pg_sleep(0.002) is not null and id % 1000 = 0";
    let recorder = Recorder::start(&database, &filters("t", slow)).await;
    let client = database.client().await;
    let before = slot_state(&client, name).await.unwrap().reader;
    database.execute("insert into t select id, 7 from generate_series(1, 3000) id").await;
    let seen = recorder.until_now(&database).await;
    assert_eq!(seen, [1_000, 2_000, 3_000].map(|id| format!("insert t {id},7")));
    assert_eq!(slot_state(&client, name).await.unwrap().reader, before, "it was dropped");
}
