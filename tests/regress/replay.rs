//! What a receiver that applies every event would hold, table by table.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::json::canonical;

/// A table's schema and name.
pub(crate) type Name = (String, String);

/// Rows as canonical text, and how many there are of each.
pub(crate) type Rows = HashMap<String, usize>;

/// How many differing rows of a table are shown.
const SHOWN: usize = 3;

#[derive(Deserialize)]
struct Envelope {
    id: String,
    event: String,
    data: Value,
    #[serde(default)]
    previous: Map<String, Value>,
    #[serde(default)]
    unchanged: Vec<String>,
    source: Source,
}

#[derive(Deserialize)]
struct Source {
    schema: Option<String>,
    table: Option<String>,
    #[serde(rename = "commitLsn")]
    commit_lsn: String,
    ordinal: u64,
}

/// A message of `watch.sql`.
#[derive(Deserialize)]
struct Told {
    schema: String,
    table: String,
    rows: Value,
}

/// The tables as the events make them.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) tables: BTreeMap<Name, Rows>,
    /// Tables that the database itself could not read at some time, and why.
    pub(crate) unreadable: BTreeMap<Name, String>,
    /// How many events there were of each kind.
    pub(crate) kinds: BTreeMap<String, u64>,
    /// How many contents that were told before a table went or changed were as the events had it.
    pub(crate) checks: u64,
    pub(crate) checked_rows: u64,
    /// What does not fit.
    pub(crate) differences: Vec<String>,
    last_place: Option<(u64, u64)>,
}

impl Replay {
    /// Applies one event's envelope.
    pub(crate) fn apply(&mut self, body: &[u8]) {
        let envelope: Envelope = match serde_json::from_slice(body) {
            Ok(envelope) => envelope,
            Err(error) => {
                let shown = String::from_utf8_lossy(body).chars().take(300).collect::<String>();
                return self.differ(format!("an event is not the expected JSON: {error}: {shown}"));
            }
        };
        self.in_order(&envelope);
        let kind = envelope.event.rsplit('.').next().unwrap_or_default().to_owned();
        let Source { schema: Some(schema), table: Some(table), .. } = &envelope.source else {
            return self.message(&envelope);
        };
        *self.kinds.entry(kind.clone()).or_default() += 1;
        let name = (schema.clone(), table.clone());
        let place = format!("{} at {}", envelope.event, envelope.id);
        if !envelope.unchanged.is_empty() {
            self.differ(format!("{place}: {:?} were not sent", envelope.unchanged));
        }
        let rows = self.tables.entry(name.clone()).or_default();
        let missing = match kind.as_str() {
            "created" => {
                *rows.entry(canonical(&envelope.data)).or_default() += 1;
                None
            }
            "updated" => {
                let missing = remove(rows, &old_row(&envelope));
                *rows.entry(canonical(&envelope.data)).or_default() += 1;
                missing
            }
            "deleted" => remove(rows, &canonical(&envelope.data)),
            "truncated" => {
                rows.clear();
                None
            }
            _ => Some("no such kind of event is known".to_owned()),
        };
        if let Some(missing) = missing {
            self.differ(format!("{}.{}: {place}: {missing}", name.0, name.1));
        }
    }

    /// Events come in commit order, and no two share a place.
    fn in_order(&mut self, envelope: &Envelope) {
        let Source { commit_lsn, ordinal, .. } = &envelope.source;
        let place = commit_lsn.split_once('/').and_then(|(high, low)| {
            let (high, low) =
                (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
            Some((high << 32 | low, *ordinal))
        });
        if place.is_none() || place <= self.last_place {
            self.differ(format!(
                "{} stands at {place:?}, after {:?}",
                envelope.id, self.last_place
            ));
        }
        self.last_place = place;
    }

    fn message(&mut self, envelope: &Envelope) {
        let Ok(told) = Told::deserialize(&envelope.data) else {
            // The suite sends messages too, but not with our prefix.
            return self.differ(format!("a message nobody sent: {}", envelope.event));
        };
        let name = (told.schema, told.table);
        match envelope.event.as_str() {
            "regress.forget" => {
                self.tables.remove(&name);
                self.unreadable.remove(&name);
            }
            "regress.content" => {
                self.unreadable.remove(&name);
                self.tables.insert(name, rows_of(&told.rows));
            }
            "regress.check" => {
                let expected = rows_of(&told.rows);
                self.checks += 1;
                self.checked_rows += expected.values().sum::<usize>() as u64;
                let held = self.tables.entry(name.clone()).or_default();
                if let Some(difference) = difference(held, &expected) {
                    self.differ(format!(
                        "{}.{} before {}: {difference}",
                        name.0, name.1, envelope.id
                    ));
                    self.tables.insert(name, expected);
                }
            }
            "regress.unreadable" => {
                self.tables.remove(&name);
                self.unreadable.insert(name, told.rows.to_string());
            }
            other => self.differ(format!("a message nobody sent: {other}")),
        }
        *self.kinds.entry("message".to_owned()).or_default() += 1;
    }

    pub(crate) fn differ(&mut self, difference: String) {
        self.differences.push(difference);
    }
}

fn old_row(envelope: &Envelope) -> String {
    let mut old = envelope.data.clone();
    if let Value::Object(old) = &mut old {
        old.extend(envelope.previous.clone());
    }
    canonical(&old)
}

fn remove(rows: &mut Rows, row: &str) -> Option<String> {
    match rows.get_mut(row) {
        Some(count) if *count > 1 => *count -= 1,
        Some(_) => {
            rows.remove(row);
        }
        None => return Some(format!("its old row is not known: {}", shortened(row))),
    }
    None
}

/// The multiset of an array's rows.
pub(crate) fn rows_of(array: &Value) -> Rows {
    let mut rows = Rows::new();
    for row in array.as_array().into_iter().flatten() {
        *rows.entry(canonical(row)).or_default() += 1;
    }
    rows
}

/// How two tables differ, if they do.
pub(crate) fn difference(held: &Rows, expected: &Rows) -> Option<String> {
    let surplus = |of: &Rows, over: &Rows| -> Vec<String> {
        let more = of.iter().filter(|(row, count)| **count > over.get(*row).copied().unwrap_or(0));
        more.map(|(row, _)| row.clone()).collect()
    };
    let (extra, missing) = (surplus(held, expected), surplus(expected, held));
    if extra.is_empty() && missing.is_empty() {
        return None;
    }
    let show = |rows: &[String]| -> String {
        let rows = rows.iter().take(SHOWN).map(|row| shortened(row));
        rows.collect::<Vec<_>>().join("\n        ")
    };
    Some(format!(
        "\n      {} rows only by the events:\n        {}\n      {} rows only in the table:\n        {}",
        extra.len(),
        show(&extra),
        missing.len(),
        show(&missing)
    ))
}

fn shortened(row: &str) -> String {
    match row.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &row[..end]),
        None => row.to_owned(),
    }
}
