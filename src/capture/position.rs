//! Where the stream may go on: the checks that keep a wrong position from losing changes in
//! silence.
//!
//! Postgres accepts almost any start position. One behind the slot is moved forward without a word
//! to the client, and one ahead of the server is stored, after which everything up to it is never
//! sent. So both are compared with what the server knows, before and after the stream starts.

use crate::postgres::lsn::Lsn;
use crate::postgres::replication::{SystemIdentity, TimelineSwitch};

use super::change::{Position, Source};
use super::error::Refusal;

/// Where an earlier run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartPoint {
    /// The source as it was then.
    pub source: Source,
    /// The last change that was taken; what comes at or before it again is not yielded again.
    pub position: Option<Position>,
    /// Up to where everything was taken.
    pub resume_lsn: Lsn,
}

impl StartPoint {
    /// How much of the log the server must have: a transaction that was taken in part ends beyond
    /// the place to go on from. Where another history has none there, what it has instead would be
    /// taken for known.
    fn reached_lsn(&self) -> Lsn {
        let beyond_commit = self.position.map(|taken| Lsn(taken.commit_lsn.0.saturating_add(1)));
        beyond_commit.unwrap_or_default().max(self.resume_lsn)
    }
}

/// Checks an earlier run's position against the server before the stream starts.
///
/// `history` is the server's timeline history, asked for only where the timeline changed.
pub(super) fn check_before_start(
    start: &StartPoint,
    system: &SystemIdentity,
    database_oid: u32,
    history: &[TimelineSwitch],
) -> Result<(), Refusal> {
    if start.source.system_identifier != system.system_identifier {
        return Err(Refusal::ForeignCluster {
            expected: start.source.system_identifier,
            found: system.system_identifier,
        });
    }
    if start.source.database_oid != database_oid {
        return Err(Refusal::ForeignDatabase { expected: start.source.database.clone() });
    }
    let reached_lsn = start.reached_lsn();
    if reached_lsn > system.xlogpos {
        return Err(Refusal::AheadOfServer { resume_lsn: reached_lsn, server_lsn: system.xlogpos });
    }
    if start.source.timeline == system.timeline {
        return Ok(());
    }
    // A timeline that does not descend from ours shows no switch from it at all.
    let left_at = history
        .iter()
        .find(|switch| switch.timeline == start.source.timeline)
        .map_or(Lsn::ZERO, |switch| switch.switch_lsn);
    if reached_lsn > left_at {
        return Err(Refusal::OtherTimeline {
            old: start.source.timeline,
            new: system.timeline,
            resume_lsn: reached_lsn,
            switch_lsn: left_at,
        });
    }
    Ok(())
}

/// Checks, once the stream has started and nobody else can move the slot, that the slot did not
/// go past the position asked for.
pub(super) fn check_after_start(resume_lsn: Lsn, confirmed_lsn: Lsn) -> Result<(), Refusal> {
    if confirmed_lsn > resume_lsn {
        return Err(Refusal::Gap { resume_lsn, confirmed_lsn });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(timeline: u32, resume_lsn: u64) -> StartPoint {
        let source =
            Source { system_identifier: 7, timeline, database: "crm".to_owned(), database_oid: 5 };
        StartPoint { source, position: None, resume_lsn: Lsn(resume_lsn) }
    }

    fn system(system_identifier: u64, timeline: u32, xlogpos: u64) -> SystemIdentity {
        SystemIdentity { system_identifier, timeline, xlogpos: Lsn(xlogpos), database: None }
    }

    fn switch(timeline: u32, switch_lsn: u64) -> TimelineSwitch {
        TimelineSwitch { timeline, switch_lsn: Lsn(switch_lsn) }
    }

    #[test]
    fn same_place_goes_on() {
        assert_eq!(check_before_start(&start(1, 100), &system(7, 1, 100), 5, &[]), Ok(()));
    }

    #[test]
    fn another_cluster_or_database_is_refused() {
        let refusal = check_before_start(&start(1, 100), &system(8, 1, 200), 5, &[]);
        assert_eq!(refusal, Err(Refusal::ForeignCluster { expected: 7, found: 8 }));
        let refusal = check_before_start(&start(1, 100), &system(7, 1, 200), 6, &[]);
        assert_eq!(refusal, Err(Refusal::ForeignDatabase { expected: "crm".to_owned() }));
    }

    #[test]
    fn position_ahead_of_the_server_is_refused() {
        let refusal = check_before_start(&start(1, 101), &system(7, 1, 100), 5, &[]);
        assert!(matches!(refusal, Err(Refusal::AheadOfServer { .. })));
    }

    #[test]
    fn promotion_goes_on_only_from_before_the_switch() {
        let history = [switch(1, 100), switch(2, 300)];
        assert_eq!(check_before_start(&start(1, 100), &system(7, 3, 400), 5, &history), Ok(()));
        assert_eq!(check_before_start(&start(2, 300), &system(7, 3, 400), 5, &history), Ok(()));
        for (timeline, resume_lsn) in [(1, 101), (2, 301), (9, 1)] {
            let start = start(timeline, resume_lsn);
            let refusal = check_before_start(&start, &system(7, 3, 400), 5, &history);
            assert!(matches!(refusal, Err(Refusal::OtherTimeline { .. })), "{refusal:?}");
        }
    }

    #[test]
    fn a_transaction_taken_in_part_must_be_in_the_log() {
        let mut start = start(1, 50);
        start.position = Some(Position { commit_lsn: Lsn(90), ordinal: 7 });
        let history = [switch(1, 100)];
        assert_eq!(check_before_start(&start, &system(7, 1, 100), 5, &[]), Ok(()));
        assert_eq!(check_before_start(&start, &system(7, 2, 200), 5, &history), Ok(()));
        for commit_lsn in [100, 110] {
            start.position = Some(Position { commit_lsn: Lsn(commit_lsn), ordinal: 7 });
            let refusal = check_before_start(&start, &system(7, 1, 100), 5, &[]);
            assert!(matches!(refusal, Err(Refusal::AheadOfServer { .. })), "{refusal:?}");
            let refusal = check_before_start(&start, &system(7, 2, 200), 5, &history);
            assert!(matches!(refusal, Err(Refusal::OtherTimeline { .. })), "{refusal:?}");
        }
    }

    #[test]
    fn slot_beyond_the_position_is_a_gap() {
        assert_eq!(check_after_start(Lsn(5), Lsn(5)), Ok(()));
        let gap = Refusal::Gap { resume_lsn: Lsn(5), confirmed_lsn: Lsn(6) };
        assert_eq!(check_after_start(Lsn(5), Lsn(6)), Err(gap));
    }
}
