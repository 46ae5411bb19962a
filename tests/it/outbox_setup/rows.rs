//! What rows say.

use walhook::source::{OutboxSpec, TableSpec};

use super::world::{World, outbox_options};

fn spec(name: &str) -> TableSpec {
    TableSpec::exact("public", name)
}

#[tokio::test]
async fn numbers_of_a_transaction_count_up() {
    let world = World::of("create table a (id int primary key, n int)", spec("a")).await;
    world
        .run(
            "begin; insert into a values (1), (2); savepoint s; insert into a values (3);
             rollback to s; update a set n = 1 where id = 1; select walhook.emit('x'); commit;
             insert into a values (4)",
        )
        .await;
    let sql =
        "select array_agg(ordinal order by id) from walhook.outbox group by xid order by min(id)";
    let rows = world.client().await.query(sql, &[]).await.unwrap();
    let ordinals: Vec<Vec<i64>> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ordinals, [vec![0, 1, 2, 3], vec![0]]);
    let rows = world.rows().await;
    assert_eq!(rows[2], r#"U a {"id":1,"n":null} -> {"id":1,"n":1}"#);
    assert_eq!(rows[3], r#"M {"event" : "x", "key" : null, "data" : {}}"#);
}

#[tokio::test]
async fn only_wanted_columns_are_written() {
    let table = "create table a (id int primary key, secret text, gone timestamptz, note text)";
    let only = TableSpec { columns: Some(vec!["note".to_owned()]), ..spec("a") };
    let world = World::of(table, only).await;
    world.run("insert into a values (1, 's', null, 'n'); alter table a add more int; update a set more = 2").await;
    assert_eq!(
        world.rows().await,
        [
            r#"I a { "id" : 1, "note" : "n" }"#,
            r#"U a { "id" : 1, "note" : "n" } -> { "id" : 1, "note" : "n" }"#
        ]
    );
    // what orders events, or marks deleted rows, is needed
    let except = TableSpec {
        exclude: vec!["id".to_owned(), "secret".to_owned(), "gone".to_owned()],
        soft_delete: Some("gone".to_owned()),
        ..spec("a")
    };
    let world = World::of(table, except).await;
    world
        .run(
            "insert into a values (1, 's', null, 'n'); alter table a add more int; update a set more = 2;
             alter table a rename note to text; delete from a",
        )
        .await;
    assert_eq!(
        world.rows().await,
        [
            r#"I a { "id" : 1, "gone" : null, "note" : "n" }"#,
            r#"U a { "id" : 1, "gone" : null, "note" : "n", "more" : null } -> { "id" : 1, "gone" : null, "note" : "n", "more" : 2 }"#,
            r#"D a { "id" : 1, "gone" : null, "text" : "n", "more" : 2 }"#,
        ]
    );
}

#[tokio::test]
async fn a_row_filter_decides_as_a_publication_does() {
    let table = "create table t (id int primary key, tenant int, w_op text)";
    let filter = TableSpec { filter: Some("tenant = 7 and t.id > 0".to_owned()), ..spec("t") };
    let world = World::of(table, filter).await;
    world
        .run(
            "insert into t values (1, 7), (2, 8), (3, null), (-1, 7);
             update t set w_op = 'a' where id = 1;
             update t set w_op = 'b' where id = 2;
             update t set tenant = 8 where id = 1;
             update t set tenant = 7 where id = 2;
             delete from t; truncate t",
        )
        .await;
    assert_eq!(
        world.rows().await,
        [
            r#"I t {"id":1,"tenant":7,"w_op":null}"#,
            r#"U t {"id":1,"tenant":7,"w_op":null} -> {"id":1,"tenant":7,"w_op":"a"}"#,
            r#"D t {"id":1,"tenant":7,"w_op":"a"}"#,
            r#"I t {"id":2,"tenant":7,"w_op":"b"}"#,
            r#"D t {"id":2,"tenant":7,"w_op":"b"}"#,
            "T t",
        ]
    );
}

#[tokio::test]
async fn partitions_come_under_the_name_of_what_is_followed() {
    let world = World::of(
        "create table m (id int primary key, n int) partition by range (id);
         create table m1 partition of m for values from (0) to (100);
         create table m2 partition of m for values from (100) to (200) partition by range (id);
         create table m21 partition of m2 for values from (100) to (150);
         create table more (id int primary key, n int)",
        spec("m"),
    )
    .await;
    world
        .run(
            "insert into m values (1), (101); insert into m21 values (102);
             update m set id = 103 where id = 1;
             alter table m attach partition more for values from (200) to (300);
             insert into more values (201);
             alter table m detach partition more; insert into more values (202);
             truncate m1; truncate m",
        )
        .await;
    let all = ["I m {id}"; 3].into_iter().chain(["D m {id}", "I m {id}", "I m {id}", "T m {id}"]);
    assert_eq!(world.told().await, all.collect::<Vec<_>>());
    // what is renamed is called by its name at once, whatever the trigger was told
    world.run("alter table m rename to mm; insert into mm values (5)").await;
    assert_eq!(world.told().await, ["I mm {id}"]);
}

/// A table with triggers of its own can become a partition, and comes once.
#[tokio::test]
async fn followed_tables_can_be_attached() {
    let world = World::new(
        "create table m (id int primary key, n int) partition by range (id);
         create table more (id int primary key, n int)",
    )
    .await;
    world.set_up(&outbox_options(&["m", "more"])).await.unwrap();
    world
        .run(
            "insert into more values (1);
             alter table m attach partition more for values from (0) to (300);
             insert into m values (2); insert into more values (3); truncate m;
             alter table m detach partition more; insert into more values (4)",
        )
        .await;
    assert_eq!(
        world.told().await,
        ["I more {id}", "I m {id}", "I m {id}", "T m {id}", "I more {id}"]
    );
}

#[tokio::test]
async fn changes_that_replication_brings() {
    let insert = "set session_replication_role = replica; insert into a values (1)";
    for (local_only, expected) in [(false, 1), (true, 0)] {
        let world = World::new("create table a (id int primary key)").await;
        let mut options = outbox_options(&["a"]);
        options.outbox = options.outbox.map(|spec| OutboxSpec { local_only, ..spec });
        world.set_up(&options).await.unwrap();
        assert_eq!(crate::setup::done(&world.set_up(&options).await.unwrap()), 0);
        world.run(insert).await;
        assert_eq!(world.told().await.len(), expected);
        options.outbox = options.outbox.map(|spec| OutboxSpec { local_only: !local_only, ..spec });
        world.set_up(&options).await.unwrap();
        world.run("set session_replication_role = replica; insert into a values (2)").await;
        assert_eq!(world.told().await.len(), 1 - expected);
    }
}

/// A trigger of the application that changes the row once more does so behind what it fired for.
#[tokio::test]
async fn changes_by_triggers_come_in_order() {
    let world = World::of(
        "create table a (id int primary key, n int);
         create function again() returns trigger language plpgsql as $$
             begin update a set n = n + 1 where id = new.id and n < 3; return null; end $$;
         create trigger \"00_again\" after insert or update on a for each row execute function again()",
        spec("a"),
    )
    .await;
    world.run("insert into a values (1, 1)").await;
    assert_eq!(
        world.rows().await,
        [
            r#"I a {"id":1,"n":1}"#,
            r#"U a {"id":1,"n":1} -> {"id":1,"n":2}"#,
            r#"U a {"id":1,"n":2} -> {"id":1,"n":3}"#
        ]
    );
}

/// Of a type with a cast to json, logical replication tells the text.
#[tokio::test]
async fn casts_to_json_are_not_used() {
    let world = World::new(
        "create type mood as enum ('fine', 'ill');
         create function mood_json(mood) returns json language sql as $$ select '[]'::json $$;
         create cast (mood as json) with function mood_json(mood);
         create domain moods as mood; create type plain as (a int, b int);
         create function plain_json(plain) returns json language sql as $$ select '[]'::json $$;
         create cast (plain as json) with function plain_json(plain);
         create table a (id int primary key, p mood, d moods, q mood[], n mood, c plain)",
    )
    .await;
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    world.run("insert into a values (1, 'fine', 'ill', '{fine}', null, '(1,2)')").await;
    assert_eq!(
        world.rows().await,
        [
            r#"I a { "id" : 1, "p" : "fine", "d" : "ill", "q" : "{fine}", "n" : null, "c" : {"a":1,"b":2} }"#
        ]
    );
    world
        .run("alter table a drop column p; alter table a rename d to e; update a set id = 2")
        .await;
    let rows = world.rows().await;
    assert!(rows[0].starts_with(r#"U a { "id" : 1, "e" : "#), "{rows:?}");
}
