//! What an expression reads of an envelope, and nothing else of it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::cost::Size;

/// A decimal of so many significant digits is the same again when a double of it is written down.
const EXACT_DIGITS: usize = 15;

/// As many values are taken out of an event at most: each takes a hundred bytes and more, where two
/// may do in the event, and some time, before anything is asked of it.
const MOST_VALUES: usize = 200_000;

/// What an expression reads.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) event: bool,
    pub(super) updated_fields: bool,
    pub(super) data: Members,
    pub(super) previous: Members,
    pub(super) source: Members,
}

/// Which members of a map.
#[derive(Debug)]
pub(super) enum Members {
    /// These; the map itself is not looked at if there are none.
    Some(BTreeSet<String>),
    /// The map as a whole.
    All,
}

impl Default for Members {
    fn default() -> Members {
        Members::Some(BTreeSet::new())
    }
}

impl Members {
    pub(super) fn add(&mut self, name: &str) {
        if let Members::Some(names) = self {
            names.insert(name.to_owned());
        }
    }

    fn none(&self) -> bool {
        matches!(self, Members::Some(names) if names.is_empty())
    }
}

/// The variables of an evaluation.
pub(super) struct Input {
    pub(super) variables: Vec<(&'static str, Value)>,
    pub(super) size: Size,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    previous: Option<&'a RawValue>,
    #[serde(borrow, rename = "updatedFields")]
    updated_fields: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Why an envelope was not read.
#[derive(Debug)]
pub(super) enum Unread {
    Json(serde_json::Error),
    /// It holds so many values where the expression looks.
    Large(usize),
}

impl From<serde_json::Error> for Unread {
    fn from(error: serde_json::Error) -> Unread {
        Unread::Json(error)
    }
}

type Result<T, E = Unread> = std::result::Result<T, E>;

pub(super) fn read(envelope: &[u8], uses: &Uses) -> Result<Input> {
    let envelope: Envelope<'_> = serde_json::from_slice(envelope)?;
    let mut reader = Reader { size: Size { bytes: 0.0, values: 0.0 }, values: 0 };
    let mut variables = Vec::with_capacity(5);
    if let (true, Some(event)) = (uses.event, envelope.event) {
        variables.push(("event", reader.whole(event)?));
    }
    if let (true, Some(fields)) = (uses.updated_fields, envelope.updated_fields) {
        variables.push(("updatedFields", reader.whole(fields)?));
    }
    for (name, members, raw) in [
        ("data", &uses.data, envelope.data),
        ("previous", &uses.previous, envelope.previous),
        ("source", &uses.source, envelope.source),
    ] {
        if members.none() {
            continue;
        }
        match raw {
            Some(raw) => variables.push((name, reader.members(raw, members)?)),
            // So that has(previous.x) is false.
            None if name == "previous" => {
                variables.push((name, Value::Map(Map { map: Arc::default() })));
            }
            None => {}
        }
    }
    Ok(Input { variables, size: reader.size })
}

struct Reader {
    size: Size,
    /// Those of all texts that were let in.
    values: usize,
}

impl Reader {
    fn whole(&mut self, raw: &RawValue) -> Result<Value> {
        self.values = self.values.saturating_add(values_in(raw.get()));
        if self.values > MOST_VALUES {
            return Err(Unread::Large(self.values));
        }
        // Refuses to go deeper than 128 arrays and objects.
        Ok(self.value(serde_json::from_str(raw.get())?))
    }

    fn members(&mut self, raw: &RawValue, members: &Members) -> Result<Value> {
        let Members::Some(names) = members else { return self.whole(raw) };
        if !raw.get().starts_with('{') {
            return self.whole(raw);
        }
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        let found = deserializer.deserialize_map(Wanted(names))?;
        let mut map = HashMap::with_capacity(found.len());
        for (name, raw) in found {
            map.insert(self.key(name.into_owned()), self.whole(raw)?);
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }

    fn key(&mut self, name: String) -> Key {
        self.count(name.len());
        Key::String(Arc::new(name))
    }

    fn count(&mut self, bytes: usize) {
        self.size.bytes += bytes as f64;
        self.size.values += 1.0;
    }

    fn value(&mut self, value: serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => self.scalar(Value::Null),
            serde_json::Value::Bool(value) => self.scalar(Value::Bool(value)),
            serde_json::Value::Number(number) => {
                let text = number.to_string();
                self.count(text.len());
                self::number(text)
            }
            serde_json::Value::String(text) => {
                self.count(text.len());
                Value::String(Arc::new(text))
            }
            serde_json::Value::Array(items) => {
                self.count(8);
                let items: Vec<Value> = items.into_iter().map(|item| self.value(item)).collect();
                Value::List(Arc::new(items))
            }
            serde_json::Value::Object(members) => {
                self.count(8);
                let mut map = HashMap::with_capacity(members.len());
                for (name, value) in members {
                    map.insert(self.key(name), self.value(value));
                }
                Value::Map(Map { map: Arc::new(map) })
            }
        }
    }

    fn scalar(&mut self, value: Value) -> Value {
        self.count(8);
        value
    }
}

/// How many values a JSON text holds, keys among them: each but the first stands behind a bracket, a
/// comma or a colon.
fn values_in(json: &str) -> usize {
    let mut values = 1;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                // To the string's end, past what is escaped.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'[' | b'{' | b',' | b':' => values += 1,
            _ => {}
        }
    }
    values
}

/// The number of a JSON text if one of CEL's is exactly that; else the text.
fn number(text: String) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return Value::Int(whole);
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Value::UInt(whole);
    }
    match text.parse::<f64>() {
        Ok(double) if double.is_finite() && significant_digits(&text) <= EXACT_DIGITS => {
            // Too small for a double is zero, and that it isn't.
            let lost = double == 0.0 && significant_digits(&text) > 0;
            if lost { Value::String(Arc::new(text)) } else { Value::Float(double) }
        }
        _ => Value::String(Arc::new(text)),
    }
}

/// Without zeros at either end, and without the exponent.
pub(super) fn significant_digits(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    let Some(first) = digits.iter().position(|digit| *digit != b'0') else { return 0 };
    let last = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(first);
    last - first + 1
}

/// Picks members out of an object, without a look at the others.
struct Wanted<'a>(&'a BTreeSet<String>);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = Vec::with_capacity(self.0.len());
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if self.0.contains(&*name) {
                found.push((name, map.next_value()?));
            } else {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scan counts as the reader does, or a little more.
    #[test]
    fn values_are_counted_before_they_are_read() {
        for json in [
            "7",
            "null",
            r#""a,b:[{\"\\""#,
            "[]",
            "{}",
            r#"[1,[2,"3,\\",{"a":{"b":null,"c:":[true]}}],{}]"#,
            r#"{"k\"":"v\\","l":[[],[]]}"#,
        ] {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            let mut reader = Reader { size: Size { bytes: 0.0, values: 0.0 }, values: 0 };
            reader.whole(raw).unwrap();
            let empty = json.matches("[]").count() + json.matches("{}").count();
            assert_eq!(reader.size.values as usize, values_in(json) - empty, "{json}");
        }
    }
}
