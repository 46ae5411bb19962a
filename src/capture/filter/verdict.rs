//! What becomes of a change, given what the filter says of its rows.

/// What a filter says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// The expression is true.
    Wanted,
    /// It is false or null, or cannot be evaluated.
    Unwanted,
    /// It uses a column that is not known.
    Unknown,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is left out.
    Nothing,
    /// It stays what it is.
    AsItIs,
    /// An update that brings a row in: an insert of the new row.
    Insert,
    /// An update that takes a row out: a delete of the old row.
    Delete,
}

/// Of an insert or a delete, by its only row.
pub(super) fn single(row: Judged) -> Verdict {
    match row {
        Judged::Wanted | Judged::Unknown => Verdict::AsItIs,
        Judged::Unwanted => Verdict::Nothing,
    }
}

/// Of an update. An old row that nothing is told of is unknown: its replica identity is that of the
/// new row.
pub(super) fn update(old: Judged, new: Judged) -> Verdict {
    match (old, new) {
        (Judged::Unwanted, Judged::Unwanted) | (Judged::Unknown, Judged::Unwanted) => {
            Verdict::Nothing
        }
        (Judged::Wanted, Judged::Unwanted) => Verdict::Delete,
        (Judged::Unwanted, Judged::Wanted) => Verdict::Insert,
        (Judged::Wanted | Judged::Unknown, Judged::Wanted) | (_, Judged::Unknown) => {
            Verdict::AsItIs
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Judged::{Unknown, Unwanted, Wanted};
    use super::*;

    #[test]
    fn the_truth_table() {
        assert_eq!(single(Wanted), Verdict::AsItIs);
        assert_eq!(single(Unwanted), Verdict::Nothing);
        assert_eq!(single(Unknown), Verdict::AsItIs);
        for (old, new, verdict) in [
            (Wanted, Wanted, Verdict::AsItIs),
            (Wanted, Unwanted, Verdict::Delete),
            (Wanted, Unknown, Verdict::AsItIs),
            (Unwanted, Wanted, Verdict::Insert),
            (Unwanted, Unwanted, Verdict::Nothing),
            (Unwanted, Unknown, Verdict::AsItIs),
            (Unknown, Wanted, Verdict::AsItIs),
            (Unknown, Unwanted, Verdict::Nothing),
            (Unknown, Unknown, Verdict::AsItIs),
        ] {
            assert_eq!(update(old, new), verdict, "{old:?} {new:?}");
        }
    }
}
