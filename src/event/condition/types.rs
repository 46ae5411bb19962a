//! CEL's types as far as they are known before an event is there.

use std::fmt;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Known only with the event.
    Any,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    List,
    Map,
    Timestamp,
    Duration,
    /// What `type(…)` yields.
    Kind,
}

use Type::{Any, Bool, Bytes, Double, Duration, Int, List, Map, Null, String, Timestamp, Uint};

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Any => "a value",
            Bool => "true or false",
            Int | Uint | Double => "a number",
            String => "a text",
            Bytes => "bytes",
            Null => "null",
            List => "a list",
            Map => "a map",
            Timestamp => "a time",
            Duration => "a duration",
            Type::Kind => "a type",
        })
    }
}

impl Type {
    fn numeric(self) -> bool {
        matches!(self, Int | Uint | Double)
    }

    /// Whether a value of this type may stand where one of these is needed.
    pub(super) fn may_be(self, types: &[Type]) -> bool {
        self == Any || types.contains(&self) || types.contains(&Any)
    }

    /// Whether `==` could ever be true.
    pub(super) fn may_equal(self, other: Type) -> bool {
        self == other
            || self == Any
            || other == Any
            || self == Null
            || other == Null
            || (self.numeric() && other.numeric())
    }

    /// Whether `<` has a meaning.
    pub(super) fn is_ordered_with(self, other: Type) -> bool {
        let ordered = |t: Type| {
            t.numeric() || matches!(t, Any | Bool | String | Bytes | Timestamp | Duration)
        };
        ordered(self) && ordered(other) && self.may_equal(other)
    }

    /// What an arithmetic operator makes of these, if it takes them.
    pub(super) fn arithmetic(self, operator: &str, other: Type) -> Option<Type> {
        let concatenates = operator == "_+_";
        let subtracts = operator == "_-_";
        match (self, other) {
            (Int, Int) | (Uint, Uint) => Some(self),
            (Double, Double) if operator != "_%_" => Some(Double),
            (String, String) | (Bytes, Bytes) | (List, List) if concatenates => Some(self),
            (Timestamp, Duration) if concatenates || subtracts => Some(Timestamp),
            (Duration, Timestamp) if concatenates => Some(Timestamp),
            (Duration, Duration) if concatenates || subtracts => Some(Duration),
            (Timestamp, Timestamp) if subtracts => Some(Duration),
            (Any, Any) => Some(Any),
            (Any, known) | (known, Any) => {
                let fit = known.numeric()
                    || (concatenates && matches!(known, String | Bytes | List))
                    || ((concatenates || subtracts) && matches!(known, Timestamp | Duration));
                fit.then_some(Any)
            }
            _ => None,
        }
    }
}

/// A function: what it takes, and what it yields.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Whether it is called as `receiver.name(…)`, `name(receiver, …)`, or either.
    pub(super) style: Style,
    pub(super) receiver: &'static [Type],
    /// Further arguments, all of them texts: at least and at most.
    pub(super) texts: (usize, usize),
    pub(super) result: Type,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Method,
    Plain,
    Either,
}

const fn method(
    name: &'static str,
    receiver: &'static [Type],
    texts: (usize, usize),
    result: Type,
) -> Function {
    Function { name, style: Style::Method, receiver, texts, result }
}

const fn plain(name: &'static str, argument: &'static [Type], result: Type) -> Function {
    Function { name, style: Style::Plain, receiver: argument, texts: (0, 0), result }
}

const CLOCK: &[Type] = &[Timestamp, Duration];

/// All functions; macros are gone before types are looked at.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "size",
        style: Style::Either,
        receiver: &[String, Bytes, List, Map],
        texts: (0, 0),
        result: Int,
    },
    Function {
        name: "matches",
        style: Style::Either,
        receiver: &[String],
        texts: (1, 1),
        result: Bool,
    },
    method("contains", &[String], (1, 1), Bool),
    method("startsWith", &[String], (1, 1), Bool),
    method("endsWith", &[String], (1, 1), Bool),
    method("getFullYear", &[Timestamp], (0, 1), Int),
    method("getMonth", &[Timestamp], (0, 1), Int),
    method("getDate", &[Timestamp], (0, 1), Int),
    method("getDayOfMonth", &[Timestamp], (0, 1), Int),
    method("getDayOfWeek", &[Timestamp], (0, 1), Int),
    method("getDayOfYear", &[Timestamp], (0, 1), Int),
    method("getHours", CLOCK, (0, 1), Int),
    method("getMinutes", CLOCK, (0, 1), Int),
    method("getSeconds", CLOCK, (0, 1), Int),
    method("getMilliseconds", CLOCK, (0, 1), Int),
    plain("bool", &[Bool, String], Bool),
    plain("bytes", &[Bytes, String], Bytes),
    plain("double", &[Int, Uint, Double, String], Double),
    plain("duration", &[Duration, String], Duration),
    plain("dyn", &[Any], Any),
    plain("int", &[Int, Uint, Double, String, Timestamp], Int),
    plain("string", &[Bool, Int, Uint, Double, String, Bytes, Timestamp, Duration], String),
    plain("timestamp", &[Timestamp, String, Int], Timestamp),
    plain("type", &[Any], Type::Kind),
    plain("uint", &[Int, Uint, Double, String], Uint),
];

/// What an expression may read, and of which type it is.
pub(super) const VARIABLES: [(&str, Type); 5] =
    [("event", String), ("data", Map), ("previous", Map), ("updatedFields", List), ("source", Map)];

/// What `source` holds.
pub(super) const SOURCE: [(&str, Type); 8] = [
    ("database", String),
    ("schema", String),
    ("table", String),
    ("lsn", String),
    ("commitLsn", String),
    ("capture", String),
    ("xid", Int),
    ("ordinal", Int),
];

/// Names of types, as `type(…)` is compared with.
pub(super) const TYPE_NAMES: [&str; 11] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
    "google.protobuf.Timestamp",
];
