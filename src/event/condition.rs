//! Conditions over what an event holds, in CEL (<https://cel.dev>).

use std::fmt;

/// An expression that an event meets or not.
#[derive(Clone)]
pub struct EventCondition {
    text: String,
}

/// A condition that cannot be used, or could not be judged for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError(String);

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConditionError {}

impl fmt::Debug for EventCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventCondition({:?})", self.text)
    }
}

impl EventCondition {
    /// Compiles and checks an expression.
    ///
    /// # Errors
    /// It is no CEL, names what is not there, or yields no boolean.
    pub fn new(_text: &str) -> Result<EventCondition, ConditionError> {
        Err(ConditionError("is not supported by this version of walhook".to_owned()))
    }

    /// Whether an event meets it; `envelope` is the JSON envelope of the format `walhook`.
    ///
    /// # Errors
    /// The expression fails for this event, or would cost too much.
    pub fn matches(&self, _envelope: &[u8]) -> Result<bool, ConditionError> {
        Err(ConditionError(format!("{:?} cannot be judged", self.text)))
    }
}
