//! Why bytes are not a message.

use std::fmt;

/// The bytes are not a message of pgoutput's protocol version 1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    tag: u8,
    offset: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    UnknownMessage,
    UnknownTuple(u8),
    UnknownValue(u8),
    BinaryValue,
    UnknownReplicaIdentity(u8),
    NegativeLength(i32),
    Truncated,
    Unterminated,
    NotUtf8,
    Trailing(usize),
}

impl DecodeError {
    pub(super) fn new(tag: u8, offset: usize, kind: Kind) -> DecodeError {
        DecodeError { tag, offset, kind }
    }

    /// Whether the message's kind is unknown, as of a later protocol version.
    pub fn is_unknown_message(&self) -> bool {
        self.kind == Kind::UnknownMessage
    }

    /// Whether a name in it is not UTF-8.
    pub fn is_invalid_utf8(&self) -> bool {
        self.kind == Kind::NotUtf8
    }

    /// Whether the message ended early.
    pub fn is_truncated(&self) -> bool {
        matches!(self.kind, Kind::Empty | Kind::Truncated | Kind::Unterminated)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Empty {
            return f.write_str("the server sent an empty replication message");
        }
        let tag = self.tag.escape_ascii();
        write!(f, "the server sent a replication message of kind '{tag}' that cannot be read: ")?;
        match self.kind {
            Kind::Empty => Ok(()),
            Kind::UnknownMessage => f.write_str("pgoutput's protocol version 1 has no such kind"),
            Kind::UnknownTuple(kind) => write!(f, "unknown tuple kind '{}'", kind.escape_ascii()),
            Kind::UnknownValue(kind) => write!(f, "unknown value kind '{}'", kind.escape_ascii()),
            Kind::BinaryValue => f.write_str("a value in binary form, which was not asked for"),
            Kind::UnknownReplicaIdentity(kind) => {
                write!(f, "unknown replica identity '{}'", kind.escape_ascii())
            }
            Kind::NegativeLength(length) => write!(f, "a length of {length}"),
            Kind::Truncated => f.write_str("it ends too early"),
            Kind::Unterminated => f.write_str("a name in it has no end"),
            Kind::NotUtf8 => f.write_str("a name in it is not UTF-8"),
            Kind::Trailing(bytes) => write!(f, "{bytes} bytes too many"),
        }?;
        write!(f, " (at byte {})", self.offset)
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({self})")
    }
}

impl std::error::Error for DecodeError {}
