//! `check`: one finding a fact, with what to do about it.

pub(super) mod publication;
pub(super) mod server;
pub(super) mod slot;
pub(super) mod tables;

use tokio_postgres::Client;

use super::facts::{Facts, gather};
use super::{Finding, SourceOptions};
use crate::postgres::catalog::{OLDEST_VERSION_NUM, server_version_num};
use crate::postgres::error::PgError;

/// Looks at everything `options` name and says what it found, worst news in its place rather than
/// first: server, role, tables, publication, slot.
///
/// # Errors
/// Fails when the server cannot be asked; what is wrong with it is a finding, not an error.
pub async fn check(client: &Client, options: &SourceOptions) -> Result<Vec<Finding>, PgError> {
    if let Some(finding) = too_old(client).await? {
        return Ok(vec![finding]);
    }
    Ok(judge(&gather(client, options).await?, options))
}

/// The finding that ends everything: on an older server the catalog cannot even be read.
pub(super) async fn too_old(client: &Client) -> Result<Option<Finding>, PgError> {
    let version_num = server_version_num(client).await?;
    if version_num >= OLDEST_VERSION_NUM {
        return Ok(None);
    }
    let (version, oldest) = (version_num / 10_000, OLDEST_VERSION_NUM / 10_000);
    let sentence = format!("PostgreSQL {version} is too old, walhook needs {oldest} or newer");
    Ok(Some(Finding::error("server", sentence).fix("upgrade the server with pg_upgrade")))
}

/// What the facts mean.
pub fn judge(facts: &Facts, options: &SourceOptions) -> Vec<Finding> {
    let mut findings = server::server(facts, options);
    findings.extend(server::role(facts));
    findings.extend(tables::tables(facts, options));
    findings.extend(publication::publication(facts, options));
    findings.extend(slot::slot(facts, options));
    findings
}
