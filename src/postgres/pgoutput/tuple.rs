//! Rows.

use super::error::{DecodeError, Kind};
use super::reader::Reader;

/// A row as sent. Its bytes were checked when the message was decoded, so that its values can be
/// walked without errors, as often as needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TupleData<'a> {
    columns: u16,
    values: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleValue<'a> {
    /// NULL; in an [`OldTuple::Key`] also every column outside the replica identity.
    Null,
    /// A large value that did not change and was not sent.
    UnchangedToast,
    /// The value as its type's output function writes it.
    Text(&'a [u8]),
}

/// What is known of an old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// Only the columns of the replica identity are values; the others are not known.
    Key(TupleData<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(TupleData<'a>),
}

impl<'a> OldTuple<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, kind: u8) -> Result<OldTuple<'a>, DecodeError> {
        match kind {
            b'K' => TupleData::read(reader).map(OldTuple::Key),
            b'O' => TupleData::read(reader).map(OldTuple::Full),
            other => Err(reader.fail(Kind::UnknownTuple(other))),
        }
    }

    /// The row.
    pub fn tuple(&self) -> TupleData<'a> {
        match *self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }
}

impl TupleValue<'_> {
    /// Appends it as the server writes it.
    fn write(self, out: &mut Vec<u8>) {
        match self {
            TupleValue::Null => out.push(b'n'),
            TupleValue::UnchangedToast => out.push(b'u'),
            TupleValue::Text(text) => {
                // It came with a length that fits.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.push(b't');
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

impl<'a> TupleData<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<TupleData<'a>, DecodeError> {
        let columns = reader.u16()?;
        let start = reader.rest();
        for _ in 0..columns {
            let before = *reader;
            match reader.u8()? {
                b't' => {
                    let length = reader.length()?;
                    reader.take(length)?;
                }
                b'n' | b'u' => {}
                b'b' => return Err(before.fail(Kind::BinaryValue)),
                other => return Err(before.fail(Kind::UnknownValue(other))),
            }
        }
        Ok(TupleData { columns, values: &start[..start.len() - reader.rest().len()] })
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Bytes it takes on the wire: a measure of what it takes elsewhere.
    pub fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The same row with the values of `old` in the place of those that were not sent, written into
    /// `buffer`.
    pub fn completed<'b>(&self, old: TupleData<'_>, buffer: &'b mut Vec<u8>) -> TupleData<'b> {
        buffer.clear();
        let mut old = old.iter();
        for value in self.iter() {
            let before = old.next();
            match (value, before) {
                (TupleValue::UnchangedToast, Some(before)) => before.write(buffer),
                (value, _) => value.write(buffer),
            }
        }
        TupleData { columns: self.columns, values: buffer }
    }

    /// The values, in the order of the relation's columns.
    pub fn iter(&self) -> TupleValues<'a> {
        TupleValues { rest: self.values, left: self.columns }
    }
}

impl<'a> IntoIterator for TupleData<'a> {
    type Item = TupleValue<'a>;
    type IntoIter = TupleValues<'a>;

    fn into_iter(self) -> TupleValues<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for TupleData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are the customer's data, which does not belong into logs.
        write!(f, "TupleData({} columns, {} bytes)", self.columns, self.values.len())
    }
}

/// Iterates over the values of a [`TupleData`].
#[derive(Clone, Debug)]
pub struct TupleValues<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Iterator for TupleValues<'a> {
    type Item = TupleValue<'a>;

    #[inline]
    fn next(&mut self) -> Option<TupleValue<'a>> {
        // None but at the end: the bytes were checked when the message was decoded.
        let (&kind, rest) = self.rest.split_first()?;
        self.left = self.left.saturating_sub(1);
        self.rest = rest;
        match kind {
            b'n' => Some(TupleValue::Null),
            b'u' => Some(TupleValue::UnchangedToast),
            _ => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                let (text, rest) = rest.split_at_checked(length)?;
                self.rest = rest;
                Some(TupleValue::Text(text))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for TupleValues<'_> {}
