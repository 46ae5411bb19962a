//! What triggers record as `row_to_json` makes the events that the log makes under REPLICA IDENTITY
//! FULL: the server writes both sides, and they are compared byte for byte.

use std::collections::HashMap;
use std::sync::Arc;

use walhook::capture::change::{Change, Recorded, RecordedKind, RecordedTable};
use walhook::event::{Case, Columns, EventBatch, EventRules, RulesOptions, TableRule};
use walhook::postgres::relation::{Relation, RelationId};
use walhook::postgres::{Client, TablePattern};

use super::replication::each_change;
use super::{Oracle, batch_execute, types};
use crate::harness::Capture;

/// Unlogged, so that the log says nothing of it.
const RECORDER: &str = "
create unlogged table recorded (n bigint generated always as identity, old json, new json);
create function record() returns trigger language plpgsql as $$
begin
    insert into recorded (old, new) values (
        case when tg_op <> 'INSERT' then row_to_json(old) end,
        case when tg_op <> 'DELETE' then row_to_json(new) end);
    return null;
end $$";

async fn follow(client: &Client, table: &str) {
    let sql = format!(
        "alter table {table} replica identity full;
         create trigger r after insert or update or delete on {table}
         for each row execute function record()"
    );
    batch_execute(client, &sql).await;
}

/// Rules that tell everything as it is, and some that don't.
fn rules(capture: &'static str) -> Vec<EventRules> {
    let rule = || TableRule::new(TablePattern::new(glob("*"), glob("*")), None);
    let rules = [
        (rule(), false),
        (TableRule { soft_delete: Some("v".into()), ..rule() }, true),
        (
            TableRule {
                columns: Columns::Except(vec!["id".into()]),
                rename: vec![("v".into(), "value \"of\" v".into())],
                case: Case::Camel,
                ..rule()
            },
            true,
        ),
    ];
    let options = |(rule, int8_as_string)| RulesOptions {
        system_identifier: 1,
        database_oid: 1,
        database: "postgres".into(),
        capture,
        tables: vec![rule],
        int8_as_string,
        replace_invalid_utf8: false,
        message_prefix: "walhook".into(),
    };
    rules.into_iter().map(|it| EventRules::new(options(it))).collect()
}

fn glob(pattern: &str) -> walhook::postgres::pattern::NamePattern {
    walhook::postgres::pattern::NamePattern::Glob(pattern.into())
}

/// The table as capture by triggers describes it.
fn seen(relation: &Relation) -> Arc<RecordedTable> {
    let columns = relation.columns.iter();
    Arc::new(RecordedTable {
        id: relation.id,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        key: relation.key.iter().map(|&column| relation.columns[column].name.clone()).collect(),
        columns: columns.map(|column| (column.name.clone(), column.kind.clone())).collect(),
        unseen: Vec::new(),
    })
}

/// Names, lanes and envelopes, with what may differ taken away.
fn told(batch: &EventBatch) -> Vec<(String, Vec<i64>, String)> {
    let told = batch.events().iter().map(|event| {
        let body = std::str::from_utf8(batch.body(event)).unwrap();
        let body = body.replace(&event.id.to_string(), "ID");
        let body = body.replace("\"capture\":\"outbox\"}}", "\"capture\":\"replication\"}}");
        (event.name.to_string(), event.lanes.as_slice().to_vec(), without_spaces(&body))
    });
    told.collect()
}

/// Those around a value of the type json are not recorded.
fn without_spaces(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let mut kept = json.to_owned();
    kept.retain(|character| {
        let keep = in_string || !character.is_ascii_whitespace();
        in_string ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        keep
    });
    kept
}

/// Compares what the slot has with what was recorded; how many changes there were.
async fn compare(client: &Client) -> usize {
    let recorded = "select old::text, new::text from recorded order by n";
    let mut recorded = client.query(recorded, &[]).await.unwrap().into_iter();
    let (mut logged_rules, mut recorded_rules) = (rules("replication"), rules("outbox"));
    let mut tables: HashMap<RelationId, Arc<RecordedTable>> = HashMap::new();
    let mut compared = 0;
    each_change(client, |transaction, position, change| {
        let (kind, relation) = match change {
            Change::Insert { relation, .. } => (RecordedKind::Insert, relation),
            Change::Update { relation, .. } => (RecordedKind::Update, relation),
            Change::Delete { relation, .. } => (RecordedKind::Delete, relation),
            other => panic!("{other:?}"),
        };
        let table = tables.entry(relation.id).or_insert_with(|| seen(relation));
        let row = recorded.next().expect("a row for each change of the log");
        let (old, new) = (row.get(0), row.get(1));
        let by_trigger = Change::Recorded(Recorded { kind, table, old, new });
        for (logged_rules, recorded_rules) in logged_rules.iter_mut().zip(&mut recorded_rules) {
            let (mut logged, mut by_triggers) = (EventBatch::default(), EventBatch::default());
            logged_rules.apply(transaction, position, change, &mut logged).unwrap();
            recorded_rules.apply(transaction, position, &by_trigger, &mut by_triggers).unwrap();
            assert_eq!(told(&by_triggers), told(&logged));
            assert_eq!(logged.len(), 1);
        }
        compared += 1;
    })
    .await;
    assert!(recorded.next().is_none(), "a change of the log for each row");
    compared
}

#[tokio::test]
async fn a_recorded_change_of_every_common_type_is_what_the_log_tells() {
    let oracle = Oracle::new(Capture::Replication).await;
    oracle.follow().await;
    let client = &oracle.client;
    batch_execute(client, types::TYPES).await;
    batch_execute(client, RECORDER).await;
    for (number, (name, queries)) in types::VALUES.iter().enumerate() {
        let table = format!("create table t{number} (id int8 primary key, v {name}, \"W_x\" text)");
        batch_execute(client, &table).await;
        follow(client, &format!("t{number}")).await;
        let values = queries.join(" union all ");
        // To JSON, a `null` of json and jsonb is no value.
        let sql = format!(
            "create temporary table shuffled as
                 select row_number() over () as id, v from (select null::{name} as v union all
                 {values}) q where v is null or btrim(v::text, e' \\n\\t') <> 'null';
             insert into t{number} select id, v, 'w' from shuffled;
             update t{number} t set v = s.v from shuffled s where s.id = t.id + 7;
             update t{number} set v = null, \"W_x\" = 'x' where id % 5 = 0;
             update t{number} set id = -id where id % 7 = 0;
             update t{number} set \"W_x\" = \"W_x\";
             delete from t{number};
             drop table shuffled"
        );
        batch_execute(client, &sql).await;
    }
    let compared = compare(client).await;
    assert!(compared > 30_000, "only {compared} changes");
}

/// A record keeps its lane when a database is switched from one way of capture to the other.
#[tokio::test]
async fn keys_of_many_types_have_the_lanes_that_the_log_gives_them() {
    let oracle = Oracle::new(Capture::Replication).await;
    oracle.follow().await;
    let client = &oracle.client;
    batch_execute(client, types::TYPES).await;
    batch_execute(client, RECORDER).await;
    let keys = [
        ("int2", "(-1), (0), (32767)"),
        ("int4", "(-1), (0), (2147483647)"),
        ("int8", "(-9223372036854775808), (0), (9007199254740993)"),
        ("numeric", "(0), (-1.50), ('NaN'), (1e30), (1e-20)"),
        ("float8", "(0.1), (1e30), (-1e-30), ('Infinity'), ('-0')"),
        ("text", "(''), ('null'), ('é \"\\'), (e'a\\n\\t\\r\\u0001\\x7f')"),
        ("varchar(9)", "('a'), ('true'), ('1')"),
        ("char(5)", "('a'), ('ab')"),
        ("uuid", "(gen_random_uuid()), (gen_random_uuid())"),
        ("bool", "(true), (false)"),
        ("date", "('2024-02-29'), ('infinity'), ('0044-03-15 BC'), ('12345-01-01')"),
        ("time", "('12:00'), ('00:00:00.000001'), ('24:00')"),
        ("timetz", "('12:00+00'), ('12:00:00.5+05:30')"),
        ("timestamp", "('2024-02-29 12:00'), ('-infinity'), ('0044-03-15 12:00:00.5 BC')"),
        (
            "timestamptz",
            "('2024-02-29 12:00+05:30'), ('infinity'), ('0044-03-15 12:00 BC'), ('12345-01-01 00:00:00.25+00')",
        ),
        ("interval", "('1 day'), ('-1 year 2 mons 03:04:05.6')"),
        ("bytea", "('\\x'), ('\\x00ff')"),
        ("inet", "('10.0.0.1'), ('10.0.0.0/8')"),
        ("mood", "('sad'), ('o''k \"\\'), ('')"),
        ("jsonb", "('{\"a\": [1, \"é\\n\"]}'), ('\"x\"'), ('1.50')"),
        ("int4range", "('[1,5)'), ('empty')"),
        ("oid", "(1), (4294967295)"),
        ("money", "(1.5), (-1000)"),
        ("positive", "(1), (2.125)"),
        ("\"char\"", "('a'), ('\"')"),
        ("name", "('a'), ('b c')"),
        ("bit(3)", "('101'), ('000')"),
        ("macaddr", "('08:00:2b:01:02:03')"),
        ("pg_lsn", "('0/16B3748'), ('FF/0')"),
    ];
    for (number, (name, values)) in keys.into_iter().enumerate() {
        for (table, key) in [("k", "primary key (v, w)"), ("n", "check (true)")] {
            let table = format!("{table}{number}");
            let sql = format!("create table {table} (x int, w text, v {name}, id int4, {key})");
            batch_execute(client, &sql).await;
            follow(client, &table).await;
            let sql = format!(
                "insert into {table} (v, w, x) select v::{name}, 'w', 1 from (values {values}) q(v);
                 update {table} set x = 2;
                 update {table} set w = 'moved';
                 delete from {table}"
            );
            batch_execute(client, &sql).await;
        }
    }
    assert!(compare(client).await > 500);
}
