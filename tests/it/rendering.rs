//! What events say of rows equals what `to_jsonb` makes of them, with the server itself as the
//! judge.

mod every_type;
mod moving;
mod outbox;
mod pools;
mod recorded;
mod replication;
mod same;
mod types;

use std::collections::HashMap;

use serde_json::Value;
use walhook::event::{EventRules, RulesOptions, TableRule};
use walhook::postgres::TablePattern;
use walhook::postgres::{Client, connect};

use crate::harness::{Capture, Database, under_both_captures};
use same::same;

under_both_captures!(
    values_of_every_common_type_are_what_to_jsonb_makes_of_them,
    a_wide_row_with_hostile_names_is_what_to_jsonb_makes_of_it,
    a_table_that_changes_mid_transaction_and_values_that_were_not_sent,
    a_bigint_is_a_string_wherever_it_is,
    a_type_with_a_cast_to_json_is_its_text,
);

/// A database whose changes are compared with what `to_jsonb` makes of its rows.
struct Oracle {
    database: Database,
    client: Client,
}

impl Oracle {
    async fn new(capture: Capture) -> Oracle {
        Oracle::on(capture.database().await).await
    }

    async fn on(database: Database) -> Oracle {
        let client = pinned(&database).await;
        Oracle { database, client }
    }

    fn capture(&self) -> Capture {
        self.database.capture()
    }

    async fn execute(&self, sql: &str) {
        batch_execute(&self.client, sql).await;
    }

    /// Captures what happens to the tables there are from now on.
    async fn follow(&self) {
        match self.capture() {
            Capture::Replication => replication::follow(&self.client).await,
            Capture::Outbox => outbox::follow(&self.database).await,
        }
    }

    /// The envelopes of everything since then. Every table is captured under its own name.
    async fn envelopes(&self) -> Vec<Value> {
        self.envelopes_with(false).await
    }

    async fn envelopes_with(&self, int8_as_string: bool) -> Vec<Value> {
        let tables = self.client.query(
            "select schemaname::text, tablename::text from pg_tables
             where schemaname not in ('pg_catalog', 'information_schema', 'walhook')",
            &[],
        );
        let tables = tables.await.unwrap();
        let tables = tables.iter().map(|row| {
            let (schema, name): (String, String) = (row.get(0), row.get(1));
            TableRule::new(TablePattern::exact(schema, name), None)
        });
        let mut rules = EventRules::new(RulesOptions {
            system_identifier: 1,
            database_oid: 1,
            database: "postgres".into(),
            capture: self.capture().as_str(),
            tables: tables.collect(),
            int8_as_string,
            replace_invalid_utf8: false,
            message_prefix: "walhook".into(),
        });
        let batch = match self.capture() {
            Capture::Replication => replication::events(&self.client, &mut rules).await,
            Capture::Outbox => outbox::events(&self.database, rules).await,
        };
        let body = |event| serde_json::from_slice(batch.body(event)).unwrap();
        batch.events().iter().map(body).collect()
    }
}

async fn all(client: &Client, sql: &str) -> Vec<Value> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql:.200}: {error:?}"));
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

async fn batch_execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql:.200}: {error:?}"));
}

/// A connection with the settings walhook pins.
async fn pinned(database: &Database) -> Client {
    connect(&database.url().parse().unwrap()).await.unwrap()
}

async fn values_of_every_common_type_are_what_to_jsonb_makes_of_them(capture: Capture) {
    let oracle = Oracle::new(capture).await;
    oracle.execute(types::TYPES).await;
    for (number, (name, _)) in types::VALUES.iter().enumerate() {
        oracle.execute(&format!("create table t{number} (id serial primary key, v {name})")).await;
    }
    oracle.follow().await;
    for (number, (_, queries)) in types::VALUES.iter().enumerate() {
        for query in *queries {
            oracle.execute(&format!("insert into t{number} (v) {query}")).await;
        }
        oracle.execute(&format!("insert into t{number} (v) values (null)")).await;
    }
    let mut by_table: HashMap<String, Vec<Value>> = HashMap::new();
    for envelope in oracle.envelopes().await {
        let table = envelope["source"]["table"].as_str().unwrap().to_owned();
        by_table.entry(table).or_default().push(envelope["data"].clone());
    }
    let mut compared = 0;
    for (number, (name, _)) in types::VALUES.iter().enumerate() {
        let sql = format!("select to_jsonb(t)::text from t{number} t order by id");
        let expected = all(&oracle.client, &sql).await;
        let found = by_table.remove(&format!("t{number}")).unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "rows of {name}");
        for (found, expected) in found.iter().zip(&expected) {
            match capture {
                Capture::Replication => assert_eq!(found, expected, "a value of {name}"),
                // A number may be written in another way.
                Capture::Outbox => same(found, expected, name),
            }
        }
        compared += found.len();
    }
    assert!(compared > 9_000, "only {compared} values");
}

async fn a_wide_row_with_hostile_names_is_what_to_jsonb_makes_of_it(capture: Capture) {
    let oracle = Oracle::new(capture).await;
    oracle.execute(types::TYPES).await;
    let table = "\"sch\"\"ema\n\".\"ta\\ble é\"";
    let columns = |of: fn(usize, &str) -> String| {
        let columns = types::VALUES.iter().enumerate();
        columns.map(|(number, (name, _))| of(number, name)).collect::<Vec<_>>().join(", ")
    };
    let definitions = columns(|number, name| format!("\"c\"\"\\{number}\n\t.ключ\" {name}"));
    oracle
        .execute(&format!(
            "create schema \"sch\"\"ema\n\"; create table {table} (\"\u{1}id\" serial primary key, \
             {definitions}); alter table {table} replica identity full"
        ))
        .await;
    oracle.follow().await;
    let value = |number: usize, shift: usize| {
        let (name, queries) = types::VALUES[number];
        let query = queries[shift % queries.len()];
        format!(
            "(select v from (select null::{name} union all {query}) q(v) offset {shift} limit 1)"
        )
    };
    let rows = |shift: usize| {
        let values = (0..types::VALUES.len()).map(|number| value(number, shift));
        values.collect::<Vec<_>>().join(", ")
    };
    oracle.execute(&format!("insert into {table} values (1, {})", rows(1))).await;
    let now = format!("select to_jsonb(t)::text from {table} t");
    let before = all(&oracle.client, &now).await.remove(0);
    let all_columns = columns(|number, _| format!("\"c\"\"\\{number}\n\t.ключ\""));
    let update = format!("update {table} set ({all_columns}) = row({})", rows(2));
    oracle.execute(&update).await;
    let after = all(&oracle.client, &now).await.remove(0);
    oracle.execute(&format!("delete from {table}")).await;

    let events = oracle.envelopes().await;
    let [created, updated, deleted] = &events[..] else { panic!("{} events", events.len()) };
    assert_eq!(created["event"], "ta\\ble_é.created");
    assert_eq!(created["source"]["schema"], "sch\"ema\n");
    same(&created["data"], &before, "the new row");
    same(&updated["data"], &after, "the updated row");
    same(&deleted["data"], &after, "the deleted row");
    let changed: serde_json::Map<String, Value> = before
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| after[name.as_str()] != **value)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    assert!(changed.len() > 30, "only {} columns changed", changed.len());
    let fields = updated["updatedFields"].as_array().unwrap();
    assert_eq!(fields.len(), changed.len());
    assert!(fields.iter().all(|name| changed.contains_key(name.as_str().unwrap())));
    same(&updated["previous"], &Value::Object(changed), "the old values");
}

async fn a_table_that_changes_mid_transaction_and_values_that_were_not_sent(capture: Capture) {
    let oracle = Oracle::new(capture).await;
    oracle
        .execute(
            "create table t (id int primary key, v int, bio text);
             alter table t alter bio set storage external",
        )
        .await;
    oracle.follow().await;
    oracle
        .execute(&format!(
            "begin;
         insert into t values (1, 1, repeat('x', 5000));
         alter table t rename v to w;
         alter table t alter w type text;
         alter table t add extra jsonb;
         update t set w = 'two', extra = '{{\"a\": 1}}' where id = 1;
         alter table t replica identity full;
         update t set w = 'three' where id = 1;
         alter table t drop extra, replica identity default;
         update t set id = 2;
         {};
         delete from t;
         commit;",
            match capture {
                Capture::Replication => {
                    "select pg_logical_emit_message(true, 'walhook', \
                 '{\"event\":\"invoice.paid\",\"data\":[1.50]}')"
                }
                Capture::Outbox => "select walhook.emit('invoice.paid', data => '[1.50]')",
            }
        ))
        .await;
    let bio = "x".repeat(5000);
    let known = |previous: Value, fields: Value, data: Value| match capture {
        Capture::Replication => data,
        // A trigger sees all of both rows.
        Capture::Outbox => {
            let mut whole = data["data"].clone();
            whole["bio"] = bio.as_str().into();
            serde_json::json!({"data": whole, "previous": previous, "updatedFields": fields})
        }
    };
    let expected = serde_json::json!([
        {"data": {"id": 1, "v": 1, "bio": bio}},
        known(
            serde_json::json!({"w": "1", "extra": null}),
            serde_json::json!(["w", "extra"]),
            serde_json::json!({"data": {"id": 1, "w": "two", "extra": {"a": 1}},
                               "unchanged": ["bio"]}),
        ),
        {"data": {"id": 1, "w": "three", "bio": bio, "extra": {"a": 1}},
            "previous": {"w": "two"}, "updatedFields": ["w"]},
        known(
            serde_json::json!({"id": 1}),
            serde_json::json!(["id"]),
            serde_json::json!({"data": {"id": 2, "w": "three"}, "previous": {"id": 1},
                               "unchanged": ["bio"]}),
        ),
        {"data": [1.50]},
        match capture {
            Capture::Replication => serde_json::json!({"data": {"id": 2}}),
            Capture::Outbox => serde_json::json!({"data": {"id": 2, "w": "three", "bio": bio}}),
        },
    ]);
    let events = oracle.envelopes().await;
    let shown: Vec<Value> = events
        .iter()
        .map(|event| {
            let keys = ["data", "previous", "updatedFields", "unchanged"].into_iter();
            keys.filter_map(|key| Some((key.to_owned(), event.get(key)?.clone()))).collect()
        })
        .collect();
    same(&Value::Array(shown), &expected, "the table");
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
}

async fn a_bigint_is_a_string_wherever_it_is(capture: Capture) {
    let oracle = Oracle::new(capture).await;
    oracle
        .execute(
            "create type pair as (a int8, n int4, l int8[]);
         create domain big as int8;
         create domain bigs as int8[];
         create table t (id int8 primary key, l int8[], p pair, ps pair[], b big, bs big[], d bigs,
                         n numeric, r int8range, j jsonb)",
        )
        .await;
    oracle.follow().await;
    oracle
        .execute(
            "insert into t values (9007199254740993, '{{1},{null}}', (2, 3, '{4}'),
             array[(5, 6, null)::pair], 7, '{8}', '{9}', 10, '[11,12)', '{\"a\": 13}')",
        )
        .await;
    let expected = serde_json::json!({
        "id": "9007199254740993", "l": [["1"], [null]], "p": {"a": "2", "n": 3, "l": ["4"]},
        "ps": [{"a": "5", "n": 6, "l": null}], "b": "7", "bs": ["8"], "d": ["9"], "n": 10,
        "r": "[11,12)", "j": {"a": 13},
    });
    assert_eq!(oracle.envelopes_with(true).await[0]["data"], expected);
}

/// `to_jsonb` itself would use the cast; walhook promises the text, as it does for extensions' types
/// that have one.
async fn a_type_with_a_cast_to_json_is_its_text(capture: Capture) {
    let oracle = Oracle::new(capture).await;
    oracle
        .execute(
            "create type shade as enum ('dark', 'l\"ight');
             create function shade_json(shade) returns json immutable language sql
                 as $$ select json_build_object('shade', $1::text) $$;
             create cast (shade as json) with function shade_json(shade);
             create table t (id int primary key, v shade, n int, w shade)",
        )
        .await;
    oracle.follow().await;
    oracle.execute("insert into t values (1, 'dark', 7, null)").await;
    oracle.execute("update t set w = v, v = 'l\"ight'").await;
    let events = oracle.envelopes().await;
    let first = serde_json::json!({"id": 1, "v": "dark", "n": 7, "w": null});
    let second = serde_json::json!({"id": 1, "v": "l\"ight", "n": 7, "w": "dark"});
    assert_eq!([&events[0]["data"], &events[1]["data"]], [&first, &second]);
    if capture == Capture::Outbox {
        assert_eq!(events[1]["previous"], serde_json::json!({"v": "dark", "w": null}));
    }
}
