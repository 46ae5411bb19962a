//! A configuration on the command line.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::{ConfigError, Located, Place};
use super::name::is_endpoint;
use super::raw::{RawConfig, RawDelivery, RawEndpoint, RawJournal, RawSource, RawTable};
use super::ready::DEFAULT_JOURNAL;
use super::secret_file::{path_beside, read_secrets_file};

/// The configuration on the command line instead of in a file.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Instead of a file")]
pub struct Flags {
    /// The database: a URL as libpq takes it, or key=value pairs. `run` creates the publication
    /// and the slot if they are missing
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,

    /// A table, and what its records are called in events: `public.people=person`; or a pattern of
    /// tables: `crm.*`; may be given several times
    #[arg(long = "table", value_name = "TABLE[=RECORD]", requires = "source")]
    pub tables: Vec<String>,

    /// Where events go, optionally with a name for the endpoint: `crm=https://…`; may be given
    /// several times
    #[arg(long = "to", value_name = "[NAME=]URL", requires = "source")]
    pub to: Vec<String>,

    /// Which events go there, such as `person.*,*.deleted` [default: all]
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', requires = "source")]
    pub events: Vec<String>,

    /// The signing secret; --secret-file and the variable WALHOOK_SECRET keep it out of the list
    /// of processes. Without any, one is generated on the first run, shown once, and kept in a
    /// file beside the journal for the next ones
    #[arg(long, value_name = "SECRET", requires = "source", conflicts_with = "secret_file")]
    pub secret: Option<String>,

    /// A file that holds the signing secret; several while rotating, one a line, the current one
    /// first
    #[arg(long, value_name = "FILE", requires = "source")]
    pub secret_file: Option<PathBuf>,

    /// How requests are signed: standard, twenty, stripe, github or none [default: standard]
    #[arg(long, value_name = "SCHEME", value_delimiter = ',', requires = "source")]
    pub signature: Vec<String>,

    /// The replication slot [default: walhook]
    #[arg(long, value_name = "NAME", requires = "source")]
    pub slot: Option<String>,

    /// The publication [default: walhook]
    #[arg(long, value_name = "NAME", requires = "source")]
    pub publication: Option<String>,

    /// The journal's file [default: walhook.db]
    #[arg(long, value_name = "FILE", requires = "source")]
    pub journal: Option<PathBuf>,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the source (a password) nor the URLs (tokens) nor the secret.
        f.debug_struct("Flags")
            .field("tables", &self.tables)
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

impl Flags {
    /// Whether the command line holds a configuration.
    pub fn given(&self) -> bool {
        self.source.is_some()
    }

    /// Whether endpoints need a secret and the command line names none.
    pub(crate) fn lacks_secret(&self) -> bool {
        !self.to.is_empty()
            && self.secret.is_none()
            && self.secret_file.is_none()
            && !self.signature.iter().any(|scheme| scheme == "none")
    }

    /// Where a generated secret is kept: beside the journal.
    pub(crate) fn kept_secret(&self) -> PathBuf {
        path_beside(self.journal.as_deref().unwrap_or(Path::new(DEFAULT_JOURNAL)))
    }

    /// What the flags say, as if it had been written in a file. `secret` stands in when they name
    /// none, and says where it is from.
    pub(crate) fn raw(
        &self,
        secret: Option<(&'static str, String)>,
    ) -> Result<RawConfig, ConfigError> {
        let one = |place, secret| located(place, vec![located(place, secret)]);
        let secrets = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(one("--secret", secret.clone())),
            (None, Some(path)) => {
                let place = "--secret-file";
                let secrets = located(place, path.as_path()).try_map(read_secrets_file)?.value;
                let secrets = secrets.into_iter().map(|secret| located(place, secret)).collect();
                Some(located(place, secrets))
            }
            (None, None) => secret.map(|(place, secret)| one(place, secret)),
        };
        let source = RawSource {
            url: self.source.clone().map(|url| located("--source", url)),
            slot: self.slot.clone().map(|slot| located("--slot", slot)),
            publication: self.publication.clone().map(|name| located("--publication", name)),
            create: Some(located("--source", true)),
            ..RawSource::default()
        };
        let path = match &self.journal {
            None => None,
            Some(path) => Some(located("--journal", path).try_map(|path| {
                path.to_str().map(str::to_owned).ok_or("is no UTF-8: choose another path")
            })?),
        };
        Ok(RawConfig {
            delivery: RawDelivery::default(),
            source,
            tables: self.tables.iter().map(|table| raw_table(table)).collect(),
            endpoints: self.to.iter().map(|to| self.raw_endpoint(to, secrets.as_ref())).collect(),
            journal: RawJournal { path, ..RawJournal::default() },
            stop_grace: None,
            place: Place::Flag("--source"),
            directory: PathBuf::new(),
        })
    }

    fn raw_endpoint(
        &self,
        to: &str,
        secrets: Option<&Located<Vec<Located<String>>>>,
    ) -> RawEndpoint {
        let (name, url) = match to.split_once('=') {
            Some((name, url)) if is_endpoint(name) && url.contains("://") => (Some(name), url),
            _ => (None, to),
        };
        let list = |flag, values: &[String]| {
            let values = values.iter().map(|value| located(flag, value.trim().to_owned()));
            (values.len() > 0).then(|| located(flag, values.collect()))
        };
        RawEndpoint {
            name: name.map(|name| located("--to", name.to_owned())),
            url: Some(located("--to", url.to_owned())),
            events: list("--events", &self.events),
            secrets: secrets.cloned(),
            signature: list("--signature", &self.signature),
            ..RawEndpoint::empty(Place::Flag("--to"))
        }
    }
}

fn raw_table(table: &str) -> RawTable {
    // The last `=`: a quoted name may hold one, a record's name hardly.
    let (name, record) = match table.rsplit_once('=') {
        Some((name, record)) if !record.contains('"') => (name, Some(record)),
        _ => (table, None),
    };
    RawTable {
        name: Some(located("--table", name.to_owned())),
        record: record.map(|record| located("--table", record.to_owned())),
        ..RawTable::empty(Place::Flag("--table"))
    }
}

fn located<T>(flag: &'static str, value: T) -> Located<T> {
    Located { value, place: Place::Flag(flag) }
}
