//! What a refusal of the server means for us: retry, give up, and what the operator can do.

use super::{ServerError, Stage};

/// What to do about a refusal, where it isn't in the server's own words.
pub(super) fn remedy(stage: Stage, error: &ServerError) -> Option<&'static str> {
    if is_pooler_refusal(stage, error) {
        return Some(
            "this looks like a connection pooler that doesn't pass replication connections on \
             (PgBouncer does from 1.23): use the database's direct host and port",
        );
    }
    let remedy = match (stage, error.code()) {
        (Stage::Connect, "08P01") if is_unsupported_parameter(error) => {
            "this looks like a connection pooler that doesn't take session settings: use the \
             database's direct host and port"
        }
        (Stage::Connect, "28P01") => "check user and password",
        (Stage::Connect, "28000") => {
            "check the user, and that pg_hba.conf admits it from here to this database"
        }
        (Stage::Connect, "0A000") if error.message().contains("UTF8") => {
            "walhook reads databases as UTF-8, which this server cannot do with this one's \
             encoding: dump it and restore it into a database of the encoding UTF8"
        }
        (Stage::Connect, "3D000") => "check the database's name",
        (Stage::Connect, "42501") => {
            "the role needs the REPLICATION attribute (ALTER ROLE … REPLICATION) and CONNECT on \
             the database"
        }
        (Stage::Connect | Stage::Command, "53300") => {
            "raise max_connections or max_wal_senders, or close other connections"
        }
        (Stage::Command, "53400") => "raise max_replication_slots, or drop slots nobody uses",
        (Stage::Command | Stage::Start, "55000") if is_wal_level(error) => {
            "set wal_level = logical in postgresql.conf and restart the server"
        }
        (_, "55006") => "it is free again when the other connection ends",
        (Stage::Start, "42704") => "the slot was dropped: what was committed since may be lost",
        (Stage::Stream, code) if code == "42704" || is_skipped_publication(error) => {
            "if the publication was dropped, recreating it does not heal the slot: changes from \
             before it existed can't be decoded"
        }
        _ => return None,
    };
    Some(remedy)
}

/// Whether this is the warning that takes the place of an error from version 18 on: the server
/// goes on without a publication that did not exist, and sends nothing of its tables.
pub(super) fn is_skipped_publication(error: &ServerError) -> bool {
    error.code() == "55000" && error.routine() == "LoadPublications"
}

/// Whether it may go away by itself.
pub(super) fn is_transient(error: &ServerError) -> bool {
    match error.code() {
        "08P01" => !is_unsupported_parameter(error),
        "40001" | "40P01" | "55006" | "55P03" | "57014" => true,
        // Class 53 is "out of something", but this one is a setting that is too low.
        "53400" => false,
        code => ["08", "53", "57P", "58"].iter().any(|class| code.starts_with(class)),
    }
}

/// Whether START_REPLICATION failed because the slot is gone (42704), or is there but can no
/// longer be read (55000). Other reasons share 55000, so those known are taken out.
pub(super) fn is_slot_lost(error: &ServerError) -> bool {
    match error.code() {
        "42704" => true,
        "55000" => {
            let message = error.message();
            // "cannot use": a standby's copy of a slot, which can be read after a promotion.
            let other = ["not created in this", "cannot use replication slot"];
            !is_wal_level(error) && !other.iter().any(|words| message.contains(words))
        }
        _ => false,
    }
}

fn is_wal_level(error: &ServerError) -> bool {
    error.routine() == "CheckLogicalDecodingRequirements" || error.message().contains("wal_level")
}

/// A pooler either rejects the startup parameter, or drops it and then has no idea what
/// IDENTIFY_SYSTEM is.
fn is_pooler_refusal(stage: Stage, error: &ServerError) -> bool {
    match stage {
        Stage::Connect => {
            is_unsupported_parameter(error) && error.message().contains("replication")
        }
        Stage::Command => error.code() == "42601" && error.message().contains("IDENTIFY_SYSTEM"),
        _ => false,
    }
}

fn is_unsupported_parameter(error: &ServerError) -> bool {
    let message = error.message();
    message.contains("unsupported startup parameter")
        || (message.contains("replication") && message.contains("not supported"))
}

#[cfg(test)]
mod tests {
    use super::super::PgError;
    use super::*;

    fn error(stage: Stage, code: &str, message: &str) -> PgError {
        PgError::server("could not do it", stage, ServerError::example(code, message))
    }

    #[test]
    fn poolers_are_recognised() {
        let texts = [
            (Stage::Connect, "08P01", "unsupported startup parameter: replication"),
            (Stage::Connect, "08P01", "replication connections are not supported"),
            (Stage::Command, "42601", "syntax error at or near \"IDENTIFY_SYSTEM\""),
        ];
        for (stage, code, message) in texts {
            let error = error(stage, code, message);
            assert!(error.to_string().contains("PgBouncer does from 1.23"), "{error}");
            assert!(!error.is_retryable(), "{error}");
        }
        let options = error(Stage::Connect, "08P01", "unsupported startup parameter: options");
        assert!(options.to_string().contains("session settings"), "{options}");
    }

    #[test]
    fn what_passes_by_itself_is_retried_and_nothing_else() {
        for code in ["57P01", "57P02", "57P03", "53300", "55006", "08006", "08001", "53200"] {
            assert!(error(Stage::Connect, code, "no").is_retryable(), "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "42704", "0A000", "22023", "53400", ""] {
            assert!(!error(Stage::Connect, code, "no").is_retryable(), "{code}");
        }
    }

    #[test]
    fn a_lost_slot_is_told_from_other_refusals() {
        let lost = error(Stage::Start, "55000", "cannot read from logical replication slot \"w\"");
        assert!(lost.is_slot_lost());
        let gone = error(Stage::Start, "42704", "replication slot \"w\" does not exist");
        assert!(gone.is_slot_lost() && gone.is_undefined_object());
        let level = error(Stage::Start, "55000", "logical decoding requires wal_level >= logical");
        assert!(!level.is_slot_lost());
        let copy = error(
            Stage::Start,
            "55000",
            "cannot use replication slot \"w\" for logical \
                                                 decoding",
        );
        assert!(!copy.is_slot_lost());
        let publication = error(Stage::Stream, "42704", "publication \"w\" does not exist");
        assert!(!publication.is_slot_lost() && publication.is_undefined_object());
        let busy = error(Stage::Start, "55006", "slot is active for PID 1");
        assert!(busy.is_slot_in_use() && busy.is_retryable() && !busy.is_slot_lost());
    }
}
