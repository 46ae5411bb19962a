//! In which order the hosts of a connection string are tried, and what is told when none will do.

use rand::seq::SliceRandom;

use super::{ChannelBindingMode, ConnectionOptions, Host, Server, SslMode, TargetSession};
use crate::postgres::error::PgError;

/// One host's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) server: Server,
    /// Where to connect to: never [`Host::Local`].
    pub(crate) host: Host,
    /// Whether `prefer-standby` has stopped being choosy.
    pub(crate) last: bool,
}

impl ConnectionOptions {
    /// The turns to take, in order.
    pub(crate) fn rounds(&self) -> Vec<Round> {
        let mut servers = self.servers.clone();
        if self.load_balance {
            servers.shuffle(&mut rand::rng());
        }
        let turn = |last: bool| {
            servers.iter().map(move |server| Round {
                server: server.clone(),
                host: match &server.host {
                    Host::Local => Host::local(server.port),
                    host => host.clone(),
                },
                last,
            })
        };
        match self.target {
            TargetSession::PreferStandby => turn(false).chain(turn(true)).collect(),
            _ => turn(true).collect(),
        }
    }

    /// Whether to ask a host for TLS. Unix sockets never have it, as in libpq.
    pub(crate) fn wants_tls(&self, host: &Host) -> bool {
        self.tls.mode != SslMode::Disable && matches!(host, Host::Tcp { .. })
    }

    /// Whether a connection that failed with TLS is tried again without, as libpq does for
    /// `sslmode=prefer` when TLS itself fails or the server's pg_hba.conf doesn't admit it.
    pub(crate) fn falls_back(&self, error: &PgError) -> bool {
        self.tls.mode == SslMode::Prefer
            && self.channel_binding != ChannelBindingMode::Require
            && (error.is_tls()
                || (error.is_refused_at_startup() && error.sqlstate() == Some("28000")))
    }
}

/// The error of having tried every host.
pub(crate) fn connect_error(options: &ConnectionOptions, mut errors: Vec<PgError>) -> PgError {
    match errors.pop() {
        Some(only) if errors.is_empty() => only,
        last => {
            errors.extend(last);
            PgError::several(format!("could not connect to any host of {options}"), errors)
        }
    }
}
