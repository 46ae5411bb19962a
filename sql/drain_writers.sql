-- The sessions and prepared transactions that have written to the outbox $1 (oid) in a transaction
-- that has not ended, or are about to: each has this lock before it takes its first number.
select distinct l.virtualtransaction || '/' || coalesce(l.pid::text, '') as writer
from pg_locks l
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and l.relation = $1::oid
  and l.mode = 'RowExclusiveLock'
  and l.pid is distinct from pg_backend_pid()
