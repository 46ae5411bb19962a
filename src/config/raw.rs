//! The configuration as written: every key typed and located, nothing decided yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{ConfigError, Located, Place};
use super::section::{Document, Section};
use super::units::parse_size;

mod endpoint;

pub(crate) use endpoint::{RawBatch, RawBreaker, RawDelivery, RawEndpoint, RawRetry, RawTls};

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// What a file or the command line says.
pub(crate) struct RawConfig {
    pub(crate) source: RawSource,
    pub(crate) tables: Vec<RawTable>,
    pub(crate) endpoints: Vec<RawEndpoint>,
    pub(crate) delivery: RawDelivery,
    pub(crate) journal: RawJournal,
    pub(crate) stop_grace: Option<Located<Duration>>,
    /// The whole of it, for what is missing.
    pub(crate) place: Place,
    /// What relative paths start from.
    pub(crate) directory: PathBuf,
}

#[derive(Default)]
pub(crate) struct RawSource {
    pub(crate) place: Option<Place>,
    pub(crate) url: Option<Located<String>>,
    pub(crate) url_file: Option<Located<String>>,
    pub(crate) capture: Option<Located<String>>,
    pub(crate) outbox_poll: Option<Located<Duration>>,
    pub(crate) outbox_notify: Option<Located<bool>>,
    pub(crate) outbox_max_rows: Option<Located<u32>>,
    pub(crate) outbox_policy: Option<Located<String>>,
    pub(crate) slot: Option<Located<String>>,
    pub(crate) publication: Option<Located<String>>,
    pub(crate) failover: Option<Located<bool>>,
    pub(crate) create: Option<Located<bool>>,
    pub(crate) int8: Option<Located<String>>,
    pub(crate) origin: Option<Located<String>>,
    pub(crate) invalid_utf8: Option<Located<String>>,
    /// In bytes; none for `never`.
    pub(crate) lag_warning: Option<Located<Option<u64>>>,
}

pub(crate) struct RawTable {
    pub(crate) place: Place,
    pub(crate) name: Option<Located<String>>,
    pub(crate) record: Option<Located<String>>,
    pub(crate) columns: Option<Located<Vec<Located<String>>>>,
    pub(crate) exclude: Option<Located<Vec<Located<String>>>>,
    /// `where`.
    pub(crate) filter: Option<Located<String>>,
    pub(crate) soft_delete: Option<Located<String>>,
    pub(crate) rename: Vec<(String, Located<String>)>,
    pub(crate) case: Option<Located<String>>,
    pub(crate) whole: Option<Located<bool>>,
}

impl RawTable {
    /// A table of which nothing is said.
    pub(crate) fn empty(place: Place) -> RawTable {
        RawTable {
            place,
            name: None,
            record: None,
            columns: None,
            exclude: None,
            filter: None,
            soft_delete: None,
            rename: Vec::new(),
            case: None,
            whole: None,
        }
    }
}

#[derive(Default)]
pub(crate) struct RawJournal {
    pub(crate) path: Option<Located<String>>,
    pub(crate) retain: Option<Located<Duration>>,
    pub(crate) max_size: Option<Located<u64>>,
}

/// Keys that are part of the interface and come with a later version.
const PLANNED_TABLE: &[&str] = &["snapshot"];

impl RawConfig {
    /// Reads the text of a file. `path` is how the user calls it.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<RawConfig> {
        let document = Document { file: Arc::from(path.display().to_string()), text, variable };
        let mut root = document.root()?;
        let source = match root.section("source")? {
            Some(section) => source(section)?,
            None => RawSource::default(),
        };
        let tables = root.sections("table")?.into_iter().map(table).collect::<Result<_>>()?;
        let endpoints =
            root.sections("endpoint")?.into_iter().map(RawEndpoint::read).collect::<Result<_>>()?;
        let journal = match root.section("journal")? {
            Some(section) => journal(section)?,
            None => RawJournal::default(),
        };
        let mut stop_grace = None;
        if let Some(mut daemon) = root.section("daemon")? {
            stop_grace = daemon.duration("stop_grace")?;
            daemon.finish(&[])?;
        }
        let delivery = match root.section("delivery")? {
            Some(section) => RawDelivery::read(section)?,
            None => RawDelivery::default(),
        };
        let place = root.place().clone();
        root.finish(&["admin"])?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(RawConfig { source, tables, endpoints, delivery, journal, stop_grace, place, directory })
    }
}

fn source(mut section: Section<'_>) -> Result<RawSource> {
    let source = RawSource {
        place: Some(section.place().clone()),
        url: section.string("url")?,
        url_file: section.string("url_file")?,
        capture: section.string("capture")?,
        outbox_poll: section.duration("outbox_poll")?,
        outbox_notify: section.boolean("outbox_notify")?,
        outbox_max_rows: section.whole_number("outbox_max_rows")?,
        outbox_policy: section.string("outbox_policy")?,
        slot: section.string("slot")?,
        publication: section.string("publication")?,
        failover: section.boolean("failover")?,
        create: section.boolean("create")?,
        int8: section.string("int8")?,
        origin: section.string("origin")?,
        invalid_utf8: section.string("invalid_utf8")?,
        lag_warning: section.parsed(
            "lag_warning",
            "a size in quotes, such as \"1GiB\", or \"never\"",
            |text| match text.trim() {
                "0" | "never" => Ok(None),
                size => match parse_size(size) {
                    Ok(bytes) => Ok((bytes > 0).then_some(bytes)),
                    Err(why) => Err(format!("{why}, or \"never\"")),
                },
            },
        )?,
    };
    section.finish(&[])?;
    Ok(source)
}

fn table(mut section: Section<'_>) -> Result<RawTable> {
    let table = RawTable {
        place: section.place().clone(),
        name: section.string("name")?,
        record: section.string("record")?,
        columns: section.strings("columns")?,
        exclude: section.strings("exclude")?,
        filter: section.string("where")?,
        soft_delete: section.string("soft_delete")?,
        rename: section.string_map("rename")?,
        case: section.string("case")?,
        whole: section.boolean("whole")?,
    };
    section.finish(PLANNED_TABLE)?;
    Ok(table)
}

fn journal(mut section: Section<'_>) -> Result<RawJournal> {
    let journal = RawJournal {
        path: section.string("path")?,
        retain: section.duration("retain")?,
        max_size: section.size("max_size")?,
    };
    section.finish(&[])?;
    Ok(journal)
}
