//! An ErrorResponse of the server, made safe to print.

use std::fmt;

use postgres_protocol::message::backend::ErrorFields;

use crate::postgres::lsn::Lsn;

/// What the server said when it refused
/// (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    code: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    /// The C function that raised it: unlike the message, never translated.
    routine: Option<String>,
    /// What the server was doing, as it says it.
    context: Option<String>,
}

/// The longest piece of a server's text that goes into one of our sentences, in bytes.
const MAX_TEXT_BYTES: usize = 600;

impl ServerError {
    /// Reads the fields of an ErrorResponse. What is broken in it is left out: an error about an
    /// error helps nobody.
    pub(crate) fn parse(mut fields: ErrorFields<'_>) -> ServerError {
        use fallible_iterator::FallibleIterator as _;

        let mut error = ServerError::default();
        while let Ok(Some(field)) = fields.next() {
            let text = plain(&String::from_utf8_lossy(field.value_bytes()));
            match field.type_() {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                b'R' => error.routine = Some(text),
                _ => {}
            }
        }
        if error.message.is_empty() {
            error.message = "the server reported an error without a message".to_owned();
        }
        error
    }

    #[cfg(test)]
    pub(crate) fn example(code: &str, message: &str) -> ServerError {
        ServerError { code: code.to_owned(), message: message.to_owned(), ..Default::default() }
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The position in the context, as in "in the change callback, associated LSN 0/25B6810". The
    /// words around it may be translated.
    pub(crate) fn associated_lsn(&self) -> Option<Lsn> {
        let words = self.context.as_deref()?.split_whitespace();
        words.filter_map(|word| word.parse().ok()).next_back()
    }

    pub(crate) fn routine(&self) -> &str {
        self.routine.as_deref().unwrap_or_default()
    }
}

impl From<&tokio_postgres::error::DbError> for ServerError {
    fn from(error: &tokio_postgres::error::DbError) -> ServerError {
        ServerError {
            code: plain(error.code().code()),
            message: plain(error.message()),
            detail: error.detail().map(plain),
            hint: error.hint().map(plain),
            routine: error.routine().map(plain),
            context: error.where_().map(plain),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.code.is_empty() {
            write!(f, " (SQLSTATE {})", self.code)?;
        }
        for more in [&self.detail, &self.hint].into_iter().flatten() {
            write!(f, ": {}", more.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

/// One line of bounded length, whatever the peer sent: it ends up in logs and on terminals.
pub(crate) fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_TEXT_BYTES));
    for c in text.chars() {
        if line.len() + c.len_utf8() > MAX_TEXT_BYTES {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_found_in_whatever_language() {
        let context = |context: &str| ServerError {
            context: Some(context.to_owned()),
            ..ServerError::default()
        };
        let english = context(
            "slot \"a/b 0/1\", output plugin \"pgoutput\", in the change callback, associated LSN \
             0/25B6810",
        );
        assert_eq!(english.associated_lsn(), Some(Lsn(0x025B_6810)));
        assert_eq!(context("in the startup callback").associated_lsn(), None);
        assert_eq!(ServerError::default().associated_lsn(), None);
    }

    #[test]
    fn text_of_the_peer_becomes_one_bounded_line() {
        assert_eq!(plain("a\nb\x1b[31mc"), "a b [31mc");
        let long = plain(&"ä".repeat(10_000));
        assert!(long.len() <= MAX_TEXT_BYTES + '…'.len_utf8());
        assert!(long.ends_with('…'));
    }
}
