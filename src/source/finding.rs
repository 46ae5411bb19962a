//! What a look at the database found.

use serde::Serialize;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Nothing is wrong; worth knowing.
    Note,
    /// It works, but may surprise.
    Warning,
    /// It does not work, or harms the application.
    Error,
}

impl Severity {
    /// The severity in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing found, in one sentence, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, e.g. `slot walhook` or `table public.people`.
    pub subject: String,
    /// The fact, without a full stop.
    pub sentence: String,
    /// What to do: a statement or a command, or a sentence.
    pub remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding::new(Severity::Ok, subject, sentence)
    }

    /// Worth knowing.
    pub fn note(subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, subject, sentence)
    }

    /// May surprise.
    pub fn warning(subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, subject, sentence)
    }

    /// Does not work.
    pub fn error(subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, subject, sentence)
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn fix(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    fn new(severity: Severity, subject: impl Into<String>, sentence: impl Into<String>) -> Finding {
        Finding { severity, subject: subject.into(), sentence: sentence.into(), remedy: None }
    }
}
