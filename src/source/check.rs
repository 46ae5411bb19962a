//! `check`: one finding a fact, with what to do about it.

pub(super) mod patterns;
pub(super) mod publication;
pub(super) mod rows;
pub(super) mod server;
pub(super) mod slot;
pub(super) mod tables;

use tokio_postgres::Client;

use super::facts::{Facts, gather};
use super::{Finding, SourceOptions, outbox};
use crate::postgres::catalog::{OLDEST_VERSION_NUM, server_version_num};
use crate::postgres::error::PgError;
use crate::postgres::replication::ReplicationClient;
use crate::postgres::{ConnectionOptions, connect};

/// Connects and looks at everything; that the server cannot be reached or asked is a finding too.
pub async fn run(connection: &ConnectionOptions, options: &SourceOptions) -> Vec<Finding> {
    const SUBJECT: &str = "connection";
    let client = match connect(connection).await {
        Ok(client) => client,
        Err(error) => return vec![Finding::error(SUBJECT, error.to_string())],
    };
    let mut findings = vec![Finding::ok(SUBJECT, connection.to_string())];
    // Looking at a row filter waits for whoever holds its table; a failure shows below.
    let _ = client.batch_execute("set lock_timeout = '2s'").await;
    match check(&client, options).await {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::error(SUBJECT, error.to_string())),
    }
    if options.outbox.is_none() {
        findings.push(replication(connection).await);
    }
    findings
}

/// Whether replication connections come through: a pooler may stop them, or `pg_hba.conf`.
async fn replication(connection: &ConnectionOptions) -> Finding {
    const SUBJECT: &str = "streaming";
    let connection = connection.clone();
    let attempt = tokio::task::spawn_blocking(move || {
        ReplicationClient::connect(&connection).and_then(|mut client| client.identify_system())
    });
    match attempt.await {
        Ok(Ok(identity)) => Finding::ok(
            SUBJECT,
            format!(
                "a replication connection works (system {}, timeline {}, at {})",
                identity.system_identifier, identity.timeline, identity.xlogpos
            ),
        ),
        Ok(Err(error)) => Finding::error(SUBJECT, error.to_string()),
        Err(_) => Finding::error(SUBJECT, "the attempt at a replication connection was cut off"),
    }
}

/// Looks at everything `options` name and says what it found, worst news in its place rather than
/// first: server, role, tables, publication, slot.
///
/// # Errors
/// Fails when the server cannot be asked; what is wrong with it is a finding, not an error.
pub async fn check(client: &Client, options: &SourceOptions) -> Result<Vec<Finding>, PgError> {
    if let Some(finding) = too_old(client).await? {
        return Ok(vec![finding]);
    }
    let facts = gather(client, options).await?;
    if options.outbox.is_some() {
        let outbox = outbox::gather(client, &facts).await?;
        return Ok(outbox::check::check(&facts, &outbox, options));
    }
    Ok(judge(&facts, options))
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
