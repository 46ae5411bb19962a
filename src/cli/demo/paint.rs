//! Lines for people to read: aligned, coloured on a terminal, never wider than it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::envelope::{Envelope, Kind};
use crate::terminal::{one_line, painted};

/// How output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) color: bool,
    /// Columns of the terminal.
    pub(super) width: usize,
}

/// A colour, as the number of its escape sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Green = 32,
    Yellow = 33,
    Red = 31,
    Magenta = 35,
    Dim = 2,
    Bold = 1,
}

impl Style {
    pub(super) fn paint(self, color: Color, text: &str) -> String {
        if self.color { painted(text, color as u8) } else { text.to_owned() }
    }

    /// One line for an event: when, what, who, what changed, how long it took.
    pub(super) fn event(self, event: &Envelope<'_>, latency_us: Option<u32>, time: &str) -> String {
        let (mark, color) = match event.kind() {
            Kind::Created => ('+', Color::Green),
            Kind::Updated => ('~', Color::Yellow),
            Kind::Deleted => ('-', Color::Red),
            Kind::Custom => ('*', Color::Magenta),
        };
        let took = latency_us.map_or_else(String::new, milliseconds);
        // Time, mark, name and duration have their columns, the rest is for what happened.
        let room = self.width.saturating_sub(12 + 4 + 21 + 10).max(24);
        let detail = fit(&detail(event), room);
        let name = one_line(&event.event);
        format!(
            "{} {} {} {detail}{} {}",
            self.paint(Color::Dim, time),
            self.paint(color, &mark.to_string()),
            self.paint(color, &format!("{name:<21}")),
            " ".repeat(room.saturating_sub(detail.chars().count())),
            self.paint(Color::Dim, &format!("{took:>9}")),
        )
    }
}

/// The columns of the terminal that standard output is, or as many as fit most places.
pub(super) fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 0)
        .unwrap_or(110)
        .clamp(72, 160)
}

/// A duration in milliseconds with its unit.
pub(super) fn milliseconds(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1_000.0)
}

fn detail(event: &Envelope<'_>) -> String {
    let mut text = label(&event.data);
    match event.kind() {
        Kind::Updated => {
            let mut fields =
                event.updated_fields.iter().filter(|name| *name != "updated_at").peekable();
            if fields.peek().is_some() {
                text.push_str("  ");
            }
            for (place, name) in fields.enumerate() {
                let separator = if place == 0 { "" } else { ", " };
                let _ = write!(text, "{separator}{}: ", one_line(name));
                if event.unchanged.contains(name) {
                    text.push('…');
                    continue;
                }
                if let Some(old) = event.previous.get(name.as_ref()) {
                    let _ = write!(text, "{} → ", short(old));
                }
                text.push_str(&event.data.get(name.as_ref()).map_or_else(String::new, short));
            }
        }
        Kind::Created | Kind::Custom => {
            let more =
                ["job_title", "employees", "assignee", "due_on", "stage", "amount", "currency"];
            for name in more {
                if let Some(value) = event.data.get(name).filter(|value| !value.is_null()) {
                    let _ = write!(text, ", {}", short(value));
                }
            }
        }
        Kind::Deleted => {}
    }
    text
}

/// How a person would call the row.
fn label(row: &Map<String, Value>) -> String {
    let text = |name| row.get(name).and_then(Value::as_str);
    match (text("first_name"), text("last_name")) {
        (Some(first), Some(last)) => one_line(&format!("{first} {last}")),
        _ => match text("name").or_else(|| text("title")) {
            Some(name) => one_line(name),
            None => row.get("id").map_or_else(String::new, short),
        },
    }
}

/// A value in a few characters.
fn short(value: &Value) -> String {
    let (text, room) = match value {
        // Of a UUID nobody reads more.
        Value::String(text) if is_uuid(text) => (text.clone(), 9),
        Value::String(text) => (text.clone(), 36),
        Value::Object(_) | Value::Array(_) => (value.to_string(), 24),
        other => (other.to_string(), 36),
    };
    fit(&one_line(&text), room)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// At most `width` characters, with an ellipsis where something is left out.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { color: false, width: 100 };

    fn line(style: Style, json: &str) -> String {
        let event = Envelope::parse(json.as_bytes()).expect("an event");
        style.event(&event, Some(3_140), "10:32:07.412")
    }

    #[test]
    fn an_update_tells_what_changed() {
        let json = r#"{"id":"evt_1","event":"opportunity.updated","timestamp":"","data":{"id":7,"name":"Pilot","stage":"won","amount":1.50},
            "previous":{"stage":"proposal","updated_at":"x"},"updatedFields":["stage","updated_at"],"source":{"table":"opportunities"}}"#;
        let line = line(PLAIN, json);
        assert!(
            line.starts_with("10:32:07.412 ~ opportunity.updated   Pilot  stage: proposal → won  "),
            "{line:?}"
        );
        assert!(line.ends_with("3.1 ms"), "{line:?}");
        assert_eq!(line.chars().count(), PLAIN.width);
    }

    #[test]
    fn colours_only_when_asked_for() {
        let json = r#"{"id":"evt_1","event":"person.created","timestamp":"","data":{"first_name":"Ada","last_name":"Byron"},"source":{"table":"people"}}"#;
        assert!(!line(PLAIN, json).contains('\x1b'));
        assert!(line(Style { color: true, width: 100 }, json).contains("\x1b[32m"));
    }

    #[test]
    fn nothing_from_a_row_reaches_the_terminal_as_a_command() {
        let json = r#"{"id":"evt_1","event":"person.created","timestamp":"","data":{"name":"\u001b[2Jx\n"},"source":{"table":"people"}}"#;
        let line = line(PLAIN, json);
        assert!(!line.contains(['\x1b', '\n']), "{line:?}");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("äöü", 3), "äöü");
        assert_eq!(short(&Value::from("4cc4d7ae-dd80-4a88-8af5-6eb1a610ac6f")), "4cc4d7ae…");
    }
}
