//! What a template says of its request besides the body.

use std::fmt;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State, UndefinedBehavior};

const MOST_PATH_BYTES: usize = 8 * 1024;
const MOST_VALUE_BYTES: usize = 4 * 1024;
const MOST_HEADERS: usize = 32;

/// Headers that walhook writes by itself, or that belong to the connection.
const OWN_HEADERS: [&str; 15] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "stripe-signature",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-hub-signature-256",
];
const OWN_PREFIXES: [&str; 3] = ["webhook-", "x-twenty-webhook-", "x-github-"];

/// Collected while a template renders.
#[derive(Default)]
pub(super) struct Request {
    pub(super) path: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

/// Marks an error whose words are walhook's own and hold no value.
#[derive(Debug)]
struct Refusal;

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refusal {}

pub(super) fn is_refusal(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Refusal>())
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, why.into()).with_source(Refusal))
}

/// `set_path("/people/" ~ data.id)`: prints nothing.
pub(super) fn set_path(state: &mut State<'_, '_>, path: Value) -> Result<Value, Error> {
    let path = argument(state, &path, "set_path")?;
    check_characters(&path)?;
    // In a sample event the columns are missing that would make it one.
    if state.undefined_behavior() != UndefinedBehavior::Chainable {
        check_place(&path)?;
    }
    state.get_or_insert_extension(Request::default()).path = Some(path);
    Ok(Value::from_safe_string(String::new()))
}

/// `set_header("x-table", source.table)`: prints nothing.
pub(super) fn set_header(
    state: &mut State<'_, '_>,
    name: String,
    value: Value,
) -> Result<Value, Error> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() && state.undefined_behavior() == UndefinedBehavior::Chainable {
        // A sample event lacks the column.
        return Ok(Value::from_safe_string(String::new()));
    }
    if name.is_empty() || !name.bytes().all(is_token) {
        return refuse("set_header() got a name that no header can have: use letters and hyphens");
    }
    let is_own = OWN_HEADERS.contains(&name.as_str())
        || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_own {
        return refuse(format!("set_header() got {name}, which is walhook's own: remove it"));
    }
    let value = argument(state, &value, "set_header")?;
    let value = value.trim_matches([' ', '\t']);
    if value.len() > MOST_VALUE_BYTES {
        return refuse(format!("set_header() got a value for {name} that is too long"));
    }
    if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return refuse(format!(
            "set_header() got a value for {name} that no header may carry: add | urlencode"
        ));
    }
    let headers = &mut state.get_or_insert_extension(Request::default()).headers;
    headers.retain(|(other, _)| *other != name);
    if headers.len() == MOST_HEADERS {
        return refuse(format!("set_header() was called for more than {MOST_HEADERS} headers"));
    }
    headers.push((name, value.to_owned()));
    Ok(Value::from_safe_string(String::new()))
}

/// The filter `urlencode`: a value as one segment of a path, or one value of a query. Jinja's leaves
/// slashes as they are, by which a row could lead a request anywhere below the path that was meant;
/// and makes nothing of nothing, by which `/people/` would stand for one of them.
pub(super) fn urlencode(state: &State<'_, '_>, value: Value) -> Result<String, Error> {
    if value.kind() == ValueKind::Map {
        return minijinja::filters::urlencode(&value);
    }
    let text = argument(state, &value, "urlencode")?;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(encoded)
}

/// An argument's text, never that of nothing.
fn argument(state: &State<'_, '_>, value: &Value, function: &str) -> Result<String, Error> {
    if value.is_undefined() && state.undefined_behavior() == UndefinedBehavior::Chainable {
        return Ok("sample".to_owned());
    }
    if value.is_undefined() || value.is_none() {
        return refuse(format!("{function}() got nothing: a column is missing or null"));
    }
    Ok(super::value::double_text(value).unwrap_or_else(|| value.to_string()))
}

/// A path that is the same for every event.
pub(super) fn check_path(path: &str) -> Result<(), Error> {
    check_characters(path).and_then(|()| check_place(path))
}

/// Nothing that a parser could read in another way.
fn check_characters(path: &str) -> Result<(), Error> {
    if path.len() > MOST_PATH_BYTES {
        return refuse("set_path() got a path that is too long");
    }
    let is_fit = |byte| matches!(byte, b'!'..=b'~') && !b"\"#<>\\^`{|}".contains(&byte);
    if !path.bytes().all(is_fit) {
        return refuse(
            "set_path() got a character that no path may hold: add | urlencode to the parts",
        );
    }
    Ok(())
}

/// Only a path of the endpoint's own host, and where it seems to lead.
fn check_place(path: &str) -> Result<(), Error> {
    if !path.starts_with('/') || path.starts_with("//") {
        return refuse("set_path() got a path that does not begin with exactly one slash");
    }
    let (before_query, _) = path.split_once('?').unwrap_or((path, ""));
    // Many a server decodes a path before it follows it.
    let decoded = before_query.to_ascii_lowercase().replace("%2e", ".");
    let decoded = decoded.replace("%2f", "/").replace("%5c", "/");
    if decoded.split('/').any(|segment| segment == "." || segment == "..") {
        return refuse("set_path() got a path with . or .. in it, which would lead elsewhere");
    }
    Ok(())
}

/// Whether a header's name may hold it.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_on_their_host() {
        for path in
            ["/", "/a/b", "/a?b=c&d=//e", "/a%20b", "/a:b@c", "/..a", "/a/?x=..", "/a%2Fb..c"]
        {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "a",
            "//evil",
            "http://evil",
            "/\\evil",
            "/a b",
            "/a\r\nX: y",
            "/a\u{e9}",
            "/a#b",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2E/a",
            "/.%2e",
            "/a/..%2Fb",
            "/a%2f..",
            "/a%5C%2e.%5Cb",
            "/a/..?x",
        ] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
    }
}
