//! From what is written to what can be used: defaults filled in, everything checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::endpoint;
use super::error::{ConfigError, Located, Place};
use super::name::is_slot;
use super::raw::{RawConfig, RawJournal, RawSource};
use super::secret_file::read_secret_file;
use super::table::{self, TableConfig};
use crate::capture::{CaptureKind, Origin};
use crate::delivery::{BreakerOptions, EndpointOptions};
use crate::postgres::connection::ConnectionOptions;
use crate::source::{OutboxPolicy, OutboxSpec, SourceOptions};

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// Where the journal is unless something else is said.
pub(super) const DEFAULT_JOURNAL: &str = "walhook.db";

/// How many rows may wait in the outbox.
const OUTBOX_MAX_ROWS: u64 = 10_000_000;
/// How much log the server may keep for the slot until that is said, unless something else is.
const LAG_WARNING_BYTES: u64 = 1 << 30;

/// The checked configuration.
#[derive(Debug)]
pub struct Config {
    /// The database and how it is followed.
    pub source: SourceConfig,
    /// Its tables, no two with the same pattern.
    pub tables: Vec<TableConfig>,
    /// Where events go, under names of which no two are the same.
    pub endpoints: Vec<EndpointOptions>,
    /// When requests to a failing host are held back.
    pub breaker: BreakerOptions,
    /// The journal.
    pub journal: JournalConfig,
    /// The daemon itself.
    pub daemon: DaemonConfig,
}

/// The database and how it is followed.
#[derive(Debug)]
pub struct SourceConfig {
    /// How to connect.
    pub connection: ConnectionOptions,
    /// How its changes are captured.
    pub capture: CaptureKind,
    /// What concerns capture from an outbox only.
    pub outbox: OutboxConfig,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// Whether the slot is kept on standbys (PostgreSQL 17 and later). Always `false` in this
    /// version.
    pub failover: bool,
    /// Whether `run` creates a missing publication and slot. `true` when the source is named on
    /// the command line, `false` in a file that does not say so.
    pub create: bool,
    /// Whether `bigint` values are JSON strings instead of numbers.
    pub int8_as_string: bool,
    /// Which changes, by where they come from.
    pub origin: Origin,
    /// Whether U+FFFD stands for bytes that are not UTF-8, which otherwise end the stream.
    pub replace_invalid_utf8: bool,
    /// How much log, in bytes, the server may keep for the slot until that is said; none to say
    /// nothing.
    pub lag_warning_bytes: Option<u64>,
}

/// What concerns capture from an outbox only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// How often the outbox is looked at while it is empty.
    pub poll: Duration,
    /// What the triggers do.
    pub spec: OutboxSpec,
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// The file. A relative path in a configuration file starts from that file's folder, so that
    /// every command finds the same journal wherever it is started.
    pub path: PathBuf,
    /// How long events are kept.
    pub retain: Duration,
    /// How large the file may grow before old events go early.
    pub max_size_bytes: u64,
}

/// The daemon itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// How long requests in flight may take to end once the daemon was told to stop.
    pub stop_grace: Duration,
}

/// How much of a configuration a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// The source; tables and endpoints may be missing.
    Source,
    /// The source and at least one table.
    Tables,
    /// Also at least one endpoint.
    Everything,
}

impl SourceConfig {
    /// What has to be there in the database to follow these tables.
    pub fn options(&self, tables: &[TableConfig]) -> SourceOptions {
        SourceOptions {
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            tables: tables.iter().map(TableConfig::spec).collect(),
            failover: self.failover,
            create: self.create,
            outbox: match self.capture {
                CaptureKind::Replication => None,
                CaptureKind::Outbox => Some(self.outbox.spec.clone()),
            },
        }
    }
}

impl Config {
    pub(super) fn build(raw: RawConfig, needs: Needs) -> Result<Config> {
        let RawConfig {
            source,
            tables,
            endpoints,
            delivery,
            journal,
            stop_grace,
            place,
            directory,
        } = raw;
        let source = build_source(source, &place, &directory)?;
        if tables.is_empty() && needs >= Needs::Tables {
            return Err(missing(&place, "no table", "[[table]]", "--table"));
        }
        let tables = table::build_all(tables)?;
        if endpoints.is_empty() && needs >= Needs::Everything {
            return Err(missing(&place, "no endpoint", "[[endpoint]]", "--to"));
        }
        let endpoints = endpoint::build_all(endpoints, &directory)?;
        let breaker = endpoint::breaker(delivery.breaker)?;
        let journal = build_journal(journal, &directory)?;
        let stop_grace = match stop_grace {
            Some(grace) => within(grace, Duration::ZERO, Duration::from_secs(3600))?,
            None => Duration::from_secs(30),
        };
        let daemon = DaemonConfig { stop_grace };
        Ok(Config { source, tables, endpoints, breaker, journal, daemon })
    }
}

fn missing(place: &Place, what: &str, heading: &str, flag: &str) -> ConfigError {
    match place {
        Place::File { file, .. } => ConfigError::general(format_args!(
            "{file} names {what}: add a {heading} (`walhook run --help` shows the short way)"
        )),
        Place::Flag(_) => {
            ConfigError::general(format_args!("the command line names {what}: add {flag}"))
        }
    }
}

fn build_source(raw: RawSource, whole: &Place, directory: &Path) -> Result<SourceConfig> {
    let capture = match one_of(&raw.capture, ["replication", "outbox"])? {
        0 => CaptureKind::Replication,
        _ => CaptureKind::Outbox,
    };
    let origin = match one_of(&raw.origin, ["any", "none"])? {
        0 => Origin::Any,
        _ => Origin::None,
    };
    let outbox = OutboxConfig {
        poll: match raw.outbox_poll {
            Some(poll) => within(poll, Duration::from_millis(10), Duration::from_secs(3600))?,
            None => Duration::from_millis(250),
        },
        spec: OutboxSpec {
            notify: raw.outbox_notify.is_some_and(|notify| notify.value),
            max_rows: raw.outbox_max_rows.map_or(OUTBOX_MAX_ROWS, |rows| rows.value.into()),
            policy: match one_of(&raw.outbox_policy, ["block_never", "drop_oldest"])? {
                0 => OutboxPolicy::BlockNever,
                _ => OutboxPolicy::DropOldest,
            },
            local_only: origin == Origin::None,
            discard_unread: false,
        },
    };
    let url = match (raw.url, raw.url_file) {
        (Some(_), Some(file)) => {
            return Err(ConfigError::at(&file.place, "stands beside `url`: keep one of them"));
        }
        (Some(url), None) => url,
        (None, Some(file)) => file.try_map(|file| read_secret_file(&directory.join(file)))?,
        (None, None) => {
            let place = raw.place.as_ref().unwrap_or(whole);
            let message =
                "has no `url`: write [source] with url = \"postgres://user@host/database\"";
            return Err(ConfigError::at(place, message));
        }
    };
    let connection = url
        .try_map(|url| {
            url.parse::<ConnectionOptions>()
                .map_err(|error| format!("names no database walhook can connect to: {error}"))
        })?
        .value;
    let int8_as_string = one_of(&raw.int8, ["number", "string"])? == 1;
    let replace_invalid_utf8 = one_of(&raw.invalid_utf8, ["stop", "replace"])? == 1;
    Ok(SourceConfig {
        connection,
        capture,
        outbox,
        slot: checked_or(raw.slot, "walhook", |slot| {
            is_slot(slot).then_some(()).ok_or(
                "which is no name of a slot: use up to 63 lower-case letters, digits and underscores",
            )
        })?,
        publication: checked_or(raw.publication, "walhook", |name| {
            (!name.is_empty() && name.len() <= 63 && !name.contains('\0'))
                .then_some(())
                .ok_or("which is no name of a publication: use 1 to 63 bytes")
        })?,
        failover: raw.failover.is_some_and(|failover| failover.value),
        create: raw.create.is_some_and(|create| create.value),
        int8_as_string,
        origin,
        replace_invalid_utf8,
        lag_warning_bytes: raw.lag_warning.map_or(Some(LAG_WARNING_BYTES), |lag| lag.value),
    })
}

fn build_journal(raw: RawJournal, directory: &Path) -> Result<JournalConfig> {
    let path = checked_or(raw.path, DEFAULT_JOURNAL, |path| {
        (!path.is_empty() && !path.contains('\0') && !path.ends_with('/'))
            .then_some(())
            .ok_or("which is no name of a file")
    })?;
    let retain = match raw.retain {
        Some(retain) => {
            within(retain, Duration::from_secs(1), Duration::from_secs(10 * 365 * 86_400))?
        }
        None => Duration::from_secs(7 * 86_400),
    };
    let max_size_bytes = match raw.max_size {
        Some(size) if size.value < 1 << 20 => {
            let message = "is less than a journal needs: write at least \"1MiB\"";
            return Err(ConfigError::at(&size.place, message));
        }
        Some(size) => size.value,
        None => 10 << 30,
    };
    Ok(JournalConfig { path: directory.join(path), retain, max_size_bytes })
}

/// The value if `check` has nothing against it, or the default.
fn checked_or(
    value: Option<Located<String>>,
    default: &str,
    check: impl FnOnce(&str) -> Result<(), &'static str>,
) -> Result<String> {
    let Some(value) = value else { return Ok(default.to_owned()) };
    match check(&value.value) {
        Ok(()) => Ok(value.value),
        Err(why) => Err(ConfigError::at(&value.place, format_args!("is {:?}, {why}", value.value))),
    }
}

/// A duration from `least` to `most`.
pub(super) fn within(
    value: Located<Duration>,
    least: Duration,
    most: Duration,
) -> Result<Duration> {
    if (least..=most).contains(&value.value) {
        return Ok(value.value);
    }
    let how = if value.value < least { "short" } else { "long" };
    Err(ConfigError::at(
        &value.place,
        format_args!("is too {how}: write a duration from {} to {}", show(least), show(most)),
    ))
}

/// The duration in its largest whole unit.
fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("\"{}{unit}\"", ms / unit_ms);
        }
    }
    if ms == 0 { "\"0s\"".into() } else { format!("\"{ms}ms\"") }
}

/// The word's place in the closed set, the first's where nothing is said.
fn one_of(value: &Option<Located<String>>, words: [&str; 2]) -> Result<usize> {
    let Some(value) = value else { return Ok(0) };
    let place = words.iter().position(|word| *word == value.value);
    place.ok_or_else(|| not_one_of(value, &words))
}

/// The word is none of the closed set.
pub(super) fn not_one_of(value: &Located<String>, words: &[&str]) -> ConfigError {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    ConfigError::at(
        &value.place,
        format_args!("is {:?}: write {}", value.value, quoted.join(" or ")),
    )
}

/// `what` was named before.
pub(super) fn twice(place: &Place, first: &Place, what: &str) -> ConfigError {
    match first {
        Place::File { line, .. } => ConfigError::at(
            place,
            format_args!("names {what} a second time (first in line {line}): remove one of them"),
        ),
        Place::Flag(_) => ConfigError::at(place, format_args!("names {what} twice")),
    }
}
