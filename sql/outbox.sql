-- The outbox: what triggers write in the application's own transaction, and walhook reads and
-- deletes. Everything is in the schema "walhook"; `walhook setup` runs this file, and so may any
-- migration tool, as often as it likes. The functions are in outbox_functions.sql.

create schema if not exists walhook;

-- One row for each change, in the order of `id` for each record: a row's number is taken while the
-- changed row is locked. Transactions that ran at the same time lie among each other, and one that
-- took long shows its rows, with low numbers, after others are gone: this is a queue, and no cursor
-- may be kept on it.
create table if not exists walhook.outbox (
    id bigint generated always as identity primary key,
    -- I insert, U update, D delete, T truncate, M message (walhook.emit),
    -- L rows were dropped unread (outbox_policy), X a change that could not be recorded
    op "char" not null,
    -- the transaction, and the change's place inside of it, from 0
    xid xid8 not null default pg_current_xact_id(),
    ordinal bigint not null,
    -- when it was written, and where the log stood then
    written_at timestamptz not null default clock_timestamp(),
    lsn pg_lsn not null default pg_current_wal_insert_lsn(),
    -- of I, U, D, T, X: the table as it was called then; of a partition, the partitioned table at the
    -- top, as far as it is followed
    relation oid,
    schema_name text,
    table_name text,
    -- the names of the primary key's columns; null without one
    key text[],
    -- of U and D the row before, of I and U the row after, as row_to_json writes it, without columns
    -- that are not wanted; of M {"event", "key", "data"}; of L {"dropped"}; of X {"error"}.
    -- Which columns an update changed follows from the two: to work it out here would cost the
    -- application as much as all the rest.
    old json,
    new json
);

-- It is nearly always empty, and every row of it dies: the dead ones go away soon and without pause.
alter table walhook.outbox set (
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_threshold = 1000000,
    toast.autovacuum_vacuum_threshold = 2000,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_cost_delay = 0
);

-- What concerns the outbox as a whole: one row.
create table if not exists walhook.state (
    is_only boolean primary key default true check (is_only),
    -- Whose events these are: the cluster's system identifier where it may be read, or else a random
    -- number.
    system_identifier bigint not null,
    -- How many rows may wait before the oldest are dropped; null if none ever is.
    max_rows bigint,
    -- Whether walhook.emit notifies; the triggers have an argument for that.
    notify boolean not null default false,
    -- Where the log stood when the triggers were dropped in favour of logical replication: what was
    -- committed up to there is in the outbox, what was committed later in the slot.
    switched_lsn pg_lsn
);

revoke all on walhook.outbox, walhook.state from public;
grant usage on schema walhook to public;

do $$
declare
    identifier bigint;
begin
    begin
        identifier := (select c.system_identifier from pg_control_system() c);
    exception when insufficient_privilege then
        -- Below zero, as none of a cluster's own is.
        identifier := ('x8' || left(replace(gen_random_uuid()::text, '-', ''), 15))::bit(64)::bigint;
    end;
    insert into walhook.state (system_identifier) values (identifier) on conflict do nothing;
end
$$;
