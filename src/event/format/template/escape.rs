//! What a template prints, and how it is escaped where the output is JSON.
//!
//! Jinja's escaping does not know where in the output it is. Here every printed value is marked,
//! and when the output is whole, each is put in by its place: as a JSON value outside of quotes,
//! as a part of the string inside of them. So both `{"text": {{ data.name }}}` and `{"text":
//! "Hello {{ data.name }}"}` are what they look like.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Error, ErrorKind, Output, State};

use super::value::{double_text, json_of};

/// Around a printed value. Neither templates nor JSON hold control characters.
pub(super) const OPEN: char = '\u{1}';
pub(super) const CLOSE: char = '\u{2}';

/// How deep a list or a dictionary of the template's own may be.
const DEEPEST: usize = 64;

/// Prints a value. For a sample event, something stands for a column that it lacks.
pub(super) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
    is_sample: bool,
) -> Result<(), Error> {
    if value.is_safe() {
        return Ok(out.write_str(value.as_str().unwrap_or_default())?);
    }
    if value.is_undefined() {
        // Of a real event, only a condition's absent else comes here.
        let text = match (is_sample, state.auto_escape()) {
            (false, _) => "",
            (true, AutoEscape::Json) => "\u{1}\"sample\"\u{2}",
            (true, _) => "sample",
        };
        return Ok(out.write_str(text)?);
    }
    if *state.auto_escape() == AutoEscape::Json {
        return Ok(out.write_str(&marked(value)?)?);
    }
    match double_text(value) {
        Some(text) => Ok(out.write_str(&text)?),
        None => Ok(write!(out, "{value}")?),
    }
}

/// The filter `tojson`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    options: Kwargs,
) -> Result<Value, Error> {
    options.assert_all_used()?;
    let json = if *state.auto_escape() == AutoEscape::Json {
        marked(value)?
    } else {
        let mut json = String::new();
        write(&mut json, value, 0)?;
        json
    };
    Ok(Value::from_safe_string(json))
}

fn marked(value: &Value) -> Result<String, Error> {
    let mut json = String::from(OPEN);
    write(&mut json, value, 0)?;
    json.push(CLOSE);
    Ok(json)
}

/// Appends a value as JSON.
fn write(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let unfit = |why| Err(Error::new(ErrorKind::BadSerialization, why));
    if depth == DEEPEST {
        return unfit("a value is nested too deeply");
    }
    if let Some(json) = json_of(value) {
        out.push_str(json);
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => match double_text(value) {
            Some(text) => out.push_str(&text),
            None => return unfit("a number is not finite"),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (at, item) in value.try_iter()?.checked().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, &item?, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.checked().enumerate() {
                let key = key?;
                if at > 0 {
                    out.push(',');
                }
                quote(out, &key.to_string());
                out.push(':');
                write(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Invalid => return unfit("a value cannot be read"),
        // What a block or a macro made holds marks.
        _ if value.is_safe() => {
            let text = value.as_str().unwrap_or_default();
            let quoted = settle(format!("\"{}", escaped_outside_marks(text)));
            out.push_str(&quoted);
            out.push('"');
        }
        _ => quote(out, &value.to_string()),
    }
    Ok(())
}

fn quote(out: &mut String, text: &str) {
    // A `str` is UTF-8, so there is no error.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// The inside of a JSON string.
fn inner(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quote(&mut quoted, text);
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

fn escaped_outside_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once(OPEN) {
        out.push_str(&inner(before));
        let (json, after) = marked.split_once(CLOSE).unwrap_or((marked, ""));
        out.push(OPEN);
        out.push_str(json);
        out.push(CLOSE);
        rest = after;
    }
    out.push_str(&inner(rest));
    out
}

/// Puts each marked value in by its place.
pub(super) fn settle(output: String) -> String {
    if !output.contains(OPEN) {
        return output;
    }
    let mut out = String::with_capacity(output.len());
    let (mut rest, mut place) = (output.as_str(), Place::Outside);
    while let Some((before, marked)) = rest.split_once(OPEN) {
        out.push_str(before);
        place = place.after(before);
        let (json, after) = marked.split_once(CLOSE).unwrap_or((marked, ""));
        match (place, json.strip_prefix('"').and_then(|text| text.strip_suffix('"'))) {
            (Place::Outside, _) => out.push_str(json),
            (_, Some(text)) => out.push_str(text),
            (_, None) => out.push_str(&inner(json)),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where in a JSON text one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    String,
    /// Behind a backslash in a string.
    Escape,
}

impl Place {
    fn after(self, text: &str) -> Place {
        text.bytes().fold(self, |place, byte| match (place, byte) {
            (Place::Outside, b'"') => Place::String,
            (Place::String, b'"') => Place::Outside,
            (Place::String, b'\\') => Place::Escape,
            (Place::Escape, _) => Place::String,
            (place, _) => place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_place() {
        for (marked, expected) in [
            ("{\"a\":\u{1}\"b\"\u{2}}", r#"{"a":"b"}"#),
            ("{\"a\":\"x \u{1}\"b\\\"\"\u{2} y\"}", r#"{"a":"x b\" y"}"#),
            ("{\"a\\\"\":\u{1}1\u{2}}", r#"{"a\"":1}"#),
            ("\"\u{1}{\"b\":[1]}\u{2}\"", r#""{\"b\":[1]}""#),
            ("\"\u{1}null\u{2}\u{1}7\u{2}\"", r#""null7""#),
            ("\u{1}", ""),
            ("\"\\\u{1}\"n\"\u{2}\"", r#""\n""#),
        ] {
            assert_eq!(settle(marked.to_owned()), expected);
        }
    }
}
