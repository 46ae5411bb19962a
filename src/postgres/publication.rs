//! Publications (<https://www.postgresql.org/docs/current/sql-createpublication.html>).

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::PgError;
use super::sql::{quote_ident, quote_literal, quote_table};

/// A publication as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationInfo {
    /// Its name.
    pub name: String,
    /// FOR ALL TABLES.
    pub all_tables: bool,
    /// Whether inserts are published.
    pub insert: bool,
    /// Whether updates are published.
    pub update: bool,
    /// Whether deletes are published.
    pub delete: bool,
    /// Whether truncates are published.
    pub truncate: bool,
    /// `publish_via_partition_root`: rows of partitions come under the partitioned table's name.
    pub via_root: bool,
    /// `publish_generated_columns = stored`: generated columns are sent, too (18 and newer).
    pub generated_stored: bool,
    /// The tables it names; a partition comes with its root and is not listed.
    pub tables: Vec<PublishedTable>,
    /// Whether it bears the comment of [`create_marked_publication_sql`].
    pub made_by_walhook: bool,
    /// The schemas it names as a whole (15 and newer).
    pub schemas: Vec<String>,
    /// Its owner.
    pub owner: String,
    /// Whether the role may act as its owner, and so alter and drop it.
    pub owned: bool,
}

/// A table that a publication names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedTable {
    /// The oid of this entry: another one as soon as the table is added anew.
    pub oid: u32,
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// The row filter, as the server writes it (15 and newer).
    pub filter: Option<String>,
    /// The column list, in the table's order (15 and newer).
    pub columns: Option<Vec<String>>,
}

impl PublicationInfo {
    /// What it says of the table, if it names it by itself.
    pub fn table(&self, schema: &str, name: &str) -> Option<&PublishedTable> {
        self.tables.iter().find(|table| table.schema == schema && table.name == name)
    }

    /// Whether it names single tables only, so that these can have row filters and column lists.
    pub fn names_tables_only(&self) -> bool {
        !self.all_tables && self.schemas.is_empty()
    }

    /// Whether the table's changes are published under its own name: by name, by schema, or
    /// because all are.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.all_tables
            || self.schemas.iter().any(|named| named == schema)
            || self.table(schema, table).is_some()
    }

    /// Whether updates or deletes are published, and so need a replica identity.
    pub fn needs_identity(&self) -> bool {
        self.update || self.delete
    }

    /// The actions it leaves out.
    pub fn missing_actions(&self) -> Vec<&'static str> {
        let actions = [
            (self.insert, "insert"),
            (self.update, "update"),
            (self.delete, "delete"),
            (self.truncate, "truncate"),
        ];
        actions.into_iter().filter(|(published, _)| !published).map(|(_, name)| name).collect()
    }
}

/// The publication called `name`, if there is one.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn publication(client: &Client, name: &str) -> Result<Option<PublicationInfo>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_publication.sql");
    const TABLES: &str = include_str!("../../sql/catalog_publication_tables.sql");
    const TABLES_15: &str = include_str!("../../sql/catalog_publication_tables_15.sql");
    const SCHEMAS: &str = include_str!("../../sql/catalog_publication_schemas.sql");
    let failed =
        |error| PgError::query(format!("could not look up the publication {name:?}"), error);
    let Some(row) = client.query_typed_opt(SQL, &[(&name, Type::TEXT)]).await.map_err(failed)?
    else {
        return Ok(None);
    };
    let oid: u32 = row.try_get("oid")?;
    let version_num: i32 = row.try_get("version_num")?;
    let listing = if version_num >= 150_000 { TABLES_15 } else { TABLES };
    let mut tables = Vec::new();
    for named in client.query_typed(listing, &[(&oid, Type::OID)]).await.map_err(failed)? {
        tables.push(PublishedTable {
            oid: named.try_get("oid")?,
            schema: named.try_get("schema")?,
            name: named.try_get("name")?,
            filter: named.try_get("row_filter")?,
            columns: named.try_get("column_list")?,
        });
    }
    let mut schemas = Vec::new();
    if version_num >= 150_000 {
        for named in client.query_typed(SCHEMAS, &[(&oid, Type::OID)]).await.map_err(failed)? {
            schemas.push(named.try_get("schema")?);
        }
    }
    Ok(Some(PublicationInfo {
        name: name.to_owned(),
        all_tables: row.try_get("all_tables")?,
        insert: row.try_get("insert")?,
        update: row.try_get("update")?,
        delete: row.try_get("delete")?,
        truncate: row.try_get("truncate")?,
        via_root: row.try_get("via_root")?,
        generated_stored: row.try_get("generated_stored")?,
        made_by_walhook: row.try_get::<_, Option<&str>>("comment")? == Some(COMMENT),
        tables,
        schemas,
        owner: row.try_get("owner")?,
        owned: row.try_get("owned")?,
    }))
}

/// What a publication is to contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Every table, those to come as well.
    pub all_tables: bool,
    /// Every table of these schemas, those to come as well (15 and newer).
    pub schemas: Vec<String>,
    /// Single tables.
    pub tables: Vec<TableScope>,
    /// Whether stored generated columns are published (18 and newer).
    pub generated: bool,
}

/// What a publication is to contain of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableScope {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Which columns; none means all (15 and newer).
    pub columns: Option<Vec<String>>,
    /// Which rows, as an SQL expression; none means all (15 and newer).
    pub filter: Option<String>,
}

impl TableScope {
    /// All of a table.
    pub fn all(schema: impl Into<String>, name: impl Into<String>) -> TableScope {
        TableScope { schema: schema.into(), name: name.into(), columns: None, filter: None }
    }

    /// As a publication names it. `ONLY` leaves inheritance children out: their rows would arrive
    /// under names nobody asked for, and publishing a child without a replica identity would make
    /// the application's updates of it fail.
    fn sql(&self) -> String {
        let mut sql = format!("ONLY {}", quote_table(&self.schema, &self.name));
        if let Some(columns) = &self.columns {
            let columns: Vec<_> = columns.iter().map(|column| quote_ident(column)).collect();
            sql.push_str(&format!(" ({})", columns.join(", ")));
        }
        if let Some(filter) = &self.filter {
            sql.push_str(&format!(" WHERE {}", parenthesized(filter)));
        }
        sql
    }
}

/// An expression in parentheses of its own; a comment at its end must not swallow the closing one.
pub fn parenthesized(expression: &str) -> String {
    if expression.contains("--") {
        format!("(\n{expression}\n)")
    } else {
        format!("({expression})")
    }
}

/// The statement that creates a publication with all actions.
///
/// Rows of partitions are published under the partitioned table's name, which is the name a
/// configuration gives.
pub fn create_publication_sql(name: &str, scope: &Scope) -> String {
    let mut parts = Vec::new();
    if scope.all_tables {
        parts.push("ALL TABLES".to_owned());
    } else {
        parts.extend(schema_list(&scope.schemas));
        parts.extend(table_list(&scope.tables));
    }
    let mut sql = format!("CREATE PUBLICATION {}", quote_ident(name));
    if !parts.is_empty() {
        sql.push_str(&format!(" FOR {}", parts.join(", ")));
    }
    sql.push_str(
        " WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true",
    );
    sql.push_str(if scope.generated { ", publish_generated_columns = stored)" } else { ")" });
    sql
}

/// What tells the publications that walhook has made from others.
const COMMENT: &str = "made by walhook from its configuration";

/// [`create_publication_sql`] with a comment that says who has made it: row filters and column lists
/// in it that the configuration does not ask for are no other person's decision.
pub fn create_marked_publication_sql(name: &str, scope: &Scope) -> String {
    let create = create_publication_sql(name, scope);
    format!("{create}; COMMENT ON PUBLICATION {} IS {}", quote_ident(name), quote_literal(COMMENT))
}

/// The statement that adds tables.
pub fn add_tables_sql(name: &str, tables: &[TableScope]) -> String {
    let list = table_list(tables).unwrap_or_default();
    format!("ALTER PUBLICATION {} ADD {list}", quote_ident(name))
}

/// The statement that adds schemas as a whole.
pub fn add_schemas_sql(name: &str, schemas: &[String]) -> String {
    let list = schema_list(schemas).unwrap_or_default();
    format!("ALTER PUBLICATION {} ADD {list}", quote_ident(name))
}

/// The statements that give a table of the publication another row filter or column list: in one
/// transaction, so that no row falls between them.
pub fn replace_table_sql(name: &str, table: &TableScope) -> String {
    let name = quote_ident(name);
    let only = quote_table(&table.schema, &table.name);
    format!(
        "BEGIN; ALTER PUBLICATION {name} DROP TABLE ONLY {only}; \
         ALTER PUBLICATION {name} ADD TABLE {}; COMMIT",
        table.sql()
    )
}

/// The statement that lets rows of partitions come under their root's name.
pub fn via_root_sql(name: &str) -> String {
    format!("ALTER PUBLICATION {} SET (publish_via_partition_root = true)", quote_ident(name))
}

/// The statement that drops a publication.
pub fn drop_publication_sql(name: &str) -> String {
    format!("DROP PUBLICATION IF EXISTS {}", quote_ident(name))
}

fn table_list(tables: &[TableScope]) -> Option<String> {
    let tables: Vec<_> = tables.iter().map(TableScope::sql).collect();
    (!tables.is_empty()).then(|| format!("TABLE {}", tables.join(", ")))
}

fn schema_list(schemas: &[String]) -> Option<String> {
    let schemas: Vec<_> = schemas.iter().map(|schema| quote_ident(schema)).collect();
    (!schemas.is_empty()).then(|| format!("TABLES IN SCHEMA {}", schemas.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_names_every_table() {
        let tables = vec![
            TableScope::all("public", "a"),
            TableScope {
                columns: Some(vec!["id".into(), "q\"".into()]),
                filter: Some("x = 1 -- one".into()),
                ..TableScope::all("public", "b\"c")
            },
        ];
        let scope = Scope { tables, ..Scope::default() };
        assert_eq!(
            create_publication_sql("p", &scope),
            "CREATE PUBLICATION \"p\" FOR TABLE ONLY \"public\".\"a\", ONLY \"public\".\"b\"\"c\" \
             (\"id\", \"q\"\"\") WHERE (\nx = 1 -- one\n) \
             WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        );
        assert!(!create_publication_sql("p", &Scope::default()).contains("FOR"));
        let scope = Scope { schemas: vec!["s".into()], generated: true, ..scope };
        let sql = create_publication_sql("p", &scope);
        assert!(sql.contains("FOR TABLES IN SCHEMA \"s\", TABLE ONLY \"public\".\"a\""), "{sql}");
        assert!(sql.ends_with("publish_generated_columns = stored)"), "{sql}");
        let scope = Scope { all_tables: true, ..scope };
        assert!(create_publication_sql("p", &scope).contains("FOR ALL TABLES WITH"));
    }

    #[test]
    fn a_table_is_replaced_in_one_transaction() {
        assert_eq!(
            replace_table_sql("wal\"hook", &TableScope::all("s", "t")),
            "BEGIN; ALTER PUBLICATION \"wal\"\"hook\" DROP TABLE ONLY \"s\".\"t\"; \
             ALTER PUBLICATION \"wal\"\"hook\" ADD TABLE ONLY \"s\".\"t\"; COMMIT"
        );
    }
}
