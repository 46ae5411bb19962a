//! The functions and triggers there should be.

use serde_json::json;

use super::facts::{OutboxFacts, trusted_path};
use crate::postgres::catalog::{GeneratedKind, TableKind};
use crate::postgres::sql::{quote_ident, quote_literal, quote_table};
use crate::source::target::Target;
use crate::source::{Facts, SourceOptions};

/// The tables of the outbox.
pub(super) const TABLES_SQL: &str = include_str!("../../../sql/outbox.sql");
const HELPERS_SQL: &str = include_str!("../../../sql/outbox_functions.sql");
const CAPTURE_SQL: &str = include_str!("../../../sql/outbox_capture.sql");
/// `walhook.emit`.
pub(super) const EMIT_SQL: &str = include_str!("../../../sql/outbox_emit.sql");

/// What the reading of a row filter's words depends on, beyond what the trigger function sets.
const FILTER_SETTINGS: &str =
    "set standard_conforming_strings = on\nset transform_null_equals = off";

/// AFTER, for each row, of INSERT, DELETE and UPDATE, in the bits of `pg_trigger.tgtype`.
pub(super) const ROW_KIND: i32 = 1 | 4 | 8 | 16;
/// AFTER, for each statement, of TRUNCATE.
pub(super) const TRUNCATE_KIND: i32 = 32;

/// A function there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedFunction {
    pub(super) name: String,
    pub(super) body: String,
    /// What creates it.
    pub(super) sql: String,
}

/// The triggers a table should have: one for rows, one for TRUNCATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedTriggers {
    pub(super) relation: u32,
    pub(super) schema: String,
    pub(super) table: String,
    /// Whether they fire for changes that logical replication brings.
    pub(super) always: bool,
    /// Whether the role may say so.
    pub(super) owned: bool,
    /// What they call.
    pub(super) function: String,
    pub(super) arguments: Vec<String>,
    /// The function, where the table has one of its own.
    pub(super) own_function: Option<WantedFunction>,
}

impl WantedTriggers {
    /// Triggers of one event fire in the order of their names, and a trigger of the application may
    /// change the same row again: that change comes second only if ours fires first.
    pub(super) fn row_name(&self) -> String {
        format!("!walhook_{}", self.relation)
    }

    pub(super) fn truncate_name(&self) -> String {
        format!("{}_truncate", self.row_name())
    }

    /// What creates one of them, or puts it right.
    pub(super) fn sql(&self, kind: i32, name: &str) -> String {
        let (events, each) = match kind {
            TRUNCATE_KIND => ("TRUNCATE", "STATEMENT"),
            _ => ("INSERT OR UPDATE OR DELETE", "ROW"),
        };
        let table = quote_table(&self.schema, &self.table);
        let trigger = quote_ident(name);
        let arguments: Vec<String> = self.arguments.iter().map(|a| quote_literal(a)).collect();
        let mut sql = format!(
            "CREATE OR REPLACE TRIGGER {trigger} AFTER {events} ON {table}\n    FOR EACH {each} \
             EXECUTE FUNCTION walhook.{}({})",
            quote_ident(&self.function),
            arguments.join(", ")
        );
        if self.always && self.owned {
            sql.push_str(&format!(";\nALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"));
        }
        sql
    }

    /// How `pg_trigger.tgenabled` says it.
    pub(super) fn enabled(&self) -> &'static str {
        if self.always && self.owned { "A" } else { "O" }
    }
}

/// The functions that serve every table.
pub(super) fn common_functions() -> Vec<WantedFunction> {
    let mut functions = Vec::new();
    for sql in [HELPERS_SQL, CAPTURE_SQL, EMIT_SQL] {
        functions.extend(sql.split("create or replace function walhook.").skip(1).filter_map(of));
    }
    functions
}

/// Reads what stands behind `create or replace function walhook.`.
fn of(text: &str) -> Option<WantedFunction> {
    let (name, rest) = text.split_once('(')?;
    let (_, quoted) = rest.split_once('$')?;
    let (tag, rest) = quoted.split_once('$')?;
    let (body, rest) = rest.split_once(&format!("${tag}$"))?;
    // the comment of the next one comes before that
    let end = rest.split("\n\n").next().unwrap_or_default();
    let head = text.get(..text.len() - rest.len())?;
    let sql = format!("create or replace function walhook.{head}{end}");
    let sql = sql.trim_end().trim_end_matches(';').to_owned();
    Some(WantedFunction { name: name.to_owned(), body: body.to_owned(), sql })
}

/// The triggers of a table.
pub(super) fn triggers(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
    target: &Target<'_>,
) -> WantedTriggers {
    let table = target.table;
    let own_function = target
        .spec
        .filter
        .as_ref()
        .map(|filter| filtered(outbox, table.oid, (&table.schema, &table.name), filter));
    let function = own_function.as_ref().map_or("capture", |function| &function.name).to_owned();
    let in_order = table.columns.iter().map(|column| &column.name);
    let key: Vec<&String> = in_order.filter(|name| table.primary_key.contains(name)).collect();
    let mut arguments = vec![if key.is_empty() { String::new() } else { array(&key) }];
    arguments.extend(settings(facts, outbox, options, target));
    WantedTriggers {
        relation: table.oid,
        schema: table.schema.clone(),
        table: table.name.clone(),
        always: options.outbox.as_ref().is_none_or(|spec| !spec.local_only),
        owned: table.owned,
        function,
        arguments,
        own_function,
    }
}

/// The second argument, where one is needed.
fn settings(
    facts: &Facts,
    outbox: &OutboxFacts,
    options: &SourceOptions,
    target: &Target<'_>,
) -> Option<String> {
    let (table, spec) = (target.table, target.spec);
    let mut settings = serde_json::Map::new();
    let needed =
        |name: &String| table.primary_key.contains(name) || spec.soft_delete.as_ref() == Some(name);
    // the trigger sees no value of these, and null would be a lie
    let virtuals = table.columns.iter().filter(|c| c.generated == Some(GeneratedKind::Virtual));
    let virtuals: Vec<&String> = virtuals.map(|column| &column.name).collect();
    if let Some(columns) = &spec.columns {
        let mut only: Vec<&String> = columns.iter().filter(|n| !virtuals.contains(n)).collect();
        let more = table.columns.iter().map(|column| &column.name).filter(|name| needed(name));
        only.extend(more.filter(|name| !columns.contains(name)));
        settings.insert("only".to_owned(), json!(only));
    } else {
        let mut except: Vec<&String> = spec.exclude.iter().filter(|name| !needed(name)).collect();
        except.extend(virtuals.into_iter().filter(|name| !spec.exclude.contains(name)));
        if !except.is_empty() {
            settings.insert("except".to_owned(), json!(except));
        }
    }
    if let Some(known) = outbox.tables.get(&table.oid).filter(|known| !known.texts.is_empty()) {
        settings.insert("text".to_owned(), json!(known.texts));
    }
    if outbox.tables.get(&table.oid).is_some_and(|known| known.has_money) {
        settings.insert("money".to_owned(), json!(outbox.monetary));
    }
    if outbox.tables.get(&table.oid).is_some_and(|known| known.has_names) {
        settings.insert("names".to_owned(), json!(true));
    }
    if table.kind == TableKind::Partitioned {
        let root = json!({"oid": table.oid, "schema": table.schema, "name": table.name});
        settings.insert("root".to_owned(), root);
    }
    if options.outbox.as_ref().is_some_and(|spec| spec.notify) {
        settings.insert("notify".to_owned(), json!(true));
    }
    let _ = facts;
    (!settings.is_empty()).then(|| serde_json::Value::Object(settings).to_string())
}

/// An array's text.
fn array(names: &[&String]) -> String {
    let quoted = names.iter().map(|name| {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    });
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

/// The trigger function with a table's row filter in it.
///
/// A statement inside of a function is prepared once for each session, for columns as they were
/// then; where it fails it is tried again as a new one.
fn filtered(
    outbox: &OutboxFacts,
    oid: u32,
    (schema, table): (&str, &str),
    expression: &str,
) -> WantedFunction {
    let name = format!("capture_{oid}");
    let test = |rows: &str, more: &str| {
        format!(
            "coalesce((select case when (\n{expression}\n) then true end from (select {rows}) as \
             {}{more}), false)",
            quote_ident(table)
        )
    };
    let anew = quote_literal(&format!("select {}", test("($1).*", "")));
    // costs nothing, but the server prepares the statement again when the table has changed
    let bound = format!(" where true or exists (select from {})", quote_table(schema, table));
    let judged = |rows: &[(&str, &str)]| {
        let known: String = rows
            .iter()
            .map(|(to, row)| format!("{to} := {};\n", test(&format!("{row}.*"), &bound)))
            .collect();
        let again: String = rows
            .iter()
            .map(|(to, row)| format!("execute {anew} into {to} using {row};\n"))
            .collect();
        format!("begin\n{known}exception when others then\n{again}end;")
    };
    let (old, new) = (("w_old_in", "old"), ("w_new_in", "new"));
    let plain = common_functions().into_iter().find(|function| function.name == "capture");
    let body = plain.map(|plain| plain.body).unwrap_or_default();
    let body = body
        .replace("/* filter: w_old_in w_new_in */", &judged(&[old, new]))
        .replace("/* filter: w_new_in */", &judged(&[new]))
        .replace("/* filter: w_old_in */", &judged(&[old]));
    let path = trusted_path(&outbox.search_path);
    // in the body, which is compared
    let body = format!("\n-- with search_path = {}{body}", path.replace('\n', " "));
    let head = CAPTURE_SQL.split_once("returns trigger").map_or("", |(_, head)| head);
    let head = head.split_once("\nas $").map_or("", |(head, _)| head);
    let head = head.replace(
        "set search_path = pg_catalog, pg_temp",
        &format!("set search_path = {path}\n{FILTER_SETTINGS}"),
    );
    let sql = format!(
        "create or replace function walhook.{name}() returns trigger{head} as {};\nrevoke all on \
         function walhook.{name}() from public",
        quote_literal(&body)
    );
    WantedFunction { name, body, sql }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_found_in_their_files() {
        let functions = common_functions();
        let names: Vec<&str> = functions.iter().map(|function| &*function.name).collect();
        assert_eq!(names, ["shaped", "rendered", "bound", "capture", "emit"]);
        for function in &functions {
            assert!(function.sql.contains("public"), "{}", function.sql);
            assert!(function.body.trim_end().ends_with("end"), "{}", function.body);
        }
    }

    #[test]
    fn a_filter_takes_its_places() {
        let function = filtered(&OutboxFacts::default(), 7, ("s", "t"), "a = 'it''s'");
        assert_eq!(function.name, "capture_7");
        assert!(!function.body.contains("/* filter"), "{}", function.body);
        assert_eq!(function.body.matches("(select new.*)").count(), 2);
        assert_eq!(function.body.matches("(select old.*)").count(), 2);
        assert!(function.sql.contains("walhook.capture_7()"), "{}", function.sql);
        assert!(function.sql.contains("language plpgsql security definer"), "{}", function.sql);
    }

    #[test]
    fn arrays_keep_any_name() {
        assert_eq!(array(&[&"a".to_owned(), &"b\"\\,".to_owned()]), r#"{"a","b\"\\,"}"#);
    }
}
