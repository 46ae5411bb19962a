//! Which events an endpoint wants.

use std::fmt;

/// What the names of walhook's own operational events begin with.
const REPORTS: &str = "walhook.";

/// The patterns of an endpoint: an event goes to it when one of them matches its name.
///
/// A pattern is compared segment by segment, segments being separated by dots. A segment that is
/// just `*` stands for one or more segments, so `*` matches every event, `person.*` every event of
/// a person and `*.deleted` every deletion. Inside a segment `*` stands for any run of characters,
/// also for none: `person_*.created`.
///
/// What walhook tells about itself, under names that begin with `walhook.`, is wanted only by
/// patterns whose first segment is literally `walhook`, such as `walhook.*`: a consumer of all
/// changes (`*`) is no operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    patterns: Vec<Pattern>,
    everything: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// A name without any `*` is compared as a whole.
    exact: bool,
}

/// A pattern that no event's name could match, or no pattern at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    pattern: String,
    problem: &'static str,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pattern.is_empty() {
            return write!(
                f,
                "{}: name events like `person.created`, or `*` for all",
                self.problem
            );
        }
        write!(
            f,
            "the event pattern {:?} {}: patterns look like `person.*`, `*.deleted`, \
             `person.created` or `*`",
            self.pattern, self.problem
        )
    }
}

impl std::error::Error for InvalidPattern {}

impl Default for EventFilter {
    /// Every event.
    fn default() -> EventFilter {
        EventFilter { patterns: vec![Pattern { text: "*".into(), exact: false }], everything: true }
    }
}

impl EventFilter {
    /// A filter of some patterns.
    ///
    /// # Errors
    ///
    /// When there is no pattern, or one is empty, has an empty segment, or has blanks around a
    /// segment or control characters in it.
    pub fn new<P: AsRef<str>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<EventFilter, InvalidPattern> {
        let patterns: Vec<Pattern> = patterns
            .into_iter()
            .map(|pattern| Pattern::new(pattern.as_ref()))
            .collect::<Result<_, _>>()?;
        if patterns.is_empty() {
            let problem = "no event pattern is given, so no event would be sent";
            return Err(InvalidPattern { pattern: String::new(), problem });
        }
        let everything = patterns.iter().any(|pattern| pattern.text == "*");
        Ok(EventFilter { patterns, everything })
    }

    /// Whether an event of this name is wanted.
    pub fn matches(&self, event: &str) -> bool {
        if event.starts_with(REPORTS) {
            let mut own = self.patterns.iter().filter(|pattern| pattern.is_for_reports());
            return own.any(|pattern| pattern.matches(event));
        }
        self.everything || self.patterns.iter().any(|pattern| pattern.matches(event))
    }

    /// Whether it could want anything that walhook tells about itself.
    pub fn wants_reports(&self) -> bool {
        self.patterns.iter().any(Pattern::is_for_reports)
    }

    /// The patterns as given.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Pattern, InvalidPattern> {
        let problem = if text.is_empty() {
            Some("an event pattern is empty")
        } else if text.chars().any(char::is_control) {
            Some("has control characters")
        } else if text.split('.').any(str::is_empty) {
            Some("has nothing before, after or between its dots")
        } else if text.split('.').any(|segment| segment.trim() != segment) {
            Some("has blanks around a segment")
        } else if text.contains("**") {
            Some("has two `*` in a row")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(InvalidPattern { pattern: text.into(), problem }),
            None => Ok(Pattern { text: text.into(), exact: !text.contains('*') }),
        }
    }

    fn is_for_reports(&self) -> bool {
        self.text.starts_with(REPORTS)
    }

    fn matches(&self, event: &str) -> bool {
        if self.exact { self.text == event } else { segments_match(&self.text, event) }
    }
}

/// Both texts have at least one segment. A lone `*` takes as little as it can; when what follows
/// doesn't match, the last one takes one segment more: no need to go back any further, so the work
/// is bounded by the product of the lengths.
fn segments_match(pattern: &str, event: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let event: Vec<&str> = event.split('.').collect();
    let (mut p, mut e) = (0, 0);
    let mut star = None;
    while e < event.len() {
        match pattern.get(p) {
            Some(&"*") => {
                star = Some((p, e));
                p += 1;
                e += 1;
            }
            Some(segment) if run_matches(segment.as_bytes(), event[e].as_bytes()) => {
                p += 1;
                e += 1;
            }
            _ => match star {
                Some((star_p, star_e)) => {
                    star = Some((star_p, star_e + 1));
                    p = star_p + 1;
                    e = star_e + 2;
                }
                None => return false,
            },
        }
    }
    // Every segment of the event is taken; those of the pattern must be too, for each takes one.
    p == pattern.len()
}

/// The same inside a segment, where `*` may stand for nothing.
fn run_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, event: &str) -> bool {
        EventFilter::new([pattern]).unwrap().matches(event)
    }

    #[test]
    fn patterns_match_by_segments() {
        for (pattern, event, expected) in [
            ("*", "person.created", true),
            ("*", "a", true),
            ("person.*", "person.created", true),
            ("person.*", "person.address.changed", true),
            ("person.*", "person", false),
            ("person.*", "personal.created", false),
            ("*.deleted", "person.deleted", true),
            ("*.deleted", "strange.table.deleted", true),
            ("*.deleted", "deleted", false),
            ("*.deleted", "person.undeleted", false),
            ("person.created", "person.created", true),
            ("person.created", "person.created.twice", false),
            ("person.created", "Person.created", false),
            ("per*.created", "person.created", true),
            ("per*.created", "per.created", true),
            ("per*.created", "person.note.created", false),
            ("*_log.*", "audit_log.created", true),
            ("*_log.*", "audit_logs.created", false),
            ("p*s*n.c*d", "person.created", true),
            ("*.b.*.d", "a.b.b.c.d", true),
            ("*.b.*.d", "a.b.d", false),
            ("*.*", "a", false),
            ("*.*", "a.b", true),
            ("*.*", "a.b.c", true),
            ("*.a", "a.b.c", false),
            ("größe.*", "größe.created", true),
            ("gr*e.*", "größe.created", true),
        ] {
            assert_eq!(matches(pattern, event), expected, "{pattern} on {event}");
        }
    }

    #[test]
    fn one_matching_pattern_is_enough() {
        let filter = EventFilter::new(["person.created", "*.deleted"]).unwrap();
        assert!(filter.matches("note.deleted"));
        assert!(filter.matches("person.created"));
        assert!(!filter.matches("note.created"));
        assert!(filter.patterns().eq(["person.created", "*.deleted"]));
        assert!(EventFilter::default().matches("anything"));
    }

    #[test]
    fn what_walhook_tells_of_itself_is_for_those_who_name_it() {
        for (pattern, wanted) in [
            ("*", false),
            ("*.*", false),
            ("*.dead", false),
            ("wal*.*", false),
            ("walhook*.*", false),
            ("walhook", false),
            ("walhook.*", true),
            ("walhook.delivery.*", true),
            ("walhook.*.dead", true),
            ("walhook.delivery.dead", true),
        ] {
            let filter = EventFilter::new([pattern]).unwrap();
            assert_eq!(filter.matches("walhook.delivery.dead"), wanted, "{pattern}");
            assert_eq!(filter.wants_reports(), wanted, "{pattern}");
        }
        assert!(!EventFilter::default().matches("walhook.gap"));
        assert!(!EventFilter::default().wants_reports());
        let both = EventFilter::new(["*", "walhook.gap"]).unwrap();
        assert!(both.matches("walhook.gap") && both.matches("person.created"));
        assert!(!both.matches("walhook.slot.lag"));
        assert!(matches("*", "walhooks.created"));
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for pattern in ["", ".", "person.", ".created", "a..b", " a", "a .b", "a\n", "**", "a.**"] {
            let error = EventFilter::new([pattern]).unwrap_err().to_string();
            assert!(error.contains("person.created"), "{error}");
        }
        let none: [&str; 0] = [];
        assert!(EventFilter::new(none).unwrap_err().to_string().contains("no event pattern"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "*a".repeat(200) + ".x";
        assert!(!matches(&pattern, &("a".repeat(20_000) + ".y")));
    }
}
