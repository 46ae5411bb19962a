//! Everything the rules judge, read from the server once.

use tokio_postgres::Client;

use super::SourceOptions;
use crate::postgres::catalog::{self, ServerInfo, TableInfo};
use crate::postgres::error::PgError;
use crate::postgres::publication::{PublicationInfo, publication};
use crate::postgres::slot::{SlotInfo, slot};

/// What the server says about what [`SourceOptions`] name.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The server, the database and the role.
    pub server: ServerInfo,
    /// Those of the named tables that exist.
    pub tables: Vec<TableInfo>,
    /// The names of all tables, read only when a named one does not exist.
    pub names: Vec<(String, String)>,
    /// The publication, if it exists.
    pub publication: Option<PublicationInfo>,
    /// Tables that the publication sends though nobody asked for them.
    pub strangers: Vec<TableInfo>,
    /// The slot, if it exists.
    pub slot: Option<SlotInfo>,
}

impl Facts {
    /// The named table, if it exists.
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableInfo> {
        self.tables.iter().find(|table| table.schema == schema && table.name == name)
    }
}

/// Reads the facts.
///
/// # Errors
/// Fails when the server cannot be asked, or is older than
/// [`OLDEST_VERSION_NUM`](catalog::OLDEST_VERSION_NUM), which the caller finds out first.
pub async fn gather(client: &Client, options: &SourceOptions) -> Result<Facts, PgError> {
    let server = catalog::server_info(client).await?;
    let wanted = options.exact_names();
    let tables = catalog::find_tables(client, &wanted).await?;
    let all_exist = wanted
        .iter()
        .all(|(schema, name)| tables.iter().any(|t| t.schema == *schema && t.name == *name));
    let names = if all_exist { Vec::new() } else { catalog::table_names(client).await? };
    // The slot first: it is created last, so a slot that is seen here has its publication already,
    // whatever another session does meanwhile.
    let slot = slot(client, &options.slot).await?;
    let publication = publication(client, &options.publication).await?;
    let strangers = match &publication {
        Some(publication) => strangers(client, options, publication).await?,
        None => Vec::new(),
    };
    Ok(Facts { server, tables, names, publication, strangers, slot })
}

async fn strangers(
    client: &Client,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Result<Vec<TableInfo>, PgError> {
    let wanted =
        |schema: &str, name: &str| options.tables.iter().any(|t| t.pattern.matches(schema, name));
    if !publication.all_tables && publication.schemas.is_empty() {
        let unasked: Vec<_> =
            publication.tables.iter().filter(|(s, n)| !wanted(s, n)).cloned().collect();
        if unasked.is_empty() {
            return Ok(Vec::new());
        }
        return catalog::find_tables(client, &unasked).await;
    }
    let mut tables = catalog::list_tables(client).await?;
    tables.retain(|t| t.published_in.contains(&publication.name) && !wanted(&t.schema, &t.name));
    Ok(tables)
}
