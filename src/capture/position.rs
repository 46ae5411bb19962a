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

/// What becomes of an earlier run's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The stream goes on there.
    Here,
    /// The stream goes on at this earlier place, where the server left the stored timeline: beyond
    /// it, nothing was taken, and the log is another now.
    Earlier(Lsn),
    /// This standby is behind, and may get there.
    NotYet,
}

impl StartPoint {
    /// Behind what was taken: the server must have this much of the stored timeline's log. (The
    /// start of a commit record is enough, as timelines part between records.)
    fn taken_lsn(&self) -> Lsn {
        self.position.map_or(Lsn::ZERO, |taken| Lsn(taken.commit_lsn.0.saturating_add(1)))
    }

    /// How much of the log the server must have: a transaction that was taken in part ends beyond
    /// the place to go on from. Where another history has none there, what it has instead would be
    /// taken for known.
    fn reached_lsn(&self) -> Lsn {
        self.taken_lsn().max(self.resume_lsn)
    }
}

/// Checks an earlier run's position against the server before the stream starts.
///
/// `history` is the server's timeline history, asked for only where the timeline changed. A server
/// that is `in_recovery` only repeats another one's log, and may not have come to the end of it.
pub(super) fn check_before_start(
    start: &StartPoint,
    system: &SystemIdentity,
    database_oid: u32,
    in_recovery: bool,
    history: &[TimelineSwitch],
) -> Result<Fit, Refusal> {
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
    if start.source.timeline == system.timeline {
        return match reached_lsn > system.xlogpos {
            false => Ok(Fit::Here),
            true if in_recovery => Ok(Fit::NotYet),
            true => {
                Err(Refusal::AheadOfServer { resume_lsn: reached_lsn, server_lsn: system.xlogpos })
            }
        };
    }
    if in_recovery && system.timeline < start.source.timeline {
        return Ok(Fit::NotYet);
    }
    // A timeline that does not descend from ours shows no switch from it at all.
    let left_at = history
        .iter()
        .find(|switch| switch.timeline == start.source.timeline)
        .map_or(Lsn::ZERO, |switch| switch.switch_lsn);
    if left_at == Lsn::ZERO || start.taken_lsn() > left_at {
        return Err(Refusal::OtherTimeline {
            old: start.source.timeline,
            new: system.timeline,
            resume_lsn: reached_lsn,
            switch_lsn: left_at,
        });
    }
    // Log without changes of ours, such as a standby that takes over never received.
    Ok(if reached_lsn > left_at { Fit::Earlier(left_at) } else { Fit::Here })
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

    fn check(
        start: &StartPoint,
        system: &SystemIdentity,
        history: &[TimelineSwitch],
    ) -> Result<Fit, Refusal> {
        check_before_start(start, system, 5, false, history)
    }

    #[test]
    fn same_place_goes_on() {
        assert_eq!(check(&start(1, 100), &system(7, 1, 100), &[]), Ok(Fit::Here));
    }

    #[test]
    fn another_cluster_or_database_is_refused() {
        let refusal = check(&start(1, 100), &system(8, 1, 200), &[]);
        assert_eq!(refusal, Err(Refusal::ForeignCluster { expected: 7, found: 8 }));
        let refusal = check_before_start(&start(1, 100), &system(7, 1, 200), 6, false, &[]);
        assert_eq!(refusal, Err(Refusal::ForeignDatabase { expected: "crm".to_owned() }));
    }

    #[test]
    fn position_ahead_of_the_server_is_refused() {
        let refusal = check(&start(1, 101), &system(7, 1, 100), &[]);
        assert!(matches!(refusal, Err(Refusal::AheadOfServer { .. })));
    }

    #[test]
    fn a_standby_that_is_behind_is_waited_for() {
        for (timeline, xlogpos) in [(2, 100), (1, 300)] {
            let system = system(7, timeline, xlogpos);
            let fit = check_before_start(&start(2, 101), &system, 5, true, &[switch(1, 90)]);
            assert_eq!(fit, Ok(Fit::NotYet), "timeline {timeline}");
        }
    }

    #[test]
    fn promotion_goes_on_from_the_switch_at_the_latest() {
        let history = [switch(1, 100), switch(2, 300)];
        let taken = |timeline, commit_lsn: u64, resume_lsn| {
            let position = Some(Position { commit_lsn: Lsn(commit_lsn), ordinal: 0 });
            StartPoint { position, ..start(timeline, resume_lsn) }
        };
        let system = system(7, 3, 400);
        assert_eq!(check(&taken(1, 90, 100), &system, &history), Ok(Fit::Here));
        assert_eq!(check(&taken(2, 290, 300), &system, &history), Ok(Fit::Here));
        // What lay beyond the switch was quiet.
        assert_eq!(check(&taken(1, 90, 150), &system, &history), Ok(Fit::Earlier(Lsn(100))));
        assert_eq!(check(&start(2, 301), &system, &history), Ok(Fit::Earlier(Lsn(300))));
        for (timeline, commit_lsn, resume_lsn) in [(1, 100, 120), (2, 300, 310), (9, 0, 1)] {
            let refusal = check(&taken(timeline, commit_lsn, resume_lsn), &system, &history);
            assert!(matches!(refusal, Err(Refusal::OtherTimeline { .. })), "{refusal:?}");
        }
    }

    #[test]
    fn a_transaction_taken_in_part_must_be_in_the_log() {
        let mut start = start(1, 50);
        start.position = Some(Position { commit_lsn: Lsn(90), ordinal: 7 });
        let history = [switch(1, 100)];
        assert_eq!(check(&start, &system(7, 1, 100), &[]), Ok(Fit::Here));
        assert_eq!(check(&start, &system(7, 2, 200), &history), Ok(Fit::Here));
        for commit_lsn in [100, 110] {
            start.position = Some(Position { commit_lsn: Lsn(commit_lsn), ordinal: 7 });
            let refusal = check(&start, &system(7, 1, 100), &[]);
            assert!(matches!(refusal, Err(Refusal::AheadOfServer { .. })), "{refusal:?}");
            let refusal = check(&start, &system(7, 2, 200), &history);
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
