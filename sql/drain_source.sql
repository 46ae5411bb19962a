-- Whose outbox this is.
select pg_is_in_recovery() as in_recovery,
       current_setting('transaction_read_only')::bool as read_only,
       d.datname::text as database,
       d.oid as database_oid,
       to_regclass('walhook.outbox')::oid as outbox,
       to_regclass('walhook.state')::oid as state,
       -- the first eight digits of a log file's name
       case when not pg_is_in_recovery()
           then ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int4
       end as timeline
from pg_database d
where d.datname = current_database()
