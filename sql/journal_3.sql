-- Version 3: events from an outbox.

-- How the changes are captured: 'replication' or 'outbox'. Of an outbox, commit_lsn is the number of
-- the row taken last, resume_lsn counts batches, and slot is empty.
ALTER TABLE journal ADD COLUMN capture TEXT NOT NULL DEFAULT 'replication';

-- The outbox's rows whose changes are journaled and that are not known to be deleted there. Numbers
-- may be given anew after a restore, so a row is told by all three.
CREATE TABLE outbox_taken (
    id INTEGER PRIMARY KEY,
    xid INTEGER NOT NULL,
    written_at_us INTEGER NOT NULL
) STRICT;
