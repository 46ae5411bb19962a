-- Version 2: numbers that receivers count by, requests with several events, replays, orders.

-- How many events at or before the cursor the endpoint wanted: the next one's webhook-sequence is
-- one more. Elements of in_flight are now [seq, sequence], or [seq, sequence, count]
-- for so many events one after another; plain numbers are of version 1.
ALTER TABLE endpoints ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;

-- When the first failure ended since the last success.
ALTER TABLE endpoints ADD COLUMN failing_since_ms INTEGER;

-- Whether that was reported, while failing_since_ms is not null.
ALTER TABLE endpoints ADD COLUMN failing_told INTEGER NOT NULL DEFAULT 0;

-- While the cursor is before replay_until, where it was when the replay was ordered, events are sent
-- once more: those up to replay_last whose names match one of replay_events, a JSON array of
-- patterns, or all where that is empty. They are counted already. replay_order is the order that
-- began it, until replay_pending is complete.
ALTER TABLE endpoints ADD COLUMN replay_until INTEGER;
ALTER TABLE endpoints ADD COLUMN replay_last INTEGER;
ALTER TABLE endpoints ADD COLUMN replay_events TEXT;
ALTER TABLE endpoints ADD COLUMN replay_order INTEGER;

-- Those between the cursor and replay_until that were still to be delivered when the replay was
-- ordered, with their webhook-sequence. They were taken off deliveries and in_flight, and are sent
-- when the cursor comes to them, whatever the replay's bounds and patterns are. Rows of their own,
-- not a list in endpoints, since that row is written with every settlement.
CREATE TABLE replay_pending (
    endpoint INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (endpoint, seq)
) STRICT, WITHOUT ROWID;

-- The delivery's webhook-sequence; 0 where it has none.
ALTER TABLE deliveries ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;

-- The further events of a request with several, a JSON array of numbers; how many of all its events
-- it did not deliver; and the answer's status line and headers.
ALTER TABLE attempts ADD COLUMN others TEXT;
ALTER TABLE attempts ADD COLUMN failed_events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN head TEXT;

-- What a person asked for, written by other processes than the daemon's: the one exception to its
-- being the only writer. Done by the daemon, which writes what came of it.
CREATE TABLE orders (
    order_id INTEGER PRIMARY KEY,
    given_at_ms INTEGER NOT NULL,
    -- A JSON object.
    wish TEXT NOT NULL,
    done_at_ms INTEGER,
    -- A sentence.
    result TEXT,
    failed INTEGER,
    CHECK ((done_at_ms IS NULL) = (result IS NULL)),
    CHECK ((done_at_ms IS NULL) = (failed IS NULL))
) STRICT;
