//! An event as the demo's receiver reads it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a webhook's body says.
#[derive(Debug, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(default)]
    pub(super) data: Map<String, Value>,
    #[serde(default)]
    pub(super) previous: Map<String, Value>,
    #[serde(borrow, default, rename = "updatedFields")]
    pub(super) updated_fields: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) unchanged: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    source: Source<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Source<'a> {
    #[serde(borrow, default)]
    table: Option<Cow<'a, str>>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Created,
    Updated,
    Deleted,
    /// Announced by the application itself.
    Custom,
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Envelope<'a>, serde_json::Error> {
        serde_json::from_slice(body)
    }

    pub(super) fn kind(&self) -> Kind {
        match self.event.rsplit('.').next() {
            _ if self.source.table.is_none() => Kind::Custom,
            Some("created") => Kind::Created,
            Some("updated") => Kind::Updated,
            Some("deleted") => Kind::Deleted,
            _ => Kind::Custom,
        }
    }

    /// The table and the key of the row, which is `id` in every table of the demo.
    pub(super) fn record(&self) -> Option<(&str, String)> {
        let table = self.source.table.as_deref()?;
        let key = match self.data.get("id")? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some((table, key))
    }

    /// When the change was committed, in microseconds since the Unix epoch.
    pub(super) fn committed_at_us(&self) -> Option<i64> {
        self.timestamp.parse::<jiff::Timestamp>().ok().map(|at| at.as_microsecond())
    }
}
