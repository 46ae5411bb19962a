//! Settings of our sessions, and what the server says about itself.

use super::TargetSession;

/// What the text of values depends on, in every form the change stream and queries yield, and the
/// timeouts that must not end our idle or long connections; and that the server's warnings come,
/// of which one tells that changes are left out. Nor are our queries of the catalog compiled: they
/// are short, and where the catalog is large the server takes them for long ones. A role or a database may have set them otherwise;
/// the startup packet's options win over both. `lock_timeout` is left alone.
pub(super) const PINNED_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=postgres \
     -c timezone=UTC -c bytea_output=hex -c extra_float_digits=3 -c statement_timeout=0 \
     -c idle_in_transaction_session_timeout=0 -c client_min_messages=warning -c jit=off";

/// Switches off the timeouts that only newer servers know (`idle_session_timeout` from 14,
/// `transaction_timeout` from 17): naming an unknown one in the startup packet would be refused.
pub(crate) fn timeouts_query() -> &'static str {
    "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name IN ('idle_session_timeout', 'transaction_timeout')"
}

/// Asks a server that did not say so by itself whether it is a standby and whether it is read-only
/// (from version 14 on, it reports both while connecting).
pub(crate) fn state_query() -> &'static str {
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE 'off' END, \
     pg_catalog.current_setting('transaction_read_only')"
}

/// What `target_session_attrs` chooses by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionState {
    pub(crate) standby: bool,
    pub(crate) read_only: bool,
}

impl SessionState {
    /// From the values `on` and `off` of `in_hot_standby` and `default_transaction_read_only` or
    /// `transaction_read_only`.
    pub(crate) fn new(standby: &str, read_only: &str) -> SessionState {
        let standby = standby == "on";
        SessionState { standby, read_only: standby || read_only == "on" }
    }
}

impl TargetSession {
    /// Whether the choice needs to know the server's state at all.
    pub(crate) fn is_choosy(self) -> bool {
        self != TargetSession::Any
    }

    /// Why a server in this state is not wanted, if so. `last` is the round that takes what there
    /// is.
    pub(crate) fn objection(self, state: SessionState, last: bool) -> Option<&'static str> {
        let (unwanted, why) = match self {
            TargetSession::Any => (false, ""),
            TargetSession::ReadWrite => (state.read_only, "it is read-only"),
            TargetSession::ReadOnly => (!state.read_only, "it is not read-only"),
            TargetSession::Primary => (state.standby, "it is a standby"),
            TargetSession::Standby => (!state.standby, "it is not a standby"),
            TargetSession::PreferStandby => (!state.standby && !last, "it is not a standby"),
        };
        unwanted.then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_chosen_as_libpq_does() {
        let primary = SessionState::new("off", "off");
        let frozen = SessionState::new("off", "on");
        let standby = SessionState::new("on", "off");
        let wants = |target: TargetSession| {
            [primary, frozen, standby].map(|state| target.objection(state, false).is_none())
        };
        assert_eq!(wants(TargetSession::Any), [true, true, true]);
        assert_eq!(wants(TargetSession::ReadWrite), [true, false, false]);
        assert_eq!(wants(TargetSession::ReadOnly), [false, true, true]);
        assert_eq!(wants(TargetSession::Primary), [true, true, false]);
        assert_eq!(wants(TargetSession::Standby), [false, false, true]);
        assert_eq!(wants(TargetSession::PreferStandby), [false, false, true]);
        assert!(TargetSession::PreferStandby.objection(primary, true).is_none());
    }
}
