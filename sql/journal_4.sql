-- Version 4: what an outbox lost.

-- Changes that are in no event: rows of the outbox that were dropped unread (outbox_policy), and
-- changes that a trigger could not record.
ALTER TABLE journal ADD COLUMN outbox_lost INTEGER NOT NULL DEFAULT 0;
