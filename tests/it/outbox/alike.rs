//! Nobody downstream can tell the captures apart, but by what events say of their source.

use serde_json::Value;

use crate::harness::Capture;
use crate::hazards::Story;

const TABLES: &str = "
    create type mood as enum ('sad', 'happy');
    create type pair as (a int, b text);
    create table person (id bigint primary key, name text, born date, at timestamptz,
        balance numeric(12, 2), score float8, tags text[], doc jsonb, raw bytea, mood mood,
        pair pair, note text);
    create table note (person bigint, line int, text text, primary key (person, line));
    alter table note alter text set storage external;
    alter table person replica identity full;
    alter table note replica identity full";

const CHANGES: [&str; 9] = [
    r#"insert into person values (9007199254740993, E'Ada "L"\n', '1815-12-10',
        '2024-02-29 12:34:56.789+02', 12.50, 0.1, '{a,NULL,"b c"}', '{"b": [1.50, null], "a": 1}',
        '\x00ff', 'happy', (1, 'x,"y"'), null)"#,
    "begin; update person set balance = balance + 0.5, mood = 'sad'; update person set name = name;
     insert into note select 1, line, repeat('x', 3000) from generate_series(1, 3) line; commit",
    "update note set line = line + 10",
    "update note set text = repeat('y', 3000) where line = 12",
    "update person set id = 7, tags = '{}', pair = (null, ''), doc = 'null'",
    "delete from note where line = 11",
    "truncate note",
    "insert into person (id, score) values (8, 'NaN'), (9, '-Infinity'), (10, 2.5)",
    "delete from person",
];

/// What an event says, without when and where that was.
fn told(mut event: Value) -> Value {
    for key in ["id", "timestamp"] {
        assert!(event.as_object_mut().unwrap().remove(key).is_some_and(|it| it.is_string()));
    }
    let source = event["source"].as_object_mut().unwrap();
    for (key, is_text) in
        [("lsn", true), ("commitLsn", true), ("xid", false), ("database", true), ("capture", true)]
    {
        let value = source.remove(key).unwrap_or_else(|| panic!("no {key}"));
        assert!(if is_text { value.is_string() } else { value.is_u64() }, "{key}: {value}");
    }
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_either_capture_say_the_same() {
    let mut stories = Vec::new();
    for capture in [Capture::Replication, Capture::Outbox] {
        let database = capture.database().await;
        database.execute(TABLES).await;
        let events = Story::of(&database, &["person", "note"]).told(&CHANGES).await;
        for event in &events {
            assert_eq!(event["source"]["capture"], capture.as_str());
        }
        stories.push(events.into_iter().map(told).collect::<Vec<_>>());
    }
    let outbox = stories.pop().unwrap();
    let replication = stories.pop().unwrap();
    assert_eq!(outbox.len(), replication.len());
    for (by_triggers, by_log) in outbox.iter().zip(&replication) {
        assert_eq!(by_triggers.to_string(), by_log.to_string());
    }
}
