//! Values as text, and what else could be made of them.

use serde_json::Value;

use super::story::Story;
use crate::harness::{Capture, Database, under_both_captures};

under_both_captures!(hazard_26_settings_of_the_database_do_not_change_values);

/// The rows of a table as `to_jsonb` gives them under the settings walhook promises.
async fn truth(database: &Database, sql: &str) -> Vec<Value> {
    let client = database.client().await;
    let settings = "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC';
                    set bytea_output = 'hex'; set extra_float_digits = 1";
    client.batch_execute(settings).await.unwrap();
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

async fn hazard_26_settings_of_the_database_do_not_change_values(capture: Capture) {
    let database = capture.database().await;
    let name = database.name();
    let settings = [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'iso_8601'",
        "timezone = 'Asia/Kathmandu'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "statement_timeout = '2s'",
        "idle_session_timeout = '2s'",
    ];
    for setting in settings {
        database.execute(&format!("alter database {name} set {setting}")).await;
    }
    database
        .execute(
            "create type mood as enum ('sad', 'so \"so\"');
             create domain positive as int check (value > 0);
             create domain names as text[];
             create table kind (
                 id int primary key, i2 int2, i8 int8, f4 float4, f8 float8, num numeric, b bool,
                 t text, vc varchar(10), ch char(5), u uuid, d date, tm time, tmz timetz,
                 ts timestamp, tsz timestamptz, iv interval, j json, jb jsonb, by bytea,
                 m mood, p positive, ns names, ai int[], at text[], an numeric[][], atsz timestamptz[],
                 ajb jsonb[], ip inet, cash money, r int4range, bits varbit, pt point)",
        )
        .await;
    let changes = r#"
        insert into kind (id) values (0);
        insert into kind values (1, -32768, 9223372036854775807, 0.1, 1e-7, 12345678901234567890.1200,
            true, E'a\tb"\\\u00e9\U0001F418', 'vc', 'ch', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
            '2024-02-29', '23:59:59.5', '10:00:00.25+05:30', '2024-02-29 12:34:56.7',
            '2024-02-29 12:34:56.789012+00', '1 year 2 days 03:04:05.6', '{"a": [1,  2.50]}',
            '{"b": {"c": null}, "a": 1.0}', '\x00ff10', 'so "so"', 7, '{x,NULL,"a b"}',
            '{{1,2},{3,NULL}}', '{"",NULL,"NULL","a\"b\\c","{}"}', '{{1.50},{NaN}}',
            '{"2024-01-01 00:00:00+02",infinity}', array['{"a":1}'::jsonb, 'null', null],
            '10.0.0.1/8', 12.5, '[1,5)', B'1010', '(1,2)');
        insert into kind (id, f4, f8, num, d, ts, tsz, ai, at, i8) values
            (2, 'NaN', '-Infinity', 'NaN', 'infinity', '-infinity', 'infinity', '{}', '{}',
             -9223372036854775808);
        insert into kind (id, f8, f4, num, d, ts, tsz, ai) values
            (3, 1e300, 1e-30, -0.00, '0044-03-15 BC', '0044-03-15 01:02:03 BC',
             '12345-01-01 00:00:00+00', '[0:1]={7,8}');
        insert into kind (id, f8, f4, num) values (4, 123456789012345680, 16777216, 1e20);
        insert into kind (id, f8, f4) values (5, '-0', 3.4028235e38);
    "#;
    let events = Story::of(&database, &["kind"]).told(&[changes]).await;
    assert_eq!(events.len(), 6);
    let truth = truth(&database, "select to_jsonb(k)::text from kind k order by id").await;
    for (event, truth) in events.iter().zip(&truth) {
        assert_eq!(event["event"], "kind.created");
        let (data, truth) = (event["data"].as_object().unwrap(), truth.as_object().unwrap());
        for (column, truth) in truth {
            assert_eq!(&data[column], truth, "column {column} of row {}", data["id"]);
        }
        assert_eq!(data.len(), truth.len());
    }
}
