//! How a command fails: an exit code and one sentence.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command did not succeed. `main` prints the sentence to stderr and leaves with the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    Refused,
    Silent,
}

impl Failure {
    /// Exit code 1: what was asked for was tried and did not work. The message is one sentence
    /// with its cause and what to do.
    pub fn failed(message: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Failed, message: message.to_string() }
    }

    /// Exit code 2: the command line or the configuration cannot be used.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Usage, message: message.to_string() }
    }

    /// Exit code 3: going on could lose or misdirect events (a gap, another cluster's journal, a
    /// lost slot).
    pub fn refused(message: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Refused, message: message.to_string() }
    }

    /// Exit code 1 without a sentence: the command's own output already says what is wrong.
    pub fn reported() -> Failure {
        Failure { kind: Kind::Silent, message: String::new() }
    }

    /// The exit code as a number.
    pub fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed | Kind::Silent => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
        }
    }

    /// The sentence for stderr, unless the output said it already.
    pub fn message(&self) -> Option<&str> {
        (self.kind != Kind::Silent).then_some(self.message.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> ExitCode {
        ExitCode::from(failure.code())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_code() {
        assert_eq!(Failure::failed("x").code(), 1);
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure::refused("x").code(), 3);
        assert_eq!(Failure::reported().code(), 1);
        assert_eq!(Failure::reported().message(), None);
        assert_eq!(Failure::refused("the slot is lost").message(), Some("the slot is lost"));
    }
}
