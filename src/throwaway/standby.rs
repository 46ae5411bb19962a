//! Copying a running cluster's data directory, as pg_basebackup does, which not every package of
//! the server's programs has.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::workshop::Workshop;
use super::{Cluster, Kind, SUPERUSER, ThrowawayError};
use crate::postgres::ConnectionOptions;
use crate::postgres::error::PgError;
use crate::postgres::replication::ReplicationClient;

/// Folders whose content belongs to the running server: log (the standby fetches it), slots,
/// statistics, and what ends with a server's life.
const LEFT_OUT: [&str; 8] = [
    "pg_wal",
    "pg_replslot",
    "pg_stat_tmp",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
    "pg_dynshmem",
];
/// Files that speak of the running server.
const LEFT_BEHIND: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

/// Before version 15 these functions had other names, and the end returns its label otherwise.
const RENAMED_IN: u32 = 15;

/// Makes `data_dir` a copy of the running `cluster` that is to become its standby. It must not
/// exist yet.
pub(super) fn copy(cluster: &Cluster, data_dir: &Path) -> Result<(), ThrowawayError> {
    let workshop = &cluster.workshop;
    let failed = |error: PgError| ThrowawayError(Kind::Backup(error.to_string()));
    let (start, stop) = if workshop.binaries().version() < RENAMED_IN {
        (
            "SELECT pg_start_backup('standby', true, false)",
            "SELECT labelfile FROM pg_stop_backup(false, false)",
        )
    } else {
        ("SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)")
    };
    let options: ConnectionOptions = cluster.url("postgres").parse().map_err(failed)?;
    let mut session = ReplicationClient::connect(&options).map_err(failed)?;
    session.sql(start).map_err(failed)?;
    copy_folder(workshop, &cluster.data_dir(), data_dir, true)
        .map_err(|error| ThrowawayError::io("copy a cluster to", data_dir, error))?;
    let answer = session.sql(stop).map_err(failed)?;
    let label = answer.into_iter().flatten().next().flatten().unwrap_or_default();
    // The address is settled before the port of the standby is; what the caller wants otherwise
    // comes later in another file, and wins.
    let address = format!(
        "primary_conninfo = 'host=127.0.0.1 port={} user={SUPERUSER} dbname=postgres'\n",
        cluster.port
    );
    let files: [(&str, &[u8]); 3] =
        [("backup_label", &label), ("standby.signal", b""), ("standby.conf", address.as_bytes())];
    for (name, content) in files {
        let path = data_dir.join(name);
        fs::write(&path, content)
            .and_then(|()| workshop.hand_over(&path))
            .map_err(|error| ThrowawayError::io("write", &path, error))?;
    }
    Ok(())
}

fn copy_folder(workshop: &Workshop, from: &Path, to: &Path, top: bool) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    workshop.hand_over(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let named = |names: &[&str]| top && names.iter().any(|name| entry.file_name() == *name);
        if entry.file_type()?.is_dir() {
            if named(&LEFT_OUT) {
                fs::create_dir(&target)?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o700))?;
                workshop.hand_over(&target)?;
            } else {
                copy_folder(workshop, &source, &target, false)?;
            }
        } else if !named(&LEFT_BEHIND) {
            match fs::copy(&source, &target) {
                Ok(_) => workshop.hand_over(&target)?,
                // A table that was dropped meanwhile: the log says so.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
