//! Publications (<https://www.postgresql.org/docs/current/sql-createpublication.html>).

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::error::PgError;
use super::sql::{quote_ident, quote_table};

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
    /// The tables it names, as schema and name; a partition comes with its root and is not listed.
    pub tables: Vec<(String, String)>,
    /// Those of `tables` with a row filter (15 and newer).
    pub row_filtered: Vec<(String, String)>,
    /// Those of `tables` with a column list (15 and newer).
    pub column_listed: Vec<(String, String)>,
    /// The schemas it names as a whole (15 and newer).
    pub schemas: Vec<String>,
    /// Its owner.
    pub owner: String,
    /// Whether the role may act as its owner, and so alter and drop it.
    pub owned: bool,
}

impl PublicationInfo {
    /// Whether the table's changes are published under its own name: by name, by schema, or
    /// because all are.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        self.all_tables
            || self.schemas.iter().any(|named| named == schema)
            || contains(&self.tables, schema, table)
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

/// Whether `tables` holds this one.
pub(crate) fn contains(tables: &[(String, String)], schema: &str, table: &str) -> bool {
    tables.iter().any(|(s, t)| s == schema && t == table)
}

/// The publication called `name`, if there is one.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn publication(client: &Client, name: &str) -> Result<Option<PublicationInfo>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_publication.sql");
    const TABLES: &str = include_str!("../../sql/catalog_publication_tables.sql");
    const SCHEMAS: &str = include_str!("../../sql/catalog_publication_schemas.sql");
    let failed =
        |error| PgError::query(format!("could not look up the publication {name:?}"), error);
    let Some(row) = client.query_typed_opt(SQL, &[(&name, Type::TEXT)]).await.map_err(failed)?
    else {
        return Ok(None);
    };
    let oid: u32 = row.try_get("oid")?;
    let version_num: i32 = row.try_get("version_num")?;
    let (mut tables, mut row_filtered, mut column_listed) = (Vec::new(), Vec::new(), Vec::new());
    for named in client.query_typed(TABLES, &[(&oid, Type::OID)]).await.map_err(failed)? {
        let table: (String, String) = (named.try_get("schema")?, named.try_get("name")?);
        if named.try_get("row_filter")? {
            row_filtered.push(table.clone());
        }
        if named.try_get("column_list")? {
            column_listed.push(table.clone());
        }
        tables.push(table);
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
        tables,
        row_filtered,
        column_listed,
        schemas,
        owner: row.try_get("owner")?,
        owned: row.try_get("owned")?,
    }))
}

/// The statement that creates a publication of `tables` with all actions.
///
/// Rows of partitions are published under the partitioned table's name, which is the name a
/// configuration gives. `ONLY` leaves inheritance children out: their rows would arrive under names
/// nobody asked for, and publishing a child without a replica identity would make the
/// application's updates of it fail.
pub fn create_publication_sql(name: &str, tables: &[(String, String)]) -> String {
    let mut sql = format!("CREATE PUBLICATION {}", quote_ident(name));
    if !tables.is_empty() {
        sql.push_str(" FOR TABLE ");
        sql.push_str(&table_list(tables));
    }
    sql.push_str(
        " WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)",
    );
    sql
}

/// The statements that make `current` cover `tables` too; none when it does. What else it
/// publishes, and which actions, is left as it is.
pub fn alter_publication_sql(
    current: &PublicationInfo,
    tables: &[(String, String)],
    needs_via_root: bool,
) -> Vec<String> {
    let name = quote_ident(&current.name);
    let mut statements = Vec::new();
    let missing: Vec<_> = tables.iter().filter(|(s, t)| !current.names(s, t)).cloned().collect();
    if !missing.is_empty() {
        statements.push(format!("ALTER PUBLICATION {name} ADD TABLE {}", table_list(&missing)));
    }
    if needs_via_root && !current.via_root {
        statements
            .push(format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"));
    }
    statements
}

/// The statement that drops a publication.
pub fn drop_publication_sql(name: &str) -> String {
    format!("DROP PUBLICATION IF EXISTS {}", quote_ident(name))
}

fn table_list(tables: &[(String, String)]) -> String {
    let quoted: Vec<_> =
        tables.iter().map(|(s, t)| format!("ONLY {}", quote_table(s, t))).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|name| ("public".to_owned(), (*name).to_owned())).collect()
    }

    fn existing(names: &[&str]) -> PublicationInfo {
        PublicationInfo {
            name: "wal\"hook".to_owned(),
            all_tables: false,
            insert: true,
            update: true,
            delete: true,
            truncate: false,
            via_root: false,
            generated_stored: false,
            tables: tables(names),
            row_filtered: Vec::new(),
            column_listed: Vec::new(),
            schemas: Vec::new(),
            owner: "postgres".to_owned(),
            owned: true,
        }
    }

    #[test]
    fn creation_names_every_table() {
        assert_eq!(
            create_publication_sql("p", &tables(&["a", "b\"c"])),
            "CREATE PUBLICATION \"p\" FOR TABLE ONLY \"public\".\"a\", ONLY \"public\".\"b\"\"c\" \
             WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)"
        );
        assert!(!create_publication_sql("p", &[]).contains("FOR"));
    }

    #[test]
    fn alteration_adds_what_is_missing_only() {
        assert_eq!(
            alter_publication_sql(&existing(&["a"]), &tables(&["a", "b"]), true),
            [
                "ALTER PUBLICATION \"wal\"\"hook\" ADD TABLE ONLY \"public\".\"b\"",
                "ALTER PUBLICATION \"wal\"\"hook\" SET (publish_via_partition_root = true)"
            ]
        );
        assert!(alter_publication_sql(&existing(&["a"]), &tables(&["a"]), false).is_empty());
        let schema = PublicationInfo { schemas: vec!["public".to_owned()], ..existing(&[]) };
        assert!(alter_publication_sql(&schema, &tables(&["a"]), false).is_empty());
    }

    #[test]
    fn actions_left_out_are_named() {
        assert_eq!(existing(&[]).missing_actions(), ["truncate"]);
    }
}
