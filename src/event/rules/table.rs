//! What a configuration says of tables.

use crate::postgres::pattern::TablePattern;

/// Tables whose changes become events, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// Which tables.
    pub pattern: TablePattern,
    /// What their events are named after: `person` makes `person.created`. None: each table's own
    /// name, with underscores where no event's name may hold what it holds.
    pub record: Option<String>,
    /// Which columns the events tell. Those that order events, or mark a row as deleted, are read
    /// all the same.
    pub columns: Columns,
    /// The column that says that a row counts as deleted: set from null, the event is `deleted`,
    /// and set to null again, `restored`. For a boolean, false is like null.
    pub soft_delete: Option<String>,
    /// Columns and what the events call them instead.
    pub rename: Vec<(String, String)>,
    /// What the events call all other columns.
    pub case: Case,
}

impl TableRule {
    /// The rule that tells everything of these tables as it is.
    pub fn new(pattern: TablePattern, record: Option<String>) -> TableRule {
        TableRule {
            pattern,
            record,
            columns: Columns::All,
            soft_delete: None,
            rename: Vec::new(),
            case: Case::AsIs,
        }
    }
}

/// Which columns of a table events tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// All, those to come as well.
    #[default]
    All,
    /// These, as far as the table has them.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

impl Columns {
    /// Whether events tell the column.
    pub(crate) fn tells(&self, column: &str) -> bool {
        match self {
            Columns::All => true,
            Columns::Only(columns) => columns.iter().any(|name| name == column),
            Columns::Except(columns) => columns.iter().all(|name| name != column),
        }
    }
}

/// How columns are called in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// As in the table.
    #[default]
    AsIs,
    /// `first_name` becomes `firstName`.
    Camel,
}
