-- The journal: one SQLite file in WAL mode, written by one thread of one daemon. Times ending in
-- _ms are milliseconds since the Unix epoch by this machine's clock, those ending in _us
-- microseconds by the primary's. Log positions are 64-bit integers.
--
-- Version 1. Later versions are further files; `PRAGMA user_version` says how many were applied.

-- One row: whose events these are, and how far they go.
CREATE TABLE journal (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    created_at_ms INTEGER NOT NULL,
    -- The highest number ever given to an event: numbers are not used again when events are gone.
    last_seq INTEGER NOT NULL DEFAULT 0,
    system_identifier INTEGER,
    database_oid INTEGER,
    database TEXT,
    timeline INTEGER,
    slot TEXT,
    -- The checkpoint: the last change taken, and where the stream may go on.
    commit_lsn INTEGER,
    ordinal INTEGER,
    resume_lsn INTEGER,
    -- The newest resume_lsn known to be on stable storage, and how often that was made sure.
    durable_lsn INTEGER NOT NULL DEFAULT 0,
    flushes INTEGER NOT NULL DEFAULT 0,
    CHECK ((system_identifier IS NULL) = (database_oid IS NULL)),
    CHECK ((system_identifier IS NULL) = (database IS NULL)),
    CHECK ((system_identifier IS NULL) = (timeline IS NULL)),
    CHECK ((system_identifier IS NULL) = (slot IS NULL)),
    CHECK ((commit_lsn IS NULL) = (ordinal IS NULL)),
    CHECK ((commit_lsn IS NULL) = (resume_lsn IS NULL))
) STRICT;

-- What is to be delivered, in commit order and without gaps. No index but the number itself: see
-- segments. The body stands last, so that the rest is read without it.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    committed_at_us INTEGER NOT NULL,
    lane_1 INTEGER,
    lane_2 INTEGER,
    body BLOB NOT NULL,
    CHECK (lane_2 IS NULL OR lane_1 IS NOT NULL)
) STRICT;

-- A summary of each run of about a thousand events, written when the run is complete: finds events
-- by id or by time, and tells retention how old they are, at a thousandth of an index's cost. It
-- holds whatever the order of ids, which ascend in one way of capture but not across several.
CREATE TABLE segments (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    min_id BLOB NOT NULL,
    max_id BLOB NOT NULL,
    journaled_at_ms INTEGER NOT NULL,
    CHECK (first_seq <= last_seq)
) STRICT;

-- Who gets events. All up to the cursor were taken; those among them that are neither done nor in
-- deliveries are named in in_flight, a JSON array.
CREATE TABLE endpoints (
    endpoint INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at_ms INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    in_flight TEXT NOT NULL DEFAULT '[]',
    disabled TEXT,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    last_success_at_ms INTEGER,
    last_failure_at_ms INTEGER,
    last_error TEXT
) STRICT;

-- The exceptions: what waits for its retry, is blocked behind such a one, or is dead.
CREATE TABLE deliveries (
    endpoint INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'blocked', 'dead')),
    attempts INTEGER NOT NULL,
    due_at_ms INTEGER,
    died_at_ms INTEGER,
    lane_1 INTEGER,
    lane_2 INTEGER,
    PRIMARY KEY (endpoint, seq),
    CHECK ((state = 'waiting') = (due_at_ms IS NOT NULL)),
    CHECK ((state = 'dead') = (died_at_ms IS NOT NULL)),
    CHECK (lane_2 IS NULL OR lane_1 IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- Most deliveries of an endpoint that is down are blocked: these leave them out.
CREATE INDEX deliveries_due ON deliveries (endpoint, due_at_ms, seq) WHERE due_at_ms IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (endpoint, seq) WHERE died_at_ms IS NOT NULL;

-- One row for each lane of each waiting or blocked delivery: a blocked one may go when it is first
-- on all of its lanes.
CREATE TABLE delivery_lanes (
    endpoint INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (endpoint, lane, seq)
) STRICT, WITHOUT ROWID;

-- One row for each HTTP request, in the order they were recorded. error is null for a success;
-- response, the beginning of the answer, is kept of failures.
CREATE TABLE attempts (
    attempt_id INTEGER PRIMARY KEY,
    endpoint INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started_at_ms INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    status INTEGER,
    error TEXT,
    response BLOB
) STRICT;

INSERT INTO journal (only, created_at_ms) VALUES (1, unixepoch() * 1000);
