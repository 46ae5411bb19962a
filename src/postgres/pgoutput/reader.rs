//! Reads a message's fields, checking every length against what is there.

use super::error::{DecodeError, Kind};
use crate::postgres::lsn::Lsn;

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    tag: u8,
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Takes the tag off a message.
    pub(super) fn new(data: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
        match data.split_first() {
            Some((&tag, rest)) => Ok(Reader { tag, whole: data.len(), rest }),
            None => Err(DecodeError::new(0, 0, Kind::Empty)),
        }
    }

    pub(super) fn tag(&self) -> u8 {
        self.tag
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn fail(&self, kind: Kind) -> DecodeError {
        DecodeError::new(self.tag, self.whole - self.rest.len(), kind)
    }

    /// Nothing may follow a message.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(self.fail(Kind::Trailing(bytes))),
        }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.fail(Kind::Truncated))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.fail(Kind::Truncated))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.array().map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    /// A count or length: signed on the wire, never negative in truth.
    pub(super) fn length(&mut self) -> Result<usize, DecodeError> {
        let start = *self;
        let length = self.i32()?;
        usize::try_from(length).map_err(|_| start.fail(Kind::NegativeLength(length)))
    }

    /// Bytes up to a zero, which is taken but not returned.
    pub(super) fn c_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        let end = end.ok_or_else(|| self.fail(Kind::Unterminated))?;
        let bytes = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(bytes)
    }

    pub(super) fn c_str(&mut self) -> Result<&'a str, DecodeError> {
        let start = *self;
        std::str::from_utf8(self.c_bytes()?).map_err(|_| start.fail(Kind::NotUtf8))
    }

    /// A schema's name, which is sent empty for `pg_catalog`.
    pub(super) fn schema(&mut self) -> Result<&'a str, DecodeError> {
        self.c_str().map(|name| if name.is_empty() { "pg_catalog" } else { name })
    }
}
