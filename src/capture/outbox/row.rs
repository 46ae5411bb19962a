//! A row of the outbox as it comes over the wire, in binary.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::str;

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::capture::change::OutboxRow;
use crate::postgres::error::PgError;
use crate::postgres::lsn::Lsn;

/// Postgres counts from the beginning of 2000.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A row, borrowed from the answer it came in.
pub(super) struct Entry<'a> {
    pub(super) row: OutboxRow,
    /// The oid of the outbox itself.
    pub(super) outbox: u32,
    pub(super) op: u8,
    pub(super) ordinal: u64,
    pub(super) lsn: Lsn,
    pub(super) relation: u32,
    pub(super) name: TableName<'a>,
    pub(super) old: Option<Raw<'a>>,
    pub(super) new: Option<Raw<'a>>,
}

/// A table's name and key, as the trigger wrote them: bytes to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableName<'a> {
    pub(super) schema: Option<Raw<'a>>,
    pub(super) table: Option<Raw<'a>>,
    /// An array of text.
    pub(super) key: Option<Raw<'a>>,
}

impl<'a> Entry<'a> {
    /// `row` is one of `drain_read.sql`.
    pub(super) fn of(row: &'a Row) -> Result<Entry<'a>, PgError> {
        let Micros(written_at_us) = row.try_get(5)?;
        Ok(Entry {
            row: OutboxRow {
                id: row.try_get(0)?,
                xid: row.try_get::<_, Unsigned>(3)?.0,
                written_at_us,
            },
            outbox: row.try_get(1)?,
            op: row.try_get::<_, i8>(2)?.cast_unsigned(),
            ordinal: row.try_get::<_, i64>(4)?.max(0).cast_unsigned(),
            lsn: Lsn(row.try_get::<_, Unsigned>(6)?.0),
            relation: row.try_get::<_, Option<u32>>(7)?.unwrap_or(0),
            name: TableName {
                schema: row.try_get(8)?,
                table: row.try_get(9)?,
                key: row.try_get(10)?,
            },
            old: row.try_get(11)?,
            new: row.try_get(12)?,
        })
    }
}

/// Where the log stood when each transaction wrote the last of its rows among these: before its commit,
/// and behind the last row of any transaction that it has waited for.
pub(super) fn last_written(rows: &[Row]) -> Result<HashMap<u64, Lsn>, PgError> {
    let mut last = HashMap::new();
    for row in rows {
        let (Unsigned(xid), Unsigned(lsn)) = (row.try_get(3)?, row.try_get(6)?);
        let known = last.entry(xid).or_insert(Lsn(lsn));
        *known = (*known).max(Lsn(lsn));
    }
    Ok(last)
}

/// What came, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'a> Raw<'a> {
    /// As text; with U+FFFD for what is not UTF-8, if that is wanted. Only a database of the encoding
    /// SQL_ASCII has such.
    pub(super) fn text(self, replace: bool) -> Option<Cow<'a, str>> {
        match str::from_utf8(self.0) {
            Ok(text) => Some(Cow::Borrowed(text)),
            Err(_) if replace => Some(String::from_utf8_lossy(self.0)),
            Err(_) => None,
        }
    }

    /// As an array of text.
    pub(super) fn texts(self) -> Vec<String> {
        let values = Vec::<Option<Raw<'_>>>::from_sql(&Type::TEXT_ARRAY, self.0);
        let values = values.unwrap_or_default().into_iter().flatten();
        values.map(|value| String::from_utf8_lossy(value.0).into_owned()).collect()
    }
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Raw<'a>, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::TEXT, Type::JSON, Type::TEXT_ARRAY].contains(ty)
    }
}

/// xid8 and pg_lsn.
struct Unsigned(u64);

impl FromSql<'_> for Unsigned {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Unsigned, Box<dyn Error + Sync + Send>> {
        Ok(Unsigned(u64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::XID8, Type::PG_LSN].contains(ty)
    }
}

/// timestamptz, in microseconds since the Unix epoch.
struct Micros(i64);

impl FromSql<'_> for Micros {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Micros, Box<dyn Error + Sync + Send>> {
        Ok(Micros(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_US)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// An xid8 or a timestamptz on its way to the server.
#[derive(Debug)]
pub(super) struct Written([u8; 8]);

impl Written {
    /// A transaction.
    pub(super) fn by(xid: u64) -> Written {
        Written(xid.to_be_bytes())
    }

    /// A moment, in microseconds since the Unix epoch, as [`Micros`] reads it.
    pub(super) fn at(us: i64) -> Written {
        let infinity = us == i64::MAX;
        Written(if infinity { us } else { us.saturating_sub(EPOCH_US) }.to_be_bytes())
    }
}

impl ToSql for Written {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::XID8, Type::TIMESTAMPTZ].contains(ty)
    }

    to_sql_checked!();
}
