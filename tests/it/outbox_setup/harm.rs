//! What must do the application no harm.

use std::time::Duration;

use walhook::source::{OutboxPolicy, OutboxSpec, TableSpec, check};

use super::world::{World, outbox_options};

fn spec(name: &str) -> TableSpec {
    TableSpec::exact("public", name)
}

/// The application's role has no right on the outbox, and needs none.
#[tokio::test]
async fn the_application_needs_no_right() {
    let world = World::of("create table a (id int primary key, note text)", spec("a")).await;
    let role = world.role("login").await;
    world.run(&format!("grant insert, update, delete, truncate, select on a to {role}")).await;
    world
        .as_role(&role, async |client| {
            client
                .batch_execute(
                    "insert into a values (1); update a set note = 'x'; delete from a; truncate a;
                     select walhook.emit('app.said', key => '7', data => '[1]')",
                )
                .await
                .unwrap();
            for forbidden in [
                "select * from walhook.outbox",
                "insert into walhook.outbox (op, ordinal) values ('I', 0)",
                "delete from walhook.outbox",
                "select * from walhook.state",
                "select walhook.bound()",
                "select walhook.shaped(1, '{}', '{}')",
                "select nextval('walhook.outbox_id_seq')",
                "create table walhook.mine ()",
                "create temp table t (id int); create trigger x after insert on t for each row \
                 execute function walhook.capture('{id}')",
            ] {
                let error = client.batch_execute(forbidden).await.unwrap_err();
                assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}: {error:?}");
            }
        })
        .await;
    let expected = ["I a {id}", "U a {id}", "D a {id}", "T a {id}", "M - -"];
    assert_eq!(world.told().await, expected);
}

/// Whatever the session's settings are, the rows are the same.
#[tokio::test]
async fn settings_of_the_session_do_not_matter() {
    let world = World::of(
        "create table a (id int primary key, at timestamptz, r tstzrange, i interval, b bytea, f float8)",
        spec("a"),
    )
    .await;
    let insert = |id: u32| {
        format!(
            "insert into a values ({id}, '2024-02-29 12:00+00', '[2024-02-29 12:00+00,)', '1 day 2 hours', \
             '\\x00ff', 0.1::float8 + 0.2::float8)"
        )
    };
    world.run(&insert(1)).await;
    let hostile = "create schema evil;
        create function evil.row_to_json(record) returns json language plpgsql as $$ begin return '{}'; end $$;
                set search_path = evil, public, pg_catalog; set datestyle = 'German, DMY'; set timezone = 'Asia/Kathmandu';
        set intervalstyle = iso_8601; set bytea_output = escape; set extra_float_digits = -15;
        set standard_conforming_strings = off; set walhook.ordinal = 'nonsense'; set quote_all_identifiers = on;
        set default_transaction_isolation = 'serializable'; set xmloption = document; set plpgsql.variable_conflict = use_variable";
    let client = world.client().await;
    client.batch_execute(hostile).await.unwrap();
    client.batch_execute(&insert(2).replace('\\', "\\\\")).await.unwrap();
    client.batch_execute("set walhook.ordinal = '99999999999999999999'").await.unwrap();
    client.batch_execute("update a set id = 3 where id = 2").await.unwrap();
    let rows = world.rows().await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].replace("\"id\":1", "\"id\":2"), rows[1]);
    assert!(rows[2].starts_with("U a {\"id\":2"), "{rows:?}");
}

/// Sessions that know the table as it was.
#[tokio::test]
async fn tables_that_change_do_not_stop_the_application() {
    let table = "create table t (id int primary key, tenant int, old_name text, unused text)";
    for filter in [None, Some("tenant < 100"), Some("tenant < 100 and t is distinct from null")] {
        let spec = TableSpec { filter: filter.map(str::to_owned), ..spec("t") };
        let world = World::of(table, spec).await;
        let client = world.client().await;
        let write = async |sql: &str| client.batch_execute(sql).await.unwrap();
        write("insert into t values (1, 7, 'a', 'b')").await;
        write("update t set old_name = 'c'").await;
        world.run("alter table t rename old_name to new_name; alter table t drop unused").await;
        write("update t set new_name = 'd'").await;
        world.run("alter table t alter tenant type bigint; alter table t add more text").await;
        write("update t set more = 'e'").await;
        write("insert into t values (2, 7, 'a', 'b')").await;
        let rows: Vec<String> = world.rows().await;
        assert_eq!(rows.len(), 5, "{rows:?}");
        assert_eq!(rows[4], r#"I t {"id":2,"tenant":7,"new_name":"a","more":"b"}"#);
        assert!(rows.iter().all(|row| !row.starts_with('X')), "{rows:?}");
        // the key and the filter are about a column that is gone
        world.run("alter table t drop column id; alter table t drop column tenant").await;
        write("update t set more = 'f'").await;
        let rows = world.rows().await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows.iter().all(|row| row.starts_with('X') == filter.is_some()), "{rows:?}");
        world.run("alter table t rename to renamed; alter table renamed add tenant int").await;
        write("update renamed set more = 'g', tenant = 1").await;
        let rows = world.rows().await;
        let begin = if filter.is_some() { "I renamed" } else { "U renamed" };
        assert!(rows.len() == 2 && rows.iter().all(|row| row.starts_with(begin)), "{rows:?}");
    }
}

/// Nothing of the row is in what is said about it.
#[tokio::test]
async fn a_filter_that_fails_makes_a_row_that_says_so() {
    let filter = TableSpec { filter: Some("100 / n > 0 or s::int > 0".to_owned()), ..spec("t") };
    let world = World::of("create table t (id int primary key, n int, s text)", filter).await;
    world.run("insert into t values (1, 5, ''), (2, 0, ''), (3, -1, 'secret'), (4, 10, '')").await;
    let rows = world.rows().await;
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(
        rows[1],
        "X t {\"error\" : \"the INSERT of a row could not be recorded (SQLSTATE 22012)\"}"
    );
    assert!(rows[2].starts_with('X') && !rows[2].contains("secret"), "{rows:?}");
    let count = world.client().await.query_one("select count(*) from t", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 4);
}

#[tokio::test]
async fn a_value_that_cannot_be_written_makes_such_a_row_too() {
    let world = World::new(
        "create type mood as enum ('fine', 'ill');
         create function mood_json(mood) returns json language plpgsql as $$ begin return 1 / 0; end $$;
         create table a (id int primary key, p mood)",
    )
    .await;
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    // a cast that setup knew nothing of
    world.run("create cast (mood as json) with function mood_json(mood)").await;
    world.run("insert into a values (1, 'fine')").await;
    assert!(world.rows().await[0].starts_with("X a"));
    // once it works, setup gives it as text
    world
        .run("create or replace function mood_json(mood) returns json language sql as $$ select '[]'::json $$")
        .await;
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    world.run("insert into a values (2, 'ill')").await;
    assert_eq!(world.rows().await, [r#"I a { "id" : 2, "p" : "ill" }"#]);
}

/// Cancelling is the application's own doing.
#[tokio::test]
async fn timeouts_and_read_only_transactions_stay_what_they_are() {
    let world = World::of("create table a (id int primary key)", spec("a")).await;
    let client = world.client().await;
    let error = client
        .batch_execute(
            "begin; insert into a values (1); set transaction read only; select walhook.emit('x')",
        )
        .await
        .unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006", "{error:?}");
}

#[tokio::test]
async fn arguments_of_emit_that_are_wrong() {
    let world = World::of("create table a (id int primary key)", spec("a")).await;
    let client = world.client().await;
    for name in ["''", "'a b'", "null", "e'a\\tb'", "repeat('x', 256)", "e'a\\u00a0b'"] {
        let error =
            client.batch_execute(&format!("select walhook.emit({name})")).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22023", "{name}: {error:?}");
    }
    client.batch_execute("select walhook.emit('ok', data => null)").await.unwrap();
    assert_eq!(world.rows().await, [r#"M {"event" : "ok", "key" : null, "data" : {}}"#]);
}

#[tokio::test]
async fn a_transaction_notifies_once_and_with_nothing() {
    let world = World::new("create table a (id int primary key)").await;
    let mut options = outbox_options(&["a"]);
    options.outbox = options.outbox.map(|spec| OutboxSpec { notify: true, ..spec });
    world.set_up(&options).await.unwrap();
    let url = world.database().url();
    let (client, mut connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let Ok(tokio_postgres::AsyncMessage::Notification(notification)) = message {
                let _ = sender
                    .send((notification.channel().to_owned(), notification.payload().to_owned()));
            }
        }
    });
    client.batch_execute("listen walhook").await.unwrap();
    world.run("begin; insert into a values (1), (2); update a set id = id + 10; commit").await;
    world.run("select walhook.emit('x')").await;
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.unwrap();
        assert_eq!(next.unwrap(), ("walhook".to_owned(), String::new()));
    }
    client.batch_execute("select 1").await.unwrap();
    assert!(heard.try_recv().is_err());
}

/// Whoever takes the outbox away from under the triggers loses changes, and stops nobody.
#[tokio::test]
async fn an_outbox_that_is_gone_stops_nobody() {
    let world = World::of("create table a (id int primary key)", spec("a")).await;
    let count = async || {
        let row = world.client().await.query_one("select count(*) from a", &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    world.run("alter table walhook.outbox rename to elsewhere").await;
    world
        .run("begin; insert into a values (1); insert into a values (2); truncate a; commit")
        .await;
    world.run("insert into a values (3)").await;
    assert_eq!(count().await, 1);
    world.run("alter table walhook.elsewhere rename to outbox").await;

    let role = world.role("").await;
    world.run(&format!("alter function walhook.capture() owner to {role}")).await;
    world.run("insert into a values (4)").await;
    assert_eq!(count().await, 2);
    assert!(world.rows().await.is_empty());
    let client = world.client().await;
    let findings = check::check(&client, &outbox_options(&["a"])).await.unwrap();
    let said = findings.iter().find(|finding| finding.sentence.contains(&role)).unwrap();
    assert!(said.sentence.contains("may not write"), "{findings:?}");
    world.run(said.remedy.as_ref().unwrap()).await;
    world.run("insert into a values (5)").await;
    assert_eq!(world.told().await, ["I a {id}"]);
    world
        .run(&format!("alter function walhook.capture() owner to postgres; drop owned by {role}"))
        .await;
}

/// A failed assertion is no error that `others` has.
#[tokio::test]
async fn a_filter_may_fail_in_any_way() {
    let filter = TableSpec { filter: Some("public.is_fine(s)".to_owned()), ..spec("t") };
    let world = World::of(
        "create table t (id int primary key, s text);
         create function is_fine(s text) returns bool language plpgsql as $$
             begin assert s <> 'bad', 'so'; return true; end $$",
        filter,
    )
    .await;
    world.run("insert into t values (1, 'good'), (2, 'bad')").await;
    let rows = world.rows().await;
    assert_eq!(rows[0], r#"I t {"id":1,"s":"good"}"#);
    assert_eq!(
        rows[1],
        "X t {\"error\" : \"the INSERT of a row could not be recorded (SQLSTATE P0004)\"}"
    );
}

/// Nor does it matter for the words of a filter what a session has set.
#[tokio::test]
async fn settings_of_the_session_do_not_change_a_filter() {
    let words = r"s = 'a\b' and at::date = '2024-02-01' and extract(hour from at) = 23";
    let filter = TableSpec { filter: Some(words.to_owned()), ..spec("t") };
    let table = "create table t (id int primary key, s text, at timestamptz)";
    let world = World::of(table, filter).await;
    world
        .run(
            "set standard_conforming_strings = off; set timezone = 'Asia/Kathmandu';
             set datestyle = 'German'; set transform_null_equals = on;
             insert into t values (1, E'a\\\\b', '2024-02-01 23:30+00')",
        )
        .await;
    let rows = world.rows().await;
    assert_eq!(rows, [r#"I t {"id":1,"s":"a\\b","at":"2024-02-01T23:30:00+00:00"}"#]);
}

/// Where a row's text depends on settings that few know of.
#[tokio::test]
async fn names_and_money_are_told_alike() {
    let table = "create table t (id int primary key, m money[], c regclass, r daterange);
                 create table \"Other\" ()";
    let insert = |id: u32| {
        format!(
            "insert into t values ({id}, array['12.50'::money], '\"Other\"', '[2024-02-01,2024-02-03)')"
        )
    };
    for filter in [None, Some("id > 0".to_owned())] {
        let world = World::of(table, TableSpec { filter, ..spec("t") }).await;
        world.run(&insert(1)).await;
        world
            .run(&format!(
                "set search_path = public, pg_catalog; set quote_all_identifiers = on;
                 set datestyle = 'German'; set lc_monetary = 'C'; {}",
                insert(1).replace("(1,", "(2,")
            ))
            .await;
        let rows = world.rows().await;
        let first =
            r#"I t {"id":1,"m":["$12.50"],"c":"public.\"Other\"","r":"[2024-02-01,2024-02-03)"}"#;
        assert_eq!(rows[0], first);
        assert_eq!(rows[1], first.replace(r#""id":1"#, r#""id":2"#));
        // the lc_monetary of setup counts, not the session's
        let sql = "select count(*) from pg_trigger t
                   where t.tgrelid = 't'::regclass and encode(t.tgargs, 'escape')
                       like '%\"money\":\"' || current_setting('lc_monetary') || '\"%'";
        let row = world.client().await.query_one(sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 2);
    }
}

/// Sessions in serializable isolation do not fail because of each other's changes.
#[tokio::test]
async fn serializable_transactions_do_not_meet_in_the_outbox() {
    let world = World::new("create table a (id int primary key, n int)").await;
    let mut options = outbox_options(&["a"]);
    if let Some(spec) = &mut options.outbox {
        (spec.max_rows, spec.policy) = (100, OutboxPolicy::DropOldest);
    }
    world.set_up(&options).await.unwrap();
    world.run("insert into a select g, 0 from generate_series(1, 1000) g").await;
    let (one, two) = (world.client().await, world.client().await);
    let begin = "begin isolation level serializable; select pg_current_xact_id()";
    for client in [&one, &two] {
        client.batch_execute(begin).await.unwrap();
    }
    for (client, from) in [(&one, 10_000), (&two, 20_000), (&one, 30_000), (&two, 40_000)] {
        let insert = format!("insert into a select {from} + g, 0 from generate_series(1, 300) g");
        client.batch_execute(&insert).await.unwrap();
    }
    for client in [&one, &two] {
        client.batch_execute("commit").await.unwrap();
    }
}

/// A superuser's functions are a danger on tables of others, and that is said.
#[tokio::test]
async fn a_superusers_triggers_on_others_tables_are_said() {
    let world = World::new("create table a (id int primary key)").await;
    let role = world.role("").await;
    world.run(&format!("alter table a owner to {role}")).await;
    world.set_up(&outbox_options(&["a"])).await.unwrap();
    let client = world.client().await;
    let findings = check::check(&client, &outbox_options(&["a"])).await.unwrap();
    let said = |finding: &&walhook::source::Finding| finding.sentence.contains("superuser");
    assert!(findings.iter().any(|finding| said(&finding)), "{findings:?}");
    world.run(&format!("drop owned by {role}")).await;
}
