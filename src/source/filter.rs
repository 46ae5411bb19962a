//! What the server says of a row filter: whether it is one, which columns it reads, and how a
//! publication would write it.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::postgres::catalog::{ColumnInfo, TableInfo};
use crate::postgres::error::PgError;
use crate::postgres::predicate::has_asterisk;
use crate::postgres::publication::{Scope, TableScope, create_publication_sql};
use crate::postgres::sql::quote_ident;

/// How long trying a filter may wait for a lock on its table. Shorter than `deadlock_timeout`, after
/// which a waiting session makes an autovacuum give way.
const LOCK_TIMEOUT_MS: u32 = 500;

/// A table's row filter, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterFacts {
    /// The expression of the configuration.
    pub expression: String,
    /// Why it is no condition on the table's rows, in the server's words.
    pub invalid: Option<String>,
    /// Whether old rows always contain every column it reads: without that, the application's
    /// updates and deletes would fail once a publication has this filter.
    pub covered: bool,
    /// The columns it reads; found out only where a column list has to contain them.
    pub used: Vec<String>,
    /// How a publication takes it.
    pub form: Form,
}

/// How a publication takes a row filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Not tried: the server is too old, the role may not, or somebody holds a lock.
    Unknown,
    /// Not at all, in the server's words.
    Refused(String),
    /// As this text, in the server's own writing.
    Canonical(String),
}

impl FilterFacts {
    /// Whether `published`, a filter as the server writes it, is this one; none if that is not known.
    pub(super) fn is(&self, published: &str) -> Option<bool> {
        if bare(published) == bare(&self.expression) {
            return Some(true);
        }
        match &self.form {
            Form::Canonical(canonical) => Some(canonical == published),
            Form::Refused(_) => Some(false),
            Form::Unknown => None,
        }
    }
}

/// What was found out before, so that looking again costs nothing.
#[derive(Debug, Default)]
pub(super) struct Memo(HashMap<String, FilterFacts>);

/// What is asked about a filter.
pub(super) struct Question<'a> {
    pub(super) table: &'a TableInfo,
    pub(super) expression: &'a str,
    /// The filter the publication has for the table.
    pub(super) published: Option<&'a str>,
    /// Whether a publication may be made to see how it takes the filter.
    pub(super) may_try: bool,
    /// Whether a column list has to contain what it reads.
    pub(super) with_columns: bool,
}

/// Finds out about a filter.
pub(super) async fn ask(
    client: &Client,
    memo: &mut Memo,
    question: &Question<'_>,
) -> Result<FilterFacts, PgError> {
    let table = question.table;
    let same = question.published.filter(|text| bare(text) == bare(question.expression));
    let key = format!(
        "{:?}",
        (
            table.oid,
            &table.columns,
            &table.identity_columns,
            question.expression,
            question.may_try,
            question.with_columns
        )
    );
    if let Some(known) = memo.0.get(&key) {
        return Ok(known.clone());
    }
    let mut facts = FilterFacts {
        expression: question.expression.to_owned(),
        invalid: None,
        covered: false,
        used: Vec::new(),
        form: Form::Unknown,
    };
    facts.invalid = refusal(client, table, question.expression, None).await?;
    if facts.invalid.is_none() {
        let identity = |column: &ColumnInfo| table.identity_columns.contains(&column.name);
        let refused = refusal(client, table, question.expression, Some(&identity)).await?;
        facts.covered = refused.is_none() && !has_asterisk(question.expression);
        if question.with_columns {
            facts.used = used(client, table, question.expression).await?;
        }
        facts.form = match same {
            Some(text) => Form::Canonical(text.to_owned()),
            None if question.may_try => attempt(client, table, question.expression).await?,
            None => Form::Unknown,
        };
    }
    if facts.form != Form::Unknown || !question.may_try || facts.invalid.is_some() {
        memo.0.insert(key, facts.clone());
    }
    Ok(facts)
}

/// The columns without which the expression cannot be read: all if it reads the row as a whole.
async fn used(
    client: &Client,
    table: &TableInfo,
    expression: &str,
) -> Result<Vec<String>, PgError> {
    if has_asterisk(expression)
        || refusal(client, table, expression, Some(&|_| true)).await?.is_some()
    {
        return Ok(table.columns.iter().map(|column| column.name.clone()).collect());
    }
    let mut used = Vec::new();
    for column in &table.columns {
        let others = |other: &ColumnInfo| other.name != column.name;
        if refusal(client, table, expression, Some(&others)).await?.is_some() {
            used.push(column.name.clone());
        }
    }
    Ok(used)
}

/// Why the server does not take the expression for a condition on the table's rows, or on some of
/// their columns and not on the row as a whole; none if it does. Nothing is run: the statement is
/// only parsed.
async fn refusal(
    client: &Client,
    table: &TableInfo,
    expression: &str,
    some: Option<&(dyn Fn(&ColumnInfo) -> bool + Sync)>,
) -> Result<Option<String>, PgError> {
    let given = || table.columns.iter().filter(|column| some.is_none_or(|has| has(column)));
    let mut columns: Vec<String> = given()
        .map(|column| format!("null::{} as {}", column.type_name, quote_ident(&column.name)))
        .collect();
    if some.is_some() && !given().any(|column| column.name == table.name) {
        // The table's name would mean a row that lacks columns: of two columns it is neither.
        let name = quote_ident(&table.name);
        columns.extend([format!("1 as {name}"), format!("2 as {name}")]);
    }
    // WHEN wants a boolean, and the keywords around keep a second clause from sneaking in
    let sql = format!(
        "select from (select {}) as {} where case when (\n{expression}\n) then true end",
        columns.join(", "),
        quote_ident(&table.name)
    );
    match client.prepare(&sql).await {
        Ok(statement) if statement.params().is_empty() => Ok(None),
        Ok(_) => Ok(Some("it has a parameter ($1)".to_owned())),
        Err(error) => refused(error, "could not look at a row filter").map(Some),
    }
}

/// Makes a publication with the filter, looks at it, and takes everything back.
async fn attempt(client: &Client, table: &TableInfo, expression: &str) -> Result<Form, PgError> {
    let row = client
        .query_typed_one("select pg_backend_pid() as pid", &[])
        .await
        .map_err(|error| PgError::query("could not ask for the session's process", error))?;
    let name = format!("walhook_attempt_{}", row.try_get::<_, i32>("pid")?);
    let filtered = TableScope {
        filter: Some(format!("\n{expression}\n")),
        ..TableScope::all(&table.schema, &table.name)
    };
    let create =
        create_publication_sql(&name, &Scope { tables: vec![filtered], ..Scope::default() });
    let sql = format!(
        "begin; set local lock_timeout = {LOCK_TIMEOUT_MS}; {create}; \
         select pg_get_expr(r.prqual, r.prrelid) \
         from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
         where p.pubname = '{name}'; rollback"
    );
    let result = client.simple_query(&sql).await;
    match result {
        Ok(messages) => {
            let texts = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            let text = texts.last().map(str::to_owned);
            Ok(text.map_or(Form::Unknown, Form::Canonical))
        }
        Err(error) => {
            let undone = client.batch_execute("rollback").await;
            let context = "could not try a row filter";
            let locked =
                error.code().is_some_and(|code| matches!(code.code(), "55P03" | "42501" | "25006"));
            let refused = if locked { None } else { Some(refused(error, context)?) };
            undone.map_err(|error| PgError::query(context, error))?;
            Ok(refused.map_or(Form::Unknown, Form::Refused))
        }
    }
}

/// What the server said of the expression, unless it was about something else.
fn refused(error: tokio_postgres::Error, context: &str) -> Result<String, PgError> {
    let Some(said) = error.as_db_error() else { return Err(PgError::query(context, error)) };
    // syntax, names, types and values; what a publication does not support
    if !matches!(said.code().code().get(..2), Some("42" | "22" | "0A" | "54")) {
        return Err(PgError::query(context, error));
    }
    let message = said.message().escape_debug().to_string();
    Ok(match said.detail() {
        Some(detail) => format!("{message}: {}", detail.escape_debug()),
        None => message,
    })
}

/// The text without the parentheses around it.
fn bare(mut text: &str) -> &str {
    text = text.trim();
    while let Some(inner) = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        let mut depth = 0_i64;
        // quotes could hide a parenthesis: then the texts are compared by the server
        let closes_early = inner.chars().any(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth < 0
        });
        if closes_early || inner.contains(['\'', '"', '$']) && inner.contains(['(', ')']) {
            return text;
        }
        text = inner.trim();
    }
    text
}

/// Where the log ends now, and which transactions run.
pub(super) struct Moment {
    /// Every record written later begins here or behind.
    pub(super) lsn: String,
    /// Older transactions have ended.
    pub(super) oldest_running: i64,
    /// Transactions that begin later have this number or a higher one.
    pub(super) next: i64,
}

pub(super) async fn moment(client: &Client) -> Result<Moment, PgError> {
    const SQL: &str = "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() \
                              else pg_current_wal_insert_lsn() end::text as lsn, \
                       pg_snapshot_xmin(s)::text::int8 as oldest, \
                       pg_snapshot_xmax(s)::text::int8 as next \
                       from pg_current_snapshot() s";
    let none: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 0] = [];
    let row = client
        .query_typed_one(SQL, &none)
        .await
        .map_err(|error| PgError::query("could not read the log's position", error))?;
    Ok(Moment {
        lsn: row.try_get::<_, Option<String>>("lsn")?.unwrap_or_default(),
        oldest_running: row.try_get("oldest")?,
        next: row.try_get("next")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parentheses_around_the_whole_are_left_out() {
        for (text, inner) in [
            ("(a = 1)", "a = 1"),
            (" ((a = 1)) ", "a = 1"),
            ("(a) = (1)", "(a) = (1)"),
            ("(f(a) or (b))", "f(a) or (b)"),
            ("(a = ')')", "(a = ')')"),
            ("(a = 'x')", "a = 'x'"),
        ] {
            assert_eq!(bare(text), inner, "{text}");
        }
    }
}
