//! Whether the rows, as the events alone tell them, equal the rows of the database.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::ledger::Told;
use super::session::Session;
use super::stage::TABLES;

/// How many rows are fetched at once.
const PAGE: usize = 500;

/// How many records were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Comparison {
    /// Records that some event was about.
    pub(super) compared: u64,
    /// Those whose last event tells exactly what Postgres holds: the same row as `to_jsonb`
    /// renders it, or none if it was deleted.
    pub(super) equal: u64,
}

/// Compares what the events tell, table by table, with the database at `url`.
pub(super) async fn compare(
    url: &str,
    told: &HashMap<String, Vec<Told>>,
) -> Result<Comparison, tokio_postgres::Error> {
    let session = Session::connect(url).await?;
    session.client().batch_execute("set timezone = 'UTC'").await?;
    let mut comparison = Comparison::default();
    for (table, _) in TABLES {
        let records = told.get(table).map(Vec::as_slice).unwrap_or_default();
        for page in records.chunks(PAGE) {
            let keys: Vec<&str> = page.iter().map(|(key, _)| key.as_str()).collect();
            let sql = format!(
                "select id::text, to_jsonb(t)::text from {table} t where id::text = any ($1)"
            );
            let rows = session.client().query(&sql, &[&keys]).await?;
            let rows: HashMap<String, String> =
                rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            for (key, told) in page {
                comparison.compared += 1;
                comparison.equal += u64::from(same(rows.get(key), told.as_ref()));
            }
        }
    }
    Ok(comparison)
}

fn same(row: Option<&String>, told: Option<&Map<String, Value>>) -> bool {
    match (row, told) {
        (None, None) => true,
        // Numbers are compared digit by digit, not as floating point.
        (Some(row), Some(told)) => {
            serde_json::from_str::<Map<String, Value>>(row).is_ok_and(|row| row == *told)
        }
        _ => false,
    }
}
