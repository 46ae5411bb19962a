//! The request: method, URL, headers and body.

use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Method;
use hyper::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use url::{Position, Url};

use crate::event::{Format, Rendered, Subject};
use crate::journal::StoredEvent;

use super::super::client::Outgoing;
use super::super::signature::WEBHOOK_ID;
use super::{Numbered, Parcel, Sender};

const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
const WEBHOOK_SEQUENCE: HeaderName = HeaderName::from_static("webhook-sequence");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Smaller bodies fit into one packet as they are.
const COMPRESS_FROM_BYTES: usize = 1024;
/// Compressing more than this is left to another thread: it takes milliseconds, in which this one
/// could do nothing else.
const COMPRESS_ASIDE_BYTES: usize = 128 * 1024;
/// Path and query. Common servers allow 8 KiB for the whole first line of a request.
const LONGEST_TARGET_BYTES: usize = 8_000;
/// Of the header `webhook-sequence`. Common servers allow 8 KiB for all headers.
const LONGEST_SEQUENCE_BYTES: usize = 2_000;

/// What schemes that tell an event's name tell of a batch.
const BATCH_NAME: &str = "batch";

/// What formats may not write: it belongs to the connection.
const RESERVED: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a format made, checked.
struct Content {
    body: Bytes,
    media_type: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Instead of the URL's path and query.
    path: Option<String>,
}

impl Sender {
    /// The request for a parcel, or why there can be none, as the end of a sentence.
    pub(super) async fn request(&self, parcel: &Parcel, at_ms: i64) -> Result<Outgoing, String> {
        let content = self.content(&parcel.events)?;
        let has_body = self.method != Method::GET;
        let mut body = content.body;
        let url = if content.path.is_some() || !has_body {
            let mut url = self.url.clone();
            if let Some(path) = &content.path {
                set_target(&mut url, path)?;
            }
            if !has_body {
                add_members(&mut url, &body)?;
                body = Bytes::new();
            }
            check_length(&url)?;
            Some(url)
        } else {
            None
        };
        let compressed = self.compress && body.len() >= COMPRESS_FROM_BYTES;
        if compressed {
            body = compress(body)
                .await
                .map_err(|error| format!("it cannot be compressed: {error}"))?;
        }
        let own = self.headers.len() + content.headers.len() + 2 * self.signers.len();
        // Besides them type and encoding, host, length, id, number and sequence.
        let mut headers = HeaderMap::with_capacity(own + 7);
        if has_body {
            headers.insert(CONTENT_TYPE, content.media_type);
        }
        for (name, value) in content.headers {
            headers.append(name, value);
        }
        // What the configuration says goes before what a format does.
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        if compressed {
            headers.insert(CONTENT_ENCODING, GZIP);
        }
        self.identify(parcel, at_ms, &body, &mut headers);
        let body = has_body.then_some(body);
        Ok(Outgoing { method: self.method.clone(), url, headers, body })
    }

    fn content(&self, events: &[Numbered]) -> Result<Content, String> {
        let rendered = match events {
            [single] if !self.batches => {
                if matches!(self.format, Format::Walhook) {
                    // What most endpoints get is sent as it lies there.
                    let body = single.event.body.clone();
                    return Ok(Content { body, media_type: JSON, headers: Vec::new(), path: None });
                }
                self.format.render(&subject(&single.event))
            }
            _ => {
                let subjects: Vec<_> = events.iter().map(|one| subject(&one.event)).collect();
                self.format.render_batch(&subjects)
            }
        };
        let Rendered { body, content_type, headers, path } =
            rendered.map_err(|error| error.to_string())?;
        // Neither sentence shows a value: a template may put a secret there.
        let media_type = HeaderValue::try_from(content_type)
            .map_err(|_| "its media type is not fit for a header".to_owned())?;
        let headers = headers.into_iter().map(checked).collect::<Result<_, _>>()?;
        Ok(Content { body, media_type, headers, path })
    }

    /// Says what it is, and signs it.
    fn identify(&self, parcel: &Parcel, at_ms: i64, body: &Bytes, headers: &mut HeaderMap) {
        let (id, name, sequence) = match &parcel.events[..] {
            [single] if !self.batches => {
                let mut id = Vec::with_capacity(36);
                single.event.id.write_to(&mut id);
                let sequence = (single.sequence > 0).then(|| HeaderValue::from(single.sequence));
                (id, &*single.event.name, sequence)
            }
            events => {
                let ranges = ranges(events.iter().map(|numbered| numbered.sequence));
                let sequence = HeaderValue::try_from(ranges).ok();
                let sequence = sequence.filter(|value| !value.is_empty());
                (batch_id(events).into_bytes(), BATCH_NAME, sequence)
            }
        };
        // An id is ASCII letters, digits and `_`: it is both text and a header value.
        let text = std::str::from_utf8(&id).unwrap_or_default();
        for signer in &self.signers {
            signer.sign_into(text, name, at_ms, body, headers);
        }
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(id)) {
            headers.insert(WEBHOOK_ID, value);
        }
        headers.insert(WEBHOOK_ATTEMPT, HeaderValue::from(parcel.number));
        if let Some(sequence) = sequence {
            headers.insert(WEBHOOK_SEQUENCE, sequence);
        }
    }
}

fn subject(event: &StoredEvent) -> Subject<'_> {
    Subject {
        id: event.id,
        name: &event.name,
        committed_at_us: event.committed_at_us,
        envelope: &event.body,
    }
}

/// A header of a format's, as what it may be.
fn checked((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), String> {
    let Ok(header) = name.parse::<HeaderName>() else {
        return Err("the format writes a header whose name is none".to_owned());
    };
    if RESERVED.contains(&header) || header.as_str().starts_with("webhook-") {
        return Err(format!("the format writes the header {header}, which is walhook's own"));
    }
    match HeaderValue::try_from(value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok((header, value))
        }
        Err(_) => Err(format!(
            "the format puts a line break, or another character that no header may carry, into \
             the header {header}"
        )),
    }
}

/// Replaces path and query. The host stays what it is, whatever the path says.
fn set_target(url: &mut Url, target: &str) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err("the path that the format made does not begin with a slash".to_owned());
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    url.set_path(path);
    url.set_query(query);
    Ok(())
}

fn check_length(url: &Url) -> Result<(), String> {
    let length = url[Position::BeforePath..Position::AfterQuery].len();
    if length <= LONGEST_TARGET_BYTES {
        return Ok(());
    }
    Err(too_long(length))
}

fn too_long(length: usize) -> String {
    format!(
        "its URL would be {length} bytes long, and more than {LONGEST_TARGET_BYTES} are not sent: \
         use `method` POST, or a format that says less"
    )
}

/// Appends the members of a JSON object to the query: texts as they are, all else as JSON.
fn add_members(url: &mut Url, body: &[u8]) -> Result<(), String> {
    // No JSON gets that much shorter by being decoded.
    if body.len() > 8 * LONGEST_TARGET_BYTES {
        return Err(too_long(body.len()));
    }
    let Members(members) = serde_json::from_slice(body).map_err(|_| {
        "with `method` GET the query is made of the members of a JSON object, and the format made \
         something else"
            .to_owned()
    })?;
    let mut query = url.query_pairs_mut();
    for (name, value) in members {
        let text = value.get();
        match serde_json::from_str::<String>(text) {
            Ok(text) => query.append_pair(&name, &text),
            Err(_) => query.append_pair(&name, text),
        };
    }
    Ok(())
}

/// The members of a JSON object, in order, their values as they are written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

async fn compress(body: Bytes) -> std::io::Result<Bytes> {
    if body.len() < COMPRESS_ASIDE_BYTES {
        return gzip(&body);
    }
    let aside = tokio::task::spawn_blocking(move || gzip(&body));
    aside.await.map_err(std::io::Error::other)?
}

/// The same bytes for the same body: no name, no time.
fn gzip(body: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

/// The same for the same events in the same order, and no other: `batch_` and 32 digits.
fn batch_id(events: &[Numbered]) -> String {
    let mut hash = Sha256::new();
    for numbered in events {
        hash.update(numbered.event.id.as_bytes());
    }
    let hash = hash.finalize();
    format!("batch_{}", hex::encode(&hash[..16]))
}

/// Numbers as ranges: `17-42,44`. Those that are 0 are left out. What does not fit any more is
/// `...` at the end.
fn ranges(numbers: impl Iterator<Item = u64>) -> String {
    let mut text = String::new();
    let mut numbers = numbers.filter(|number| *number > 0).peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| Some(*next) == last.checked_add(1)) {
            last = next;
        }
        if !text.is_empty() {
            text.push(',');
        }
        if text.len() > LONGEST_SEQUENCE_BYTES {
            text.push_str("...");
            return text;
        }
        // Writing to a String cannot fail.
        let _ =
            if first == last { write!(text, "{first}") } else { write!(text, "{first}-{last}") };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges_of_bounded_length() {
        let text = |numbers: &[u64]| ranges(numbers.iter().copied());
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[0, 0]), "");
        assert_eq!(text(&[7]), "7");
        assert_eq!(text(&[17, 18, 19, 0, 21, 24, 25]), "17-19,21,24-25");
        assert_eq!(text(&[u64::MAX - 1, u64::MAX, 3]), format!("{}-{},3", u64::MAX - 1, u64::MAX));
        let odd: Vec<u64> = (0..5_000).map(|number| 1_000_000 + 2 * number).collect();
        let long = text(&odd);
        assert!(long.len() < LONGEST_SEQUENCE_BYTES + 50, "{}", long.len());
        assert!(long.starts_with("1000000,1000002,") && long.ends_with(",..."), "{long}");
    }

    #[test]
    fn a_path_changes_no_host() {
        for (path, expected) in [
            ("/a?b=c#d", "http://host.example/a?b=c%23d"),
            ("//evil.example/x", "http://host.example//evil.example/x"),
            ("/\\evil.example", "http://host.example//evil.example"),
            ("/../../etc", "http://host.example/etc"),
            ("/a\r\nhost: evil", "http://host.example/ahost:%20evil"),
            ("/\u{e9} ?\u{e9} x", "http://host.example/%C3%A9%20?%C3%A9%20x"),
            ("/@evil.example:1/", "http://host.example/@evil.example:1/"),
        ] {
            let mut url: Url = "http://host.example/hooks?token=1".parse().unwrap();
            set_target(&mut url, path).unwrap();
            assert_eq!(url.host_str(), Some("host.example"));
            assert_eq!(url.as_str(), expected, "{path:?}");
        }
        let mut url: Url = "http://host.example/".parse().unwrap();
        for path in ["", "evil", "http://evil.example/", "@evil.example", ".evil.example/"] {
            assert!(set_target(&mut url, path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn headers_of_a_format_are_checked_again() {
        let check = |name: &str, value: &str| checked((name.to_owned(), value.to_owned()));
        let (name, value) = check("ce-id", "evt_1").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("ce-id", &b"evt_1"[..]));
        for (name, value) in [
            ("x", "hush\r\nhost: evil"),
            ("x", "hush\n"),
            ("x", "hush\0"),
            ("a b", "hush"),
            ("", "hush"),
            ("host", "hush"),
            ("Content-Length", "hush"),
            ("transfer-encoding", "hush"),
            ("webhook-id", "hush"),
            ("webhook-signature", "hush"),
        ] {
            let error = check(name, value).unwrap_err();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
