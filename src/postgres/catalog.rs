//! What the catalog says about the server and its tables.

mod type_cache;
mod types;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::error::PgError;
use super::relation::ReplicaIdentity;

pub use type_cache::TypeCache;
pub use types::{OwnedColumn, OwnedRelation, ResolvedRelation, resolve_relation};

/// The server, the database and the role, as far as they matter to replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// `server_version_num`, e.g. 150018.
    pub version_num: u32,
    /// `server_version`, e.g. `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// The database connected to.
    pub database: String,
    /// Its oid.
    pub database_oid: u32,
    /// Its encoding, e.g. `UTF8`.
    pub encoding: String,
    /// What tells this cluster from any other; a physical copy shares it. None where the role may
    /// not see it: some managed servers take the right from everybody. IDENTIFY_SYSTEM tells it to
    /// every replication connection.
    pub system_identifier: Option<u64>,
    /// Whether this is a standby.
    pub in_recovery: bool,
    /// How many slots the server may have.
    pub max_replication_slots: u32,
    /// How many it has.
    pub used_replication_slots: u32,
    /// How many replication connections the server may have.
    pub max_wal_senders: u32,
    /// How many it has.
    pub used_wal_senders: u32,
    /// How much log slots may hold back; none means without limit.
    pub max_slot_wal_keep_size_bytes: Option<u64>,
    /// After how long without a sign of life a replication connection is ended; 0 means never.
    pub wal_sender_timeout_ms: u64,
    /// After how long an unused slot is given up, as the server writes it (18 and newer).
    pub idle_replication_slot_timeout: Option<String>,
    /// The standbys' slots for which readers of failover slots wait (17 and newer).
    pub synchronized_standby_slots: Option<String>,
    /// Whether this server, as a standby, keeps copies of failover slots (17 and newer).
    pub sync_replication_slots: Option<bool>,
    /// The role logged in as.
    pub role: String,
    /// Whether it is a superuser.
    pub role_superuser: bool,
    /// Whether it may open replication connections and create slots.
    pub role_can_replicate: bool,
    /// Whether it may create publications in the database.
    pub role_can_create: bool,
}

/// The oldest server walhook works with, as `server_version_num`.
pub const OLDEST_VERSION_NUM: u32 = 140_000;

/// `server_version_num`, from any server of the last twenty years.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn server_version_num(client: &Client) -> Result<u32, PgError> {
    const SQL: &str = "select current_setting('server_version_num')::int4 as version_num";
    let row = client
        .query_typed_one(SQL, &[])
        .await
        .map_err(|error| PgError::query("could not read the server's version", error))?;
    unsigned(&row, "version_num")
}

/// Facts about the server, the database and the role.
///
/// # Errors
/// Fails when the server cannot be asked, or is older than [`OLDEST_VERSION_NUM`].
pub async fn server_info(client: &Client) -> Result<ServerInfo, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_server.sql");
    let row = client
        .query_typed_one(SQL, &[])
        .await
        .map_err(|error| PgError::query("could not read the server's settings", error))?;
    let keep_size_mb: Option<i64> = row.try_get("max_slot_wal_keep_size_mb")?;
    let sender_timeout_ms: Option<i64> = row.try_get("wal_sender_timeout_ms")?;
    Ok(ServerInfo {
        version_num: unsigned(&row, "version_num")?,
        version: row.try_get("version")?,
        wal_level: row.try_get("wal_level")?,
        database: row.try_get("database")?,
        database_oid: row.try_get("database_oid")?,
        encoding: row.try_get("encoding")?,
        system_identifier: system_identifier(client).await?,
        in_recovery: row.try_get("in_recovery")?,
        max_replication_slots: count(&row, "max_replication_slots")?,
        used_replication_slots: count(&row, "used_replication_slots")?,
        max_wal_senders: count(&row, "max_wal_senders")?,
        used_wal_senders: count(&row, "used_wal_senders")?,
        max_slot_wal_keep_size_bytes: keep_size_mb
            .and_then(|mb| u64::try_from(mb).ok())
            .map(|mb| mb.saturating_mul(1024 * 1024)),
        wal_sender_timeout_ms: sender_timeout_ms.and_then(|ms| ms.try_into().ok()).unwrap_or(0),
        idle_replication_slot_timeout: row.try_get("idle_replication_slot_timeout")?,
        synchronized_standby_slots: row.try_get("synchronized_standby_slots")?,
        sync_replication_slots: row.try_get("sync_replication_slots")?,
        role: row.try_get("role")?,
        role_superuser: row.try_get("role_superuser")?,
        role_can_replicate: row.try_get("role_can_replicate")?,
        role_can_create: row.try_get("role_can_create")?,
    })
}

/// What tells this cluster from any other; none where the role may not see it.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn system_identifier(client: &Client) -> Result<Option<u64>, PgError> {
    const SQL: &str = "select system_identifier from pg_control_system()";
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let asked = client.query_typed_one(SQL, &[]).await;
    match asked.map_err(|error| PgError::query("could not identify the system", error)) {
        // the server writes the unsigned number as a signed one
        Ok(row) => Ok(Some(row.try_get::<_, i64>(0)?.cast_unsigned())),
        Err(error) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unsigned(row: &Row, column: &str) -> Result<u32, PgError> {
    Ok(row.try_get::<_, i32>(column)?.try_into().unwrap_or(0))
}

fn count(row: &Row, column: &str) -> Result<u32, PgError> {
    Ok(row.try_get::<_, i64>(column)?.try_into().unwrap_or(0))
}

/// What stands behind a name that can be queried like a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A table with rows of its own.
    Ordinary,
    /// A partitioned table: its rows lie in its partitions.
    Partitioned,
    /// A partition that holds rows.
    Leaf,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A foreign table.
    Foreign,
}

impl TableKind {
    /// Whether a publication can name it, as far as the kind goes.
    pub fn is_publishable(self) -> bool {
        matches!(self, TableKind::Ordinary | TableKind::Partitioned | TableKind::Leaf)
    }

    /// The kind in words, without article.
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::Ordinary => "table",
            TableKind::Partitioned => "partitioned table",
            TableKind::Leaf => "partition",
            TableKind::View => "view",
            TableKind::MaterializedView => "materialized view",
            TableKind::Foreign => "foreign table",
        }
    }
}

/// Whether a table's changes are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// They are.
    Permanent,
    /// Not: it is unlogged.
    Unlogged,
    /// Not: it belongs to a session.
    Temporary,
}

/// How the values of a generated column are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedKind {
    /// They lie in the table.
    Stored,
    /// They are worked out whenever they are read (18 and newer).
    Virtual,
}

impl GeneratedKind {
    fn of(code: &str) -> Option<GeneratedKind> {
        match code {
            "s" => Some(GeneratedKind::Stored),
            "v" => Some(GeneratedKind::Virtual),
            _ => None,
        }
    }
}

/// A table, or what a user may take for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Whether its changes are in the log.
    pub persistence: Persistence,
    /// What old rows contain. For a partitioned table that of the table itself; its partitions have
    /// their own.
    pub replica_identity: ReplicaIdentity,
    /// Whether the application's updates and deletes go on working once they are published; of a
    /// partitioned table, for all its partitions.
    pub identity_usable: bool,
    /// Whether generated columns are part of the replica identity (of any partition's), and if so,
    /// whether all of these are stored.
    pub identity_generated: Option<GeneratedKind>,
    /// Whether old rows are told in full (REPLICA IDENTITY FULL); of a partitioned table, those of
    /// any partition.
    pub identity_full: bool,
    /// The columns old rows always contain; of a partitioned table, in every partition there is and
    /// in those to come.
    pub identity_columns: Vec<String>,
    /// The columns that some replica identity other than FULL is made of: what a column list has to
    /// contain.
    pub identity_keys: Vec<String>,
    /// Whether the role may act as its owner, which publishing it takes.
    pub owned: bool,
    /// Its owner.
    pub owner: String,
    /// Whether other tables inherit from it (partitions aside).
    pub has_children: bool,
    /// Whether it has a primary key that is DEFERRABLE and so is no replica identity.
    pub primary_key_deferrable: bool,
    /// The primary key's columns in its order.
    pub primary_key: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// The partitioned tables it is a partition of, nearest first, quoted as SQL writes them.
    pub ancestors: Vec<String>,
    /// The publications that send its rows under its own name.
    pub published_in: Vec<String>,
}

/// A column as the catalog has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
    /// Its type as SQL writes it.
    pub type_name: String,
    /// Whether it is generated, and so not in the stream (unless 18 and newer is told otherwise).
    pub generated: Option<GeneratedKind>,
}

/// Every table, view and foreign table outside the system's schemas, by schema and name.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn list_tables(client: &Client) -> Result<Vec<TableInfo>, PgError> {
    tables(client, None).await
}

/// Those of the tables `names` (schema and name) that exist.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn find_tables(
    client: &Client,
    names: &[(String, String)],
) -> Result<Vec<TableInfo>, PgError> {
    tables(client, Some(names)).await
}

/// The schema and name of everything [`list_tables`] lists, without its details.
///
/// # Errors
/// Fails when the server cannot be asked.
pub async fn table_names(client: &Client) -> Result<Vec<(String, String)>, PgError> {
    const SQL: &str = include_str!("../../sql/catalog_table_names.sql");
    let rows = client
        .query_typed(SQL, &[])
        .await
        .map_err(|error| PgError::query("could not list the tables", error))?;
    rows.iter().map(|row| Ok((row.try_get("schema")?, row.try_get("name")?))).collect()
}

async fn tables(
    client: &Client,
    names: Option<&[(String, String)]>,
) -> Result<Vec<TableInfo>, PgError> {
    const TABLES: &str = include_str!("../../sql/catalog_tables.sql");
    const COLUMNS: &str = include_str!("../../sql/catalog_columns.sql");
    let schemas: Option<Vec<&str>> = names.map(|names| names.iter().map(|n| &*n.0).collect());
    let tables: Option<Vec<&str>> = names.map(|names| names.iter().map(|n| &*n.1).collect());
    let named: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&schemas, Type::TEXT_ARRAY), (&tables, Type::TEXT_ARRAY)];
    let failed = |error| PgError::query("could not look up the tables", error);
    let rows = client.query_typed(TABLES, &named).await.map_err(failed)?;
    let mut tables = rows.iter().map(table).collect::<Result<Vec<_>, PgError>>()?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    let rows = client.query_typed(COLUMNS, &[(&oids, Type::OID_ARRAY)]).await.map_err(failed)?;
    let mut places: Vec<(u32, usize)> =
        oids.into_iter().enumerate().map(|(place, oid)| (oid, place)).collect();
    places.sort_unstable();
    for row in &rows {
        let relation: u32 = row.try_get("relation")?;
        let Ok(found) = places.binary_search_by_key(&relation, |(oid, _)| *oid) else { continue };
        tables[places[found].1].columns.push(ColumnInfo {
            name: row.try_get("name")?,
            type_oid: row.try_get("type_oid")?,
            type_name: row.try_get("type_name")?,
            generated: GeneratedKind::of(row.try_get("generated")?),
        });
    }
    Ok(tables)
}

fn table(row: &Row) -> Result<TableInfo, PgError> {
    let is_partition: bool = row.try_get("is_partition")?;
    let kind = match (row.try_get::<_, &str>("kind")?, is_partition) {
        ("p", _) => TableKind::Partitioned,
        ("v", _) => TableKind::View,
        ("m", _) => TableKind::MaterializedView,
        ("f", _) => TableKind::Foreign,
        (_, true) => TableKind::Leaf,
        (_, false) => TableKind::Ordinary,
    };
    let primary_key: Vec<String> = row.try_get("primary_key")?;
    let mut identity_columns: Vec<String> = row.try_get("identity_columns")?;
    if kind == TableKind::Partitioned {
        // a partition to come has the root's primary key and nothing else for certain
        if row.try_get::<_, i64>("relations")? == 0 {
            identity_columns.clone_from(&primary_key);
        }
        identity_columns.retain(|column| primary_key.contains(column));
    }
    Ok(TableInfo {
        oid: row.try_get("oid")?,
        schema: row.try_get("schema")?,
        name: row.try_get("name")?,
        kind,
        persistence: match row.try_get("persistence")? {
            "u" => Persistence::Unlogged,
            "t" => Persistence::Temporary,
            _ => Persistence::Permanent,
        },
        replica_identity: match row.try_get("replica_identity")? {
            "f" => ReplicaIdentity::Full,
            "n" => ReplicaIdentity::Nothing,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        },
        identity_usable: row.try_get("identity_usable")?,
        identity_generated: row
            .try_get::<_, Option<&str>>("identity_generated")?
            .and_then(GeneratedKind::of),
        identity_full: row.try_get("identity_full")?,
        identity_columns,
        identity_keys: row.try_get("identity_keys")?,
        owned: row.try_get("owned")?,
        owner: row.try_get("owner")?,
        has_children: row.try_get("has_children")?,
        primary_key_deferrable: row.try_get("primary_key_deferrable")?,
        primary_key,
        columns: Vec::new(),
        ancestors: row.try_get("ancestors")?,
        published_in: row.try_get("published_in")?,
    })
}
