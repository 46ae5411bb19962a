//! What events say of rows equals what `to_jsonb` makes of them, with the server itself as the
//! judge.

mod every_type;
mod moving;
mod pools;
mod recorded;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use walhook::capture::change::{Change, Position, Transaction};
use walhook::event::{EventBatch, EventRules, RulesOptions, TableRule};
use walhook::postgres::TablePattern;
use walhook::postgres::catalog::{OwnedRelation, TypeCache, resolve_relation};
use walhook::postgres::lsn::Lsn;
use walhook::postgres::pgoutput::{LogicalMessage, decode};
use walhook::postgres::relation::{Relation, RelationId};
use walhook::postgres::{Client, connect};

use crate::harness::Database;

/// The envelopes of everything a slot has, through decoder and rules. Every table is captured
/// under its own name.
async fn envelopes(client: &Client) -> Vec<Value> {
    envelopes_with(client, false).await
}

async fn envelopes_with(client: &Client, int8_as_string: bool) -> Vec<Value> {
    let tables = client
        .query(
            "select schemaname::text, tablename::text from pg_publication_tables where pubname = 'p'",
            &[],
        )
        .await
        .unwrap();
    let tables = tables.iter().map(|row| {
        let (schema, name): (String, String) = (row.get(0), row.get(1));
        TableRule::new(TablePattern::exact(schema, name), None)
    });
    let mut rules = EventRules::new(RulesOptions {
        system_identifier: 1,
        database_oid: 1,
        database: "postgres".into(),
        capture: "replication",
        tables: tables.collect(),
        int8_as_string,
        replace_invalid_utf8: false,
        message_prefix: "walhook".into(),
    });
    let mut batch = EventBatch::default();
    each_change(client, |transaction, position, change| {
        rules.apply(transaction, position, change, &mut batch).unwrap();
    })
    .await;
    batch.events().iter().map(|event| serde_json::from_slice(batch.body(event)).unwrap()).collect()
}

/// Everything a slot has, through the decoder.
async fn each_change(client: &Client, mut take: impl FnMut(&Transaction, Position, &Change<'_>)) {
    let changes = "select lsn::text, data from pg_logical_slot_get_binary_changes(current_database(), null, null, \
                   'proto_version', '1', 'publication_names', 'p', 'messages', 'true')";
    let mut types = TypeCache::default();
    let mut relations: HashMap<RelationId, Arc<Relation>> = HashMap::new();
    let mut transaction =
        Transaction { commit_lsn: Lsn::ZERO, committed_at_us: 0, xid: 0, row_lsn: Lsn::ZERO };
    let mut ordinal = 0;
    for row in client.query(changes, &[]).await.unwrap() {
        let lsn: Lsn = row.get::<_, &str>(0).parse().unwrap();
        let data: &[u8] = row.get(1);
        let change = match decode(data).unwrap() {
            LogicalMessage::Begin { final_lsn, committed_at_us, xid } => {
                transaction.commit_lsn = final_lsn;
                transaction = Transaction { committed_at_us, xid, ..transaction };
                ordinal = 0;
                continue;
            }
            LogicalMessage::Relation(message) => {
                let message = OwnedRelation::from(&message);
                // The types do not move here.
                let resolved = resolve_relation(client, &mut types, &message, lsn).await.unwrap();
                relations.insert(message.id, Arc::new(resolved.relation));
                continue;
            }
            LogicalMessage::Insert { relation, new } => {
                Change::Insert { relation: &relations[&relation], new }
            }
            LogicalMessage::Update { relation, old, new } => {
                Change::Update { relation: &relations[&relation], old, new }
            }
            LogicalMessage::Delete { relation, old } => {
                Change::Delete { relation: &relations[&relation], old }
            }
            LogicalMessage::Message { prefix, content, .. } => Change::Message { prefix, content },
            _ => continue,
        };
        let position = Position { commit_lsn: transaction.commit_lsn, ordinal };
        take(&transaction, position, &change);
        ordinal += 1;
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

/// A publication of everything, and a slot with the database's name.
async fn capture(client: &Client) {
    batch_execute(client, "create publication p for all tables").await;
    let slot = "select pg_create_logical_replication_slot(current_database(), 'pgoutput')";
    batch_execute(client, slot).await;
}

/// A database with publication and slot, and a connection to it.
async fn start() -> (Database, Client) {
    let database = Database::create().await;
    let client = pinned(&database).await;
    capture(&client).await;
    (database, client)
}

#[tokio::test]
async fn values_of_every_common_type_are_what_to_jsonb_makes_of_them() {
    let (_database, client) = start().await;
    batch_execute(&client, types::TYPES).await;
    for (number, (name, queries)) in types::VALUES.iter().enumerate() {
        let table = format!("create table t{number} (id serial primary key, v {name})");
        batch_execute(&client, &table).await;
        for query in *queries {
            batch_execute(&client, &format!("insert into t{number} (v) {query}")).await;
        }
        batch_execute(&client, &format!("insert into t{number} (v) values (null)")).await;
    }
    let mut by_table: HashMap<String, Vec<Value>> = HashMap::new();
    for envelope in envelopes(&client).await {
        let table = envelope["source"]["table"].as_str().unwrap().to_owned();
        by_table.entry(table).or_default().push(envelope["data"].clone());
    }
    let mut compared = 0;
    for (number, (name, _)) in types::VALUES.iter().enumerate() {
        let sql = format!("select to_jsonb(t)::text from t{number} t order by id");
        let expected = all(&client, &sql).await;
        let found = by_table.remove(&format!("t{number}")).unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "rows of {name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "a value of {name}");
        }
        compared += found.len();
    }
    assert!(compared > 9_000, "only {compared} values");
}

#[tokio::test]
async fn a_wide_row_with_hostile_names_is_what_to_jsonb_makes_of_it() {
    let (_database, client) = start().await;
    batch_execute(&client, types::TYPES).await;
    let table = "\"sch\"\"ema\n\".\"ta\\ble é\"";
    let columns = |of: fn(usize, &str) -> String| {
        let columns = types::VALUES.iter().enumerate();
        columns.map(|(number, (name, _))| of(number, name)).collect::<Vec<_>>().join(", ")
    };
    let definitions = columns(|number, name| format!("\"c\"\"\\{number}\n\t.ключ\" {name}"));
    batch_execute(
        &client,
        &format!(
            "create schema \"sch\"\"ema\n\"; create table {table} (\"\u{1}id\" serial primary key, \
             {definitions}); alter table {table} replica identity full"
        ),
    )
    .await;
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
    batch_execute(&client, &format!("insert into {table} values (1, {})", rows(1))).await;
    let now = format!("select to_jsonb(t)::text from {table} t");
    let before = all(&client, &now).await.remove(0);
    let all_columns = columns(|number, _| format!("\"c\"\"\\{number}\n\t.ключ\""));
    let update = format!("update {table} set ({all_columns}) = row({})", rows(2));
    batch_execute(&client, &update).await;
    let after = all(&client, &now).await.remove(0);
    batch_execute(&client, &format!("delete from {table}")).await;

    let events = envelopes(&client).await;
    let [created, updated, deleted] = &events[..] else { panic!("{} events", events.len()) };
    assert_eq!(created["event"], "ta\\ble_é.created");
    assert_eq!(created["source"]["schema"], "sch\"ema\n");
    assert_eq!(created["data"], before);
    assert_eq!(updated["data"], after);
    assert_eq!(deleted["data"], after);
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
    assert_eq!(updated["previous"], Value::Object(changed));
}

#[tokio::test]
async fn a_table_that_changes_mid_transaction_and_values_that_were_not_sent() {
    let (_database, client) = start().await;
    batch_execute(
        &client,
        "create table t (id int primary key, v int, bio text);
         alter table t alter bio set storage external;
         begin;
         insert into t values (1, 1, repeat('x', 5000));
         alter table t rename v to w;
         alter table t alter w type text;
         alter table t add extra jsonb;
         update t set w = 'two', extra = '{\"a\": 1}' where id = 1;
         alter table t replica identity full;
         update t set w = 'three' where id = 1;
         alter table t drop extra, replica identity default;
         update t set id = 2;
         select pg_logical_emit_message(true, 'walhook', '{\"event\":\"invoice.paid\",\"data\":[1.50]}');
         delete from t;
         commit;",
    )
    .await;
    let bio = "x".repeat(5000);
    let expected = serde_json::json!([
        {"data": {"id": 1, "v": 1, "bio": bio}},
        {"data": {"id": 1, "w": "two", "extra": {"a": 1}}, "unchanged": ["bio"]},
        {"data": {"id": 1, "w": "three", "bio": bio, "extra": {"a": 1}},
            "previous": {"w": "two"}, "updatedFields": ["w"]},
        {"data": {"id": 2, "w": "three"}, "previous": {"id": 1}, "unchanged": ["bio"]},
        {"data": [1.50]},
        {"data": {"id": 2}},
    ]);
    let events = envelopes(&client).await;
    let shown: Vec<Value> = events
        .iter()
        .map(|event| {
            let keys = ["data", "previous", "updatedFields", "unchanged"].into_iter();
            keys.filter_map(|key| Some((key.to_owned(), event.get(key)?.clone()))).collect()
        })
        .collect();
    assert_eq!(Value::Array(shown).to_string().replace("1.50", "1.5"), expected.to_string());
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
}

#[tokio::test]
async fn a_bigint_is_a_string_wherever_it_is() {
    let (_database, client) = start().await;
    batch_execute(
        &client,
        "create type pair as (a int8, n int4, l int8[]);
         create domain big as int8;
         create domain bigs as int8[];
         create table t (id int8 primary key, l int8[], p pair, ps pair[], b big, bs big[], d bigs,
                         n numeric, r int8range, j jsonb);
         insert into t values (9007199254740993, '{{1},{null}}', (2, 3, '{4}'),
             array[(5, 6, null)::pair], 7, '{8}', '{9}', 10, '[11,12)', '{\"a\": 13}')",
    )
    .await;
    let expected = serde_json::json!({
        "id": "9007199254740993", "l": [["1"], [null]], "p": {"a": "2", "n": 3, "l": ["4"]},
        "ps": [{"a": "5", "n": 6, "l": null}], "b": "7", "bs": ["8"], "d": ["9"], "n": 10,
        "r": "[11,12)", "j": {"a": 13},
    });
    assert_eq!(envelopes_with(&client, true).await[0]["data"], expected);
}
