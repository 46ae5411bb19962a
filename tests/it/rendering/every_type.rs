//! Every type that the server's catalog lists, so that none of a new server goes unnoticed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use walhook::postgres::Client;

use super::pools::{self, pool};
use super::same::same;
use super::{Oracle, all, batch_execute, types};
use crate::harness::{Capture, Database, under_both_captures};

under_both_captures!(
    every_type_of_the_server_is_what_to_jsonb_makes_of_it,
    every_type_in_latin1,
    every_type_in_euc_jp,
    every_type_in_win1251,
);

/// Rows of a type, at most.
const ROWS: u32 = 30;

/// How often a table is read until it reads the same twice.
const READINGS: u32 = 20;

/// A type that a column can have, except arrays, which are made of these.
struct Subject {
    oid: u32,
    /// As `pools` has it.
    key: String,
    /// As SQL writes it.
    sql: String,
    /// Whether there are arrays of it.
    has_array: bool,
    /// Whether its rows are those of a table or view.
    of_table: bool,
    /// Whether a column cannot have it after all, since a part of it is of a pseudo-type.
    pseudo: bool,
}

/// All that a column may have in name; what is left out is said below, with the reason.
const SUBJECTS: &str = "
    with recursive parts (whole, part) as materialized (
        select t.oid, a.atttypid
        from pg_type t join pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0
        union all
        select oid, typelem from pg_type where typelem <> 0
    ), pseudo (oid) as (
        select oid from pg_type where typtype = 'p'
        union
        select whole from pseudo join parts on part = oid
    )
    select t.oid,
           case t.typnamespace::regnamespace::text when 'pg_catalog' then '' when 'public' then ''
               else t.typnamespace::regnamespace || '.' end || t.typname as key,
           format_type(t.oid, -1) as sql,
           t.typarray <> 0 as has_array,
           coalesce(c.relkind <> 'c', false) as of_table,
           t.oid in (select oid from pseudo) as pseudo
    from pg_type t
    left join pg_class c on c.oid = t.typrelid
    where t.typtype in ('b', 'e', 'd', 'c', 'r', 'm')
      -- an array is compared with its element
      and not (t.typelem <> 0 and t.typcategory = 'A' and t.typarray = 0)
    order by t.oid";

async fn subjects(client: &Client) -> Vec<Subject> {
    let rows = client.query(SUBJECTS, &[]).await.unwrap();
    let subject = |row: &tokio_postgres::Row| Subject {
        oid: row.get("oid"),
        key: row.get("key"),
        sql: row.get("sql"),
        has_array: row.get("has_array"),
        of_table: row.get("of_table"),
        pseudo: row.get("pseudo"),
    };
    rows.iter().map(subject).collect()
}

/// Every column of the table of type `number`: the type itself; arrays of one to three dimensions,
/// with bounds and nulls; composites, also in each other; domains over it, over arrays and over
/// composites, and arrays of these.
fn definition(number: usize, subject: &Subject) -> String {
    let (n, sql) = (number, &subject.sql);
    if !subject.has_array {
        return format!(
            r#"create type c{n} as (x {sql}, note text);
            create domain d{n} as {sql};
            create table t{n} (id serial primary key, v {sql}, c c{n}, cs c{n}[], d d{n}, ds d{n}[]);
            alter table t{n} replica identity full;"#
        );
    }
    format!(
        r#"create type c{n} as (x {sql}, "y ""q"" \ é" {sql}[], note text);
        create type n{n} as (c c{n}, cs c{n}[], x {sql});
        create domain d{n} as {sql};
        create domain dd{n} as d{n};
        create domain da{n} as {sql}[];
        create domain dc{n} as c{n};
        create table t{n} (id serial primary key, v {sql}, a {sql}[], c c{n}, n n{n}, cs c{n}[],
            d d{n}, dd dd{n}, ds d{n}[], da da{n}, das da{n}[], dc dc{n}, dcs dc{n}[]);
        alter table t{n} replica identity full;"#
    )
}

/// Its columns apart from the key.
fn columns(subject: &Subject) -> &'static str {
    if subject.has_array {
        "v, a, c, n, cs, d, dd, ds, da, das, dc, dcs"
    } else {
        "v, c, cs, d, ds"
    }
}

fn insertion(number: usize, subject: &Subject, query: &str) -> String {
    let n = number;
    if !subject.has_array {
        return format!(
            r#"insert into t{n} (v, c, cs, d, ds)
            select v, row(v, 'a "b" \')::c{n}, array[row(v, null)::c{n}, null], v,
                   array[v::d{n}, null::d{n}]
            from ({query}) given (v) limit {ROWS}"#
        );
    }
    let sql = &subject.sql;
    // A domain over an array is no element to array_fill.
    let (fill, fill_more) = match &*subject.key {
        "positives" | "moods" => (
            format!("('[-1:0]=' || array[v, v]::text)::{sql}[]"),
            format!("('[0:0][5:6][-3:-3]=' || array[[[v], [v]]]::text)::{sql}[]"),
        ),
        _ => (
            "array_fill(v, array[2], array[-1])".to_owned(),
            "array_fill(v, array[1, 2, 1], array[0, 5, -3])".to_owned(),
        ),
    };
    let null = format!("null::{sql}");
    format!(
        r#"with given (v) as (select v::{sql} from ({query}) given (v) limit {ROWS}),
        counted as (select v, lead(v) over () as w, row_number() over () as n from given)
        insert into t{n} (v, a, c, n, cs, d, dd, ds, da, das, dc, dcs)
        select v, a, c, row(c, array[c, null], v)::n{n}, array[[c, null], [null, c]], v, v,
               array[v::d{n}, null::d{n}, w::d{n}], a, array[a::da{n}, null::da{n}, '{{}}'::da{n}], c,
               array[c::dc{n}, null::dc{n}]
        from counted
        cross join lateral (select case n % 6
            when 0 then '{{}}'
            when 1 then array[v, {null}, w]
            when 2 then array[[v, {null}], [w, v]]
            when 3 then array[[[v, w]], [[{null}, v]]]
            when 4 then {fill}
            when 5 then {fill_more}
            end as a) arrays
        cross join lateral (select case n % 4
            when 0 then row(v, array[w, {null}], 'a "b" \ c,(d)')::c{n}
            when 1 then row(v, a, null)::c{n}
            when 2 then row(null, null, '')::c{n}
            else row(v, '{{}}', 'null')::c{n}
            end as c) composites"#
    )
}

const UNHEARD_OF: &str = "nothing is known of these: give them values in pools.rs";

/// What cannot be in any column, or has no values, and why.
fn left_out(subject: &Subject) -> Option<&'static str> {
    if subject.pseudo {
        return Some("the row of a catalog table with a column of a pseudo-type");
    }
    if subject.of_table {
        return None;
    }
    match pool(&subject.key) {
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(why),
        None => Some(UNHEARD_OF),
    }
}

/// Queries of a type's values; several, as not every encoding has what is in all of them.
fn queries(subject: &Subject, letters: &str) -> Vec<String> {
    let Subject { sql, key, .. } = subject;
    if let Some(Ok(known)) = pool(key) {
        let mut queries: Vec<String> = known.iter().map(|query| (*query).to_owned()).collect();
        if letters != LETTERS {
            // `to_jsonb` itself fails on these in other encodings.
            queries.retain(|query| !query.contains("\\ud83e"));
        }
        if key == "text" {
            queries.push(format!("select '{letters}' || chr(n) from generate_series(1, 90) n"));
        }
        return queries;
    }
    vec![
        format!("select row_ from {sql} row_ limit 3"),
        format!(r#"select jsonb_populate_record(null::{sql}, '{{"": 0}}')"#),
    ]
}

async fn fill(
    client: &Client,
    number: usize,
    subject: &Subject,
    letters: &str,
) -> Result<bool, String> {
    let mut filled = false;
    for query in queries(subject, letters) {
        let insertion = insertion(number, subject, &query);
        match client.batch_execute(&insertion).await {
            Ok(()) => filled = true,
            Err(error) => {
                let error = error.as_db_error().unwrap();
                let code = error.code().code();
                // The encoding lacks a character; the view cannot be read here; no libxml.
                let may_be = subject.of_table
                    || matches!(code, "22P05" | "54000" | "22021" | "0A000")
                    || code == "22023" && letters != LETTERS;
                if !may_be {
                    return Err(format!("{}: {error}: {query}", subject.sql));
                }
            }
        }
    }
    Ok(filled)
}

const LETTERS: &str = "é漢🦀";

#[derive(Default)]
struct Counts {
    types: usize,
    array_types: usize,
    rows: usize,
    values: usize,
    updates: usize,
}

/// Compares every type in a database of this encoding, which has these letters.
async fn compare(database: Database, letters: &str) {
    let oracle = Oracle::on(database).await;
    let client = &oracle.client;
    batch_execute(client, &types::TYPES.replace('ü', letters)).await;
    batch_execute(client, pools::TYPES).await;
    extensions(client).await;
    // Something for the extended statistics' types.
    batch_execute(
        client,
        "create table related (a int, b int); create statistics related_stats on a, b from related;
         insert into related select n % 10, n % 10 from generate_series(1, 1000) n;
         analyze related; select setseed(0.42)",
    )
    .await;
    let mut out: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut subjects = subjects(client).await;
    subjects.retain(|subject| match left_out(subject) {
        Some(why) => {
            out.entry(why).or_default().push(subject.sql.clone());
            false
        }
        None => true,
    });
    assert!(!out.contains_key(UNHEARD_OF), "{out:?}");
    // Row types of the catalog say nothing of the encoding.
    if letters != LETTERS {
        subjects.retain(|subject| !subject.of_table || subject.key == "parent");
    }
    for (number, subject) in subjects.iter().enumerate() {
        let definition = definition(number, subject);
        batch_execute(client, &definition.replace('é', letters)).await;
    }
    oracle.follow().await;
    let (mut compared, mut failed) = (Vec::new(), Vec::new());
    for (number, subject) in subjects.iter().enumerate() {
        let filled = fill(client, number, subject, letters).await.unwrap_or_else(|error| {
            failed.push(error);
            false
        });
        if filled {
            batch_execute(client, &format!("insert into t{number} default values")).await;
            compared.push((number, subject));
        } else {
            out.entry("no value could be made on this server")
                .or_default()
                .push(subject.sql.clone());
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let counts = judge(&oracle, &compared).await;
    let version: String = client.query_one("show server_version", &[]).await.unwrap().get(0);
    let encoding: String = client.query_one("show server_encoding", &[]).await.unwrap().get(0);
    let capture = oracle.capture().as_str();
    let Counts { types, array_types, rows, values, updates } = counts;
    println!(
        "{capture}: server {version}, {encoding}: {types} types and {array_types} array types, {rows} rows, \
         {values} values, {updates} updates with their old rows"
    );
    for (why, types) in &out {
        println!("left out, {why}: {}", types.join(", "));
    }
    assert!(types > 90 && values > 10_000);
    assert!(updates >= types);
}

/// Those that this server has. Rows of their types have Postgres's text: that hstore and geometry
/// have a cast to json, which `to_jsonb` would use, is none of our business, so it is taken away.
async fn extensions(client: &Client) {
    let available = "select name::text from pg_available_extensions where name = any($1)";
    for row in client.query(available, &[&pools::EXTENSIONS]).await.unwrap() {
        let name: String = row.get(0);
        batch_execute(client, &format!("create extension {name}")).await;
    }
    let casts = "select format('alter extension %I drop cast (%s as json);
                                drop cast (%2$s as json)', extname, castsource::regtype)
                 from pg_cast c
                 join pg_depend d on d.classid = 'pg_cast'::regclass and d.objid = c.oid
                 join pg_extension e on e.oid = d.refobjid and d.deptype = 'e'
                 where casttarget = 'json'::regtype";
    for row in client.query(casts, &[]).await.unwrap() {
        batch_execute(client, row.get(0)).await;
    }
}

/// Rows by id.
type Rows = HashMap<i64, Value>;

/// As the server says twice in a row. Its `to_jsonb` reads the names of a composite's columns only
/// when the whole value is made, from a row type that it has let go by then: where other sessions'
/// catalog changes make it forget that type meanwhile, the names are garbage.
async fn rows(oracle: &Oracle, number: usize) -> Rows {
    let client = &oracle.client;
    let sql = format!("select to_jsonb(t)::text from public.t{number} t");
    // What regclass and its like say of a name depends on it; triggers have one of their own.
    let path = match oracle.capture() {
        Capture::Replication => "reset search_path",
        Capture::Outbox => "set search_path = pg_catalog, pg_temp",
    };
    batch_execute(client, path).await;
    let mut before = all(client, &sql).await;
    for _ in 0..READINGS {
        let again = all(client, &sql).await;
        if again == before {
            batch_execute(client, "reset search_path").await;
            return again.into_iter().map(|row| (row["id"].as_i64().unwrap(), row)).collect();
        }
        before = again;
    }
    panic!("t{number} never reads the same twice");
}

/// Updates some rows, reads the stream, and compares all of it with the tables.
async fn judge(oracle: &Oracle, compared: &[(usize, &Subject)]) -> Counts {
    let client = &oracle.client;
    let mut expected: HashMap<String, (Rows, Rows)> = HashMap::new();
    for (number, subject) in compared {
        let before = rows(oracle, *number).await;
        let next =
            "(select max(u.id) from t u where u.id < t.id)".replace("t u", &format!("t{number} u"));
        let columns = columns(subject);
        let update = format!(
            "update t{number} t set ({columns}) = (select {columns} from t{number} u where u.id = \
             coalesce({next}, (select max(id) from t{number}))) where id % 5 = 1"
        );
        batch_execute(client, &update).await;
        let after = rows(oracle, *number).await;
        expected.insert(format!("t{number}"), (before, after));
    }
    let mut counts = Counts { types: compared.len(), ..Counts::default() };
    for event in oracle.envelopes().await {
        let table = event["source"]["table"].as_str().unwrap();
        let Some((before, after)) = expected.get_mut(table) else { continue };
        let number: usize = table[1..].parse().unwrap();
        let name = &compared.iter().find(|(other, _)| *other == number).unwrap().1.sql;
        let id = event["data"]["id"].as_i64().unwrap();
        if event["event"].as_str().unwrap().ends_with(".created") {
            same(&event["data"], &before[&id], name);
            counts.rows += 1;
            counts.values += leaves(&before[&id]);
        } else {
            same(&event["data"], &after[&id], name);
            same(&event["previous"], &changed(&before[&id], &event["updatedFields"]), name);
            for (column, value) in before[&id].as_object().unwrap() {
                if event["previous"].get(column).is_none() {
                    same(value, &after[&id][column], name);
                }
            }
            counts.updates += 1;
        }
    }
    let expected_rows: usize = expected.values().map(|(before, _)| before.len()).sum();
    assert_eq!(counts.rows, expected_rows);
    counts.array_types = covered_arrays(client, compared).await;
    counts
}

/// Every array that a column can have is one of a type compared.
async fn covered_arrays(client: &Client, compared: &[(usize, &Subject)]) -> usize {
    let compared: HashSet<u32> = compared.iter().map(|(_, subject)| subject.oid).collect();
    let arrays = "select t.typelem from pg_type t join pg_type e on e.typarray = t.oid
                  where t.typtype = 'b'";
    let arrays = client.query(arrays, &[]).await.unwrap();
    arrays.iter().filter(|row| compared.contains(&row.get::<_, u32>(0))).count()
}

fn changed(before: &Value, fields: &Value) -> Value {
    let names = fields.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    Value::Object(names.map(|name| (name.to_owned(), before[name].clone())).collect::<Map<_, _>>())
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(values) => values.values().map(leaves).sum(),
        _ => 1,
    }
}

async fn every_type_of_the_server_is_what_to_jsonb_makes_of_it(capture: Capture) {
    compare(capture.database().await, LETTERS).await;
}

async fn every_type_in_latin1(capture: Capture) {
    compare(Database::create_encoded("LATIN1").await.captured_by(capture), "éß").await;
}

async fn every_type_in_euc_jp(capture: Capture) {
    compare(Database::create_encoded("EUC_JP").await.captured_by(capture), "漢あ").await;
}

async fn every_type_in_win1251(capture: Capture) {
    compare(Database::create_encoded("WIN1251").await.captured_by(capture), "ключ").await;
}
