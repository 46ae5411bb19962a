//! Events: what a change means to a receiver. Names, rules, JSON rendering, ids, filters. Pure
//! functions without I/O and without a clock.

pub mod batch;
mod columns;
pub mod condition;
mod envelope;
pub mod filter;
pub mod format;
pub mod id;
mod lanes;
mod message;
mod names;
mod object;
mod plan;
mod render;
pub mod report;
pub mod rules;

pub use batch::{Event, EventBatch, Lanes};
pub use condition::{ConditionError, EventCondition};
pub use filter::{EventFilter, InvalidPattern};
pub use format::{Format, FormatError, Rendered, Subject};
pub use id::EventId;
pub use names::is_record;
pub use report::{Report, ReportPlace, is_report};
pub use rules::{Case, Columns, EventRules, RuleError, RulesOptions, TableRule};
