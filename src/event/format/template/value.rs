//! JSON as templates see it: read level by level when somebody looks, printed as it stands.

use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State, UndefinedBehavior};

use super::number;
use crate::event::format::envelope;
use crate::event::object;

/// How deep a template may look into a value. What compares or walks values recurses.
const DEEPEST: u8 = 64;

/// The value of a JSON text.
pub(super) fn of_json(json: &str) -> Value {
    at(json.trim_ascii(), 0)
}

fn at(json: &str, depth: u8) -> Value {
    let malformed = || Error::new(ErrorKind::BadSerialization, "a value is malformed").into();
    match json.as_bytes().first() {
        Some(b'"') => {
            serde_json::from_str::<String>(json).map_or_else(|_| malformed(), Value::from)
        }
        Some(b'n') => Value::from(()),
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'{' | b'[') if depth == DEEPEST => {
            Error::new(ErrorKind::BadSerialization, "a value is nested too deeply").into()
        }
        Some(b'{') => {
            Value::from_object(Row { json: json.into(), depth, members: OnceLock::new() })
        }
        Some(b'[') => Value::from_object(List { json: json.into(), depth, items: OnceLock::new() }),
        Some(_) => number::of_json(json),
        None => malformed(),
    }
}

/// The JSON of a value that was read from one.
pub(super) fn json_of(value: &Value) -> Option<&str> {
    let row = value.downcast_object_ref::<Row>().map(|row| &*row.json);
    row.or_else(|| value.downcast_object_ref::<List>().map(|list| &*list.json))
}

/// The text of a double, which a value's own text would round.
pub(super) fn double_text(value: &Value) -> Option<String> {
    if !value.is_number() || value.is_integer() {
        return None;
    }
    f64::try_from(value.clone()).ok().and_then(number::text)
}

/// The filter `string`.
pub(super) fn string(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.is_undefined() && state.undefined_behavior() != UndefinedBehavior::Chainable {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.as_str().is_some() {
        return Ok(value);
    }
    Ok(Value::from(double_text(&value).unwrap_or_else(|| value.to_string())))
}

/// An object, its members in their order.
struct Row {
    json: Box<str>,
    depth: u8,
    members: OnceLock<Vec<(Arc<str>, Value)>>,
}

impl Row {
    fn members(&self) -> &[(Arc<str>, Value)] {
        self.members.get_or_init(|| {
            // It was inside of a JSON text that was read as a whole.
            let members = object::Object::parse(&self.json).map_or(Vec::new(), |row| row.0);
            let read = |(key, value): (&str, &str)| {
                let key = serde_json::from_str::<String>(key).unwrap_or_default();
                (key.into(), at(value, self.depth + 1))
            };
            members.into_iter().map(read).collect()
        })
    }
}

/// Values of the event stay out of what is logged.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{…}")
    }
}

impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.members().iter().find(|(name, _)| &**name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.members().iter().map(|(name, _)| Value::from(name)).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.members().len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

/// An array.
struct List {
    json: Box<str>,
    depth: u8,
    items: OnceLock<Vec<Value>>,
}

impl List {
    fn items(&self) -> &[Value] {
        self.items.get_or_init(|| {
            let items = envelope::items(&self.json).unwrap_or_default();
            items.into_iter().map(|item| at(item, self.depth + 1)).collect()
        })
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[…]")
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items().get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items().len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}
