//! The tables of one stream, as announced.

use std::collections::HashMap;
use std::sync::Arc;

use crate::postgres::catalog::{OwnedRelation, ResolvedRelation};
use crate::postgres::lsn::Lsn;
use crate::postgres::relation::{Relation, RelationId};

use super::error::CaptureError;

/// Completes a table's description from the catalog, for a message or row of this place.
pub(super) type Resolve<'a> =
    dyn FnMut(&OwnedRelation, Lsn) -> Result<ResolvedRelation, CaptureError> + 'a;

/// The tables announced so far.
#[derive(Default)]
pub(super) struct Relations(HashMap<RelationId, Known>);

struct Known {
    message: OwnedRelation,
    /// Nothing before the first row.
    resolved: Option<Resolved>,
}

struct Resolved {
    relation: Arc<Relation>,
    after: Lsn,
    up_to: Lsn,
}

impl Relations {
    /// Takes a Relation message. Unlike the row after it, it has no place in the log.
    pub(super) fn announced(&mut self, message: OwnedRelation) {
        self.0.insert(message.id, Known { message, resolved: None });
    }

    /// The table of a row found at `row_lsn`.
    ///
    /// No message tells that a composite type has changed, so a table with one is looked at again
    /// for rows that are newer than the last look: once for all that are already committed.
    pub(super) fn of(
        &mut self,
        id: RelationId,
        row_lsn: Lsn,
        resolve: &mut Resolve<'_>,
    ) -> Result<Arc<Relation>, CaptureError> {
        let Some(Known { message, resolved }) = self.0.get_mut(&id) else {
            return Err(CaptureError::protocol(format!(
                "a row of table {} that was never described",
                id.0
            )));
        };
        if let Some(Resolved { relation, after, up_to }) = resolved
            && (row_lsn > *after && row_lsn <= *up_to)
        {
            return Ok(Arc::clone(relation));
        }
        let ResolvedRelation { relation, after, up_to } = resolve(message, row_lsn)?;
        let relation = match resolved.take() {
            // What hangs on the relation is kept where nothing changed.
            Some(known) if *known.relation == relation => known.relation,
            _ => Arc::new(relation),
        };
        *resolved = Some(Resolved { relation: Arc::clone(&relation), after, up_to });
        Ok(relation)
    }
}
