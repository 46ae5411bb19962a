//! Findings, sizes and times as people read them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::clock::now_ms;
pub(super) use crate::source::bytes;
use crate::source::{Finding, Severity};
use crate::terminal::{self, one_line};

/// How wide subjects are padded at most; a longer one pushes its sentence to the right.
const SUBJECT_WIDTH: usize = 28;
const SEVERITY_WIDTH: usize = 7;

/// One line a finding, its remedy on the line below, all aligned.
pub(super) fn findings(findings: &[Finding], colour: bool) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count());
    let width = width.max().unwrap_or(0).min(SUBJECT_WIDTH);
    let indent = SEVERITY_WIDTH + 2 + width + 2;
    let mut text = String::new();
    for finding in findings {
        let word = finding.severity.as_str();
        let padding = " ".repeat(SEVERITY_WIDTH - word.len());
        let word = painted(word, finding.severity, colour);
        let (subject, sentence) = (one_line(&finding.subject), one_line(&finding.sentence));
        // writing to a String cannot fail
        let _ = writeln!(text, "{word}{padding}  {subject:width$}  {sentence}");
        if let Some(remedy) = &finding.remedy {
            let remedy = visible(remedy);
            let _ = writeln!(text, "{:indent$}→ {remedy}", "");
        }
    }
    text
}

fn painted(word: &str, severity: Severity, colour: bool) -> String {
    let code = match severity {
        _ if !colour => return word.to_owned(),
        Severity::Ok => 32,
        Severity::Note => 36,
        Severity::Warning => 33,
        Severity::Error => 31,
    };
    terminal::painted(word, code)
}

/// `2 errors, 1 warning`, or that all is well.
pub(super) fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match (errors, warnings) {
        (0, 0) => "ready".to_owned(),
        (0, _) => format!("ready, with {}", counted(warnings, "warning")),
        (_, 0) => counted(errors, "error"),
        _ => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}

/// `1 table`, `2 tables`.
pub(super) fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

/// What [`one_line`] makes of each line: a statement must remain what it is.
fn visible(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(one_line).collect();
    lines.join("\n")
}

/// How long ago, roughly: `3 s ago`.
pub(super) fn ago(at_ms: i64) -> String {
    let since_ms = now_ms().saturating_sub(at_ms);
    format!("{} ago", rough(Duration::from_millis(u64::try_from(since_ms).unwrap_or(0))))
}

/// How soon, roughly: `in 3 s`, or `now`.
pub(super) fn until(at_ms: i64) -> String {
    match u64::try_from(at_ms.saturating_sub(now_ms())) {
        Ok(left_ms) if left_ms > 0 => format!("in {}", rough(Duration::from_millis(left_ms))),
        _ => "now".to_owned(),
    }
}

/// Columns under their headings, each as wide as its widest entry.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A duration in its largest unit, or milliseconds.
pub(super) fn rough(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0 => format!("{} ms", duration.as_millis()),
        1..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up() {
        let text = findings(
            &[
                Finding::ok("server", "PostgreSQL 15"),
                Finding::error("table public.x", "is a\nview").fix("one\ntwo \u{1b}[2J"),
            ],
            false,
        );
        let expected = "ok       server          PostgreSQL 15\n\
                        error    table public.x  is a\\nview\n\
                        \u{20}                        → one\ntwo \\u{1b}[2J\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn counts_are_in_words() {
        let (ok, error) = (Finding::ok("a", "b"), Finding::error("a", "b"));
        let warning = Finding::warning("a", "b");
        assert_eq!(summary(&[ok]), "ready");
        assert_eq!(summary(std::slice::from_ref(&warning)), "ready, with 1 warning");
        assert_eq!(summary(&[error.clone(), error, warning]), "2 errors, 1 warning");
        assert_eq!(rough(Duration::from_secs(300)), "5 min");
    }
}
