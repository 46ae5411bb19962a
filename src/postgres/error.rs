//! What can go wrong between walhook and Postgres, told in one sentence.

use std::fmt;
use std::io;

mod remedy;
mod server;

pub(crate) use server::ServerError;

use super::lsn::Lsn;

/// A failed exchange with Postgres.
///
/// Displays as one sentence: what was being done and where, why it failed, and, where walhook
/// knows, what to do about it. It never contains a password.
pub struct PgError(Box<Inner>);

struct Inner {
    /// What was being done, and where: "could not connect to db:5432".
    context: String,
    stage: Stage,
    cause: Cause,
    remedy: Option<String>,
}

/// When it happened; the same SQLSTATE means different things at different moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Reading the connection string and the files it names.
    Settings,
    /// From the socket to the first ReadyForQuery.
    Connect,
    /// A query or a replication command.
    Command,
    /// START_REPLICATION, until the server agreed to stream.
    Start,
    /// While streaming.
    Stream,
}

enum Cause {
    Io(io::Error),
    Closed,
    TimedOut,
    Server(ServerError),
    Protocol(String),
    Tls(String),
    Login(String),
    Invalid(String),
    Unwanted(String),
    Several(Vec<PgError>),
    Other(String),
}

impl PgError {
    fn new(context: impl Into<String>, stage: Stage, cause: Cause) -> PgError {
        let remedy = match &cause {
            Cause::Server(error) => remedy::remedy(stage, error).map(str::to_owned),
            _ => None,
        };
        PgError(Box::new(Inner { context: context.into(), stage, cause, remedy }))
    }

    /// The connection string or a file it names can't be used. `problem` is the whole sentence.
    pub(crate) fn invalid(problem: impl Into<String>) -> PgError {
        PgError::new("", Stage::Settings, Cause::Invalid(problem.into()))
    }

    /// Reading or writing the connection failed.
    pub(crate) fn io(context: impl Into<String>, stage: Stage, error: io::Error) -> PgError {
        let cause = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Cause::TimedOut,
            io::ErrorKind::UnexpectedEof => Cause::Closed,
            io::ErrorKind::InvalidData => match tls_cause(&error) {
                Some(reason) => Cause::Tls(reason),
                None => Cause::Io(error),
            },
            _ => Cause::Io(error),
        };
        PgError::new(context, stage, cause)
    }

    /// The server closed the connection.
    pub(crate) fn closed(context: impl Into<String>, stage: Stage) -> PgError {
        PgError::new(context, stage, Cause::Closed)
    }

    /// The server did not answer in time.
    pub(crate) fn timed_out(context: impl Into<String>, stage: Stage) -> PgError {
        PgError::new(context, stage, Cause::TimedOut)
    }

    /// The server said no.
    pub(crate) fn server(context: impl Into<String>, stage: Stage, error: ServerError) -> PgError {
        PgError::new(context, stage, Cause::Server(error))
    }

    /// The server broke the protocol, or isn't Postgres.
    pub(crate) fn protocol(
        context: impl Into<String>,
        stage: Stage,
        problem: impl Into<String>,
    ) -> PgError {
        PgError::new(context, stage, Cause::Protocol(problem.into()))
    }

    /// TLS could not be agreed upon, or the server's certificate was refused.
    pub(crate) fn tls(context: impl Into<String>, problem: impl Into<String>) -> PgError {
        let problem = problem.into();
        let remedy = tls_remedy(&problem);
        let error = PgError::new(context, Stage::Connect, Cause::Tls(problem));
        if let Some(remedy) = remedy { error.or_remedy(remedy) } else { error }
    }

    /// Logging in failed on this side.
    pub(crate) fn login(context: impl Into<String>, problem: impl Into<String>) -> PgError {
        PgError::new(context, Stage::Connect, Cause::Login(problem.into()))
    }

    /// The server answered, but isn't of the kind `target_session_attrs` asks for.
    pub(crate) fn unwanted(context: impl Into<String>, problem: impl Into<String>) -> PgError {
        PgError::new(context, Stage::Connect, Cause::Unwanted(problem.into()))
    }

    /// Every one of several hosts failed.
    pub(crate) fn several(context: impl Into<String>, errors: Vec<PgError>) -> PgError {
        PgError::new(context, Stage::Connect, Cause::Several(errors))
    }

    /// A query or statement of a [`Client`](tokio_postgres::Client) failed; `context` says which,
    /// as in "could not list the tables".
    pub(crate) fn query(context: impl Into<String>, error: tokio_postgres::Error) -> PgError {
        PgError::from_client(context, Stage::Command, error)
    }

    pub(crate) fn from_client(
        context: impl Into<String>,
        stage: Stage,
        error: tokio_postgres::Error,
    ) -> PgError {
        if let Some(refusal) = error.as_db_error() {
            return PgError::server(context, stage, ServerError::from(refusal));
        }
        if error.is_closed() {
            return PgError::closed(context, stage);
        }
        let summary = error.to_string();
        match error.into_source() {
            None => PgError::new(context, stage, Cause::Other(summary)),
            Some(source) => match source.downcast::<io::Error>() {
                Ok(error) => PgError::io(context, stage, *error),
                Err(source) if stage == Stage::Connect && summary.contains("TLS") => {
                    PgError::tls(context, source.to_string())
                }
                Err(source) if summary.contains("authentication") => {
                    PgError::login(context, source.to_string())
                }
                Err(source) if source.to_string() == "password missing" => {
                    PgError::login(context, NO_PASSWORD)
                }
                Err(source) => {
                    let text = server::plain(&format!("{summary}: {source}"));
                    PgError::new(context, stage, Cause::Other(text))
                }
            },
        }
    }

    /// Adds what to do about it, where nothing better is known yet.
    pub(crate) fn or_remedy(mut self, remedy: impl Into<String>) -> PgError {
        self.0.remedy.get_or_insert_with(|| remedy.into());
        self
    }

    /// The SQLSTATE of the server's refusal, if it was one
    /// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
    pub fn sqlstate(&self) -> Option<&str> {
        match &self.0.cause {
            Cause::Server(error) => Some(error.code()),
            _ => None,
        }
    }

    /// Whether another connection holds the replication slot (55006). It goes away when that one
    /// ends, or when the server notices that it is gone.
    pub fn is_slot_in_use(&self) -> bool {
        self.sqlstate() == Some("55006")
    }

    /// Whether something went away while the server looked it up: it does not exist (42704; of the
    /// outbox 42P01, 3F000 and 42883), or no longer did when its catalog row was read (XX000 "cache
    /// lookup failed").
    pub fn is_gone_meanwhile(&self) -> bool {
        matches!(self.sqlstate(), Some("42704" | "42P01" | "3F000" | "42883" | "XX000"))
    }

    /// Whether something named does not exist: a slot, a publication, a type (42704). Of the
    /// stream's publication, [`is_publication_missing`](PgError::is_publication_missing) tells.
    pub fn is_undefined_object(&self) -> bool {
        match &self.0.cause {
            Cause::Server(error) => error.code() == "42704",
            _ => false,
        }
    }

    /// Whether the publication did not exist when a change of the stream was made: an error of the
    /// server up to 17 (42704), only a warning from 18 on.
    pub fn is_publication_missing(&self) -> bool {
        let Cause::Server(error) = &self.0.cause else { return false };
        self.0.stage == Stage::Stream
            && (error.code() == "42704" || remedy::is_skipped_publication(error))
    }

    /// Whether text could not be converted to UTF-8: it is not valid in its own encoding (22021), or
    /// a character has no equivalent (22P05).
    pub fn is_untranslatable(&self) -> bool {
        matches!(self.sqlstate(), Some("22021" | "22P05"))
    }

    /// The same of a change, while streaming.
    pub fn is_untranslatable_change(&self) -> bool {
        self.0.stage == Stage::Stream && self.is_untranslatable()
    }

    /// Where the record begins that the server was decoding, as far as its words tell.
    pub fn associated_lsn(&self) -> Option<Lsn> {
        match &self.0.cause {
            Cause::Server(error) => error.associated_lsn(),
            _ => None,
        }
    }

    /// Whether streaming could not start because the slot is gone or was invalidated, so that
    /// changes may have been lost.
    pub fn is_slot_lost(&self) -> bool {
        let Cause::Server(error) = &self.0.cause else { return false };
        self.0.stage == Stage::Start && remedy::is_slot_lost(error)
    }

    /// Whether trying again later may help without anybody changing anything: I/O, timeouts, a
    /// server that starts, stops or is full, a slot in use, no host of the wanted kind.
    pub fn is_retryable(&self) -> bool {
        match &self.0.cause {
            Cause::Io(error) => error.kind() != io::ErrorKind::InvalidInput,
            Cause::Closed | Cause::TimedOut | Cause::Unwanted(_) => true,
            Cause::Server(error) => remedy::is_transient(error),
            Cause::Protocol(_) => self.0.stage == Stage::Stream,
            Cause::Tls(_) | Cause::Login(_) | Cause::Invalid(_) | Cause::Other(_) => false,
            Cause::Several(errors) => errors.iter().any(PgError::is_retryable),
        }
    }

    /// Whether TLS itself failed, so that `sslmode=prefer` goes on without it.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.0.cause, Cause::Tls(_))
    }

    /// Whether the server refused the login, as opposed to not being there.
    pub(crate) fn is_login_refused(&self) -> bool {
        match &self.0.cause {
            Cause::Login(_) => true,
            Cause::Server(error) => error.code().starts_with("28"),
            _ => false,
        }
    }

    /// Whether the server refused the connection while it was made.
    pub(crate) fn is_refused_at_startup(&self) -> bool {
        self.0.stage == Stage::Connect && matches!(self.0.cause, Cause::Server(_))
    }
}

/// Said by both kinds of connection.
pub(crate) const NO_PASSWORD: &str = "the server asks for a password, but the connection string \
     has none (the variable PGPASSWORD and ~/.pgpass are not read)";

/// What to do about a failure of TLS, as far as its words tell.
fn tls_remedy(problem: &str) -> Option<&'static str> {
    let switched_off = problem.contains("not support TLS") || problem.contains("switched off");
    switched_off.then_some(
        "set ssl = on at the server, or sslmode=disable where the network between is trusted",
    )
}

/// The reason behind an I/O error that rustls raised.
fn tls_cause(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().map(|error| error.to_string())
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> PgError {
        PgError::query("a query failed", error)
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if !inner.context.is_empty() {
            write!(f, "{}: ", inner.context)?;
        }
        write!(f, "{}", inner.cause)?;
        match &inner.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Io(error) => write!(f, "{}", server::plain(&error.to_string())),
            Cause::Closed => f.write_str("the server closed the connection"),
            Cause::TimedOut => f.write_str("the server did not answer in time"),
            Cause::Server(error) => write!(f, "{error}"),
            Cause::Tls(problem) => write!(f, "TLS failed: {problem}"),
            Cause::Protocol(text)
            | Cause::Login(text)
            | Cause::Invalid(text)
            | Cause::Unwanted(text)
            | Cause::Other(text) => f.write_str(text),
            Cause::Several(errors) => {
                for (i, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgError")
            .field("message", &self.to_string())
            .field("stage", &self.0.stage)
            .field("sqlstate", &self.sqlstate())
            .finish()
    }
}

impl std::error::Error for PgError {}
