//! Making a slot one of which standbys keep a copy (17 and newer). A slot is created that way; for
//! one that exists there is a command of the replication protocol only, and no SQL.

use tokio_postgres::Client;

use super::facts::Facts;
use super::plan::{Progress, Step};
use super::{SourceError, SourceOptions};
use crate::postgres::ConnectionOptions;
use crate::postgres::catalog::server_info;
use crate::postgres::error::PgError;
use crate::postgres::replication::{ReplicationClient, alter_slot_command};
use crate::postgres::slot::{SlotInfo, slot};
use crate::source::advice::shown;

/// The first version with failover slots.
const FIRST_VERSION_NUM: u32 = 170_000;

/// What is to be done, if anything; it takes a replication connection.
pub(super) fn step(facts: &Facts, options: &SourceOptions) -> Option<Step> {
    let (version_num, in_recovery) = (facts.server.version_num, facts.server.in_recovery);
    step_for(version_num, in_recovery, facts.slot.as_ref()?, options)
}

fn step_for(
    version_num: u32,
    in_recovery: bool,
    slot: &SlotInfo,
    options: &SourceOptions,
) -> Option<Step> {
    let wanted = options.failover && version_num >= FIRST_VERSION_NUM && !in_recovery;
    let can_be = slot.slot_type == "logical" && !slot.temporary && !slot.is_lost();
    (wanted && can_be && !slot.failover).then(|| Step {
        sql: alter_slot_command(&options.slot, true),
        reason: format!(
            "let standbys keep a copy of the replication slot {} (on a replication connection)",
            shown(&options.slot)
        ),
    })
}

/// Lets standbys keep a copy of the slot, where the options ask for that and the slot exists
/// without; to be called after [`setup`](super::setup::setup).
///
/// # Errors
/// Fails when the server refuses, as it does while the slot is being read.
pub async fn enable(
    connection: &ConnectionOptions,
    client: &Client,
    options: &SourceOptions,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), SourceError> {
    if !options.failover {
        return Ok(());
    }
    let server = server_info(client).await?;
    let Some(existing) = slot(client, &options.slot).await? else { return Ok(()) };
    let Some(step) = step_for(server.version_num, server.in_recovery, &existing, options) else {
        return Ok(());
    };
    let (connection, name) = (connection.clone(), options.slot.clone());
    let altered = tokio::task::spawn_blocking(move || {
        ReplicationClient::connect(&connection)?.alter_slot_failover(&name, true)
    });
    let cut_off = |_| PgError::invalid("the attempt to alter the slot was cut off");
    altered.await.map_err(cut_off)??;
    report(Progress::Done(step));
    Ok(())
}
