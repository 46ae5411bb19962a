//! What the server says of the outbox.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;
use crate::postgres::sql::quote_ident;
use crate::source::Facts;

/// What there is of the outbox, and what the role may do with it.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct OutboxFacts {
    pub(in crate::source) has_schema: bool,
    /// Whether the role may act as the schema's owner.
    pub(in crate::source) schema_owned: bool,
    pub(in crate::source) may_create: bool,
    pub(in crate::source) may_use: bool,
    pub(in crate::source) may_create_schema: bool,
    /// The schema's owner.
    pub(in crate::source) owner: Option<String>,
    /// The oid of the table of rows.
    pub(in crate::source) outbox: Option<u32>,
    pub(in crate::source) outbox_owned: bool,
    /// Whether the role may read the rows and delete them.
    pub(in crate::source) may_drain: bool,
    /// Whether the table of settings exists.
    pub(in crate::source) has_state: bool,
    /// The settings, where they may be read.
    pub(in crate::source) state: Option<State>,
    /// Whether nobody else has put anything into the schema.
    pub(in crate::source) alone: bool,
    /// Whether the owner of the trigger function may write to the outbox.
    pub(in crate::source) may_record: bool,
    /// The owner of the trigger function.
    pub(in crate::source) recorder: Option<String>,
    pub(in crate::source) recorder_is_superuser: bool,
    /// Whether transactions can be prepared (`max_prepared_transactions`).
    pub(in crate::source) may_prepare: bool,
    /// `lc_monetary`, as sessions have it that do not say otherwise.
    pub(in crate::source) monetary: String,
    /// The process that reads the rows now.
    pub(in crate::source) drained_by: Option<i32>,
    /// The schemas in which a filter's words are looked up.
    pub(in crate::source) search_path: Vec<String>,
    pub(in crate::source) functions: Vec<Function>,
    pub(in crate::source) triggers: Vec<Trigger>,
    /// Of the tables, by oid.
    pub(in crate::source) tables: HashMap<u32, TableFacts>,
    /// How many rows wait; of many, only that it is as many.
    pub(in crate::source) waiting: i64,
}

/// More rows than that are not counted.
const MOST_COUNTED: i64 = 100_000;

/// The row of walhook.state.
#[derive(Clone, Debug)]
pub(in crate::source) struct State {
    pub(in crate::source) max_rows: Option<i64>,
    pub(in crate::source) notify: bool,
    pub(in crate::source) switched_lsn: Option<Lsn>,
}

/// A function of the schema.
#[derive(Clone, Debug)]
pub(in crate::source) struct Function {
    pub(in crate::source) name: String,
    pub(in crate::source) arguments: String,
    pub(in crate::source) body: String,
    pub(in crate::source) owned: bool,
    pub(in crate::source) may_execute: bool,
}

/// A trigger that calls one of them.
#[derive(Clone, Debug)]
pub(in crate::source) struct Trigger {
    /// The oid of its table.
    pub(in crate::source) relation: u32,
    pub(in crate::source) schema: String,
    pub(in crate::source) table: String,
    pub(in crate::source) name: String,
    pub(in crate::source) function: String,
    /// What it fires for, as `pg_trigger.tgtype` has it.
    pub(in crate::source) kind: i32,
    /// `O`, `A` (always), `D` (not at all) or `R`.
    pub(in crate::source) enabled: String,
    pub(in crate::source) arguments: Vec<String>,
    /// Whether the role may act as the table's owner.
    pub(in crate::source) owned: bool,
    /// The table's owner.
    pub(in crate::source) owner: String,
    /// Partitions whose copy of it somebody has switched off or on.
    pub(in crate::source) odd_partitions: Vec<String>,
}

/// What matters of a table here and nowhere else.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct TableFacts {
    pub(in crate::source) may_trigger: bool,
    /// The columns to be given as text.
    pub(in crate::source) texts: Vec<String>,
    /// Whether it has values of the type money.
    pub(in crate::source) has_money: bool,
    /// Whether it has values that are names of tables, types and the like.
    pub(in crate::source) has_names: bool,
    pub(in crate::source) owner_is_superuser: bool,
}

/// Asks the server.
pub(in crate::source) async fn gather(
    client: &Client,
    facts: &Facts,
) -> Result<OutboxFacts, PgError> {
    const FACTS: &str = include_str!("../../../sql/outbox_facts.sql");
    const FUNCTIONS: &str = include_str!("../../../sql/outbox_functions_of.sql");
    const TRIGGERS: &str = include_str!("../../../sql/outbox_triggers.sql");
    const TABLES: &str = include_str!("../../../sql/outbox_tables.sql");
    let failed = |error| PgError::query("could not look at the outbox", error);
    let row = client.query_typed_one(FACTS, &[]).await.map_err(failed)?;
    let mut outbox = of_row(&row)?;
    outbox.search_path = paths(client).await?.1;
    if row.try_get::<_, bool>("may_read_state")? {
        outbox.state = state(client).await?;
    }
    if outbox.may_drain && outbox.may_use {
        outbox.waiting = waiting(client).await?;
    }
    for row in client.query_typed(FUNCTIONS, &[]).await.map_err(failed)? {
        outbox.functions.push(Function {
            name: row.try_get("name")?,
            arguments: row.try_get("arguments")?,
            body: row.try_get("body")?,
            owned: row.try_get("owned")?,
            may_execute: row.try_get("may_execute")?,
        });
    }
    for row in client.query_typed(TRIGGERS, &[]).await.map_err(failed)? {
        outbox.triggers.push(trigger(&row)?);
    }
    let oids: Vec<u32> = facts.tables.iter().map(|table| table.oid).collect();
    let rows = client.query_typed(TABLES, &[(&oids, Type::OID_ARRAY)]).await.map_err(failed)?;
    for row in rows {
        let special: Vec<String> = row.try_get("special")?;
        let known = TableFacts {
            may_trigger: row.try_get("may_trigger")?,
            texts: row.try_get("texts")?,
            has_money: special.iter().any(|name| name == "money"),
            has_names: special.iter().any(|name| name.starts_with("reg")),
            owner_is_superuser: row.try_get("owner_is_superuser")?,
        };
        outbox.tables.insert(row.try_get("oid")?, known);
    }
    Ok(outbox)
}

fn of_row(row: &Row) -> Result<OutboxFacts, PgError> {
    Ok(OutboxFacts {
        has_schema: row.try_get("has_schema")?,
        schema_owned: row.try_get("schema_owned")?,
        may_create: row.try_get("may_create")?,
        may_use: row.try_get("may_use")?,
        may_create_schema: row.try_get("may_create_schema")?,
        owner: row.try_get("owner")?,
        outbox: row.try_get("outbox")?,
        outbox_owned: row.try_get("outbox_owned")?,
        may_drain: row.try_get("may_drain")?,
        has_state: row.try_get::<_, Option<u32>>("state")?.is_some(),
        alone: row.try_get("alone")?,
        may_record: row.try_get("may_record")?,
        recorder: row.try_get("recorder")?,
        recorder_is_superuser: row.try_get("recorder_is_superuser")?,
        may_prepare: row.try_get("may_prepare")?,
        monetary: row.try_get("monetary")?,
        drained_by: row.try_get("drained_by")?,
        ..OutboxFacts::default()
    })
}

fn trigger(row: &Row) -> Result<Trigger, PgError> {
    Ok(Trigger {
        relation: row.try_get("relation")?,
        schema: row.try_get("schema")?,
        table: row.try_get("name")?,
        name: row.try_get("trigger")?,
        function: row.try_get("function")?,
        kind: row.try_get("kind")?,
        enabled: row.try_get("enabled")?,
        arguments: row.try_get("arguments")?,
        owned: row.try_get("owned")?,
        owner: row.try_get("owner")?,
        odd_partitions: row.try_get("odd_partitions")?,
    })
}

/// The session's `search_path`, and the schemas of it that a trigger function may use.
pub(in crate::source) async fn paths(client: &Client) -> Result<(String, Vec<String>), PgError> {
    const SQL: &str = include_str!("../../../sql/outbox_path.sql");
    let failed = |error| PgError::query("could not look at the search_path", error);
    let row = client.query_typed_one(SQL, &[]).await.map_err(failed)?;
    Ok((row.try_get("session")?, row.try_get("trusted")?))
}

/// A `search_path` as the trigger functions of row filters have it.
pub(in crate::source) fn trusted_path(schemas: &[String]) -> String {
    let trusted = schemas.iter().map(|schema| quote_ident(schema));
    let path: Vec<String> = ["pg_catalog".to_owned()]
        .into_iter()
        .chain(trusted)
        .chain(["pg_temp".to_owned()])
        .collect();
    path.join(", ")
}

async fn state(client: &Client) -> Result<Option<State>, PgError> {
    const SQL: &str = "select max_rows, notify, switched_lsn::text as switched_lsn \
                       from walhook.state";
    let row = client
        .query_typed_opt(SQL, &[])
        .await
        .map_err(|error| PgError::query("could not read the outbox's settings", error))?;
    let Some(row) = row else { return Ok(None) };
    let switched: Option<String> = row.try_get("switched_lsn")?;
    Ok(Some(State {
        max_rows: row.try_get("max_rows")?,
        notify: row.try_get("notify")?,
        switched_lsn: switched.and_then(|lsn| lsn.parse().ok()),
    }))
}

async fn waiting(client: &Client) -> Result<i64, PgError> {
    const SQL: &str =
        "select count(*) as waiting from (select from walhook.outbox limit $1::int8) o";
    let row = client
        .query_typed_one(SQL, &[(&MOST_COUNTED, Type::INT8)])
        .await
        .map_err(|error| PgError::query("could not count the outbox's rows", error))?;
    Ok(row.try_get("waiting")?)
}
