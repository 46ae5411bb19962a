//! Showing what arrived, to people and to scripts.
//!
//! Nothing that comes from outside reaches a terminal as it is: control characters are escaped.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io::Read;
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Received, Verdict};
use crate::clock::time_of_day;
use crate::terminal::{one_line, painted};

/// How many fields of a record are shown.
const MAX_FIELDS: usize = 40;
/// How many characters of a value are shown.
const MAX_VALUE_CHARS: usize = 160;
/// How many events of a batch are shown.
const MAX_EVENTS: usize = 100;
/// How much is unpacked of a compressed body: a few KiB of zeros can stand for gigabytes.
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// Writes requests for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Printer {
    /// Whether to use colours.
    pub colour: bool,
}

#[derive(Clone, Copy)]
enum Style {
    Good,
    Bad,
    Changed,
    Gone,
    Name,
    Dim,
}

impl Style {
    /// The parameters of the SGR sequence (ECMA-48).
    fn sgr(self) -> &'static str {
        match self {
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Changed => "33",
            Style::Gone => "31",
            Style::Name => "36",
            Style::Dim => "2",
        }
    }
}

/// An event in walhook's format, as far as it is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    id: Option<Cow<'a, str>>,
    event: String,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    previous: Option<&'a RawValue>,
    updated_fields: Option<Vec<String>>,
    unchanged: Option<Vec<String>>,
}

/// An object's members in the order they came.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Members)
    }
}

fn members(value: Option<&RawValue>) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(value?.get()).ok().map(|members| members.0)
}

impl Printer {
    /// A request in a few lines; `again` when its id was there before.
    pub fn text(&self, received: &Received, again: bool) -> String {
        let body = unpacked(received);
        let mut out = String::with_capacity(256);
        // An array would do for a struct.
        if body.trim_ascii_start().starts_with(b"[")
            && let Ok(events) = serde_json::from_slice::<Vec<&RawValue>>(&body)
        {
            self.head(&mut out, received, None, again);
            self.batch(&mut out, received, &events);
            return out;
        }
        let envelope = serde_json::from_slice::<Envelope<'_>>(&body).ok();
        self.head(&mut out, received, envelope.as_ref(), again);
        match &envelope {
            Some(envelope) => self.fields(&mut out, envelope),
            None if body.is_empty() => self.query(&mut out, &received.path),
            None => self.plain(&mut out, &body),
        }
        out
    }

    /// Several events of one request.
    fn batch(&self, out: &mut String, received: &Received, events: &[&RawValue]) {
        for (at, event) in events.iter().take(MAX_EVENTS).enumerate() {
            let _ = write!(out, "  {}/{}", at + 1, events.len());
            let is_object = event.get().starts_with('{');
            let envelope = serde_json::from_str::<Envelope<'_>>(event.get()).ok();
            let Some(envelope) = envelope.filter(|_| is_object) else {
                out.push('\n');
                self.plain(out, event.get().as_bytes());
                continue;
            };
            out.push(' ');
            self.put(out, event_style(&envelope.event), &one_line(&envelope.event));
            if let Some(id) = &envelope.id {
                out.push_str("  ");
                self.put(out, Style::Dim, &one_line(id));
            }
            if let Some(after) = after_commit(&envelope, received.at) {
                self.put(out, Style::Dim, &format!("  {after} after the commit"));
            }
            out.push('\n');
            self.fields(out, &envelope);
        }
        if events.len() > MAX_EVENTS {
            let more = format!("  … and {} more events\n", events.len() - MAX_EVENTS);
            self.put(out, Style::Dim, &more);
        }
    }

    /// What a request without a body says in its query.
    fn query(&self, out: &mut String, path: &str) {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).take(MAX_FIELDS) {
            out.push_str("    ");
            self.put(out, Style::Name, &one_line(&name));
            let _ = writeln!(out, "  {}", short(&value));
        }
    }

    fn head(
        &self,
        out: &mut String,
        received: &Received,
        envelope: Option<&Envelope<'_>>,
        again: bool,
    ) {
        let time = time_of_day(received.at);
        self.put(out, Style::Dim, &time);
        let (mark, style) = match (&received.verdict, received.status.is_success()) {
            (Verdict::Wrong(_), _) | (_, false) => (" ✗ ", Style::Bad),
            (Verdict::Genuine(_), true) => (" ✓ ", Style::Good),
            (Verdict::NotChecked, true) => (" • ", Style::Dim),
        };
        self.put(out, style, mark);
        match envelope {
            Some(envelope) => {
                self.put(out, event_style(&envelope.event), &one_line(&envelope.event))
            }
            None => {
                // Of a request without a body the query is shown by itself.
                let path = received.path.split('?').next().filter(|_| received.body.is_empty());
                let path = path.unwrap_or(&received.path);
                out.push_str(&one_line(&format!("{} {path}", received.method)));
            }
        }
        if let Some(id) = received.id() {
            out.push_str("  ");
            self.put(out, Style::Dim, &one_line(id));
        }
        if let Some(after) = envelope.and_then(|envelope| after_commit(envelope, received.at)) {
            self.put(out, Style::Dim, &format!("  {after} after the commit"));
        }
        if let Some(attempt) = received.attempt().filter(|attempt| *attempt > 1) {
            self.put(out, Style::Changed, &format!("  attempt {attempt}"));
        }
        if again {
            self.put(out, Style::Changed, "  repeated");
        }
        if !received.status.is_success() {
            self.put(out, Style::Bad, &format!("  answered {}", received.status.as_u16()));
        }
        if let Some(note) = &received.note {
            self.put(out, Style::Bad, &format!("  {}", one_line(note)));
        }
        out.push('\n');
    }

    /// The record: what changed, if that is known, and all of it otherwise.
    fn fields(&self, out: &mut String, envelope: &Envelope<'_>) {
        let Some(data) = members(Some(envelope.data)) else {
            self.plain(out, envelope.data.get().as_bytes());
            return;
        };
        let previous = members(envelope.previous).unwrap_or_default();
        let changed = envelope.updated_fields.as_deref();
        let shown: Vec<&(String, &RawValue)> = data
            .iter()
            .enumerate()
            .filter(|(place, (name, _))| {
                // The first column tells which record it is.
                *place == 0 || changed.is_none_or(|changed| changed.contains(name))
            })
            .map(|(_, member)| member)
            .collect();
        let width = shown
            .iter()
            .take(MAX_FIELDS)
            .map(|(name, _)| one_line(name).chars().count())
            .max()
            .unwrap_or_default()
            .min(32);
        for (name, value) in shown.iter().take(MAX_FIELDS) {
            let name_shown = one_line(name);
            out.push_str("    ");
            self.put(out, Style::Name, &name_shown);
            let padding = width.saturating_sub(name_shown.chars().count());
            out.extend(std::iter::repeat_n(' ', padding + 2));
            if let Some((_, before)) = previous.iter().find(|(other, _)| other == name) {
                self.put(out, Style::Gone, &short(before.get()));
                self.put(out, Style::Dim, " → ");
                self.put(out, Style::Good, &short(value.get()));
            } else {
                out.push_str(&short(value.get()));
            }
            out.push('\n');
        }
        if shown.len() > MAX_FIELDS {
            let more = format!("    … and {} more fields\n", shown.len() - MAX_FIELDS);
            self.put(out, Style::Dim, &more);
        }
        if let Some(unchanged) = envelope.unchanged.as_ref().filter(|names| !names.is_empty()) {
            let names = short(&unchanged.join(", "));
            self.put(out, Style::Dim, &format!("    (unchanged and not sent: {names})\n"));
        }
    }

    /// A body of another format.
    fn plain(&self, out: &mut String, body: &[u8]) {
        if body.is_empty() {
            return;
        }
        if let Some(members) =
            serde_json::from_slice::<&RawValue>(body).ok().and_then(|value| members(Some(value)))
        {
            for (name, value) in members.iter().take(MAX_FIELDS) {
                out.push_str("    ");
                self.put(out, Style::Name, &one_line(name));
                let _ = writeln!(out, "  {}", short(value.get()));
            }
            return;
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_VALUE_CHARS)]);
        let _ = writeln!(out, "    {}", short(&text));
    }

    fn put(&self, out: &mut String, style: Style, text: &str) {
        if self.colour {
            out.push_str(&painted(text, style.sgr()));
        } else {
            out.push_str(text);
        }
    }
}

fn event_style(event: &str) -> Style {
    match event.rsplit_once('.').map(|(_, what)| what) {
        Some("created" | "restored") => Style::Good,
        Some("deleted" | "truncated") => Style::Gone,
        Some("updated") => Style::Changed,
        _ => Style::Name,
    }
}

/// The time from the commit to the arrival, if both clocks make it plausible.
fn after_commit(envelope: &Envelope<'_>, at: SystemTime) -> Option<String> {
    let committed: String = serde_json::from_str(envelope.timestamp?.get()).ok()?;
    let committed: Timestamp = committed.parse().ok()?;
    let micros = Timestamp::try_from(at).ok()?.as_microsecond() - committed.as_microsecond();
    match micros {
        0..10_000 => Some(format!("{:.1} ms", micros as f64 / 1_000.0)),
        10_000..1_000_000 => Some(format!("{} ms", micros / 1_000)),
        1_000_000..86_400_000_000 => Some(format!("{:.1} s", micros as f64 / 1_000_000.0)),
        _ => None,
    }
}

/// The body as it was before it was compressed. One that cannot be unpacked stays as it came.
fn unpacked(received: &Received) -> Cow<'_, [u8]> {
    let is_gzip = received
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"gzip"));
    if !is_gzip {
        return Cow::Borrowed(&received.body);
    }
    let mut unpacked = Vec::new();
    let mut decoder = MultiGzDecoder::new(&received.body[..]).take(MAX_UNPACKED_BYTES + 1);
    match decoder.read_to_end(&mut unpacked) {
        Ok(bytes) if bytes as u64 <= MAX_UNPACKED_BYTES => Cow::Owned(unpacked),
        _ => Cow::Borrowed(&received.body),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text),
    }
}

/// A request as one JSON object and a line break. `body` is the JSON that came, unpacked if it was
/// compressed, or a string if it was none.
pub fn json_line(received: &Received) -> String {
    let verified = match &received.verdict {
        Verdict::NotChecked => None,
        Verdict::Genuine(_) => Some(true),
        Verdict::Wrong(_) => Some(false),
    };
    let schemes: &[_] = match &received.verdict {
        Verdict::Genuine(schemes) => schemes,
        _ => &[],
    };
    let schemes: Vec<&str> = schemes.iter().map(|scheme| scheme.name()).collect();
    let received_at = Timestamp::try_from(received.at).map(|at| at.to_string()).unwrap_or_default();
    let head = serde_json::json!({
        "receivedAt": received_at,
        "method": received.method.as_str(),
        "path": received.path,
        "id": received.id(),
        "attempt": received.attempt(),
        "verified": verified,
        "schemes": schemes,
        "status": received.status.as_u16(),
        "note": received.note,
        "headers": headers(&received.headers),
    });
    // The body goes in as it came, so that no number loses a digit and no key its place.
    let body = unpacked(received);
    let body = match serde_json::from_slice::<&RawValue>(&body) {
        // JSON may hold line breaks between its tokens, and nowhere else.
        Ok(value) => value.get().replace(['\n', '\r'], " "),
        Err(_) => serde_json::Value::from(String::from_utf8_lossy(&body)).to_string(),
    };
    let mut line = head.to_string();
    line.pop();
    let _ = writeln!(line, ",\"body\":{body}}}");
    line
}

fn headers(headers: &HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    let mut shown = serde_json::Map::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        shown.insert(name.as_str().to_owned(), value.into());
    }
    shown
}

#[cfg(test)]
mod tests;
