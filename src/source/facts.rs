//! Everything the rules judge, read from the server once.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::SourceOptions;
use super::filter::{self, FilterFacts, Memo, Question};
use super::target::{FILTERS_SINCE, Whole, targets};
use super::wish::GENERATED_SINCE;
use crate::postgres::catalog::{self, GeneratedKind, ServerInfo, TableInfo};
use crate::postgres::error::PgError;
use crate::postgres::publication::{PublicationInfo, publication};
use crate::postgres::slot::{SlotInfo, slot};

/// What the server says about what [`SourceOptions`] name.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The server, the database and the role.
    pub server: ServerInfo,
    /// Those of the named tables that exist, and all that a pattern matches, whatever their kind.
    pub tables: Vec<TableInfo>,
    /// The names of all tables, read only when a named one does not exist or there are patterns.
    pub names: Vec<(String, String)>,
    /// The publication, if it exists.
    pub publication: Option<PublicationInfo>,
    /// Tables that the publication sends though nobody asked for them.
    pub strangers: Vec<TableInfo>,
    /// The row filters of tables to be published, by the table's oid.
    pub filters: HashMap<u32, FilterFacts>,
    /// The slot, if it exists.
    pub slot: Option<SlotInfo>,
}

impl Facts {
    /// The named table, if it exists.
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableInfo> {
        self.tables.iter().find(|table| table.schema == schema && table.name == name)
    }

    /// Whether the application's updates and deletes of the table go on working once these are
    /// published.
    pub(super) fn takes_updates(&self, table: &TableInfo) -> bool {
        table.identity_usable && self.unsent_identity(table).is_none()
    }

    /// The kind of generated columns that are part of the table's replica identity and not sent.
    /// From 18 on, updates and deletes fail where there are any; before, nobody minds.
    pub(super) fn unsent_identity(&self, table: &TableInfo) -> Option<GeneratedKind> {
        if self.server.version_num < GENERATED_SINCE {
            return None;
        }
        let sent = |kind: &GeneratedKind| *kind == GeneratedKind::Stored && self.sends_generated();
        table.identity_generated.filter(|kind| !sent(kind))
    }

    /// Whether the publication sends stored generated columns, or will once setup has created it.
    pub(super) fn sends_generated(&self) -> bool {
        match &self.publication {
            Some(publication) => publication.generated_stored,
            None => self.server.version_num >= GENERATED_SINCE,
        }
    }

    /// Whether single tables of the publication can have row filters and column lists.
    pub(super) fn can_restrict(&self, options: &SourceOptions) -> bool {
        self.server.version_num >= FILTERS_SINCE
            && Whole::of(options).is_empty()
            && self.publication.as_ref().is_none_or(PublicationInfo::names_tables_only)
    }
}

/// Reads the facts.
///
/// # Errors
/// Fails when the server cannot be asked, or is older than
/// [`OLDEST_VERSION_NUM`](catalog::OLDEST_VERSION_NUM), which the caller finds out first.
pub async fn gather(client: &Client, options: &SourceOptions) -> Result<Facts, PgError> {
    gather_again(client, options, &mut Memo::default()).await
}

/// Reads the facts, but for what is known of row filters already.
pub(super) async fn gather_again(
    client: &Client,
    options: &SourceOptions,
    memo: &mut Memo,
) -> Result<Facts, PgError> {
    let server = catalog::server_info(client).await?;
    // The slot first: it is created last, so a slot that is seen here has its publication already,
    // whatever another session does meanwhile.
    let slot = slot(client, &options.slot).await?;
    let named = options.exact_names();
    let mut names = Vec::new();
    let tables = if named.len() < options.tables.len() {
        names = catalog::table_names(client).await?;
        let meant = |(schema, name): &&(String, String)| {
            options.tables.iter().any(|spec| spec.pattern.matches(schema, name))
        };
        let meant: Vec<_> = names.iter().filter(meant).cloned().collect();
        catalog::find_tables(client, &meant).await?
    } else {
        catalog::find_tables(client, &named).await?
    };
    let exists = |(schema, name): &(String, String)| {
        tables.iter().any(|table| table.schema == *schema && table.name == *name)
    };
    if names.is_empty() && !named.iter().all(exists) {
        names = catalog::table_names(client).await?;
    }
    let publication = publication(client, &options.publication).await?;
    let strangers = match &publication {
        Some(publication) => strangers(client, options, publication).await?,
        None => Vec::new(),
    };
    let filters = HashMap::new();
    let mut facts = Facts { server, tables, names, publication, strangers, filters, slot };
    facts.filters = row_filters(client, &facts, options, memo).await?;
    Ok(facts)
}

async fn row_filters(
    client: &Client,
    facts: &Facts,
    options: &SourceOptions,
    memo: &mut Memo,
) -> Result<HashMap<u32, FilterFacts>, PgError> {
    let mut filters = HashMap::new();
    let can_try = options.outbox.is_none()
        && facts.can_restrict(options)
        && !facts.server.in_recovery
        && facts.server.role_can_create;
    for target in targets(facts, options) {
        let Some(expression) = &target.spec.filter else { continue };
        let (schema, name) = target.schema_and_name();
        let published = facts.publication.as_ref().and_then(|p| p.table(schema, name));
        let question = Question {
            table: target.table,
            expression,
            published: published.and_then(|published| published.filter.as_deref()),
            may_try: can_try && target.table.owned,
            with_columns: options.outbox.is_none() && target.spec.columns.is_some(),
        };
        let known = filter::ask(client, memo, &question).await?;
        filters.insert(target.table.oid, known);
    }
    Ok(filters)
}

async fn strangers(
    client: &Client,
    options: &SourceOptions,
    publication: &PublicationInfo,
) -> Result<Vec<TableInfo>, PgError> {
    let wanted =
        |schema: &str, name: &str| options.tables.iter().any(|t| t.pattern.matches(schema, name));
    if publication.names_tables_only() {
        let unasked = publication.tables.iter().filter(|t| !wanted(&t.schema, &t.name));
        let unasked: Vec<_> = unasked.map(|t| (t.schema.clone(), t.name.clone())).collect();
        if unasked.is_empty() {
            return Ok(Vec::new());
        }
        return catalog::find_tables(client, &unasked).await;
    }
    let mut tables = catalog::list_tables(client).await?;
    tables.retain(|t| t.published_in.contains(&publication.name) && !wanted(&t.schema, &t.name));
    Ok(tables)
}
