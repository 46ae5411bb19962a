//! `when`.

use super::{Holds, Result};
use crate::config::error::{ConfigError, Located};
use crate::event::EventCondition;

pub(super) fn build(raw: Located<String>) -> Result<EventCondition> {
    EventCondition::new(&raw.value).map_err(|error| ConfigError::at(&raw.place, Holds(error)))
}
